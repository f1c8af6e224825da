# SPDX-License-Identifier: Apache-2.0
"""BER-TLV data objects (ISO/IEC 7816-4 §6.3): tags of 1 to 3 bytes, lengths of 1 to 4."""

from dataclasses import dataclass
from typing import Final

from iose.wire.errors import DecodeError, LocalProtocolError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

CONSTRUCTED: Final = 0x20
TAG_FOLLOWS: Final = 0x1F  # the number is in the next bytes
MORE_TAG_BYTES: Final = 0x80
TAG_SIZE_LIMIT: Final = 3
LONG_LENGTH: Final = 0x80
LENGTH_SIZE_LIMIT: Final = 3  # after the first byte; a card's objects stay far below 16 MiB


@dataclass(frozen=True, slots=True)
class Tlv:
    """One data object (ISO/IEC 7816-4 §6.3).

    Attributes:
        tag: The tag as an integer of its wire bytes: 0x84, 0x5F50, 0xBF0C.
        value: The content; ``children`` decodes that of a constructed object.
    """

    tag: int
    value: bytes

    @classmethod
    def decode(cls, data: bytes) -> "Tlv":
        """Return the one object that ``data`` is.

        Raises:
            DecodeError: It is malformed, or something follows it.
        """
        reader = ByteReader(data)
        tlv = cls.read(reader)
        reader.finish()
        return tlv

    @classmethod
    def decode_all(cls, data: bytes) -> tuple["Tlv", ...]:
        """Return the objects ``data`` is made of, possibly none.

        Raises:
            DecodeError: One of them is malformed.
        """
        reader = ByteReader(data)
        objects = []
        while reader.remaining:
            objects.append(cls.read(reader))
        return tuple(objects)

    @classmethod
    def read(cls, reader: ByteReader) -> "Tlv":
        """Return the next object.

        Raises:
            DecodeError: It is malformed; the reader is then of no more use.
        """
        tag = _read_tag(reader)
        return cls(tag, reader.read_bytes(_read_length(reader)))

    def encode(self) -> bytes:
        """Return the wire form, with the shortest length field.

        Raises:
            LocalProtocolError: The tag is malformed, or the value longer than 16 MiB.
        """
        tag = self.tag.to_bytes(max(1, (self.tag.bit_length() + 7) // 8), "big")
        if not _is_tag(tag):
            raise LocalProtocolError(f"{self.tag:X} is not a BER-TLV tag of 1 to 3 bytes")
        writer = ByteWriter()
        writer.write_bytes(tag)
        size = len(self.value)
        if size >= LONG_LENGTH:
            width = (size.bit_length() + 7) // 8
            if width > LENGTH_SIZE_LIMIT:
                raise LocalProtocolError(f"a value of {size} bytes does not fit a data object")
            writer.write_uint8(LONG_LENGTH | width)
            writer.write_uint(size, width)
        else:
            writer.write_uint8(size)
        writer.write_bytes(self.value)
        return writer.to_bytes()

    @property
    def is_constructed(self) -> bool:
        """Whether the value is made of objects."""
        first = self.tag >> (8 * max(0, (self.tag.bit_length() - 1) // 8))
        return bool(first & CONSTRUCTED)

    def children(self) -> tuple["Tlv", ...]:
        """Return the objects inside, one level deep.

        Raises:
            DecodeError: One of them is malformed.
        """
        return Tlv.decode_all(self.value)


def _read_tag(reader: ByteReader) -> int:
    offset = reader.offset
    tag = reader.read_bytes(1)
    if tag[0] & TAG_FOLLOWS == TAG_FOLLOWS:
        tag += reader.read_bytes(1)
        while tag[-1] & MORE_TAG_BYTES and len(tag) < TAG_SIZE_LIMIT:
            tag += reader.read_bytes(1)
    if not _is_tag(tag):
        raise DecodeError(f"{tag.hex()} is not a BER-TLV tag", offset=offset)
    return int.from_bytes(tag, "big")


def _is_tag(tag: bytes) -> bool:
    number = [byte & ~MORE_TAG_BYTES for byte in tag[1:]]
    more = [bool(byte & MORE_TAG_BYTES) for byte in tag[1:]]
    in_first_byte = tag[0] & TAG_FOLLOWS != TAG_FOLLOWS
    match number:
        case []:
            return in_first_byte and tag[0] != 0
        case [low]:  # smaller numbers fit the first byte
            return not in_first_byte and more == [False] and low >= TAG_FOLLOWS
        case [high, _]:
            return not in_first_byte and more == [True, False] and high != 0
        case _:
            return False


def _read_length(reader: ByteReader) -> int:
    offset = reader.offset
    first = reader.read_uint8()
    if first < LONG_LENGTH:
        return first
    width = first & ~LONG_LENGTH
    if not 1 <= width <= LENGTH_SIZE_LIMIT:
        raise DecodeError(f"a length field of {width + 1} bytes", offset=offset)
    return reader.read_uint(width)
