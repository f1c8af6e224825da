# SPDX-License-Identifier: Apache-2.0
"""The interface of a T=0 card before an element that is asked whole APDUs (ISO/IEC 7816-3 §10.3).

A T=0 card never gives data to a command that brought some: it announces them by ``61xx``. It tells
a reader that asks for too much by ``6Cxx`` and gives the answer, without working again, when the
command is repeated. What an element already says so itself passes through unchanged.
"""

from dataclasses import dataclass
from typing import Final

from iose.iso7816.apdu import (
    HEADER_SIZE,
    SHORT_LC_END,
    SHORT_LE_LIMIT,
    STATUS_SIZE,
    ResponseApdu,
)
from iose.iso7816.instructions import INS_GET_RESPONSE
from iose.iso7816.status import StatusWord

MORE: Final = 0x6100
CHANNEL_MASK: Final = 0x03  # ISO/IEC 7816-4 §5.4.1
BYTE: Final = 0xFF


@dataclass(frozen=True, slots=True)
class _Held:
    """An answer that waits to be fetched.

    Attributes:
        response: What is left of it.
        channel: Of the command it answers.
        header: Of the command to repeat after 6Cxx; None after 61xx.
    """

    response: ResponseApdu
    channel: int
    header: bytes | None


class T0Interface:
    """The state between one command and the next: the answer that waits, if any."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: _Held | None = None

    def clear(self) -> None:
        """Drop what waits, as a reset does."""
        self._held = None

    def receive_command(self, command: bytes) -> bytes | None:
        """Return the answer that needs no element; None when the element is to be asked.

        Extended lengths are refused with 6700: T=0 has no form for them but ENVELOPE, which an
        element may know or not.
        """
        held, self._held = self._held, None
        if not _is_t0_command(command):
            return StatusWord.WRONG_LENGTH.to_bytes(STATUS_SIZE, "big")
        if held is None or len(command) != SHORT_LC_END or _channel(command) != held.channel:
            return None
        wanted = command[HEADER_SIZE] or SHORT_LE_LIMIT
        size = len(held.response.data)
        if held.header is not None:
            is_repeated = command[:HEADER_SIZE] == held.header and wanted == size
            return held.response.encode() if is_repeated else None
        if command[1] != INS_GET_RESPONSE:
            return None
        if wanted > size:
            self._held = held
            return _status(StatusWord.WRONG_LE | size & BYTE)
        return self._piece(held.response, wanted, held.channel)

    def receive_response(self, command: bytes, answer: bytes) -> bytes:
        """Return what a T=0 card answers to ``command``, to which the element gave ``answer``.

        Raises:
            DecodeError: The element's answer has no status word.
        """
        response = ResponseApdu.decode(answer)
        size, channel = len(response.data), _channel(command)
        if not size:
            return answer
        if len(command) != SHORT_LC_END:
            return self._piece(response, 0, channel)
        wanted = command[HEADER_SIZE] or SHORT_LE_LIMIT
        if wanted > size:
            self._held = _Held(response, channel, command[:HEADER_SIZE])
            return _status(StatusWord.WRONG_LE | size & BYTE)
        return self._piece(response, wanted, channel)

    def _piece(self, response: ResponseApdu, size: int, channel: int) -> bytes:
        """Return so many bytes of an answer, and hold what is left."""
        rest = response.data[size:]
        if not rest:
            return response.encode()
        self._held = _Held(ResponseApdu(rest, response.status), channel, None)
        return response.data[:size] + _status(MORE | min(len(rest), SHORT_LE_LIMIT) & BYTE)


def _is_t0_command(command: bytes) -> bool:
    """Say whether it is a header, with P3, with as many bytes as P3 says, and Le where it stands.

    Le behind data is none of T=0; programs that send it are understood all the same.
    """
    rest = len(command) - SHORT_LC_END
    if rest <= 0:
        return len(command) >= HEADER_SIZE
    size = command[HEADER_SIZE]
    return size > 0 and rest in (size, size + 1)


def _channel(command: bytes) -> int:
    return command[0] & CHANNEL_MASK


def _status(value: int) -> bytes:
    return value.to_bytes(STATUS_SIZE, "big")
