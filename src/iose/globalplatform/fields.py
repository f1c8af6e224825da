# SPDX-License-Identifier: Apache-2.0
"""Fields that card-management commands are made of: lengths as in BER, AIDs that may miss.

For the codecs of this room. Bytes come from outside: a fault is a DecodeError.
"""

from typing import Final

from iose.iso7816.aid import Aid
from iose.wire.errors import DecodeError, LocalProtocolError
from iose.wire.reader import ByteReader

LONG_LENGTH: Final = 0x80
ONE_BYTE_FOLLOWS: Final = 0x81
TWO_BYTES_FOLLOW: Final = 0x82
ONE_BYTE_LIMIT: Final = 0xFF
LENGTH_LIMIT: Final = 0xFFFF


def field(value: bytes) -> bytes:
    """Return a length and the value (GPCS 2.3.1 §11.1.5).

    Raises:
        LocalProtocolError: The value is longer than 65 535 bytes.
    """
    size = len(value)
    if size < LONG_LENGTH:
        return bytes((size,)) + value
    if size <= ONE_BYTE_LIMIT:
        return bytes((ONE_BYTE_FOLLOWS, size)) + value
    if size > LENGTH_LIMIT:
        raise LocalProtocolError(f"{size} bytes do not fit one field")
    return bytes((TWO_BYTES_FOLLOW,)) + size.to_bytes(2, "big") + value


def read_field(reader: ByteReader) -> bytes:
    """Return the value of a field with its length in front (GPCS 2.3.1 §11.1.5).

    Raises:
        DecodeError: The length is not in its shortest form, or longer than what follows.
    """
    offset = reader.offset
    length = reader.read_uint8()
    low = 0
    if length == ONE_BYTE_FOLLOWS:
        length, low = reader.read_uint8(), LONG_LENGTH
    elif length == TWO_BYTES_FOLLOW:
        length, low = reader.read_uint16(), ONE_BYTE_LIMIT + 1
    elif length >= LONG_LENGTH:
        raise DecodeError(f"{length:02X} begins no length field", offset=offset)
    if length < low:
        raise DecodeError("a length that is not in its shortest form", offset=offset)
    return reader.read_bytes(length)


def aid_field(aid: Aid | None) -> bytes:
    """Return an AID with its length in front, or a zero."""
    return field(aid.value if aid else b"")


def read_aid(reader: ByteReader) -> Aid:
    """Return an AID with its length in front.

    Raises:
        DecodeError: It is not 5 to 16 bytes, or cut short.
    """
    return Aid(reader.read_opaque(1))


def read_optional_aid(reader: ByteReader) -> Aid | None:
    """Return an AID with its length in front; None for an empty one.

    Raises:
        DecodeError: It is neither empty nor 5 to 16 bytes, or cut short.
    """
    value = reader.read_opaque(1)
    return Aid(value) if value else None
