# SPDX-License-Identifier: Apache-2.0
"""A bounded cursor over outside bytes.

Every decoder reads through it, so that the only error malformed input can cause is DecodeError.
"""

from iose.wire.errors import DecodeError


class ByteReader:
    """Cursor over an immutable buffer; integers are big-endian."""

    __slots__ = ("_base", "_data", "_end", "_position")

    def __init__(self, data: bytes, *, base: int = 0) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)
        self._base = base

    @property
    def offset(self) -> int:
        """Position in the outermost buffer, in bytes."""
        return self._base + self._position

    @property
    def remaining(self) -> int:
        """Number of bytes not yet read."""
        return self._end - self._position

    def read_bytes(self, count: int) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            DecodeError: Fewer than ``count`` bytes are left. Nothing is consumed.
        """
        stop = self._position + count
        if count < 0 or stop > self._end:
            raise DecodeError(
                f"expected {count} more bytes, found {self.remaining}", offset=self.offset
            )
        data = self._data[self._position : stop]
        self._position = stop
        return data

    def read_uint(self, width: int) -> int:
        """Return an unsigned integer of ``width`` bytes.

        Raises:
            DecodeError: The buffer ends early. Nothing is consumed.
        """
        start = self._position
        stop = start + width
        if stop > self._end:
            raise DecodeError(
                f"expected {width} more bytes, found {self.remaining}", offset=self.offset
            )
        self._position = stop
        return int.from_bytes(self._data[start:stop], "big")

    def read_uint8(self) -> int:
        """Return one byte as an integer.

        Raises:
            DecodeError: The buffer is at its end.
        """
        return self.read_uint(1)

    def read_uint16(self) -> int:
        """Return two bytes as an integer.

        Raises:
            DecodeError: The buffer ends early. Nothing is consumed.
        """
        return self.read_uint(2)

    def read_rest(self) -> bytes:
        """Return everything not yet read, possibly empty."""
        return self.read_bytes(self.remaining)

    def read_vector(self, prefix: int, *, low: int = 0, high: int | None = None) -> "ByteReader":
        """Return a reader over one length-prefixed vector (RFC 8446 §3.4).

        The caller owns the returned reader and must finish it: a vector that
        still holds unread bytes is a malformed message, not a short read.

        Args:
            prefix: Width of the length field, in bytes.
            low: Smallest body accepted, in bytes.
            high: Largest body accepted, in bytes; None leaves only the prefix's limit.

        Raises:
            DecodeError: The buffer ends early, or the body is outside `low`..`high`.
                `offset` points at the length field. Nothing is consumed.
        """
        length = self._read_length(prefix, low, high)
        base = self.offset
        return ByteReader(self.read_bytes(length), base=base)

    def read_opaque(self, prefix: int, *, low: int = 0, high: int | None = None) -> bytes:
        """Return the body of one length-prefixed vector (RFC 8446 §3.4).

        Raises:
            DecodeError: As for ``read_vector``. Nothing is consumed.
        """
        return self.read_bytes(self._read_length(prefix, low, high))

    def finish(self) -> None:
        """Check that everything was read.

        Raises:
            DecodeError: Bytes are left over.
        """
        if self.remaining:
            raise DecodeError(f"{self.remaining} bytes too many", offset=self.offset)

    def _read_length(self, prefix: int, low: int, high: int | None) -> int:
        start = self._position
        length = self.read_uint(prefix)
        if length < low or (high is not None and length > high) or length > self.remaining:
            self._position = start
            raise DecodeError(
                f"vector of {length} bytes does not fit its bounds", offset=self.offset
            )
        return length
