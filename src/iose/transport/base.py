# SPDX-License-Identifier: Apache-2.0
"""The two Protocols of a transport: a Reader where a card sits, a Connection to talk to it."""

from collections.abc import Sequence
from typing import Protocol

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.batch import ApduLimits, BatchStep

__all__ = ["ApduLimits", "BatchStep", "Connection", "Reader"]


class Connection(Protocol):
    """A powered card, held exclusively until ``close``."""

    @property
    def atr(self) -> bytes:
        """The answer to the last reset."""

    @property
    def apdus(self) -> int:
        """Commands the card has had on this connection, GET RESPONSE included."""

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to raw bytes, carried as they are; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """

    async def reset(self) -> bytes:
        """Reset the card, with its power on where the reader can do that, and return its ATR.

        Raises:
            TransportError: The card is gone.
        """

    async def close(self) -> None:
        """Power the card off and let it go; never raises."""


class Reader(Protocol):
    """What carries APDUs to one element."""

    @property
    def name(self) -> str:
        """Stable name, for logs and inventories."""

    @property
    def limits(self) -> ApduLimits:
        """What the element takes at a time."""

    async def connect(self) -> Connection:
        """Power the card up and return a connection to it.

        Raises:
            TransportError: There is no reader, no card, or no answer.
        """
