# SPDX-License-Identifier: Apache-2.0
"""The form of a personalisation: a tag, a 2-byte length and a value per field.

Ours: the parameters of INSTALL are each applet's own affair (GPCS 2.3.1 §11.5.2.3.7).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

Field = tuple[str, Callable[..., bytes], Callable[[bytes], object]]
"""Name of an attribute, and how its value is encoded and decoded."""

_NO: Final = b"\x00"
_YES: Final = b"\x01"


def encode_fields(value: object, fields: Mapping[int, Field]) -> bytes:
    """Return the attributes of ``value`` that are not None.

    Raises:
        LocalProtocolError: One has more than 65 535 bytes.
    """
    writer = ByteWriter()
    for tag, (name, encode, _) in fields.items():
        attribute = getattr(value, name)
        if attribute is not None:
            writer.write_uint8(tag)
            writer.write_opaque(encode(attribute), 2)
    return writer.to_bytes()


def decode_fields(data: bytes, fields: Mapping[int, Field]) -> dict[str, Any]:
    """Return the attributes that are there, by name; of one given twice, the last.

    Raises:
        DecodeError: Not what ``encode_fields`` makes, or a value is out of its range.
    """
    reader = ByteReader(data)
    values: dict[str, Any] = {}
    while reader.remaining:
        tag = reader.read_uint8()
        if tag not in fields:
            raise DecodeError(f"unknown field {tag} of a personalisation", offset=reader.offset)
        name, _, decode = fields[tag]
        values[name] = decode(reader.read_opaque(2))
    return values


def sized(low: int, high: int) -> Callable[[bytes], bytes]:
    """Return a decoder of bytes, ``low`` to ``high`` of them."""

    def decode(value: bytes) -> bytes:
        if not low <= len(value) <= high:
            raise DecodeError(f"expected {low} to {high} bytes, found {len(value)}")
        return value

    return decode


def encode_bool(value: bool) -> bytes:  # noqa: FBT001  # an entry of a table
    """Return one byte."""
    return bytes((value,))


def decode_bool(value: bytes) -> bool:
    """Return what ``encode_bool`` was given.

    Raises:
        DecodeError: Not one byte, 0 or 1.
    """
    if value not in (_NO, _YES):
        raise DecodeError("expected 0 or 1 in one byte")
    return value == _YES
