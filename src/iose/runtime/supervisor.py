# SPDX-License-Identifier: Apache-2.0
"""The supervisor of a running node: starts its processes, keeps them running, takes commands.

It holds the data folder and the listening sockets, so that a node process that dies loses no
waiting client. The network and the elements are other processes' business.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from iose.runtime.channel import Arguments, JsonChannel, Result, read_list, read_object, read_text
from iose.runtime.children import (
    START_TIMEOUT_S,
    Child,
    Report,
    ignore_report,
    python_module,
    run_together,
)
from iose.runtime.config import NodeConfig, format_address
from iose.runtime.control import ControlServer
from iose.runtime.crew import HeldFolder, HostCrew
from iose.runtime.elements.depot import Depot
from iose.runtime.errors import ConfigurationError, ControlError
from iose.wire.errors import IoseError

BACKLOG: Final = 1024
NODE_TIMEOUT_S: Final = 10.0
DRAIN_TIMEOUT_S: Final = 60.0  # above any sensible drain_s, below a service manager's patience


class Supervisor:
    """One running node.

    Args:
        held: Its data folder.
        config: Its configuration.
        reload_config: Reads the configuration anew.
        report: Told of ends and starts of processes.
    """

    def __init__(
        self,
        held: HeldFolder,
        config: NodeConfig,
        *,
        reload_config: Callable[[], NodeConfig] | None = None,
        report: Report = ignore_report,
    ) -> None:
        self.stop_asked = asyncio.Event()
        self._held = held
        self._config = config
        self._reload_config = reload_config or (lambda: config)
        self._crew = HostCrew(
            held, config, is_serving=True, on_change=self._refresh_node, report=report
        )
        self._report = report
        self._elements_ready = asyncio.Event()
        self._listeners: list[socket.socket] = []
        self._node: Child | None = None
        self._control = ControlServer(self.handle)
        self._started_at = asyncio.get_running_loop().time()

    @property
    def depot(self) -> Depot:
        """The elements."""
        return self._crew.depot

    @property
    def addresses(self) -> list[str]:
        """Where the front listens, real ports included."""
        names = [listener.getsockname() for listener in self._listeners]
        return [format_address(name[0], name[1]) for name in names]

    async def start(self) -> None:
        """Start everything, make missing elements; ``stop`` must follow, whatever happens.

        Raises:
            ConfigurationError: An address is taken, or an element cannot be made.
            IoseError: A process did not start.
        """
        for host, port in self._config.listen:
            self._listeners.append(listen_tcp(host, port))
        self._node = Child(
            "node",
            python_module("iose.runtime.node"),
            on_start=self._start_node,
            inherited=tuple(listener.fileno() for listener in self._listeners),
            report=self._report,
        )
        await run_together(self._make_elements(), self._node.start())  # it loads meanwhile
        self.depot.save()
        try:
            await self._control.start(self._held.folder.control_socket)
        except OSError as error:
            raise ConfigurationError(
                f"the control socket cannot be made: {error.strerror}",
                hint=f"see what is wrong with the folder {self._held.folder.path}",
            ) from error

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Stop accepting, let sessions end, end every process; ``hurry`` cuts the wait short."""
        for listener in self._listeners:
            listener.close()
        if self._node is not None:
            await self._drain(self._node, hurry or asyncio.Event())
            await self._node.stop()
        await self._crew.stop()
        await self._control.stop()
        with suppress(OSError):
            self._held.folder.control_socket.unlink()

    async def handle(self, op: str, arguments: Arguments) -> Result:
        """Carry out one command from the control socket.

        Raises:
            ConfigurationError: It is unknown or refused.
            ControlError: A process is down or failed.
        """
        match op:
            case "status":
                return await self.status()
            case "reload":
                return await self.reload()
            case "stop":
                self.stop_asked.set()
                return {"stopping": True}
            case _:
                return await self.depot.handle(op, arguments)

    async def reload(self) -> Result:
        """Read the configuration anew and apply what can change while running.

        Raises:
            ConfigurationError: The file or its settings are refused; nothing is changed.
            ControlError: The node process is down.
            IoseError: A missing element could not be made.
        """
        config = self._reload_config()
        await self._ask_node("reload", {"config": config.to_json()})
        fixed = ("data", "hosts", "passphrase_file", "log")  # hosts and supervisor log as before
        changed = [name for name in fixed if getattr(config, name) != getattr(self._config, name)]
        if config.front.listen != self._config.front.listen:
            changed.append("front.listen")
        self._config = config
        if await self.depot.fill(config.elements):
            await self._refresh_node()
        return {"restart_needed_for": changed}

    async def describe_access(self) -> list[dict[str, str]]:
        """Return each element with its URI, PSK included, for the folder's owner.

        Raises:
            IoseError: A host is down.
        """
        address = _reachable(self.addresses[0]) if self.addresses else ""
        return [
            {
                "seid": access.seid,
                "sen": access.sen,
                "uri": f"keyS://{access.sen}:{access.psk}@{address}/",
                "psk_identity": access.psk_identity,
            }
            for access in await self.depot.access()
            if access.sen
        ]

    async def status(self) -> Result:
        """Return what every process and every element is doing; nothing secret."""
        try:
            front = await self._ask_node("status", {})
        except ControlError:  # the rest is worth knowing all the same
            front = {}
        at_front = {
            read_text(item, "seid"): item
            for item in map(read_object, read_list({"elements": [], **front}, "elements"))
        }
        children = [*self._crew.children, *([self._node] if self._node else [])]
        return {
            "data": str(self._held.folder.path),
            "pid": os.getpid(),
            "uptime_s": round(asyncio.get_running_loop().time() - self._started_at, 1),
            "front": self.addresses,
            "processes": [_child_status(child) for child in children],
            "elements": [
                _element_status(record.seid, record.sen, record.state.value, at_front)
                for record in self.depot.sorted_records()
            ],
            "sessions": front.get("sessions", []),
            "counters": {name: front.get(name) for name in ("accepted", "opened", "ended")},
            "repeated_sens": self.depot.repeated_sens(),
        }

    async def _make_elements(self) -> None:
        await self._crew.start()
        await self.depot.fill(self._config.elements)
        self._elements_ready.set()

    async def _start_node(self, channel: JsonChannel) -> None:
        await self._elements_ready.wait()
        await channel.request(
            "start",
            {
                "folder": str(self._held.folder.path),
                "hosts": len(self._crew.children),
                "config": self._config.to_json(),
            },
            timeout_s=START_TIMEOUT_S,
        )

    async def _refresh_node(self) -> None:
        with suppress(IoseError):  # a node that is down reads everything when it is back
            await self._ask_node("refresh", {})

    async def _ask_node(self, op: str, arguments: Arguments) -> Result:
        if self._node is None:
            raise ControlError("the node has not started yet")
        return await self._node.channel.request(op, arguments, timeout_s=NODE_TIMEOUT_S)

    async def _drain(self, node: Child, hurry: asyncio.Event) -> None:
        async def drain() -> None:
            with suppress(IoseError):
                await node.channel.request("drain", timeout_s=DRAIN_TIMEOUT_S)

        tasks = [asyncio.create_task(drain()), asyncio.create_task(hurry.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a bound TCP socket; a name takes its first address.

    Raises:
        ConfigurationError: The address cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no name of a host"
        raise ConfigurationError(
            f"cannot listen on {format_address(host, port)}: {reason}",
            hint="choose another address ('--front', or 'front.listen' of the configuration file); "
            "port 0 takes a free one",
        ) from error


def _reachable(address: str) -> str:
    """Return an address a client on this machine can use: every address means loopback, too."""
    for everywhere, loopback in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):  # compared
        address = address.replace(everywhere, loopback, 1)
    return address


def _child_status(child: Child) -> dict[str, object]:
    return {
        "name": child.name,
        "pid": child.pid,
        "uptime_s": round(child.uptime_s, 1),
        "restarts": child.restarts,
    }


def _element_status(
    seid: str, sen: str, state: str, at_front: dict[str, Result]
) -> dict[str, object]:
    front = at_front.get(seid, {})
    return {
        "seid": seid,
        "sen": sen,
        "state": state,
        "is_served": seid in at_front,
        "holder": front.get("holder"),
        "waiting": front.get("waiting", []),
        "sessions": front.get("sessions", 0),
        "failures": front.get("failures", 0),
        "is_degraded": front.get("is_degraded", False),
        "retry_in_s": front.get("retry_in_s", 0.0),
    }
