# SPDX-License-Identifier: Apache-2.0
"""One card held over PC/SC: what is done in the reader's thread (iose-server.md §8.1).

Everything here blocks. A context belongs to one session: a service that was started again in
between leaves nothing stale behind.
"""

import time
from collections.abc import Sequence
from typing import Final

from iose.iso7816.apdu import (
    HEADER_SIZE,
    SHORT_LC_END,
    STATUS_SIZE,
    CommandApdu,
    ResponseApdu,
)
from iose.transport.base import BatchStep
from iose.transport.errors import CardRemovedError, NotSentError, TransportError
from iose.transport.pcsc.codes import Disposition, Protocol, ScardCode, ShareMode
from iose.transport.pcsc.faults import CLEAN_CARD, CONNECTING, IN_SESSION, fault_of
from iose.transport.pcsc.scard import Scard, ScardError
from iose.transport.pcsc.worker import ReaderThread
from iose.transport.stack import ApduMeter, run_batch
from iose.wire.errors import DecodeError, RemoteProtocolError

BUSY_S: Final = 1.0  # programs that list readers hold one for some milliseconds
BUSY_POLL_S: Final = 0.05
GONE_S: Final = 1.0  # the service looks for cards every 0.4 s
GONE_POLL_S: Final = 0.1


class PcscCard:
    """A card from ``open`` to ``let_go``; methods run in the reader's thread, but for ``abandon``.

    Attributes:
        atr: The answer to the last reset.
        meter: What went to the card, GET RESPONSE included.
    """

    def __init__(self, scard: Scard, reader: str, thread: ReaderThread) -> None:
        self.atr = b""
        self.meter = ApduMeter()
        self._scard = scard
        self._reader = reader
        self._thread = thread
        self._context: int | None = None
        self._handle: int | None = None
        self._protocol = 0
        self._is_wanted = True

    def abandon(self) -> None:
        """In the loop: let nothing more reach the card than what it is doing."""
        self._is_wanted = False

    def open(self) -> None:
        """Take the card for us alone, and start it from cold.

        Connecting leaves a card that has power as it is, with what another program has proved to
        it: so its power is always cut.

        Raises:
            CardBusyError: Another program holds it, and not just for a moment.
            TransportError: No reader, no card, no answer.
        """
        try:
            with self._thread.call():
                self._context = self._scard.establish_context()
            self._connect(self._context)
            self._restart(Disposition.UNPOWER)
        except ScardError as error:
            self.let_go()
            fault = fault_of(self._reader, error, CONNECTING)
            raise fault from error
        except TransportError:
            self.let_go()
            raise

    def reset(self) -> bytes:
        """Reset the card with its power on, and return its ATR.

        Raises:
            TransportError: The card is gone, or does not answer.
        """
        self._handle_in_use()
        try:
            self._restart(Disposition.RESET)
        except ScardError as error:
            fault = fault_of(self._reader, error, IN_SESSION)
            raise fault from error
        return self.atr

    def process(self, command: bytes) -> bytes:
        """Return the raw answer to one raw command; nothing is drained.

        Over T=0, what goes to the card is a TPDU: no Le behind data, and P3 always
        (ISO/IEC 7816-3 §12.2).

        Raises:
            NotSentError: The command cannot be sent over T=0.
            TransportError: No answer.
        """
        handle = self._handle_in_use()
        wire = self._tpdu(command) if self._protocol == Protocol.T0 else command
        try:
            with self._thread.call():
                answer = self._scard.transmit(handle, self._protocol, wire)
        except ScardError as error:
            if error.code != ScardCode.NOT_TRANSACTED:
                fault = fault_of(self._reader, error, IN_SESSION)
                raise fault from error
            answer = b""
        if len(answer) < STATUS_SIZE:
            self._look_for_card(handle)
            message = f"no answer from the card ({len(answer)} bytes, and no status)"
            raise TransportError(self._reader, message, hint=CLEAN_CARD)
        return answer

    def transmit(self, command: bytes) -> bytes:
        """Return the raw answer to one raw command, counted.

        Raises:
            TransportError: No answer.
        """
        answer = self.process(command)
        self.meter.count(command, answer)
        return answer

    def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: No answer, or one that never ends.
        """
        try:
            return run_batch(self.process, steps, self.meter)
        except (DecodeError, RemoteProtocolError) as error:
            raise TransportError(self._reader, str(error)) from error

    def let_go(self) -> None:
        """Cut the card's power and give it up; never raises, and may be called again."""
        handle, self._handle = self._handle, None
        context, self._context = self._context, None
        with self._thread.call():
            if handle is not None:
                self._scard.disconnect(handle, Disposition.UNPOWER)
            if context is not None:
                self._scard.release_context(context)

    def _connect(self, context: int) -> None:
        """Connect, and try again for a moment where another program looks at the card.

        Raises:
            ScardError: It does not let go, or there is another reason.
            TransportError: Nobody waits for it any more.
        """
        deadline = time.monotonic() + BUSY_S
        while self._handle is None:
            self._check_wanted()
            try:
                with self._thread.call():
                    self._scard.check_free(context, self._reader)
                    self._handle, self._protocol = self._scard.connect(
                        context, self._reader, ShareMode.EXCLUSIVE, Protocol.ANY
                    )
            except ScardError as error:
                is_busy = error.code == ScardCode.SHARING_VIOLATION
                if not is_busy or time.monotonic() > deadline:
                    raise
                time.sleep(BUSY_POLL_S)

    def _restart(self, how: Disposition) -> None:
        """Reset, with both protocols offered: the one in use alone fails on T=1 cards.

        Raises:
            ScardError: The card is gone, or does not answer.
            TransportError: It speaks something else.
        """
        handle = self._handle_in_use()
        with self._thread.call():
            self._protocol = self._scard.reconnect(handle, Protocol.ANY, how)
            self.atr = self._scard.atr(handle)
        if self._protocol not in (Protocol.T0, Protocol.T1):
            raise TransportError(self._reader, f"protocol {self._protocol} of PC/SC is unknown")

    def _tpdu(self, command: bytes) -> bytes:
        """Return what T=0 carries of a command.

        Raises:
            NotSentError: It is extended, or malformed.
        """
        if len(command) == HEADER_SIZE:
            return command + b"\0"
        if len(command) <= SHORT_LC_END:
            return command
        size = command[HEADER_SIZE]
        if size == 0:
            raise NotSentError(
                self._reader,
                "an extended command cannot be sent to a T=0 card",
                hint="set chunk_size of these readers to 255 or less",
            )
        try:
            CommandApdu.decode(command)
        except DecodeError as error:
            raise NotSentError(self._reader, str(error)) from error
        return command[: SHORT_LC_END + size]

    def _look_for_card(self, handle: int) -> None:
        """Return when the card is still there after a while; the service notices late.

        Raises:
            TransportError: It was taken out in the exchange, or the service is gone.
        """
        deadline = time.monotonic() + GONE_S
        while time.monotonic() < deadline:
            try:
                with self._thread.call():
                    self._scard.atr(handle)
            except ScardError as error:
                fault = fault_of(self._reader, error, IN_SESSION)
                raise fault from error
            time.sleep(GONE_POLL_S)

    def _handle_in_use(self) -> int:
        self._check_wanted()
        if self._handle is None:
            raise CardRemovedError(self._reader, "the connection is closed")
        return self._handle

    def _check_wanted(self) -> None:
        if not self._is_wanted:
            raise CardRemovedError(self._reader, "the connection has been given up")
