# SPDX-License-Identifier: Apache-2.0
"""A command line and its answer: how lines are built, and how answers are read strictly.

``commands`` makes one ``Command`` per keystore command out of these.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from iose.client.errors import AnswerError, KeystoreError
from iose.client.signature import decode_signature, lower_s
from iose.client.syntax import syntax_of
from iose.crypto.base import Curve
from iose.crypto.pyca import PycaCrypto
from iose.wire.errors import DecodeError, LocalProtocolError

T = TypeVar("T")

OK: Final = b"OK"
ERROR: Final = b"ERROR"
MAX_INDEX: Final = 0xFF  # two hex digits
CERTIFICATE_SIZE: Final = 64
PUBLIC_KEY_SIZE: Final = 65
UNCOMPRESSED: Final = 0x04  # SEC 1 §2.3.3
MAX_LEVELS: Final = 30
HARDENED: Final = 0x8000_0000  # BIP 32: only these can be derived
_PATH: Final = re.compile(r"(?:[mM]/)?[0-9]{1,10}['hH](?:/[0-9]{1,10}['hH])*")
_CRYPTO: Final = PycaCrypto()
_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """One command line and the meaning of its answer.

    Attributes:
        line: What is sent, without the line end; it may hold a key and is never printed.
        decode: Turns the answer, without its line end, into a value.
        is_text: Whether any text is a good answer, ``ERROR`` included.
    """

    line: bytes = field(repr=False)
    decode: Callable[[bytes], T] = field(repr=False)
    is_text: bool = False

    def read_answer(self, answer: bytes) -> T:
        """Return the value of an answer.

        Raises:
            KeystoreError: The element refused.
            AnswerError: The answer does not have the form promised.
        """
        if answer == ERROR and not self.is_text:
            syntax = syntax_of(self.line)
            written = f"; written {syntax.form}" if syntax.form else ""
            raise KeystoreError(
                f"the element refused: {syntax.meaning}", hint=syntax.if_refused + written
            )
        return self.decode(answer)


def indexed_head(head: bytes, index: int, *, high: int = MAX_INDEX) -> bytes:
    """Return a command's first characters: its letters and an index in two hex digits.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    if not 0 <= index <= high:
        raise LocalProtocolError(f"expected an index from 0 to {high}, found {index}")
    return head + b"%02X" % index


def check_size(data: bytes, low: int, high: int | None) -> None:
    """Check the size of a payload, in bytes; None leaves it open.

    Raises:
        LocalProtocolError: It is out of range.
    """
    if len(data) < low or (high is not None and len(data) > high):
        bound = f"{low} bytes" if low == high else f"{low} to {high or 'more'} bytes"
        raise LocalProtocolError(f"expected {bound}, found {len(data)}")


def hex_line(head: bytes, data: bytes, *, low: int = 0, high: int | None = None) -> bytes:
    """Return a command line whose payload is in hexadecimal.

    Raises:
        LocalProtocolError: The payload is too long or too short.
    """
    check_size(data, low, high)
    return head + data.hex().upper().encode()


def encode_text(text: str) -> bytes:
    """Return a text as it is sent: UTF-8; bytes of a command line that are not stay as they were.

    Raises:
        LocalProtocolError: It holds half a character.
    """
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise LocalProtocolError("expected a text of whole characters") from None


def text_line(head: bytes, text: bytes, *, low: int = 0, high: int | None = None) -> bytes:
    """Return a command line whose payload is raw text.

    Raises:
        LocalProtocolError: The payload is too long or too short, or holds a line end.
    """
    check_size(text, low, high)
    if b"\n" in text or b"\r" in text:
        raise LocalProtocolError("a line end cannot be sent inside a command")
    return head + text


