# SPDX-License-Identifier: Apache-2.0
"""The answer to reset, its interface bytes and the name it may carry (ISO/IEC 7816-3 §8.2).

The card builds it; readers, fronts and inventories decode it. The name of an element is its
historical bytes when they look like a host name (iose-server.md §4).
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from operator import xor
from typing import Final

from iose.wire.errors import DecodeError, LocalProtocolError
from iose.wire.reader import ByteReader

DIRECT_CONVENTION: Final = 0x3B
INVERSE_CONVENTION: Final = 0x3F
ATR_SIZE_LIMIT: Final = 33  # TS and at most 32 characters
HISTORICAL_LIMIT: Final = 15  # four bits of T0
NO_NAME: Final = "null"  # iose-server.md §4: disables the service plane
NIBBLE: Final = 0x0F
COMPACT_TLV: Final = 0x80  # category indicator; ISO/IEC 7816-4 §12.1.1
COMPACT_TLV_AND_STATUS: Final = 0x00
STATUS_INDICATOR_SIZE: Final = 3
CAPABILITIES_TAG: Final = 0x7
THIRD_CAPABILITY: Final = 2
EXTENDED_FIELDS: Final = 0x40
TD_PRESENT: Final = 0x8
T1_IFSC: Final = 0xFE  # ISO/IEC 7816-3 §11.4.2: blocks of up to 254 bytes
T1_WAITING: Final = 0x45  # ISO/IEC 7816-3 §11.4.3: BWI 4, about 1.6 s; CWI 5
_SE_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")


class TransmissionProtocol(IntEnum):
    """Transmission protocols of a contact interface (ISO/IEC 7816-3 §8.2.3)."""

    T0 = 0
    T1 = 1


def is_se_name(text: str) -> bool:
    """Return whether a text may name an element: a host name of 1 to 15 bytes, not ``null``."""
    return (
        len(text) <= HISTORICAL_LIMIT
        and text.lower() != NO_NAME
        and all(_SE_NAME.fullmatch(label) for label in text.split("."))
    )


@dataclass(frozen=True, slots=True)
class InterfaceGroup:
    """The interface bytes TAi, TBi, TCi and TDi of one i (ISO/IEC 7816-3 §8.2.3).

    Attributes:
        ta: TAi, or None when absent; so are ``tb`` and ``tc``.
        tb: TBi.
        tc: TCi.
        protocol: T, the low half of TDi; None when TDi is absent, so that no group follows.
    """

    ta: int | None = None
    tb: int | None = None
    tc: int | None = None
    protocol: int | None = None

    @property
    def presence(self) -> int:
        """The Y bits that announce this group."""
        fields = (self.ta, self.tb, self.tc, self.protocol)
        return sum(1 << bit for bit, field in enumerate(fields) if field is not None)


@dataclass(frozen=True, slots=True)
class Atr:
    """One answer to reset (ISO/IEC 7816-3 §8.2).

    Attributes:
        historical_bytes: What the card says of itself, 0 to 15 bytes.
        groups: Interface bytes in order, without an empty last group.
        convention: TS, 3B or 3F.
    """

    historical_bytes: bytes = b""
    groups: tuple[InterfaceGroup, ...] = ()
    convention: int = DIRECT_CONVENTION

    @classmethod
    def for_card(cls, historical_bytes: bytes, protocol: TransmissionProtocol) -> "Atr":
        """Return the plainest answer of a card: ``3B 0n …`` for T=0, with TD1 and TCK for T=1."""
        groups = () if protocol is TransmissionProtocol.T0 else (InterfaceGroup(protocol=protocol),)
        return cls(historical_bytes, groups)

    @classmethod
    def for_contacts(cls, historical_bytes: bytes, protocol: TransmissionProtocol) -> "Atr":
        """Return what cards on the market answer: ``3B 0n …``; for T=1 ``3B 8n 81 31 FE 45 …``.

        A reader of T=1 then sends the longest blocks there are, where the plainest answer stands
        for 32 bytes (ISO/IEC 7816-3 §11.4.2).
        """
        if protocol is TransmissionProtocol.T0:
            return cls(historical_bytes)
        announced = InterfaceGroup(protocol=protocol)  # TD1; and TD2, for what is special to T=1
        return cls(historical_bytes, (announced, announced, InterfaceGroup(T1_IFSC, T1_WAITING)))

    @classmethod
    def decode(cls, data: bytes) -> "Atr":
        """Return the answer in ``data`` (ISO/IEC 7816-3 §8.2).

        Raises:
            DecodeError: TS is unknown, bytes miss or are left over, or TCK is wrong.
        """
        if len(data) > ATR_SIZE_LIMIT:
            raise DecodeError(f"an ATR has at most {ATR_SIZE_LIMIT} bytes, found {len(data)}")
        reader = ByteReader(data)
        convention = reader.read_uint8()
        if convention not in (DIRECT_CONVENTION, INVERSE_CONVENTION):
            raise DecodeError(f"an ATR begins with 3B or 3F, found {convention:02X}")
        format_byte = reader.read_uint8()
        groups = _read_groups(reader, format_byte >> 4)
        historical_bytes = reader.read_bytes(format_byte & NIBBLE)
        atr = cls(historical_bytes, groups, convention)
        if atr.has_check_byte:
            reader.read_uint8()
            if _check_byte(data[1 : reader.offset]):
                raise DecodeError("the check byte of the ATR is wrong", offset=reader.offset - 1)
        reader.finish()
        return atr

    def encode(self) -> bytes:
        """Return the wire form, TCK included where T=0 is not the only protocol.

        Raises:
            LocalProtocolError: More than 15 historical bytes, or a group nothing announces.
        """
        if len(self.historical_bytes) > HISTORICAL_LIMIT:
            raise LocalProtocolError(f"an ATR has at most {HISTORICAL_LIMIT} historical bytes")
        if any(group.protocol is None for group in self.groups[:-1]):
            raise LocalProtocolError("interface bytes that no TD announces")
        presences = [group.presence for group in self.groups] + [0]
        data = bytearray((presences[0] << 4 | len(self.historical_bytes),))
        for group, following in zip(self.groups, presences[1:], strict=True):
            data += bytes(byte for byte in (group.ta, group.tb, group.tc) if byte is not None)
            if group.protocol is not None:
                data.append(following << 4 | group.protocol)
        data += self.historical_bytes
        if self.has_check_byte:
            data.append(_check_byte(data))
        return bytes((self.convention,)) + bytes(data)

    @property
    def protocols(self) -> tuple[int, ...]:
        """The protocols announced, in order; T=0 when none is (ISO/IEC 7816-3 §8.2.3)."""
        announced = (group.protocol for group in self.groups)
        return tuple(value for value in announced if value is not None) or (0,)

    @property
    def has_check_byte(self) -> bool:
        """Whether TCK ends the answer: not when T=0 alone is announced (ISO/IEC 7816-3 §8.2.5)."""
        return any(self.protocols)

    @property
    def se_name(self) -> str | None:
        """The name of the element, or None when the historical bytes are not one."""
        if not self.historical_bytes.isascii():
            return None
        text = self.historical_bytes.decode("ascii")
        return text if is_se_name(text) else None

    @property
    def has_extended_length(self) -> bool:
        """Whether the card says that it takes extended commands (ISO/IEC 7816-4 §12.1.1.9).

        T=0 cannot carry them as they are: a card with nothing else takes none.
        """
        capabilities = _compact_object(self.historical_bytes, CAPABILITIES_TAG)
        return (
            TransmissionProtocol.T1 in self.protocols
            and len(capabilities) > THIRD_CAPABILITY
            and bool(capabilities[THIRD_CAPABILITY] & EXTENDED_FIELDS)
        )


def _compact_object(historical_bytes: bytes, tag: int) -> bytes:
    """Return the first object of a tag; b"" when there is none, or these are no objects."""
    category, objects = historical_bytes[:1], historical_bytes[1:]
    if category == bytes((COMPACT_TLV_AND_STATUS,)):
        objects = objects[:-STATUS_INDICATOR_SIZE]
    elif category != bytes((COMPACT_TLV,)):
        return b""
    while objects:
        stop = 1 + (objects[0] & NIBBLE)
        if objects[0] >> 4 == tag and stop <= len(objects):
            return objects[1:stop]
        objects = objects[stop:]
    return b""


def _read_groups(reader: ByteReader, presence: int) -> tuple[InterfaceGroup, ...]:
    groups = []
    while presence:
        ta, tb, tc = (reader.read_uint8() if presence >> bit & 1 else None for bit in range(3))
        td = reader.read_uint8() if presence & TD_PRESENT else None
        groups.append(InterfaceGroup(ta, tb, tc, None if td is None else td & NIBBLE))
        presence = 0 if td is None else td >> 4
    return tuple(groups)


def _check_byte(data: bytes | bytearray) -> int:
    return reduce(xor, data, 0)
