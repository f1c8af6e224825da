# SPDX-License-Identifier: Apache-2.0
"""Who holds which element, and who waits for it (docs/architecture.md, iose-server.md §5.7).

Both planes take an element here before they touch it. Waiting is bounded and fair: the sources
that wait take turns, each serving its own in order of arrival; in a full queue, a source with
many places gives one to a source with few. Nothing here knows readers.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from iose.wire.errors import IoseError, LocalProtocolError

QUEUE_LIMIT: Final = 64  # waiters of one element; each costs a socket and up to 80 KiB
QUEUE_LIMIT_PER_SOURCE: Final = 32  # one address cannot fill a queue alone
LOCKS_KEPT: Final = 16_384  # twice a large node's; another node may list ever new SEIDs


class QueueFullError(IoseError):
    """As many wait for an element as may."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One session's wish for an element.

    Attributes:
        plane: ``tls``, ``racs``, ``http`` or ``racsl``.
        session: Number of the session in its plane.
        source: Who takes turns: an address, or a user.
        since: When the claim was made, in the loop's time.
        evict: Makes the session give the element up soon, for whoever may ask for that; None when
            it cannot.
    """

    plane: str
    session: int
    source: str
    since: float
    evict: Callable[[], None] | None = field(default=None, compare=False, repr=False)


class ElementLock:
    """One element: its holder and its queue."""

    __slots__ = (
        "_count",
        "_leaving",
        "_per_source",
        "_queues",
        "_size",
        "held_since",
        "holder",
        "seid",
    )

    def __init__(self, seid: str, *, size: int, per_source: int) -> None:
        self.seid = seid
        self.holder: Claim | None = None
        self.held_since = 0.0
        self._size = size
        self._per_source = per_source
        self._count = 0
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        self._leaving: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._count

    @property
    def is_used(self) -> bool:
        """Whether anybody holds the element or waits for it."""
        return self.holder is not None or self._count > 0

    def waiters(self) -> list[Claim]:
        """Return who waits, by source, in each source's order."""
        return [waiter.claim for queue in self._queues.values() for waiter in queue]

    def try_acquire(self, claim: Claim, now: float) -> bool:
        """Take the element if it is free, and say whether it was."""
        if self.holder is not None:
            return False
        self.holder = claim
        self.held_since = now
        return True

    async def acquire(self, claim: Claim) -> None:
        """Take the element, in turn; the caller bounds the time by cancelling.

        Raises:
            QueueFullError: The queue, or the source's part of it, is full, at once or later.
            CancelledError: The caller gave up; it holds nothing.
        """
        loop = asyncio.get_running_loop()
        if self.try_acquire(claim, loop.time()):
            return
        places = len(self._queues.get(claim.source, ()))
        if places >= self._per_source or not self._has_room(places):
            raise self._full()
        waiter = _Waiter(claim, loop.create_future())
        self._queues.setdefault(claim.source, deque()).append(waiter)
        self._count += 1
        try:
            has_turn = await waiter.turn
        except asyncio.CancelledError:
            if self.holder is claim:
                self.release(claim, loop.time())
            else:
                self._leave(waiter)
            raise
        if not has_turn:
            raise self._full()

    def release(self, claim: Claim, now: float) -> None:
        """Give the element to the next in turn.

        Raises:
            LocalProtocolError: The claim does not hold the element.
        """
        if self.holder is not claim:
            raise LocalProtocolError(f"element {self.seid} is not held by this session")
        self.holder = None
        leaving, self._leaving = self._leaving, []
        for watcher in leaving:
            if not watcher.done():
                watcher.set_result(None)
        while self._queues:
            source, queue = self._queues.popitem(last=False)
            waiter = queue.popleft()
            self._count -= 1
            if queue:
                self._queues[source] = queue
            if not waiter.turn.done():
                self.holder = waiter.claim
                self.held_since = now
                waiter.turn.set_result(True)
                return

    async def released(self, claim: Claim) -> None:
        """Return when the claim does not hold the element any more."""
        if self.holder is claim:
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._leaving.append(watcher)
            await watcher

    def _has_room(self, places: int) -> bool:
        """Say whether a source with so many places may have another; make room if so."""
        if self._count < self._size:
            return True
        longest = max(self._queues.values(), key=len, default=None)
        if longest is None or len(longest) <= places + 1:
            return False
        last = longest[-1]
        self._leave(last)
        if not last.turn.done():
            last.turn.set_result(False)
        return True

    def _full(self) -> QueueFullError:
        return QueueFullError(f"{self._count} sessions wait for element {self.seid}")

    def _leave(self, waiter: "_Waiter") -> None:
        queue = self._queues.get(waiter.claim.source)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            self._count -= 1
            if not queue:
                del self._queues[waiter.claim.source]


@dataclass(slots=True, eq=False)
class _Waiter:
    """One in a queue; ``turn`` comes with whether it is the element or the end of waiting."""

    claim: Claim
    turn: asyncio.Future[bool]


class ElementHolders:
    """The locks of all elements, by SEID; made when first asked for."""

    def __init__(
        self,
        *,
        queue_limit: int = QUEUE_LIMIT,
        queue_limit_per_source: int = QUEUE_LIMIT_PER_SOURCE,
    ) -> None:
        self._queue_limit = queue_limit
        self._queue_limit_per_source = queue_limit_per_source
        self._locks: dict[str, ElementLock] = {}

    @property
    def locks(self) -> Mapping[str, ElementLock]:
        """Every lock that is used, and others."""
        return self._locks

    def lock(self, seid: str) -> ElementLock:
        """Return the lock of one element."""
        lock = self._locks.get(seid)
        if lock is None:
            if len(self._locks) >= LOCKS_KEPT:
                self._locks = {name: one for name, one in self._locks.items() if one.is_used}
            lock = self._locks[seid] = ElementLock(
                seid, size=self._queue_limit, per_source=self._queue_limit_per_source
            )
        return lock
