# SPDX-License-Identifier: Apache-2.0
"""The lines of a SIM array, without I/O: commands, replies, contents (iose-server.md §8.3).

An array carries APDUs as a T=0 reader does: the caller says whether a command reads or writes, and
what a card announces by 61xx or 6Cxx is asked for by another command. Lines are ASCII, their ends
left out here; a reply may hold runs of one byte, ``*NNXX``.
"""

import re
from dataclasses import dataclass
from typing import Final

from iose.wire.errors import DecodeError, LocalProtocolError

__all__ = [
    "DEFAULT_PORT",
    "LINE_LIMIT",
    "PAYLOAD_LIMIT",
    "SimBoard",
    "SimReply",
    "decode_content",
    "decode_reply",
    "encode_content",
    "encode_exchange",
    "encode_reply",
]

DEFAULT_PORT: Final = 2310
LINE_LIMIT: Final = 2047  # its end included
PAYLOAD_LIMIT: Final = 65_538  # the longest answer of a card: runs must not grow beyond it
SLOT_LIMIT: Final = 100_000  # 100 times the board, plus the position
TEXT_LIMIT: Final = 80  # of what an array says when it refuses

HEADER_SIZE: Final = 4  # CLA INS P1 P2; P3 follows
P3_END: Final = 5
SELECT_BY_NAME: Final = b"\x00\xa4\x04\x00"
INS_GET_RESPONSE: Final = 0xC0
LONGEST_READ: Final = 0xFF

PREFIX_SIZE: Final = 4
SUCCESS: Final = "000 "
REFUSAL: Final = "100 "
RUN_MARK: Final = "*"
RUN_LONGEST: Final = 0xFF
RUN_SHORTEST: Final = 4  # as long as what is written for it, in bytes, and a half
SLOTS_PER_DIGIT: Final = 4
_STATUS: Final = re.compile(r"[0-9].{3}")
_PIECE: Final = re.compile(r"\*([0-9A-Fa-f]{2})([0-9A-Fa-f]{2})|((?:[0-9A-Fa-f]{2})+)")
_BOARD: Final = re.compile(r"([0-9]{1,5}):([0-9]{1,5}):([0-9A-Fa-f]*):([0-9A-Za-z]*)")


@dataclass(frozen=True, slots=True)
class SimReply:
    """What an array answers to a command about one slot.

    Attributes:
        is_ok: Whether the command was obeyed.
        payload: ATR of ``USE``; data and status word of an exchange; empty when refused.
        text: What the array says when it refuses, cut short.
    """

    is_ok: bool
    payload: bytes = b""
    text: str = ""


@dataclass(frozen=True, slots=True)
class SimBoard:
    """Some slots in a row, as the contents of an array list them.

    Attributes:
        first: Number of the first slot.
        cards: Whether a card is in each slot.
        has_changed: Whether a card came or went since the contents were last asked for.
    """

    first: int
    cards: tuple[bool, ...]
    has_changed: bool = False


def encode_exchange(slot: int, command: bytes) -> str:
    """Return the line that has a command carried to a card.

    SELECT by name goes as an APDU, for the array to fetch the answer itself. Anything else goes as
    a T=0 exchange, Le behind data left out. Reading 256 bytes cannot be told from writing none: a
    GET RESPONSE for 256 asks for 255, and the card announces the one that is left.

    Raises:
        LocalProtocolError: T=0 has no form for it: extended lengths, a P3 that does not fit.
    """
    header, size = command[:HEADER_SIZE], command[HEADER_SIZE:P3_END]
    data = command[P3_END:]
    p3 = size[0] if size else 0
    if len(header) < HEADER_SIZE:
        raise LocalProtocolError(f"a command has {HEADER_SIZE} bytes at least")
    if data and (p3 == 0 or len(data) not in (p3, p3 + 1)):
        raise LocalProtocolError("P3 does not say how many bytes follow")
    if not data and not p3 and header[1] == INS_GET_RESPONSE:
        p3 = LONGEST_READ
    unit = (header + bytes((p3,)) + data[:p3]).hex().upper()
    if header == SELECT_BY_NAME:
        return f"apdu {slot} {unit}"
    return f"tpdu {slot} {'r' if p3 and not data else 'w'} {unit}"


