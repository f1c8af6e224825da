# SPDX-License-Identifier: Apache-2.0
"""The node process: ``python -m iose.runtime.node CHANNEL LISTENER…``; the only one on the network.

It meets elements through the hosts' APDU sockets alone: no key, no PIN and no passphrase ever
comes over its channel, and nothing of the card is imported here.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import structlog

from iose.bridge.stream import EndReason
from iose.iso7816.aid import Aid
from iose.protocols.host_frames import ElementInfo
from iose.runtime.administration import Administration
from iose.runtime.channel import (
    Arguments,
    JsonChannel,
    Result,
    read_int,
    read_list,
    read_object,
    read_text,
)
from iose.runtime.config import (
    FRONT,
    PLANES,
    ElementSettings,
    NodeConfig,
    read_config,
    settings_finder,
)
from iose.runtime.errors import ConfigurationError
from iose.runtime.exposures import Exposures, FoundElement
from iose.runtime.folder import DataFolder, socket_address
from iose.runtime.logs import configure_logs
from iose.runtime.names import GivenName, KnownElement, NameBook
from iose.runtime.process import run_child
from iose.runtime.readers.banks import make_bank
from iose.runtime.readers.inventory import Gone, ReaderInventory
from iose.runtime.routing import (
    Complaints,
    ElementSource,
    NameClaim,
    front_config,
    name_owners,
    names_of_others,
    share_names,
    without_clashes,
)
from iose.servers.errors import RoutingError
from iose.servers.front_status import claim_status
from iose.servers.holders import ElementHolders
from iose.servers.racs.elements import RacsElement
from iose.servers.routes import ElementRoute, RoutingTable, start_sequence
from iose.servers.tls_front import TlsFront
from iose.transport.bank import SlotState
from iose.transport.element_host import ElementHostLink
from iose.transport.errors import TransportError

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.node")


class Node:
    """Links to the element hosts, the readers, and the TLS front over them.

    Args:
        listeners: Bound sockets of the front.
    """

    def __init__(self, listeners: list[socket.socket]) -> None:
        self._listeners = listeners
        self._config = NodeConfig()
        self._said = settings_finder({})
        self._links: list[ElementHostLink] = []
        self._front: TlsFront | None = None
        self._holders = ElementHolders()
        self._names: NameBook | None = None
        self._owners: dict[str, str] = {}
        self._complaints = Complaints()
        self._administration: Administration | None = None
        self._folder = Path()
        self._readers = ReaderInventory(
            lambda table: make_bank(table, self._folder),
            self._holders,
            overrides=self._find_settings,
            foreign=self._names_of_others,
            changed=self._readers_changed,
        )
        self._exposures = Exposures(self._holders, self._find_element, self._note)
        self._reader_ops: dict[str, Callable[[Arguments], Awaitable[Result]]] = {
            "reader.list": self._list_readers,
            "reader.refresh": self._refresh_readers,
            **self._exposures.operations,
        }

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
                return self._status(self._front)
            case "reload":
                return await self._reload(self._front, arguments)
            case "trust":
                return await self._trust(read_list({"acts": [], **arguments}, "acts"))
            case "refresh":
                await self._refresh(self._front)
            case "drain":
                await self._drain(self._front)
            case _ if op in self._reader_ops:
                return await self._reader_ops[op](arguments)
            case _:
                raise ConfigurationError(f"unknown operation {op!r}")
        return {}

    async def stop(self) -> None:
        """End what drains no more, and give the hosts up; what was held loses its power."""
        if self._administration is not None:
            await self._administration.stop()
        await self._exposures.stop()
        await self._readers.stop()
        for link in self._links:
            await link.stop()

    async def _start(self, arguments: Arguments) -> Result:
        self._configure(arguments)
        folder = DataFolder(Path(read_text(arguments, "folder")))
        for number in range(read_int(arguments, "hosts")):
            path = Path(socket_address(folder.host_socket(number)))
            self._links.append(ElementHostLink(path))
        self._folder = folder.path
        await asyncio.gather(*map(self._connect, self._links))
        await self._readers.start(self._config.readers)
        self._names = NameBook(folder.path, self._known_elements, self._names_changed)
        listeners = self._shared_out(read_object(arguments.get("listeners")))
        if self._config.racs is not None:  # refuses before any client is served
            self._administration = Administration(
                self._config.racs, folder.path, self._holders, self._names
            )
        await self._start_front(listeners[FRONT])
        if self._administration is not None:
            await self._administration.start(self._racs_elements(), listeners)
        return {}

    async def _start_front(self, listeners: list[socket.socket]) -> None:
        routes, default = self._clean_routes(None)
        config = replace(front_config(self._config), default_sen=default)
        self._front = TlsFront(config, routes, self._holders)
        await self._front.start(listeners)

    def _shared_out(self, counts: Result) -> dict[str, list[socket.socket]]:
        """Return each plane's sockets; all are the front's where nothing is said."""
        rest = iter(self._listeners)
        shares = {
            plane: list(islice(rest, read_int({plane: 0, **counts}, plane))) for plane in PLANES
        }
        shares[FRONT] += rest
        return shares

    async def _drain(self, front: TlsFront) -> None:
        ends = [front.stop(), self._exposures.stop()]
        if self._administration is not None:
            ends.append(self._administration.stop())
        await asyncio.gather(*ends)

    def _status(self, front: TlsFront) -> Result:
        now = asyncio.get_running_loop().time()
        holders = {
            seid: {"holder": asdict(claim_status(lock.holder, now - lock.held_since))}
            for seid, lock in self._holders.locks.items()
            if lock.holder is not None
        }
        racs = None if self._administration is None else self._administration.snapshot()
        shown = asdict(front.snapshot())
        shown |= {
            "hosts": [link.is_up for link in self._links],
            "holders": holders,
            "administration": racs,
        }
        states = (SlotState.EMPTY.value, SlotState.ABSENT.value)
        rows = self._readers.view()
        readers = [one for one in rows if one["seid"] and one["state"] not in states]
        return {**shown, "not_served": self._not_served(front.table), "readers": readers}

    async def _list_readers(self, _arguments: Arguments) -> Result:
        return {"readers": self._readers.view(), "exposed": self._exposures.snapshot()}

    async def _refresh_readers(self, arguments: Arguments) -> Result:
        await self._readers.refresh()
        return await self._list_readers(arguments)

    async def _connect(self, link: ElementHostLink) -> None:
        try:
            await link.start()
        except TransportError as error:  # the supervisor tells when it is back
            log.warning("host.absent", error=str(error))

    def _configure(self, arguments: Arguments) -> None:
        self._take(read_config(read_object(arguments.get("config"))))

    def _take(self, config: NodeConfig) -> None:
        self._config = config
        self._said = settings_finder(config.element)
        configure_logs(config.log)

    async def _refresh(self, front: TlsFront) -> None:
        await asyncio.gather(*map(self._look_again, self._links))
        self._readers.look()  # a software element may have got the SEID of another one
        self._apply(front)

    def _apply(self, front: TlsFront) -> None:
        self._complaints.begin()
        front.reload(*self._clean_routes(front.table))
        if self._administration is not None:
            self._administration.refresh(self._racs_elements())
        self._exposures.look()

    def _readers_changed(self, gone: Gone) -> None:
        """Serve what is behind readers now; who uses what is gone is told at once (§7)."""
        if self._front is None:
            return
        self._apply(self._front)
        for seid, state in gone.items():
            is_broken = state is SlotState.FAULT
            reason = EndReason.ELEMENT_FAILED if is_broken else EndReason.ELEMENT_REMOVED
            self._front.end_sessions(seid, reason)

    async def _names_changed(self) -> None:
        if self._front is not None:
            self._apply(self._front)

    async def _look_again(self, link: ElementHostLink) -> None:
        try:
            await link.refresh()
        except TransportError as error:  # it is being started again; its list stands
            log.warning("host.absent", error=str(error))

    async def _trust(self, acts: list[object]) -> Result:
        """Read certificates anew, after the changes that are told."""
        if self._administration is not None:
            self._administration.reload_trust()
            for act in acts:
                await self._administration.note("PKI", str(act))
        return {}

    async def _reload(self, front: TlsFront, arguments: Arguments) -> Result:
        previous = self._config
        self._configure(arguments)
        await asyncio.gather(*map(self._look_again, self._links))
        table = front.table
        try:
            banks = self._readers.prepare(self._config.readers)
            front.reload(*self._strict_routes(table))
            if self._administration is not None and self._config.racs is not None:
                self._administration.reload(self._config.racs, self._racs_elements())
        except (RoutingError, ConfigurationError) as error:
            self._take(previous)
            front.table = table
            hint = error.hint or "correct the configuration file"
            raise ConfigurationError(str(error), hint=hint) from error
        front.configure(front_config(self._config))
        await self._readers.take(banks)
        self._apply(front)
        if self._administration is not None:
            await self._administration.note("RELOAD")
        return {}

    def _clean_routes(self, table: RoutingTable | None) -> tuple[list[ElementRoute], str | None]:
        """Return routes and default that can be served, whatever elements do to each other."""
        default = self._config.front.default_sen
        return without_clashes(self._routes(table), default, self._complaints)

    def _strict_routes(self, table: RoutingTable) -> tuple[list[ElementRoute], str | None]:
        """Return routes and default for a front that refuses clashes; a card may be out."""
        routes, default = self._routes(table), self._config.front.default_sen
        if self._config.readers:
            default = without_clashes(routes, default, self._complaints)[1]
        return routes, default

    def _routes(self, current: RoutingTable | None) -> list[ElementRoute]:
        """Return a route for each name of an element, to be added to those of now.

        Where nobody has a name yet, one that was given over RACS goes first.
        """
        claims = tuple(self._claims())
        self._owners = name_owners(claims, self._owners)
        given = {} if self._names is None else self._names.given
        named = [route for one, info in self._elements() for route in self._own_route(one, info)]
        named.sort(key=lambda route: route.seid not in given)
        more = [route for one, info in self._elements() for route in self._more_routes(one, info)]
        said = {alias.lower() for one in self._config.element.values() for alias in one.aliases}
        weak = {one.seid for one in claims if one.is_weak} - given.keys()
        former = {route.sen.lower(): route.seid for route in current.routes} if current else {}
        return share_names(named, more, former, weak=weak, said=said, complaints=self._complaints)

    def _claims(self) -> Iterator[NameClaim]:
        for source, info in self._elements():
            said = self._config.element.get(info.seid)
            is_weak = source is self._readers and not (said and said.sen)
            names = {info.sen, self._readers.own_sen(info.seid)} if is_weak else {info.sen}
            yield from (NameClaim(sen, info.seid, is_weak) for sen in sorted(names) if sen)

    def _not_served(self, table: RoutingTable) -> list[dict[str, str]]:
        """Return the names of elements and instances that lead somewhere else, or nowhere."""
        lost = []
        for one, info in self._elements():
            for route in (*self._own_route(one, info), *self._more_routes(one, info)):
                for sen in (route.sen, *route.aliases):
                    found = table.find(sen)
                    if found is None or (found.seid, found.start) != (route.seid, route.start):
                        lost.append({"seid": route.seid, "sen": sen})
        return lost

    def _own_route(self, source: ElementSource, info: ElementInfo) -> Iterator[ElementRoute]:
        """Give the route of an element's name, if it has one."""
        settings, name = self._settings_of(info), self._name_of(info)
        if settings.is_enabled and name is not None and name.is_served:
            aid = name.aid or self._readers.aid(info.seid)
            start = start_sequence(Aid.from_hex(aid) if aid else None)
            reader = source.reader(info.seid)
            yield ElementRoute(info.seid, name.sen, reader, settings.aliases, start)

    def _more_routes(self, source: ElementSource, info: ElementInfo) -> Iterator[ElementRoute]:
        """Give a route for each more instance of an element."""
        for one in info.instances:
            if one.sen and self._settings_of(info).is_enabled:
                start = start_sequence(Aid(one.aid))
                yield ElementRoute(info.seid, one.sen, source.reader(info.seid), (), start)

    def _name_of(self, info: ElementInfo) -> GivenName | None:
        return self._known(info).name({} if self._names is None else self._names.given)

    def _known_elements(self) -> Iterator[KnownElement]:
        return (self._known(info) for _, info in self._elements())

    def _known(self, info: ElementInfo) -> KnownElement:
        settings = self._settings_of(info)
        own = GivenName(info.sen, settings.aid) if info.sen else None
        others = (*settings.aliases, *(one.sen for one in info.instances if one.sen))
        is_fixed = bool(settings.sen) and self._readers.settings(info.seid) is not None
        return KnownElement(info.seid, own, others, is_fixed)

    def _racs_elements(self) -> list[RacsElement]:
        found = []
        for source, info in self._elements():
            settings, reader = self._settings_of(info), source.reader(info.seid)
            aid = settings.aid.upper() or self._readers.aid(info.seid)
            # rules go by the name of its own: who may rename must not give others rights
            sen = info.sen if self._has_name(info.seid, info.sen) else ""
            found.append(RacsElement(info.seid, reader, settings.seids, sen, aid))
        return sorted(found, key=lambda one: (one.sen.lower(), one.seid))

    def _find_element(self, name: str) -> FoundElement | None:
        """Return an element by its SEID, or by a name that leads to it."""
        found = {info.seid: (source, info) for source, info in self._elements()}
        route = None if self._front is None or name in found else self._front.table.find(name)
        seid = name if route is None else route.seid
        if seid not in found:
            return None
        source, info = found[seid]
        own = self._name_of(info)
        sen = own.sen if own is not None and own.is_served else ""
        return FoundElement(seid, sen if route is None else route.sen, source.reader(seid))

    async def _note(self, verb: str, detail: str) -> None:
        if self._administration is not None:
            await self._administration.note(verb, detail)

    def _elements(self) -> Iterator[tuple[ElementSource, ElementInfo]]:
        sources: tuple[ElementSource, ...] = (*self._links, self._readers)
        for source in sources:
            for info in source.elements:
                yield source, info

    def _names_of_others(self) -> dict[str, str]:
        software = (info for link in self._links for info in link.elements)
        return names_of_others(self._config.element, software)

    def _settings_of(self, info: ElementInfo) -> ElementSettings:
        return self._readers.settings(info.seid) or self._find_settings(info.seid, info.sen)

    def _find_settings(self, seid: str, sen: str) -> ElementSettings:
        return self._said(seid, sen if self._has_name(seid, sen) else "")

    def _has_name(self, seid: str, sen: str) -> bool:
        """Return whether a name that an element has for its own is no other's."""
        return self._owners.get(sen.lower(), seid) == seid


def main() -> None:
    """Run a node process."""
    listeners = [socket.socket(fileno=int(number)) for number in sys.argv[2:]]
    node = Node(listeners)
    run_child(int(sys.argv[1]), node.handle, node.stop, node.adopt)


if __name__ == "__main__":
    main()
