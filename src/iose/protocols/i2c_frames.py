# SPDX-License-Identifier: Apache-2.0
"""Frames between a host and an element on an I2C bus, both directions (iose-server.md §8.4).

``NAD PCB LEN INF CRC``, as T=1 has them, with a CRC in place of the check byte. Boards with a card
behind a controller carry a whole APDU in one frame; NXP parts carry it in T=1 blocks (UM11225,
ISO/IEC 7816-3 §11). Who says what when is in ``i2c_exchange`` and ``i2c_blocks``.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from iose.wire.errors import DecodeError, LocalProtocolError, RemoteProtocolError
from iose.wire.reader import ByteReader

HEADER_SIZE: Final = 3  # NAD PCB LEN
CRC_SIZE: Final = 2
INF_LIMIT: Final = 254  # FF is no length (ISO/IEC 7816-3 §11.3.1)
NO_BYTE: Final = 0xFF  # what a bus reads where nobody drives it: never a PCB, never a LEN
NOT_READY: Final = 0x00  # in place of a NAD: ask again later

CRC_START: Final = 0xFFFF
CRC_POLYNOMIAL: Final = 0x8408  # of ISO/IEC 13239, its bits in the order they are sent
BYTE_BITS: Final = 8

ERROR_MASK: Final = 0xE0
ERROR_KIND: Final = 0x80
ERROR_BITS: Final = 0x03
BLOCK_SEQUENCE: Final = 0x40  # N(S) of an I-block
BLOCK_MORE: Final = 0x20  # M of an I-block: another follows
BLOCK_IS_NOT_INFORMATION: Final = 0x80
RECEIVE_KIND: Final = 0x80  # R-block: 100x00ee
RECEIVE_SEQUENCE: Final = 0x10  # N(R) of an R-block
SUPERVISORY_KIND: Final = 0xC0  # S-block: 11xxxxxx
SUPERVISORY_ANSWER: Final = 0x20  # set in the answer to an S-block


VERSION_SIZE: Final = 1  # sizes of what begins the answer to a soft reset
VENDOR_SIZE: Final = 5
LINK_SIZE: Final = 4


class Nad(IntEnum):
    """Who speaks (iose-server.md §8.4)."""

    HOST = 0x5A
    DEVICE = 0xA5


class Pcb(IntEnum):
    """What frames of a board with a controller are, and the blocks both kinds have."""

    ERROR_OTHER = 0x81
    ERROR_ELEMENT = 0x82
    ERROR_CRC = 0x83
    ECHO = 0xC0
    APDU = 0xC1
    POWER_OFF = 0xC3
    SOFT_RESET = 0xCF
    SOFT_RESET_ANSWER = 0xEF


class BlockPcb(IntEnum):
    """S-blocks of NXP parts (UM11225; ISO/IEC 7816-3 §11.3.2), as requests."""

    RESYNCHRONIZE = 0xC0
    INFORMATION_SIZE = 0xC1
    ABORT = 0xC2
    WAITING_TIME = 0xC3
    SOFT_RESET = 0xCF


class ReceiveError(IntEnum):
    """What an R-block says of the block before it (ISO/IEC 7816-3 §11.3.2.2)."""

    NONE = 0
    CRC = 1
    OTHER = 2


class I2cFault(IntEnum):
    """How an exchange fails."""

    NOT_ACKNOWLEDGED = 1
    NO_ANSWER = 2
    MALFORMED = 3
    BAD_CRC = 4
    REFUSED = 5


class I2cPeerError(RemoteProtocolError):
    """A device did not answer as it should; the exchange is over.

    Attributes:
        fault: How it failed.
    """

    def __init__(self, fault: I2cFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(1 << BYTE_BITS):
        crc = value
        for _ in range(BYTE_BITS):
            crc = crc >> 1 ^ (CRC_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc16(data: bytes) -> bytes:
    """Return the two check bytes of ``data``, CRC-16/X-25, low byte first (ISO/IEC 13239)."""
    crc = CRC_START
    for byte in data:
        crc = crc >> BYTE_BITS ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return (crc ^ CRC_START).to_bytes(CRC_SIZE, "little")


@dataclass(frozen=True, slots=True)
class I2cFrame:
    """One frame (iose-server.md §8.4).

    Attributes:
        nad: Who speaks.
        pcb: What it is.
        inf: What it carries, 0 to 254 bytes.
    """

    nad: int
    pcb: int
    inf: bytes = b""

    @classmethod
    def decode(cls, data: bytes) -> "I2cFrame":
        """Return the frame that ``data`` is, whole and nothing after it.

        Raises:
            DecodeError: The NAD, the PCB or the length is none, bytes miss or are left over, or the
                CRC is wrong.
        """
        reader = ByteReader(data)
        nad, pcb, size = reader.read_uint8(), reader.read_uint8(), reader.read_uint8()
        if nad not in (Nad.HOST, Nad.DEVICE):
            raise DecodeError(f"a frame begins with 5A or A5, found {nad:02X}")
        if NO_BYTE in (pcb, size):
            raise DecodeError("FF is no PCB and no length", offset=1)
        inf = reader.read_bytes(size)
        crc = reader.read_bytes(CRC_SIZE)
        reader.finish()
        if not has_valid_crc(data):
            raise DecodeError(f"the CRC is wrong, found {crc.hex().upper()}", offset=reader.offset)
        return cls(nad, pcb, inf)

    def encode(self) -> bytes:
        """Return the frame as it goes over the bus.

        Raises:
            LocalProtocolError: It carries more than 254 bytes.
        """
        if len(self.inf) > INF_LIMIT:
            raise LocalProtocolError(f"a frame carries at most {INF_LIMIT} bytes")
        head = bytes((self.nad, self.pcb, len(self.inf))) + self.inf
        return head + crc16(head)

    @property
    def is_error(self) -> bool:
        """Whether it is an error block of a board (iose-server.md §8.4)."""
        return self.pcb & ERROR_MASK == ERROR_KIND and bool(self.pcb & ERROR_BITS)


def has_valid_crc(data: bytes) -> bool:
    """Return whether the last two bytes of ``data`` are the CRC of those before them."""
    return crc16(data[:-CRC_SIZE]) == data[-CRC_SIZE:]


@dataclass(frozen=True, slots=True)
class DeviceParameters:
    """What an NXP part says of itself after a soft reset (UM11225: the ATR over I2C).

    Attributes:
        historical_bytes: As in an ATR of a card, with no limit of 15 bytes.
        information_size: Largest INF it takes, in bytes.
    """

    historical_bytes: bytes = b""
    information_size: int = INF_LIMIT

    @classmethod
    def decode(cls, data: bytes) -> "DeviceParameters":
        """Return what an answer to a soft reset carries.

        Version, five bytes of vendor, parameters of the data link (waiting time, INF size), the
        kind of the physical link, its parameters, historical bytes.

        Raises:
            DecodeError: Bytes miss or are left over, or no INF would fit.
        """
        reader = ByteReader(data)
        reader.read_bytes(VERSION_SIZE + VENDOR_SIZE)
        link = reader.read_vector(1, low=LINK_SIZE)
        link.read_uint16()  # the longest wait for a block; ours is for the whole APDU
        size = link.read_uint16()
        reader.read_uint8()
        reader.read_vector(1)
        historical_bytes = reader.read_vector(1).read_rest()
        reader.finish()
        if not size:
            raise DecodeError("the device takes blocks of 0 bytes", offset=VERSION_SIZE)
        return cls(historical_bytes, min(size, INF_LIMIT))
