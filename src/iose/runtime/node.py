# SPDX-License-Identifier: Apache-2.0
"""The node process: ``python -m iose.runtime.node CHANNEL LISTENER…``; the only one on the network.

It meets elements through the hosts' APDU sockets alone: no key, no PIN and no passphrase ever
comes over its channel, and nothing of the card is imported here.
"""

import asyncio
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

import structlog

from iose.iso7816.aid import Aid
from iose.protocols.host_frames import ElementInfo
from iose.runtime.channel import Arguments, JsonChannel, Result, read_int, read_object, read_text
from iose.runtime.config import ElementSettings, FrontSettings, NodeConfig, read_config
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder, socket_address
from iose.runtime.logs import configure_logs
from iose.runtime.process import run_child
from iose.servers.routes import ElementRoute, RoutingError, RoutingTable, start_sequence
from iose.servers.tls_front import FrontConfig, TlsFront
from iose.transport.element_host import ElementHostLink
from iose.transport.errors import TransportError

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.node")


class Node:
    """Links to the element hosts, and the TLS front over them.

    Args:
        listeners: Bound sockets of the front.
    """

    def __init__(self, listeners: list[socket.socket]) -> None:
        self._listeners = listeners
        self._config = NodeConfig()
        self._links: list[ElementHostLink] = []
        self._front: TlsFront | None = None

    def adopt(self, _channel: JsonChannel) -> None:
        """Do nothing: a node tells nothing unasked."""

    async def handle(self, op: str, arguments: Arguments) -> Result:
        """Carry out what the supervisor asks: ``start`` first.

        Raises:
            ConfigurationError: The operation is unknown or comes too soon, or the settings clash.
            OSError: The front cannot listen.
        """
        if op == "start":
            return await self._start(arguments)
        if self._front is None:
            raise ConfigurationError(f"{op!r} before 'start'")
        match op:
            case "status":
                return {**asdict(self._front.snapshot()), "hosts": self._host_states()}
            case "refresh":
                return await self._refresh(self._front)
            case "reload":
                return await self._reload(self._front, arguments)
            case "drain":
                await self._front.stop()
                return {}
            case _:
                raise ConfigurationError(f"unknown operation {op!r}")

    async def stop(self) -> None:
        """Give the hosts up; what was held loses its power."""
        for link in self._links:
            await link.stop()

    async def _start(self, arguments: Arguments) -> Result:
        self._configure(arguments)
        folder = DataFolder(Path(read_text(arguments, "folder")))
        for number in range(read_int(arguments, "hosts")):
            path = Path(socket_address(folder.host_socket(number)))
            self._links.append(ElementHostLink(path))
        await asyncio.gather(*map(self._connect, self._links))
        routes, default = without_clashes(self._routes(None), self._config.front.default_sen)
        config = replace(front_config(self._config), default_sen=default)
        self._front = TlsFront(config, routes)
        await self._front.start(self._listeners)
        return {}

    async def _connect(self, link: ElementHostLink) -> None:
        try:
            await link.start()
        except TransportError as error:  # the supervisor tells when it is back
            log.warning("host.absent", error=str(error))

    def _configure(self, arguments: Arguments) -> None:
        self._config = read_config(read_object(arguments.get("config")))
        configure_logs(self._config.log)

    async def _refresh(self, front: TlsFront) -> Result:
        await asyncio.gather(*map(self._look_again, self._links))
        routes = self._routes(front.table)
        front.reload(*without_clashes(routes, self._config.front.default_sen))
        return {}

    async def _look_again(self, link: ElementHostLink) -> None:
        try:
            await link.refresh()
        except TransportError as error:  # it is being started again; its list stands
            log.warning("host.absent", error=str(error))

    async def _reload(self, front: TlsFront, arguments: Arguments) -> Result:
        previous = self._config
        self._configure(arguments)
        await asyncio.gather(*map(self._look_again, self._links))
        try:
            front.reload(self._routes(front.table), self._config.front.default_sen)
        except RoutingError as error:
            self._config = previous
            configure_logs(previous.log)
            raise ConfigurationError(str(error), hint="correct the configuration file") from error
        front.configure(front_config(self._config))
        return {}

    def _routes(self, current: RoutingTable | None) -> list[ElementRoute]:
        """Return a route for each element with a name; who has a name keeps it.

        An element that got the name of another one, by its own administrator, is left out and
        the log says so: the other one is not to suffer.
        """
        owners = {route.sen.lower(): route.seid for route in current.routes} if current else {}
        infos = list(self._named_elements())
        infos.sort(key=lambda pair: owners.get(pair[1].sen.lower()) != pair[1].seid)
        routes: dict[str, ElementRoute] = {}
        for link, info in infos:
            settings = self._settings_of(info)
            if not settings.is_enabled:
                continue
            if (name := info.sen.lower()) in routes:
                log.error("element.repeated_name", seid=info.seid, sen=info.sen)
                continue
            aid = Aid.from_hex(settings.aid) if settings.aid else None
            routes[name] = ElementRoute(
                info.seid, info.sen, link.reader(info.seid), settings.aliases, start_sequence(aid)
            )
        return list(routes.values())

    def _named_elements(self) -> Iterator[tuple[ElementHostLink, ElementInfo]]:
        for link in self._links:
            for info in link.elements:
                if info.sen:
                    yield link, info

    def _settings_of(self, info: ElementInfo) -> ElementSettings:
        for name, settings in self._config.element.items():
            if name == info.seid or name.lower() == info.sen.lower():
                return settings
        return ElementSettings()

    def _host_states(self) -> list[bool]:
        return [link.is_up for link in self._links]


def front_config(config: NodeConfig) -> FrontConfig:
    """Return the front's settings in the front's own form; its defaults fill the gaps."""
    names = (item.name for item in fields(FrontSettings) if item.name != "listen")
    given = {name: value for name in names if (value := getattr(config.front, name)) is not None}
    return FrontConfig(listen=config.listen, **given)


def without_clashes(
    routes: list[ElementRoute], default_sen: str | None
) -> tuple[list[ElementRoute], str | None]:
    """Return routes and default that can be served: an element must not keep the others away.

    Left out, and logged, are an alias that is another element's name by now, and a default
    element that is not there, since its host is down, or it is broken or moved away.
    """
    owners = {route.sen.lower(): route.seid for route in routes}
    kept = []
    for route in routes:
        aliases = []
        for alias in route.aliases:
            if owners.setdefault(alias.lower(), route.seid) == route.seid:
                aliases.append(alias)
            else:
                log.error("element.repeated_name", seid=route.seid, sen=alias)
        kept.append(replace(route, aliases=tuple(aliases)))
    if default_sen is not None and default_sen.lower() not in owners:
        log.error("element.default_absent", sen=default_sen)
        default_sen = None
    return kept, default_sen


def main() -> None:
    """Run a node process."""
    listeners = [socket.socket(fileno=int(number)) for number in sys.argv[2:]]
    node = Node(listeners)
    run_child(int(sys.argv[1]), node.handle, node.stop, node.adopt)


if __name__ == "__main__":
    main()
