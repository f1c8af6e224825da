# SPDX-License-Identifier: Apache-2.0
"""Numbers of PC/SC: what calls take, what they return (PC/SC Part 5, pcsclite.h)."""

from enum import IntEnum, IntFlag
from typing import Final

ATTRIBUTE_SERIAL: Final = 0x00010103  # SCARD_ATTR_VENDOR_IFD_SERIAL_NO
NEW_READER: Final = "\\\\?PnP?\\Notification"  # the name that stands for readers not there yet


class ShareMode(IntEnum):
    """How a card or a reader is shared."""

    EXCLUSIVE = 1
    DIRECT = 3


class Protocol(IntFlag):
    """Protocols offered, and the one a card speaks."""

    NONE = 0
    T0 = 1
    T1 = 2
    ANY = 3


class Disposition(IntEnum):
    """What becomes of a card."""

    LEAVE = 0
    RESET = 1
    UNPOWER = 2


class ReaderFlag(IntFlag):
    """State of a reader; what stands above is a count of insertions and removals."""

    UNAWARE = 0x0000
    CHANGED = 0x0002
    UNKNOWN = 0x0004
    UNAVAILABLE = 0x0008
    EMPTY = 0x0010
    PRESENT = 0x0020
    EXCLUSIVE = 0x0080
    INUSE = 0x0100
    MUTE = 0x0200


class ScardCode(IntEnum):
    """Return codes that we tell apart."""

    SUCCESS = 0
    INVALID_HANDLE = 0x80100003
    UNKNOWN_READER = 0x80100009
    TIMEOUT = 0x8010000A
    SHARING_VIOLATION = 0x8010000B
    NO_SMARTCARD = 0x8010000C
    PROTO_MISMATCH = 0x8010000F
    SYSTEM_CANCELLED = 0x80100012
    COMM_ERROR = 0x80100013
    NOT_TRANSACTED = 0x80100016
    READER_UNAVAILABLE = 0x80100017
    NO_SERVICE = 0x8010001D
    SERVICE_STOPPED = 0x8010001E
    NO_ACCESS = 0x80100027
    NO_READERS_AVAILABLE = 0x8010002E
    UNRESPONSIVE_CARD = 0x80100066
    UNPOWERED_CARD = 0x80100067
    RESET_CARD = 0x80100068
    REMOVED_CARD = 0x80100069
    SECURITY_VIOLATION = 0x8010006A
