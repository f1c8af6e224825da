# SPDX-License-Identifier: Apache-2.0
"""A reader over a link that carries one command at a time: a TCP connection, a serial line.

What such readers have in common is here: one session at a time, a deadline per command, a link
that is never used again after something went wrong on it. The link itself knows its wire alone.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from iose.iso7816.apdu import STATUS_SIZE, CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import CardRemovedError, TransportError, TransportTimeoutError
from iose.transport.stack import transmit_batch

T = TypeVar("T")

DEFAULT_LIMITS: Final = ApduLimits()
OPEN_S: Final = 10.0  # to reach the reader
CLOSE_S: Final = 2.0  # to power the element off politely
WRONG_LENGTH: Final = StatusWord.WRONG_LENGTH.to_bytes(STATUS_SIZE, "big")  # to what is no command
SILENT_HINT: Final = "it is tried again by itself; if this lasts, cut the reader's power"


class ElementLink(Protocol):
    """The wire to one element, for one session; it has no deadlines of its own for commands."""

    @property
    def name(self) -> str:
        """Name of the reader, for errors."""

    async def open(self) -> None:
        """Reach the reader.

        Raises:
            TransportError: It is not there, or does not answer.
        """

    async def start(self) -> bytes:
        """Power the element on and return its ATR.

        Raises:
            TransportError: There is no element, or no answer.
        """

    async def exchange(self, command: bytes) -> bytes:
        """Return the raw answer to a raw command.

        Raises:
            TransportError: There is no answer, or it is none.
        """

    async def restart(self) -> bytes:
        """Power the element off and on and return its ATR.

        Raises:
            TransportError: It does not start again.
        """

    async def close(self) -> None:
        """Power the element off and end the link.

        Raises:
            TransportError: The reader does not answer.
        """

    def abort(self) -> None:
        """End the link at once; whoever waits on it gets a ``TransportError``."""


class SessionEnd(Protocol):
    """Told once that a session is over."""

    def __call__(self, error: TransportError | None, *, is_off: bool) -> None:
        """Take note of what went wrong, if anything, and whether the element is off."""


class LinkReader:
    """One element behind links of one kind.

    Args:
        name: Of the reader.
        make_link: Makes the link of a session.
        apdu_s: Longest wait for an answer, in seconds.
        on_failure: Told what went wrong in a session, or before it began.
        on_left: Told that a session ended without the element's being powered off.
    """

    limits: ApduLimits = DEFAULT_LIMITS

    def __init__(
        self,
        name: str,
        make_link: Callable[[], ElementLink],
        *,
        apdu_s: float,
        on_failure: Callable[[TransportError], None] = lambda _: None,
        on_left: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._make_link = make_link
        self._apdu_s = apdu_s
        self._on_failure = on_failure
        self._on_left = on_left
        self._turn = asyncio.Lock()
        self._session: LinkConnection | None = None
        self._opening: ElementLink | None = None
        self._cut: TransportError | None = None
        self._is_over = False

    @property
    def name(self) -> str:
        """Name of the reader."""
        return self._name

    @property
    def is_held(self) -> bool:
        """Whether a session has it, begins or ends."""
        return self._turn.locked()

    async def connect(self) -> "LinkConnection":
        """Power the element on and return a connection; a session that ends is waited for.

        Raises:
            TransportError: There is no reader, no element, or no answer; or a session has it.
        """
        if self._session is not None and not self._session.is_closing:
            raise TransportError(self._name, "the element is held by another connection")
        link, atr = await self._open()
        self._session = LinkConnection(link, atr, self._apdu_s, self._end)
        return self._session

    async def look(self) -> bytes:
        """Power the element on and off again, and return its ATR.

        Raises:
            TransportError: There is no reader, no element, or no answer.
        """
        link, atr = await self._open()
        try:
            await within(self._name, link.close(), CLOSE_S)
        finally:
            link.abort()
            self._turn.release()
        return atr

    async def _open(self) -> tuple[ElementLink, bytes]:
        await within(self._name, self._turn.acquire(), self._apdu_s, "the element is not let go")
        if not self._is_over:
            self._cut = None
        self._opening = link = self._make_link()
        is_open = False
        try:
            self._check()
            await within(self._name, link.open(), OPEN_S)
            self._check()
            atr = await within(self._name, link.start(), self._apdu_s)
            self._check()
            is_open = True
        except TransportError as found:
            error = self._cut or found
            self._on_failure(error)
            raise error from found
        finally:
            self._opening = None
            if not is_open:
                link.abort()
                self._turn.release()
        return link, atr

    def cut(self, error: TransportError) -> None:
        """End the session, or its beginning, with an error for whoever waits or asks next."""
        self._cut = error
        if self._session is not None:
            self._session.cut(error)
        if self._opening is not None:
            self._opening.abort()

    def retire(self, error: TransportError) -> None:
        """End the session, and begin none any more."""
        self._is_over = True
        self.cut(error)

    def _check(self) -> None:
        if self._cut is not None:
            raise self._cut

    def _end(self, error: TransportError | None, *, is_off: bool) -> None:
        self._session = None
        self._turn.release()
        if error is not None:
            self._on_failure(error)
        elif not is_off:
            self._on_left()


class LinkConnection:
    """A powered element, held until ``close`` or until its link fails.

    Attributes:
        is_closing: Whether its end has begun.
    """

    def __init__(
        self,
        link: ElementLink,
        atr: bytes,
        apdu_s: float,
        on_end: SessionEnd,
    ) -> None:
        self._link = link
        self._atr = atr
        self._apdu_s = apdu_s
        self._on_end = on_end
        self._apdus = 0
        self._is_open = True
        self.is_closing = False
        self._end: TransportError | None = None
        self._turn = asyncio.Lock()

    @property
    def atr(self) -> bytes:
        """The answer to the last reset."""
        return self._atr

    @property
    def apdus(self) -> int:
        """Commands the element has had on this connection, GET RESPONSE included."""
        return self._apdus

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return ResponseApdu.decode(await self.transmit_raw(command.encode()))

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to raw bytes; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await self._use(lambda: self._exchange(command))

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await transmit_batch(self._link.name, self.transmit, steps)

    async def reset(self) -> bytes:
        """Power the element off and on, and return its ATR.

        Raises:
            TransportError: The element is gone.
        """
        self._atr = await self._use(self._link.restart)
        return self._atr

    async def close(self) -> None:
        """Power the element off and let it go; never raises."""
        self.is_closing = True
        async with self._turn:
            if not self._is_open:
                return
            is_off = False
            try:
                with suppress(TransportError):  # the next session finds out
                    await within(self._link.name, self._link.close(), CLOSE_S)
                    is_off = True
            finally:
                self._finish(None, is_off=is_off)

    def cut(self, error: TransportError) -> None:
        """End the connection with an error for whoever waits or asks next."""
        self._end = error
        self._link.abort()

    async def _exchange(self, command: bytes) -> bytes:
        self._apdus += 1
        answer = await self._link.exchange(command)
        if len(answer) < STATUS_SIZE:
            raise TransportError(self._link.name, "an answer has no status word")
        return answer

    async def _use(self, work: Callable[[], Awaitable[bytes]]) -> bytes:
        async with self._turn:
            self._check()
            error: TransportError | None = None
            is_answered = False
            try:
                answer = await within(self._link.name, work(), self._apdu_s)
                is_answered = True
            except TransportError as found:
                error = self._end or found
                raise error from found
            finally:
                if not is_answered:  # given up, too: what comes late is no answer to what is next
                    self._finish(error)
            return answer

    def _check(self) -> None:
        if self._end is not None:
            self._finish(self._end)
            raise self._end
        if not self._is_open:
            raise CardRemovedError(self._link.name, "the session is closed")

    def _finish(self, error: TransportError | None, *, is_off: bool = False) -> None:
        if self._is_open:
            self._is_open = False
            self._link.abort()
            self._on_end(error, is_off=is_off)


async def within(name: str, work: Awaitable[T], wait_s: float, what: str = "no answer") -> T:
    """Return what ``work`` returns.

    Raises:
        TransportTimeoutError: It takes longer than ``wait_s`` seconds.
    """
    try:
        async with asyncio.timeout(wait_s):
            return await work
    except TimeoutError:
        raise TransportTimeoutError(name, f"{what} within {wait_s:g} s", hint=SILENT_HINT) from None


def reason(error: OSError | UnicodeError) -> str:
    """Return why a connection could not be made, in the system's words."""
    if isinstance(error, UnicodeError):
        return "this is no host name"
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