def decode_reply(line: bytes) -> SimReply:
    """Return the reply in a line: a status of four characters, then hex, runs spelt out.

    The first character is 0 where the command was obeyed; the others may be anything.

    Raises:
        DecodeError: No such status, no hex, or more of it than a card can answer.
    """
    is_ok, rest = _cut_status(line)
    if not is_ok:
        return SimReply(is_ok=False, text=rest[:TEXT_LIMIT])
    return SimReply(is_ok=True, payload=_spell_out(rest))


def encode_reply(reply: SimReply) -> str:
    """Return the line of a reply, runs written as such."""
    if not reply.is_ok:
        return REFUSAL + reply.text
    pieces = []
    rest = reply.payload
    while rest:
        run = min(len(rest) - len(rest.lstrip(rest[:1])), RUN_LONGEST)
        if run >= RUN_SHORTEST:
            pieces.append(f"{RUN_MARK}{run:02X}{rest[0]:02X}")
        else:
            run = 1
            pieces.append(f"{rest[0]:02X}")
        rest = rest[run:]
    return SUCCESS + "".join(pieces)


def decode_content(line: bytes) -> tuple[SimBoard, ...]:
    """Return the boards in the reply to ``CONTENT``, in its order.

    Raises:
        DecodeError: It is no success, or a board is not what is described, or a slot comes twice.
    """
    is_ok, rest = _cut_status(line)
    if not is_ok:
        raise DecodeError("the array does not tell its contents")
    boards = tuple(_decode_board(entry) for entry in rest.split(".")) if rest else ()
    slots = [slot for board in boards for slot in range(board.first, _end(board))]
    if len(slots) != len(set(slots)):
        raise DecodeError("a slot is listed twice")
    return boards


def encode_content(boards: tuple[SimBoard, ...]) -> str:
    """Return the reply to ``CONTENT``: the blank of its prefix stands for the first dot."""
    entries = []
    for board in boards:
        bits = "".join("1" if card else "0" for card in board.cards)
        bits += "0" * (-len(bits) % SLOTS_PER_DIGIT)
        starts = range(0, len(bits), SLOTS_PER_DIGIT)
        bitmap = "".join(f"{int(bits[start : start + SLOTS_PER_DIGIT], 2):X}" for start in starts)
        entries.append(f"{board.first}:{len(board.cards)}:{bitmap}:{board.has_changed:d}")
    return SUCCESS + ".".join(entries)


def _cut_status(line: bytes) -> tuple[bool, str]:
    text = _decode_text(line)
    if _STATUS.match(text) is None:
        raise DecodeError("expected a status of four characters, a digit first")
    return text.startswith(SUCCESS[0]), text[PREFIX_SIZE:].strip(" ")


def _decode_board(entry: str) -> SimBoard:
    match = _BOARD.fullmatch(entry)
    if match is None:
        raise DecodeError("expected a first slot, a number of slots, a bitmap and a flag")
    first, count, bitmap, flag = int(match[1]), int(match[2]), match[3], match[4]
    digits = -(-count // SLOTS_PER_DIGIT)
    if len(bitmap) != digits or first + count > SLOT_LIMIT:
        raise DecodeError(f"expected {digits} digits for {count} slots, found {len(bitmap)}")
    bits = f"{int(bitmap, 16):0{digits * SLOTS_PER_DIGIT}b}" if bitmap else ""
    return SimBoard(first, tuple(bit == "1" for bit in bits[:count]), flag.strip("0") != "")


def _end(board: SimBoard) -> int:
    return board.first + len(board.cards)


def _spell_out(text: str) -> bytes:
    payload = bytearray()
    place = 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        if piece is None:
            raise DecodeError("expected pairs of hex digits, or a run of them", offset=place)
        count, byte, plain = piece.groups()
        payload += bytes.fromhex(plain) if plain else bytes.fromhex(byte) * int(count, 16)
        if len(payload) > PAYLOAD_LIMIT:
            raise DecodeError(f"an answer is longer than {PAYLOAD_LIMIT} bytes")
        place = piece.end()
    return bytes(payload)


def _decode_text(line: bytes) -> str:
    if len(line) > LINE_LIMIT:
        raise DecodeError(f"a line is longer than {LINE_LIMIT} bytes")
    if not line.isascii() or not (text := line.decode("ascii")).isprintable():
        raise DecodeError("a line is not printable ASCII")
    return text
