# SPDX-License-Identifier: Apache-2.0
"""The RACS server: listens, admits users by their certificates, counts and shows (racs.md §2, §8).

What one connection does is in ``connection``, what a command does in ``session``. The bindings to
HTTP and RACS Lite open their sessions here too.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from iose.servers.holders import ElementHolders
from iose.servers.listening import Listeners
from iose.servers.racs.audit import AuditLog, AuditOutcome
from iose.servers.racs.config import RacsConfig
from iose.servers.racs.connection import RacsConnection
from iose.servers.racs.elements import ElementTable, NameRegister, RacsElement
from iose.servers.racs.holds import Hold
from iose.servers.racs.policy import AccessPolicy
from iose.servers.racs.session import RacsSession, log
from iose.servers.racs.tls_stream import TlsStream
from iose.servers.racs.users import Identity

WATCH_STEPS: Final = 4  # how often in the shortest limit idle holders are looked for
WATCH_STEP_LIMIT_S: Final = 5.0


class PlaneConnection(Protocol):
    """One connection of the administration plane, whatever it speaks."""

    def drain(self) -> None:
        """End soon: now between two requests, else when the request is answered."""

    def abort(self) -> None:
        """End now, whatever runs."""


@dataclass(frozen=True, slots=True)
class RacsSessionStatus:
    """One session, as shown to the operator."""

    number: int
    plane: str
    user: str
    peer: str
    age_s: float
    commands: int
    holds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RacsStatus:
    """What the administration plane is doing now.

    Attributes:
        listening: Addresses of the RACS port.
        is_draining: It stops.
        connections: Connections, those in their handshake included.
        opened: Sessions since the server was made.
        sessions: Those that are open.
    """

    listening: tuple[tuple[str, int], ...]
    is_draining: bool
    connections: int
    opened: int
    sessions: tuple[RacsSessionStatus, ...]


class RacsServer:
    """The administration plane of a node.

    Args:
        config: Settings.
        context: TLS with client certificates required; nobody gets in without one.
        elements: What there is to administer; ``reload`` replaces them.
        policy: Who may do what; the same.
        holders: The locks of the node's elements, shared with the service plane.
        audit: Where every act is written before it is done.
        names: Where SEN and GET-SEN look.

    Attributes:
        generation: Grows when elements or rules are replaced.

    Raises:
        RoutingError: A SEID is not one, or leads to two elements.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # a plane is put together of its services
        self,
        config: RacsConfig,
        context: ssl.SSLContext,
        elements: Iterable[RacsElement],
        policy: AccessPolicy,
        holders: ElementHolders,
        audit: AuditLog,
        names: NameRegister,
    ) -> None:
        self.config = config
        self.context = context
        self.table = ElementTable(elements)
        self.policy = policy
        self.holders = holders
        self.audit = audit
        self.names = names
        self.generation = 0
        self.is_draining = False
        self.sessions: dict[int, RacsSession] = {}
        self._is_revoked: Callable[[bytes], bool] = lambda _certificate: False
        self._opened = 0
        self._per_user: Counter[str] = Counter()
        self._connections: dict[PlaneConnection, None] = {}
        self._strangers: dict[PlaneConnection, None] = {}  # may make room, the oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._holds: dict[Hold, RacsSession] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._listeners = Listeners()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop the server runs in."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the server listens, real ports included."""
        return self._listeners.addresses

    async def start(self, listeners: Sequence[socket.socket] = ()) -> None:
        """Listen on every configured address, or on the bound sockets handed in.

        Raises:
            OSError: An address cannot be had; none is listened on.
        """
        await self._listeners.open(self._accept, self.config.listen, listeners)
        log.info("racs.started", listening=self.addresses, elements=len(self.table.elements))

    async def stop(self) -> None:
        """Stop accepting, let requests that run end, then end the sessions."""
        self.is_draining = True
        await self._listeners.close()
        log.info("racs.draining", sessions=len(self.sessions))
        connections = list(self._connections)
        for connection in connections:
            connection.drain()
        await self._finish(self.config.drain_s)
        for connection in connections:
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await self._finish(None)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        log.info("racs.stopped")

    def reload(self, elements: Iterable[RacsElement], policy: AccessPolicy) -> None:
        """Replace elements and rules; sessions lose what they may not hold any more.

        Raises:
            RoutingError: The new elements are refused; the old ones stay.
        """
        self.table = ElementTable(elements)
        self.policy = policy
        self.generation += 1
        for session in list(self.sessions.values()):
            session.check_holds()
        log.info("racs.reloaded", elements=len(self.table.elements), rules=len(policy.rules))

    def recheck(self, is_revoked: Callable[[bytes], bool]) -> None:
        """End the sessions of certificates, in DER, that are revoked, and admit no more of them."""
        self._is_revoked = is_revoked
        for session in list(self.sessions.values()):
            certificate = session.identity.certificate
            if certificate and is_revoked(certificate):
                log.warning("racs.revoked", session=session.number, user=session.identity.user)
                session.end("certificate revoked")

    def snapshot(self) -> RacsStatus:
        """Return what the plane is doing now."""
        now = self.loop.time()
        sessions = tuple(
            RacsSessionStatus(
                one.number,
                one.plane,
                one.identity.user,
                one.peer,
                round(now - one.since, 3),
                one.commands,
                tuple(one.holds),
            )
            for one in self.sessions.values()
        )
        return RacsStatus(
            self.addresses, self.is_draining, len(self._connections), self._opened, sessions
        )

    async def _finish(self, limit_s: float | None) -> None:
        """Wait for what runs, and for what that starts; at most so long in all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._tasks:
                    await asyncio.wait(self._tasks)

    # --- for connections and sessions -----------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ``stop`` waits for."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def add_connection(self, connection: PlaneConnection) -> bool:
        """Count a connection, unless there are too many.

        The oldest one that has not shown who it is, or is set aside, makes room: who only knocks,
        or keeps connections open, must not keep administrators out.
        """
        if self.is_draining:
            return False
        if len(self._connections) >= self.config.session_limit:
            oldest = next(iter(self._strangers), None)
            if oldest is None:
                return False
            oldest.abort()
            self.remove_connection(oldest)
        self._connections[connection] = None
        self._strangers[connection] = None
        return True

    def recognise(self, connection: PlaneConnection) -> None:
        """Note that a connection has shown who it is, and what for."""
        self._strangers.pop(connection, None)

    def set_aside(self, connection: PlaneConnection) -> None:
        """Note that a connection has nothing to do for now."""
        if connection in self._connections:
            self._strangers[connection] = None

    def remove_connection(self, connection: PlaneConnection) -> None:
        """Forget a connection that is over."""
        self._connections.pop(connection, None)
        self._strangers.pop(connection, None)

    def open_session(
        self, identity: Identity, peer: str, plane: str, on_end: Callable[[str], None]
    ) -> RacsSession | None:
        """Return a session of a user; None when there are too many, or the server stops.

        The same for a user whose certificate is revoked.
        """
        user = identity.user
        is_full = (
            self._per_user[user] >= self.config.sessions_per_user
            or len(self.sessions) >= self.config.session_limit
        )
        is_revoked = bool(identity.certificate) and self._is_revoked(identity.certificate)
        session = RacsSession(self, self._opened + 1, identity, peer, plane, on_end)
        if is_revoked or is_full or self.is_draining:
            reason = "certificate revoked" if is_revoked else "too many sessions"
            log.warning("racs.refused", peer=peer, user=user, error=reason)
            if not self.is_draining:
                session.number = 0
                self.run(session.note("CONNECT", AuditOutcome("refused"), reason))
            return None
        self._opened += 1
        self.sessions[session.number] = session
        self._per_user[user] += 1
        return session

    def session_closed(self, session: RacsSession) -> None:
        """Forget a session."""
        if self.sessions.pop(session.number, None) is not None:
            user = session.identity.user
            self._per_user[user] -= 1
            if not self._per_user[user]:
                del self._per_user[user]

    def remember_hold(self, hold: Hold, session: RacsSession) -> None:
        """Watch an element that a session holds."""
        self._holds[hold] = session
        if self._watch is None:
            self._arm_watch()

    def forget_hold(self, hold: Hold) -> None:
        """Watch it no more."""
        self._holds.pop(hold, None)

    def _accept(self) -> TlsStream:
        return RacsConnection(self).stream

    def _arm_watch(self) -> None:
        shortest = min(self.config.hold_idle_s, self.config.hold_idle_awaited_s)
        step = min(shortest / WATCH_STEPS, WATCH_STEP_LIMIT_S)
        self._watch = self.loop.call_later(step, self._watch_holds)

    def _watch_holds(self) -> None:
        """Take elements away from who does nothing with them (racs.md §8)."""
        self._watch = None
        now = self.loop.time()
        for hold, session in list(self._holds.items()):
            is_awaited = hold.lock.waiting > 0
            limit = self.config.hold_idle_awaited_s if is_awaited else self.config.hold_idle_s
            if not hold.is_busy and now - hold.last_used >= limit:
                session.lose(hold, "idle while others wait" if is_awaited else "idle")
        if self._holds:
            self._arm_watch()
