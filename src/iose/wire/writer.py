# SPDX-License-Identifier: Apache-2.0
"""An append-only builder of wire bytes, with back-filled length prefixes."""

from collections.abc import Iterator
from contextlib import contextmanager

from iose.wire.errors import LocalProtocolError


class ByteWriter:
    """Builder of a byte string; integers are big-endian."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def write_bytes(self, data: bytes) -> None:
        """Append raw bytes."""
        self._data += data

    def write_uint(self, value: int, width: int) -> None:
        """Append an unsigned integer of ``width`` bytes.

        Raises:
            LocalProtocolError: The value does not fit. Nothing is written.
        """
        if not 0 <= value < 1 << (8 * width):
            raise LocalProtocolError(f"{value} does not fit in {width} bytes")
        self._data += value.to_bytes(width, "big")

    def write_uint8(self, value: int) -> None:
        """Append one byte.

        Raises:
            LocalProtocolError: The value does not fit. Nothing is written.
        """
        self.write_uint(value, 1)

    def write_uint16(self, value: int) -> None:
        """Append two bytes.

        Raises:
            LocalProtocolError: The value does not fit. Nothing is written.
        """
        self.write_uint(value, 2)

    def write_opaque(self, data: bytes, prefix: int) -> None:
        """Append a length-prefixed vector (RFC 8446 §3.4).

        Raises:
            LocalProtocolError: The body is too long for the prefix. Nothing is written.
        """
        self.write_uint(len(data), prefix)
        self._data += data

    @contextmanager
    def vector(self, prefix: int) -> Iterator[None]:
        """Back-fill the length of what is written inside the ``with`` block.

        Raises:
            LocalProtocolError: The body is too long for the prefix.
        """
        start = len(self._data)
        self._data += bytes(prefix)
        yield
        length = len(self._data) - start - prefix
        if length >= 1 << (8 * prefix):
            raise LocalProtocolError(f"vector of {length} bytes does not fit its prefix")
        self._data[start : start + prefix] = length.to_bytes(prefix, "big")

    def to_bytes(self) -> bytes:
        """Return what was written so far."""
        return bytes(self._data)
