# SPDX-License-Identifier: Apache-2.0
"""Command and response APDUs and their four encodings (ISO/IEC 7816-4 §5.1, -3 §12.1)."""

from dataclasses import dataclass

from iose.iso7816.status import StatusWord
from iose.wire.errors import DecodeError, LocalProtocolError

HEADER_SIZE = 4
SHORT_LC_END = HEADER_SIZE + 1
EXTENDED_LC_END = HEADER_SIZE + 3  # zero, then two bytes; an extended Le alone looks the same
STATUS_SIZE = 2
SHORT_DATA_LIMIT = 255
EXTENDED_DATA_LIMIT = 65_535
SHORT_LE_LIMIT = 256
EXTENDED_LE_LIMIT = 65_536


@dataclass(frozen=True, slots=True)
class CommandApdu:
    """One command, independent of its short or extended encoding (ISO/IEC 7816-4).

    Attributes:
        cla: Class byte, logical channel and secure-messaging bits included.
        ins: Instruction byte.
        p1: First parameter byte.
        p2: Second parameter byte.
        data: Command data, 0 to 65 535 bytes; the encoder chooses the Lc form.
        le: Response bytes wanted. None sends no Le field; 0 is never used, since
            256 (short) and 65 536 (extended) are what the wire writes as zero.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = b""
    le: int | None = None

    @classmethod
    def decode(cls, data: bytes) -> "CommandApdu":
        """Return the command in ``data``, short or extended (ISO/IEC 7816-3 §12.1).

        Raises:
            DecodeError: Fewer than 4 bytes, or Lc and Le do not fit what follows them.
        """
        if len(data) < HEADER_SIZE:
            raise DecodeError(f"expected a 4-byte header, found {len(data)} bytes")
        body, le = _decode_body(data)
        return cls(data[0], data[1], data[2], data[3], body, le)

    def encode(self) -> bytes:
        """Return the wire form, short where it fits, else extended (ISO/IEC 7816-3 §12.1).

        Raises:
            LocalProtocolError: A field is outside its range.
        """
        if len(self.data) > EXTENDED_DATA_LIMIT or not (
            self.le is None or 1 <= self.le <= EXTENDED_LE_LIMIT
        ):
            raise LocalProtocolError("command data or Le is outside its range")
        header = bytes((self.cla, self.ins, self.p1, self.p2))
        if len(self.data) <= SHORT_DATA_LIMIT and (self.le or 0) <= SHORT_LE_LIMIT:
            lc = bytes((len(self.data),)) if self.data else b""
            le = b"" if self.le is None else bytes((self.le & 0xFF,))
            return header + lc + self.data + le
        lc = b"\x00" + len(self.data).to_bytes(2, "big") if self.data else b""
        le = b"" if self.le is None else (self.le & 0xFFFF).to_bytes(2, "big")
        return header + lc + self.data + (le if self.data or not le else b"\x00" + le)


def _decode_body(data: bytes) -> tuple[bytes, int | None]:
    size = len(data)
    if size == HEADER_SIZE:
        return b"", None
    first = data[HEADER_SIZE]
    if size == SHORT_LC_END:
        return b"", first or SHORT_LE_LIMIT
    if first or size < EXTENDED_LC_END:
        return _decode_fields(data, SHORT_LC_END, first, 1, SHORT_LE_LIMIT)
    length = int.from_bytes(data[SHORT_LC_END:EXTENDED_LC_END], "big")
    if size == EXTENDED_LC_END:
        return b"", length or EXTENDED_LE_LIMIT
    return _decode_fields(data, EXTENDED_LC_END, length, 2, EXTENDED_LE_LIMIT)


def _decode_fields(
    data: bytes, start: int, length: int, le_width: int, le_limit: int
) -> tuple[bytes, int | None]:
    stop = start + length
    if length == 0 or len(data) not in (stop, stop + le_width):
        raise DecodeError(f"Lc {length} does not fit {len(data) - start} bytes", offset=HEADER_SIZE)
    le = int.from_bytes(data[stop:], "big") or le_limit if len(data) > stop else None
    return data[start:stop], le


@dataclass(frozen=True, slots=True)
class ResponseApdu:
    """One answer: data, then a status word (ISO/IEC 7816-4 §5.1)."""

    data: bytes = b""
    status: StatusWord = StatusWord.OK

    @classmethod
    def decode(cls, data: bytes) -> "ResponseApdu":
        """Return the answer in ``data``.

        Raises:
            DecodeError: Fewer than 2 bytes.
        """
        if len(data) < STATUS_SIZE:
            raise DecodeError(f"expected a status word, found {len(data)} bytes")
        return cls(data[:-2], StatusWord(int.from_bytes(data[-2:], "big")))

    def encode(self) -> bytes:
        """Return data and status word as they go on the wire."""
        return self.data + self.status.to_bytes(2, "big")
