# SPDX-License-Identifier: Apache-2.0
"""Messages between a virtual reader's driver and the card in it (vsmartcard's vpcd).

Each is a 2-byte length and that many bytes. From the driver, one byte is an order and more are a
command APDU; back go the answers to APDUs and to the order for the ATR. No sockets in here.
"""

from enum import IntEnum
from typing import Final

from iose.wire.errors import DecodeError, LocalProtocolError

DEFAULT_PORT: Final = 35_963  # 8C7B in the driver's configuration; its second reader is one above
LENGTH_SIZE: Final = 2
MESSAGE_LIMIT: Final = 0xFFFF  # what the length can say


class Order(IntEnum):
    """What one byte from the driver tells the card; only ATR is answered."""

    POWER_OFF = 0
    POWER_ON = 1
    RESET = 2
    ATR = 4


DriverMessage = Order | bytes


class DriverStream:
    """What the driver sends, cut into messages.

    It holds what it is given; who takes each message before giving more bounds it.
    """

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def is_inside_message(self) -> bool:
        """Whether a message has begun that has not ended."""
        return bool(self._data)

    def receive_data(self, data: bytes) -> None:
        """Take what came."""
        self._data += data

    def next_message(self) -> DriverMessage | None:
        """Return the next order or command APDU; None while it is not whole.

        Raises:
            DecodeError: It is empty, or an order nobody knows; what follows makes no sense either.
        """
        if len(self._data) < LENGTH_SIZE:
            return None
        end = LENGTH_SIZE + int.from_bytes(self._data[:LENGTH_SIZE], "big")
        if end == LENGTH_SIZE:
            raise DecodeError("a message of the driver is empty")
        if len(self._data) < end:
            return None
        message = bytes(self._data[LENGTH_SIZE:end])
        del self._data[:end]
        if len(message) > 1:
            return message
        try:
            return Order(message[0])
        except ValueError:
            raise DecodeError(f"the driver gives order {message[0]}, which is none") from None


def encode_answer(answer: bytes) -> bytes:
    """Return an answer to the driver as it goes on the wire.

    Raises:
        LocalProtocolError: It is longer than the length can say.
    """
    if len(answer) > MESSAGE_LIMIT:
        raise LocalProtocolError(f"an answer to the driver has at most {MESSAGE_LIMIT} bytes")
    return len(answer).to_bytes(LENGTH_SIZE, "big") + answer
