# SPDX-License-Identifier: Apache-2.0
"""The TLS front: routes clients to elements by server name, TLS staying inside the element.

It listens, admits, counts and shows; what happens to one client is in ``front_session``, and what
a stream becomes in the bridge (iose-server.md §5 to §7).
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from iose.bridge.stream import EndReason
from iose.servers.front_session import BUSY_ALERT, FrontSession, SessionState
from iose.servers.front_status import (
    ElementStatus,
    FrontStatus,
    SessionStatus,
    claim_status,
)
from iose.servers.holders import ElementHolders
from iose.servers.listening import Listeners
from iose.servers.routes import ElementHealth, ElementRoute, RoutingTable
from iose.servers.sources import SourceLimits, TokenBucket, source_of
from iose.transport.addresses import format_address

UNSERVED_LINES: Final = 200  # lines at once on clients that never had an element
UNSERVED_LINES_RATE: Final = 20.0  # more of them per second: a flood must not fill the disk
FLOOD_REPORT_S: Final = 1.0

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.tls_front")


@dataclass(frozen=True, slots=True)
class FrontConfig:
    """Settings of a front; times are in seconds.

    Attributes:
        listen: Addresses and ports; port 0 takes a free one.
        default_sen: Name of the element that serves clients without a server name; None: nobody.
        is_silent: Close without alerts, as the published servers do.
        first_record_s: From accept to the whole ClientHello.
        queue_wait_s: Longest wait for an element that serves another session.
        handshake_s: From getting the element to its word that TLS is open; while others wait, a
            silence of 3 s is enough to lose it.
        idle_s: Between two records on an open session.
        session_s: From accept, whatever happens.
        drain_s: What open sessions get to end when the front stops; those that say nothing for a
            second end sooner.
        session_limit: Most connections at once.
        source_connections: Most connections of one source address at once.
        source_rate: New connections per second of one source address, in the long run; this
            machine's own addresses may go faster.
        source_burst: New connections at once of one source address, after a pause.
    """

    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", 8888),)
    default_sen: str | None = None
    is_silent: bool = False
    first_record_s: float = 10.0
    queue_wait_s: float = 5.0
    handshake_s: float = 10.0
    idle_s: float = 30.0
    session_s: float = 600.0
    drain_s: float = 5.0
    session_limit: int = 2048
    source_connections: int = 512
    source_rate: float = 200.0
    source_burst: int = 400


@dataclass(slots=True)
class FrontCounters:
    """What happened since the front was made.

    Attributes:
        accepted: Connections.
        opened: Sessions in which the element said that TLS is open.
        unlogged: Ends that the log does not hold one by one, and has not been told of yet.
        ended: Ends, by reason.
    """

    accepted: int = 0
    opened: int = 0
    unlogged: int = 0
    ended: Counter[str] = field(default_factory=Counter)


class TlsFront:
    """The service plane of a node.

    Args:
        config: Settings.
        routes: The elements; ``reload`` replaces them.
        holders: The locks of the node's elements, shared with its other planes.

    Raises:
        RoutingError: A name is not one, is used twice, or the default does not exist.
    """

    def __init__(
        self,
        config: FrontConfig,
        routes: Iterable[ElementRoute],
        holders: ElementHolders | None = None,
    ) -> None:
        self.config = config
        self.table = RoutingTable(routes, default_sen=config.default_sen)
        self.holders = holders or ElementHolders()
        self.counters = FrontCounters()
        self._sources = SourceLimits(
            connections=config.source_connections,
            rate=config.source_rate,
            burst=config.source_burst,
        )
        self._health: dict[str, ElementHealth] = {}
        self._sessions: dict[int, FrontSession] = {}
        self._connections: dict[FrontSession, None] = {}  # the oldest first
        self._unserved_lines = TokenBucket(UNSERVED_LINES, 0.0)
        self._listeners = Listeners()
        self.is_draining = False
        self._is_empty = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop the front runs in."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the front listens, real ports included."""
        return self._listeners.addresses

    async def start(self, listeners: Sequence[socket.socket] = ()) -> None:
        """Listen on every configured address, or on the bound sockets handed in, then the front's.

        Raises:
            OSError: An address cannot be had; none is listened on.
        """
        await self._listeners.open(lambda: FrontSession(self), self.config.listen, listeners)
        log.info("front.started", listening=self.addresses, elements=len(self.table.routes))

    async def stop(self) -> None:
        """Stop accepting, give the sessions that are busy ``drain_s`` to end, then end them."""
        self.is_draining = True
        await self._listeners.close()
        log.info("front.draining", sessions=len(self._sessions))
        for session in list(self._sessions.values()):
            session.drain()
        await self._wait_empty(self.config.drain_s)
        for session in list(self._sessions.values()):
            session.end(EndReason.SHUTDOWN, BUSY_ALERT)
        await self._wait_empty(self.config.drain_s)
        for session in list(self._connections):
            session.abort()
        self._report_flood()
        log.info("front.stopped")

    def configure(self, config: FrontConfig) -> None:
        """Change the settings for the clients to come; where it listens stays."""
        self.config = replace(config, listen=self.config.listen)
        self._sources.connections = config.source_connections
        self._sources.rate = config.source_rate
        self._sources.burst = config.source_burst

    def reload(self, routes: Iterable[ElementRoute], default_sen: str | None = None) -> None:
        """Replace the elements; sessions that run keep theirs.

        Raises:
            RoutingError: The new routes are refused; the old ones stay.
        """
        self.table = RoutingTable(routes, default_sen=default_sen)
        known = {route.seid for route in self.table.routes}
        self._health = {seid: health for seid, health in self._health.items() if seid in known}
        log.debug("front.reloaded", elements=len(known))

    def end_sessions(self, seid: str, reason: EndReason) -> None:
        """End every session of an element that is gone, those that wait for it included (§7)."""
        alert = None if reason is EndReason.ELEMENT_REMOVED else BUSY_ALERT
        for session in list(self._sessions.values()):
            if session.route is not None and session.route.seid == seid:
                session.end(reason, alert)

    def snapshot(self) -> FrontStatus:
        """Return what the front is doing now."""
        now = self.loop.time()
        return FrontStatus(
            listening=self.addresses,
            is_draining=self.is_draining,
            connections=len(self._connections),
            accepted=self.counters.accepted,
            opened=self.counters.opened,
            ended=dict(self.counters.ended),
            sessions=tuple(_session_status(one, now) for one in self._sessions.values()),
            elements=tuple(self._element_status(route, now) for route in self.table.routes),
        )

    # --- for the sessions -------------------------------------------------------------------

    def admit(self, session: FrontSession, peername: tuple[str, int] | None) -> EndReason | None:
        """Number and count a new session; say why it must end at once, if it must."""
        self.counters.accepted += 1
        session.number = self.counters.accepted
        self._connections[session] = None
        self._sessions[session.number] = session
        if peername is None:  # the client went away while it waited to be accepted
            return EndReason.CLIENT_GONE
        host, port = peername[:2]
        session.peer = format_address(host, port)
        if self.is_draining:
            return EndReason.SHUTDOWN
        source = source_of(host)
        if not self._sources.admit(source, session.since):
            return EndReason.SOURCE_LIMIT
        session.source = source
        has_room = len(self._connections) <= self.config.session_limit or self._make_room(session)
        return None if has_room else EndReason.SESSION_LIMIT

    def session_ended(self, session: FrontSession, reason: EndReason) -> None:
        """Count an end."""
        self.counters.ended[reason.value] += 1
        self._sessions.pop(session.number, None)
        if not self._sessions:
            self._is_empty.set()

    def leave(self, session: FrontSession) -> None:
        """Forget a connection that is closed, or as good as closed."""
        self._connections.pop(session, None)
        if session.source:
            self._sources.leave(session.source)
            session.source = ""

    def may_log_unserved(self) -> bool:
        """Say whether the log has room for a client that never had an element; count it if not."""
        rate, burst = UNSERVED_LINES_RATE, UNSERVED_LINES
        if self._unserved_lines.take(self.loop.time(), rate=rate, burst=burst):
            return True
        if not self.counters.unlogged:
            self.loop.call_later(FLOOD_REPORT_S, self._report_flood)
        self.counters.unlogged += 1
        return False

    def health(self, route: ElementRoute) -> ElementHealth:
        """Return how an element has been doing."""
        health = self._health.get(route.seid)
        if health is None:
            health = self._health[route.seid] = ElementHealth()
        return health

    def note_failure(self, route: ElementRoute, error: str) -> None:
        """Count a failure of an element; after a few in a row it is left alone for a while."""
        health = self.health(route)
        was_degraded = health.is_degraded
        health.note_failure(self.loop.time())
        if health.is_degraded and not was_degraded:
            log.warning("element.degraded", seid=route.seid, sen=route.sen, error=error)

    def note_success(self, route: ElementRoute) -> None:
        """Count a session that the element served."""
        health = self.health(route)
        health.sessions += 1
        if health.failures and health.note_success():
            log.info("element.recovered", seid=route.seid, sen=route.sen)

    def _make_room(self, newcomer: FrontSession) -> bool:
        """Drop the oldest connection that has not got as far as asking for an element."""
        dispensable = (SessionState.HELLO, SessionState.ENDED)
        for session in self._connections:
            if session.state in dispensable and session is not newcomer:
                session.end(EndReason.SESSION_LIMIT)
                session.abort()
                self.leave(session)
                return True
        return False

    def _report_flood(self) -> None:
        if self.counters.unlogged:
            log.warning("front.flooded", unlogged=self.counters.unlogged)
            self.counters.unlogged = 0

    async def _wait_empty(self, seconds: float) -> None:
        self._is_empty.clear()
        if not self._sessions:
            return
        try:
            await asyncio.wait_for(self._is_empty.wait(), seconds)
        except TimeoutError:
            log.warning("front.drain_expired", sessions=len(self._sessions))

    def _element_status(self, route: ElementRoute, now: float) -> ElementStatus:
        lock = self.holders.lock(route.seid)
        holder = lock.holder
        health = self.health(route)
        return ElementStatus(
            seid=route.seid,
            sen=route.sen,
            aliases=route.aliases,
            holder=None if holder is None else claim_status(holder, now - lock.held_since),
            waiting=tuple(claim_status(one, now - one.since) for one in lock.waiters()),
            is_degraded=health.is_degraded,
            failures=health.failures,
            sessions=health.sessions,
            retry_in_s=max(0.0, health.retry_at - now),
        )


def _session_status(session: FrontSession, now: float) -> SessionStatus:
    route = session.route
    return SessionStatus(
        session=session.number,
        peer=session.peer,
        sen=None if route is None else route.sen,
        seid=None if route is None else route.seid,
        state=session.state.value,
        age_s=round(now - session.since, 3),
    )
