# SPDX-License-Identifier: Apache-2.0
"""RACS Lite, both ends, without I/O: ``on``, ``A <hex>``, ``off``, one line each (racs.md §12.1).

One line is one record of TLS 1.3 with a pre-shared key; the answer is one line too. The same
lines run over a serial port, where an empty line asks whether someone is there.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from iose.protocols.racs.errors import RacsPeerError
from iose.wire.errors import LocalProtocolError

__all__ = [
    "LINE_LIMIT",
    "RacslAnswer",
    "RacslCommand",
    "RacslLines",
    "RacslVerb",
    "decode_answer",
    "decode_command",
    "encode_answer",
    "encode_command",
]

LINE_LIMIT: Final = 140_000  # as for RACS, an extended APDU
LINE_END: Final = b"\r\n"
OK: Final = "OK"
ERROR: Final = "ERROR"


class RacslVerb(Enum):
    """What a line asks for; its text is what clients send."""

    ON = "on"
    APDU = "A"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class RacslCommand:
    """One line of a client.

    Attributes:
        verb: What it asks for.
        apdu: The raw command of ``A``, else empty.
    """

    verb: RacslVerb
    apdu: bytes = b""


@dataclass(frozen=True, slots=True)
class RacslAnswer:
    """One line of a server.

    Attributes:
        is_ok: Whether the command was obeyed.
        apdu: The raw answer to ``A``, status word included; empty otherwise.
    """

    is_ok: bool
    apdu: bytes = b""


class RacslLines:
    """Cuts a stream into lines, LF or CRLF; bounded.

    Args:
        limit: Longest line, in bytes; the published buffers hold 2047.
    """

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def has_half(self) -> bool:
        """Whether a line has begun that has not ended."""
        return bool(self._buffer)

    def receive_data(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes, without their ends.

        Raises:
            RacsPeerError: A line is too long, or not printable ASCII; the stream is lost.
        """
        self._buffer += data
        whole: list[bytearray] = []
        rest = self._buffer
        if b"\n" in data:  # else each byte of a long line would copy it
            *whole, rest = self._buffer.split(b"\n")
            self._buffer = rest
        if any(len(line) > self._limit for line in (*whole, rest)):
            self._buffer.clear()
            raise RacsPeerError(f"a line is longer than {self._limit} bytes")
        return [_decode_text(bytes(line.removesuffix(b"\r"))) for line in whole]


def encode_command(command: RacslCommand) -> bytes:
    """Return the line of a command, end included.

    Raises:
        LocalProtocolError: ``A`` without an APDU, or an APDU with another verb.
    """
    if (command.verb is RacslVerb.APDU) != bool(command.apdu):
        raise LocalProtocolError("an APDU goes with A, and with nothing else")
    words = [command.verb.value, command.apdu.hex().upper()]
    return " ".join(word for word in words if word).encode() + LINE_END


def decode_command(line: str) -> RacslCommand:
    """Return the command in a line without its end; the case of verbs does not matter.

    Raises:
        RacsPeerError: It is none of the commands.
    """
    verb, _, rest = line.strip(" ").partition(" ")
    for known in (RacslVerb.ON, RacslVerb.OFF):
        if verb.lower() == known.value and not rest.strip(" "):
            return RacslCommand(known)
    if verb.upper() == RacslVerb.APDU.value and (apdu := _decode_hex(rest)):
        return RacslCommand(RacslVerb.APDU, apdu)
    raise RacsPeerError("expected on, off, or A and an APDU in hex")


def encode_answer(answer: RacslAnswer) -> bytes:
    """Return the line of an answer, end included."""
    if not answer.is_ok:
        return ERROR.encode() + LINE_END
    return (answer.apdu.hex().upper() or OK).encode() + LINE_END


def decode_answer(line: str) -> RacslAnswer:
    """Return the answer in a line without its end; any ERROR is a refusal.

    Raises:
        RacsPeerError: It is neither OK nor ERROR nor an APDU in hex.
    """
    text = line.strip(" ")
    if text == OK:
        return RacslAnswer(is_ok=True)
    if text.partition(" ")[0] == ERROR:
        return RacslAnswer(is_ok=False)
    if apdu := _decode_hex(text):
        return RacslAnswer(is_ok=True, apdu=apdu)
    raise RacsPeerError("expected OK, ERROR, or an APDU in hex")


def _decode_hex(text: str) -> bytes:
    """Return the bytes of strict hex, or nothing."""
    try:
        return bytes.fromhex(text) if " " not in text.strip(" ") else b""
    except ValueError:
        return b""


def _decode_text(line: bytes) -> str:
    if not line.isascii() or not (text := line.decode("ascii")).isprintable():
        raise RacsPeerError("a line is not printable ASCII")
    return text
