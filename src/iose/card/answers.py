# SPDX-License-Identifier: Apache-2.0
"""How an answer leaves the card: at once, or in pieces fetched with GET RESPONSE.

The rule (ISO/IEC 7816-3 §12.2, tls-se.md §3):

- T=1: data and status word leave together, whether or not the command had an Le. Data longer
  than Le, or than 256 bytes without one, leave in pieces: ``61xx``, then GET RESPONSE.
- T=0: the answer to a command with data is always announced by ``61xx``; a command without data
  gets ``6Cxx`` when it asks for more than there is, and the same command with the right P3 then
  gets the answer without being processed again.

The status word of the applet, ``9Fxx`` too, comes with the last piece.
"""

from dataclasses import dataclass
from typing import Final

from iose.iso7816.apdu import (
    EXTENDED_LE_LIMIT,
    HEADER_SIZE,
    SHORT_LC_END,
    SHORT_LE_LIMIT,
    CommandApdu,
    ResponseApdu,
)
from iose.iso7816.atr import TransmissionProtocol
from iose.iso7816.instructions import INS_GET_RESPONSE
from iose.iso7816.status import StatusWord

MORE: Final = 0x6100


@dataclass(frozen=True, slots=True)
class _Held:
    """What waits to be fetched, and the command that fetches it."""

    channel: int
    response: ResponseApdu
    header: tuple[int, int, int, int] | None  # of the command to repeat after 6Cxx; None: 61xx


class AnswerQueue:
    """The rest of one answer; the next command that does not fetch it drops it."""

    __slots__ = ("_held", "_is_t0")

    def __init__(self, protocol: TransmissionProtocol) -> None:
        self._is_t0 = protocol is TransmissionProtocol.T0
        self._held: _Held | None = None

    def clear(self) -> None:
        """Drop what waits."""
        self._held = None

    def fetch(self, command: CommandApdu, channel: int) -> ResponseApdu | None:
        """Return the next piece; None, and the rest is dropped, when ``command`` is another."""
        held = self._held
        if held is None:
            return None
        self._held = None
        if held.channel != channel or command.data:
            return None
        wanted = command.le or SHORT_LE_LIMIT
        if held.header is not None:
            is_repeated = held.header == _header(command) and wanted == len(held.response.data)
            return held.response if is_repeated else None
        if command.ins != INS_GET_RESPONSE:
            return None
        size = len(held.response.data)
        if self._is_t0 and wanted > size:
            self._held = held
            return ResponseApdu(status=StatusWord(StatusWord.WRONG_LE | size & 0xFF))
        return self._piece(held.response, wanted, channel)

    def send(
        self, raw: bytes, command: CommandApdu, response: ResponseApdu, channel: int
    ) -> ResponseApdu:
        """Return the first piece of an answer that has data; the rest is held."""
        size = len(response.data)
        if not self._is_t0:
            wanted = command.le or _longest(raw)
            return response if size <= wanted else self._piece(response, wanted, channel)
        wanted = command.le or SHORT_LE_LIMIT
        if command.data or len(raw) == HEADER_SIZE:
            return self._piece(response, 0, channel)
        if wanted > size:
            self._held = _Held(channel, response, _header(command))
            return ResponseApdu(status=StatusWord(StatusWord.WRONG_LE | size & 0xFF))
        return self._piece(response, wanted, channel)

    def _piece(self, response: ResponseApdu, size: int, channel: int) -> ResponseApdu:
        rest = response.data[size:]
        if not rest:
            return response
        self._held = _Held(channel, ResponseApdu(rest, response.status), None)
        announced = min(len(rest), SHORT_LE_LIMIT) & 0xFF
        return ResponseApdu(response.data[:size], StatusWord(MORE | announced))


def _header(command: CommandApdu) -> tuple[int, int, int, int]:
    return command.cla, command.ins, command.p1, command.p2


def _longest(raw: bytes) -> int:
    is_extended = len(raw) > SHORT_LC_END and raw[HEADER_SIZE] == 0
    return EXTENDED_LE_LIMIT if is_extended else SHORT_LE_LIMIT
