# SPDX-License-Identifier: Apache-2.0
"""A PC/SC reader and the connection to its card: the loop's side of the reader's thread.

Every wait is bounded, per call of the thread. After one that took too long the reader is stuck
until its thread has come back and let the card go; sessions are refused meanwhile.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import (
    CardRemovedError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.pcsc.card import PcscCard
from iose.transport.pcsc.codes import (
    ATTRIBUTE_SERIAL,
    Disposition,
    Protocol,
    ScardCode,
    ShareMode,
)
from iose.transport.pcsc.scard import Scard, ScardError
from iose.transport.pcsc.worker import ReaderThread, call_in_loop

T = TypeVar("T")

LIMITS: Final = ApduLimits()
SERIAL_S: Final = 3.0  # asked of the driver, not of the card
REPLACE_HINT: Final = "take the card out and put it back, or unplug the reader"


class PcscReader:
    """One reader, by the name that the service gives it.

    Args:
        scard: The service.
        name: Of the reader.
        apdu_s: Longest wait for the answer to one command, in seconds.
        changed: Called in the loop after ``stuck_since`` has become another.

    Attributes:
        stuck_since: When the reader was last sent what it does not answer, as text; "" when it
            answers.
        uses: How often it has been ours.
    """

    def __init__(
        self, scard: Scard, name: str, *, apdu_s: float, changed: Callable[[], None]
    ) -> None:
        self.stuck_since = ""
        self.uses = 0
        self._scard = scard
        self._name = name
        self._apdu_s = apdu_s
        self._changed = changed
        self._thread = ReaderThread(name)
        self._card: PcscCard | None = None

    @property
    def name(self) -> str:
        """Name of the reader."""
        return self._name

    @property
    def is_held(self) -> bool:
        """Whether the card is ours."""
        return self._card is not None

    @property
    def limits(self) -> ApduLimits:
        """The published sizes: PC/SC does not tell what a card takes."""
        return LIMITS

    async def connect(self) -> "PcscConnection":
        """Power the card up, from cold and for us alone, and return a connection to it.

        Raises:
            CardBusyError: Another program holds the card.
            TransportError: There is no service, no reader, no card, or no answer.
        """
        if self.stuck_since:
            raise self._timeout()
        if self.is_held:
            raise TransportError(self._name, "the card is held by another connection")
        card = self._card = PcscCard(self._scard, self._name, self._thread)
        self.uses += 1
        try:
            await self.run(card.open, self._apdu_s)
        except BaseException:
            self.let_go(card)
            raise
        return PcscConnection(self, card)

    async def read_serial(self) -> str | None:
        """Return the reader's serial number, "" where it has none, None while it cannot be asked.

        The reader is asked, not the card, whose state does not change.

        Raises:
            TransportError: The reader does not answer.
        """
        return await self.run(self._ask_serial, min(SERIAL_S, self._apdu_s))

    async def transmit(self, work: Callable[[], T]) -> T:
        """Return what work in the thread returns.

        Raises:
            TransportError: No answer, or not in time.
        """
        return await self.run(work, self._apdu_s)

    async def run(self, work: Callable[[], T], call_s: float) -> T:
        """Return what work in the thread returns.

        Raises:
            TransportTimeoutError: A call of it takes longer; the reader is stuck until it returns.
            TransportError: Work raised it.
        """
        if self.stuck_since:
            raise self._timeout()
        try:
            return await self._thread.run(work, call_s)
        except TimeoutError:
            self._note_stuck(call_s)
            raise self._timeout() from None

    def let_go(self, card: PcscCard) -> None:
        """Cut the card's power and let it go, when the thread comes to it; who connects waits."""
        if self._card is card:
            self._card = None
        card.abandon()
        self._thread.post(card.let_go)

    async def close(self, card: PcscCard) -> None:
        """Let the card go, and wait for that in bounded time; never raises."""
        self.let_go(card)
        with suppress(TransportError):
            await self.run(_nothing, self._apdu_s)

    def _note_stuck(self, call_s: float) -> None:
        """Be stuck until the thread has come back, and has let go of what it holds."""
        began = time.gmtime(time.time() - call_s)
        self.stuck_since = time.strftime("%Y-%m-%d %H:%M:%S UTC", began)
        if self._card is not None:
            self.let_go(self._card)
        loop = asyncio.get_running_loop()
        self._thread.post(partial(call_in_loop, loop, self._has_come_back))
        self._changed()

    def _has_come_back(self) -> None:
        self.stuck_since = ""
        self._changed()

    def _timeout(self) -> TransportTimeoutError:
        return TransportTimeoutError(
            self._name, f"no answer since {self.stuck_since}", hint=REPLACE_HINT
        )

    def _ask_serial(self) -> str | None:
        """Ask for the serial number over a connection to the reader alone."""
        context = handle = None
        with self._thread.call():
            try:
                context = self._scard.establish_context()
                self._scard.check_free(context, self._name)
                handle, _ = self._scard.connect(
                    context, self._name, ShareMode.DIRECT, Protocol.NONE
                )
                value = self._scard.attribute(handle, ATTRIBUTE_SERIAL)
                return value.decode("ascii", errors="ignore").strip("\0 ")
            except ScardError as error:
                return None if error.code == ScardCode.SHARING_VIOLATION else ""
            finally:
                if handle is not None:
                    self._scard.disconnect(handle, Disposition.LEAVE)
                if context is not None:
                    self._scard.release_context(context)


class PcscConnection:
    """A card held exclusively over PC/SC until ``close``."""

    def __init__(self, reader: PcscReader, card: PcscCard) -> None:
        self._reader = reader
        self._card = card
        self._is_open = True

    @property
    def atr(self) -> bytes:
        """The answer to the last reset."""
        return self._card.atr

    @property
    def apdus(self) -> int:
        """Commands the card has had on this connection, GET RESPONSE included."""
        return self._card.meter.commands

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return ResponseApdu.decode(await self.transmit_raw(command.encode()))

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to raw bytes, less what T=0 does not carry; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await self._run(partial(self._card.transmit, command))

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await self._run(partial(self._card.transmit_batch, steps))

    async def reset(self) -> bytes:
        """Reset the card with its power on and return its ATR.

        Raises:
            TransportError: The card is gone.
        """
        return await self._run(self._card.reset)

    async def close(self) -> None:
        """Power the card off and let it go; never raises."""
        if self._is_open:
            self._is_open = False
            await self._reader.close(self._card)

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._is_open:
            raise CardRemovedError(self._reader.name, "the connection is closed")
        return await self._reader.transmit(work)


def _nothing() -> None:
    """Be a job that only shows that the thread has come to it."""
