# SPDX-License-Identifier: Apache-2.0
"""Our own card in the same process, for tests and for programs without a node.

Commands run in the caller's task: a card's work is arithmetic, there is nothing to wait for.
"""

from collections.abc import Sequence
from typing import Final

from iose.card.card_os import CardOs
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import NoCardError, TransportError
from iose.transport.stack import ApduMeter, run_batch
from iose.wire.errors import IoseError

DEFAULT_LIMITS: Final = ApduLimits()


class SoftwareReader:
    """A reader that always holds its card.

    Attributes:
        card: The card in it.
    """

    def __init__(self, name: str, card: CardOs, limits: ApduLimits = DEFAULT_LIMITS) -> None:
        self._name = name
        self._limits = limits
        self._is_held = False
        self.card = card

    @property
    def name(self) -> str:
        """Stable name, for logs and inventories."""
        return self._name

    @property
    def limits(self) -> ApduLimits:
        """What the element takes at a time."""
        return self._limits

    async def connect(self) -> "SoftwareConnection":
        """Power the card up and return a connection to it.

        Raises:
            TransportError: The card is held by another connection.
            NoCardError: It cannot start.
        """
        if self._is_held:
            raise TransportError(self._name, "the card is held by another connection")
        try:
            atr = self.card.power_on()
        except IoseError as error:
            raise NoCardError(self._name, f"the card does not start: {error}") from error
        self._is_held = True
        return SoftwareConnection(self, atr)

    def let_go(self) -> None:
        """Power the card off; it may be held again."""
        self.card.power_off()
        self._is_held = False


class SoftwareConnection:
    """A powered card, held until ``close``.

    Attributes:
        meter: What the card was sent on this connection.
    """

    def __init__(self, reader: SoftwareReader, atr: bytes) -> None:
        self.meter = ApduMeter()
        self._reader = reader
        self._is_open = True
        self._atr = atr

    @property
    def atr(self) -> bytes:
        """The answer to the last reset."""
        return self._atr

    @property
    def apdus(self) -> int:
        """Commands the card has had on this connection, GET RESPONSE included."""
        return self.meter.commands

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        Raises:
            TransportError: The connection is closed.
        """
        return ResponseApdu.decode(await self.transmit_raw(command.encode()))

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to raw bytes, carried as they are; nothing is drained.

        Raises:
            TransportError: The connection is closed.
        """
        answer = self._card().process(command)
        self.meter.count(command, answer)
        return answer

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: The connection is closed, or an answer never ends.
        """
        try:
            return run_batch(self._card().process, steps, self.meter)
        except IoseError as error:
            raise TransportError(self._reader.name, str(error)) from error

    async def reset(self) -> bytes:
        """Reset the card and return its ATR.

        Raises:
            TransportError: The connection is closed.
        """
        self._atr = self._card().reset()
        return self._atr

    async def close(self) -> None:
        """Power the card off and let it go; never raises."""
        if self._is_open:
            self._is_open = False
            self._reader.let_go()

    def _card(self) -> CardOs:
        if not self._is_open:
            raise TransportError(self._reader.name, "the connection is closed")
        return self._reader.card
