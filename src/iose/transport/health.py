# SPDX-License-Identifier: Apache-2.0
"""A reader that is watched: how often it was used, how it failed, how slow it was.

An inventory puts one round each reader of a bank, with what the operator says of its element; it
costs two looks at the clock for each batch.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, TypeVar

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.protocols.racs.status import EventClass
from iose.transport.base import ApduLimits, BatchStep, Connection, Reader
from iose.transport.errors import (
    CardBusyError,
    NoCardError,
    NotSentError,
    RacsRefusedError,
    TransportError,
)

T = TypeVar("T")
DEFAULT_LIMITS: Final = ApduLimits()
NOT_ITS_FAULT: Final = (CardBusyError, NoCardError, NotSentError)


@dataclass(slots=True)
class ReaderHealth:
    """How a reader has been doing; times are those of ``time.monotonic``.

    Attributes:
        sessions: Connections made.
        failures: Times that it gave no answer, or could not be started.
        last_fault: What went wrong last; "" when nothing ever did.
        last_fault_at: When.
        slowest_s: Longest wait for an answer, or for those to one batch.
        waits: Since when answers are waited for; one, but for a session that is being given up.
        connections: Those of now, likewise.
    """

    sessions: int = 0
    failures: int = 0
    last_fault: str = ""
    last_fault_at: float | None = None
    slowest_s: float = 0.0
    waits: list[float] = field(default_factory=list)
    connections: "list[WatchedConnection]" = field(default_factory=list)
    _past_apdus: int = 0

    @property
    def waiting_since(self) -> float | None:
        """Since when an answer is waited for; None when none is."""
        return min(self.waits, default=None)

    @property
    def apdus(self) -> int:
        """Commands the element has had."""
        return self._past_apdus + sum(connection.apdus for connection in self.connections)

    def note_fault(self, error: TransportError) -> None:
        """Count a failure; an element that is held or not there, and a refusal, are none."""
        # a published server says its rules' refusals with the class of what is in use
        is_kept_away = isinstance(error, RacsRefusedError) and (
            error.is_by_rule or error.status.event_class is EventClass.IN_USE
        )
        if not is_kept_away and not isinstance(error, NOT_ITS_FAULT):
            self.failures += 1
            self.last_fault = str(error)
            self.last_fault_at = monotonic()

    def note_answer(self, waited_s: float) -> None:
        """Take note of an answer's time."""
        self.slowest_s = max(self.slowest_s, waited_s)

    def note_close(self, connection: "WatchedConnection") -> None:
        """Keep the count of a connection that ends; a second time changes nothing."""
        if connection in self.connections:
            self.connections.remove(connection)
            self._past_apdus += connection.apdus


class WatchedReader:
    """A reader in another's place, so that what follows holds for all its users.

    Args:
        name: What it is called.

    Attributes:
        inner: The reader; None while there is none.
        limits: What its element takes at a time.
        has_warm_reset: Whether a reset leaves the power on, where the reader can do that.
        health: How it has been doing.
    """

    def __init__(self, name: str) -> None:
        self.inner: Reader | None = None
        self.limits: ApduLimits = DEFAULT_LIMITS
        self.has_warm_reset = True
        self.health = ReaderHealth()
        self._name = name

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    async def connect(self) -> "WatchedConnection":
        """Power the card up and return a connection to it.

        Raises:
            NoCardError: There is nothing in this place now.
            TransportError: There is no reader, no card, or no answer.
        """
        inner = self.inner
        if inner is None:
            raise NoCardError(self._name, "the element is not there")
        health = self.health
        connection = WatchedConnection(self, inner, await _watched(health, inner.connect()))
        health.sessions += 1
        health.connections.append(connection)
        return connection


class WatchedConnection:
    """A connection of a ``WatchedReader``."""

    def __init__(self, watched: WatchedReader, reader: Reader, inner: Connection) -> None:
        self._watched = watched
        self._health = watched.health
        self._reader = reader
        self._inner = inner
        self._past_apdus = 0

    @property
    def atr(self) -> bytes:
        """The answer to the last reset."""
        return self._inner.atr

    @property
    def apdus(self) -> int:
        """Commands the card has had on this connection, GET RESPONSE included."""
        return self._past_apdus + self._inner.apdus

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await _watched(self._health, self._inner.transmit(command))

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to raw bytes, carried as they are; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await _watched(self._health, self._inner.transmit_raw(command))

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await _watched(self._health, self._inner.transmit_batch(steps))

    async def reset(self) -> bytes:
        """Reset the card, by its power where it must be so, and return its ATR.

        Raises:
            TransportError: The card is gone.
        """
        if self._watched.has_warm_reset:
            return await _watched(self._health, self._inner.reset())
        await _to_its_end(self._inner.close())
        inner = await _watched(self._health, self._reader.connect())
        self._past_apdus += self._inner.apdus
        self._inner = inner
        return inner.atr

    async def close(self) -> None:
        """Power the card off and let it go; never raises, and is never cut short."""
        self._health.note_close(self)
        await _to_its_end(self._inner.close())


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Return when work is done, which is bounded in time; who is cancelled is so after that.

    An element must have lost its power before its lock goes to somebody else.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


async def _watched(health: ReaderHealth, work: Awaitable[T]) -> T:
    started = monotonic()
    health.waits.append(started)
    try:
        answer = await work
    except TransportError as error:
        health.note_fault(error)
        raise
    finally:
        health.waits.remove(started)
    health.note_answer(monotonic() - started)
    return answer