def encode_path(path: str | Sequence[int]) -> bytes:
    """Return a path of hardened levels as it is sent (BIP 32).

    Raises:
        LocalProtocolError: It has no level or too many, or one that is not hardened.
    """
    levels = _decode_path(path) if isinstance(path, str) else list(path)
    if not 1 <= len(levels) <= MAX_LEVELS:
        raise LocalProtocolError(f"expected 1 to {MAX_LEVELS} levels, found {len(levels)}")
    if not all(HARDENED <= level < 2 * HARDENED for level in levels):
        raise LocalProtocolError("expected hardened levels only, from 0x80000000 on")
    return b"".join(level.to_bytes(4, "big") for level in levels)


def read_text(answer: bytes) -> str:
    """Return an answer for people to read."""
    return answer.decode(errors="backslashreplace")


def read_ok(answer: bytes) -> None:
    """Check that an answer is OK.

    Raises:
        AnswerError: It is not.
    """
    if answer != OK:
        raise AnswerError(f"expected OK, found {len(answer)} bytes")


def read_hex(answer: bytes) -> bytes:
    """Return the bytes of an answer in hexadecimal, any number of them.

    Raises:
        AnswerError: It is not hexadecimal.
    """
    if not _HEX.fullmatch(answer):
        raise AnswerError(f"expected hexadecimal digits, found {len(answer)} bytes")
    return bytes.fromhex(answer.decode())


def read_sized(size: int) -> Callable[[bytes], bytes]:
    """Return a reader of answers that hold so many bytes in hexadecimal."""

    def decode(answer: bytes) -> bytes:
        data = read_hex(answer)
        if len(data) != size:
            raise AnswerError(f"expected {size} bytes, found {len(data)}")
        return data

    return decode


def read_flag(answer: bytes) -> bool:
    """Return whether an answer is 01.

    Raises:
        AnswerError: It is neither 00 nor 01.
    """
    if answer not in (b"00", b"01"):
        raise AnswerError(f"expected 00 or 01, found {len(answer)} bytes")
    return answer == b"01"


def read_secret_echo(sent: bytes) -> Callable[[bytes], bytes]:
    """Return a reader of answers that repeat a key in hexadecimal."""

    def decode(answer: bytes) -> bytes:
        data = read_sized(len(sent))(answer)
        if not _CRYPTO.constant_time_equal(data, sent):
            raise AnswerError("expected the key that was sent, found another")
        return data

    return decode


def read_same(sent: bytes, *, in_hex: bool = False) -> Callable[[bytes], bytes]:
    """Return a reader of answers that repeat what was sent."""

    def decode(answer: bytes) -> bytes:
        data = read_hex(answer) if in_hex else answer
        if data != sent:
            raise AnswerError("expected the bytes that were sent, found others")
        return data

    return decode


def read_certificate(answer: bytes) -> bytes | None:
    """Return r and s in 64 bytes, or None when all are zero.

    Raises:
        AnswerError: It is not 64 bytes in hexadecimal.
    """
    data = read_sized(CERTIFICATE_SIZE)(answer)
    return data if any(data) else None


def read_point(answer: bytes) -> bytes:
    """Return an uncompressed point (SEC 1 §2.3.3); whether it is on a curve is not looked at.

    Raises:
        AnswerError: It is not one.
    """
    data = read_sized(PUBLIC_KEY_SIZE)(answer)
    if data[0] != UNCOMPRESSED:
        raise AnswerError("expected an uncompressed point, found something else")
    return data


def read_signature(*, lowered_on: Curve | None = None) -> Callable[[bytes], bytes]:
    """Return a reader of signatures in strict DER, which brings S down if a curve is given."""

    def decode(answer: bytes) -> bytes:
        data = read_hex(answer)
        try:
            if lowered_on is not None:
                return lower_s(data, curve=lowered_on)
            decode_signature(data)
        except DecodeError as fault:
            raise AnswerError(f"expected a DER signature: {fault}") from None
        return data

    return decode


def _decode_path(path: str) -> list[int]:
    if not _PATH.fullmatch(path):
        raise LocalProtocolError("expected a path of hardened levels, as in m/44'/0'")
    levels = path.removeprefix("m/").removeprefix("M/").split("/")
    return [HARDENED + int(level[:-1]) for level in levels]
