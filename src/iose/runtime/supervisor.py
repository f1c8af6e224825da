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
from pathlib import Path
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
from iose.runtime.config import FRONT, PLANES, NodeConfig
from iose.runtime.control import ControlServer
from iose.runtime.crew import HeldFolder, HostCrew
from iose.runtime.elements.depot import Depot
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.names import GivenName, read_names
from iose.runtime.own_authority import authority_folder, ensure_pki, has_trust
from iose.transport.addresses import format_address
from iose.wire.errors import IoseError

BACKLOG: Final = 1024
NODE_TIMEOUT_S: Final = 10.0
PKI_INTERVAL_S: Final = 6 * 3600.0  # far below half the life of a revocation list
DRAIN_TIMEOUT_S: Final = 60.0  # above any sensible drain_s, below a service manager's patience


_ADDRESS_HINTS: Final = {
    FRONT: "'--front', or 'front.listen'",
    "racs": "'--racs', '' for none, or 'racs.listen'",
    "http": "'racs.http_listen'",
    "racsl": "'racs.racsl_listen'",
}


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
        self._pki_ready = asyncio.Event()
        self._listeners: dict[str, list[socket.socket]] = {plane: [] for plane in PLANES}
        self._upkeep: asyncio.Task[None] | None = None
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
        return self.addresses_of(FRONT)

    def addresses_of(self, plane: str) -> list[str]:
        """Return where one of ``PLANES`` listens, real ports included."""
        names = [listener.getsockname() for listener in self._listeners[plane]]
        return [format_address(name[0], name[1]) for name in names]

    @property
    def authority(self) -> Path | None:
        """The folder of the operator's certificate; None where others certify."""
        racs = self._config.racs
        return authority_folder(self._held.folder) if racs and racs.needs_authority else None

    async def start(self) -> None:
        """Start everything, make missing elements; ``stop`` must follow, whatever happens.

        Raises:
            ConfigurationError: An address is taken, or an element cannot be made.
            IoseError: A process did not start.
        """
        for plane, listeners in self._listeners.items():
            for host, port in self._config.listen_of(plane):
                listeners.append(listen_tcp(host, port, plane))
        self._node = Child(
            "node",
            python_module("iose.runtime.node"),
            on_start=self._start_node,
            inherited=tuple(listener.fileno() for listener in self._all_listeners()),
            report=self._report,
        )
        # the node loads meanwhile
        await run_together(self._make_elements(), self._make_pki(), self._node.start())
        self.depot.save()
        try:
            await self._control.start(self._held.folder.control_socket)
        except OSError as error:
            raise ConfigurationError(
                f"the control socket cannot be made: {error.strerror}",
                hint=f"see what is wrong with the folder {self._held.folder.path}",
            ) from error
        self._upkeep = asyncio.create_task(self._keep_pki())

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Stop accepting, let sessions end, end every process; ``hurry`` cuts the wait short."""
        if self._upkeep is not None:
            self._upkeep.cancel()
        for listener in self._all_listeners():
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
            case "trust":
                return await self._ask_node("trust", arguments)
            case "stop":
                self.stop_asked.set()
                return {"stopping": True}
            case _ if op.startswith("reader."):
                return await self._ask_node(op, arguments)
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
        if config.racs is not None and self._config.racs is not None:
            await asyncio.to_thread(ensure_pki, self._held.folder, config.racs)
        await self._ask_node("reload", {"config": config.to_json()})
        fixed = ("data", "hosts", "passphrase_file", "log")  # hosts and supervisor log as before
        changed = [name for name in fixed if getattr(config, name) != getattr(self._config, name)]
        if config.front.listen != self._config.front.listen:
            changed.append("front.listen")
        if _racs_addresses(config) != _racs_addresses(self._config):
            changed.append("racs.listen")
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
        given = read_names(self._held.folder.path)
        named = [
            (access, given.get(access.seid, GivenName(access.sen, "")))
            for access in await self.depot.access()
        ]
        return [
            {
                "seid": access.seid,
                "sen": name.sen,
                "uri": f"keyS://{name.sen}:{access.psk}@{address}/",
                "psk_identity": access.psk_identity,
            }
            for access, name in named
            if name.sen and name.is_served
        ]

    async def status(self) -> Result:
        """Return what every process and every element is doing; nothing secret."""
        try:
            front = await self._ask_node("status", {})
        except ControlError:  # the rest is worth knowing all the same
            front = {}
        at_front: dict[str, Result] = {}
        for item in map(read_object, read_list({"elements": [], **front}, "elements")):
            at_front.setdefault(read_text(item, "seid"), item)  # its first name is its own
        holders = read_object(front.get("holders"))
        children = [*self._crew.children, *([self._node] if self._node else [])]
        return {
            "data": str(self._held.folder.path),
            "pid": os.getpid(),
            "uptime_s": round(asyncio.get_running_loop().time() - self._started_at, 1),
            "front": self.addresses,
            **{plane: self.addresses_of(plane) for plane in PLANES if plane != FRONT},
            "pki": str(self.authority) if self.authority else None,
            "processes": [_child_status(child) for child in children],
            "elements": [
                {
                    **_element_status(record.seid, record.sen, record.state.value, at_front),
                    **read_object(holders.get(record.seid)),
                }
                for record in self.depot.sorted_records()
            ]
            + [
                {**_element_status(seid, sen, state, at_front), **read_object(holders.get(seid))}
                for seid, sen, state in map(
                    _reader_names, read_list({"readers": [], **front}, "readers")
                )
            ],
            "sessions": front.get("sessions", []),
            "counters": {name: front.get(name) for name in ("accepted", "opened", "ended")},
            "repeated_sens": self.depot.repeated_sens(),
            "not_served": front.get("not_served", []),
            "administration": front.get("administration"),
        }

    async def _make_elements(self) -> None:
        await self._crew.start()
        await self.depot.fill(self._config.elements)
        self._elements_ready.set()

    async def _make_pki(self) -> None:
        racs = self._config.racs
        if racs is not None:
            try:
                await asyncio.to_thread(ensure_pki, self._held.folder, racs)
            except ConfigurationError as error:  # a full disk must not stop what would work
                if not has_trust(self._held.folder, racs):
                    raise
                self._report("certificates", f"not renewed: {error}", 0)
        self._pki_ready.set()

    async def _keep_pki(self) -> None:
        """Renew certificates and revocations in time, while the node runs."""
        while self._config.racs is not None:
            await asyncio.sleep(PKI_INTERVAL_S)
            try:
                if await asyncio.to_thread(ensure_pki, self._held.folder, self._config.racs):
                    await self._ask_node("trust", {})
            except IoseError as error:  # the next round may do better
                self._report("certificates", f"not renewed: {error}", 0)

    def _all_listeners(self) -> list[socket.socket]:
        return [listener for plane in PLANES for listener in self._listeners[plane]]

    async def _start_node(self, channel: JsonChannel) -> None:
        await self._elements_ready.wait()
        await self._pki_ready.wait()
        await channel.request(
            "start",
            {
                "folder": str(self._held.folder.path),
                "hosts": len(self._crew.children),
                "config": self._config.to_json(),
                "listeners": {plane: len(self._listeners[plane]) for plane in PLANES},
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


def _racs_addresses(config: NodeConfig) -> object:
    return None if config.racs is None else config.racs.addresses


def listen_tcp(host: str, port: int, plane: str = FRONT) -> socket.socket:
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
            hint=f"choose another address ({_ADDRESS_HINTS[plane]} of the configuration file); "
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


def _reader_names(row: object) -> tuple[str, str, str]:
    found = read_object(row)
    return read_text(found, "seid"), read_text(found, "sen"), read_text(found, "state")


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
