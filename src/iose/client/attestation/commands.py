# SPDX-License-Identifier: Apache-2.0
"""The two commands of a statement (``?0F``), which make sense one after the other only."""

from iose.client.codec import Command, hex_line, indexed_head, read_hex
from iose.client.errors import AnswerError
from iose.protocols.attestation import CHALLENGE_SIZE, read_first_piece
from iose.wire.errors import DecodeError


def begin_statement(challenge: bytes) -> Command[tuple[int, bytes]]:
    """Have the element state what it is; return how many pieces there are, and the first.

    Raises:
        LocalProtocolError: The challenge is not 32 bytes.
    """
    line = hex_line(b"?0F", challenge, low=CHALLENGE_SIZE, high=CHALLENGE_SIZE)
    return Command(line, _decode_first)


def statement_piece(index: int) -> Command[bytes]:
    """Return a piece of the statement last made, counted from 0.

    Raises:
        LocalProtocolError: The index is out of range.
    """
    return Command(indexed_head(b"?0F", index), read_hex)


def _decode_first(answer: bytes) -> tuple[int, bytes]:
    try:
        return read_first_piece(read_hex(answer))
    except DecodeError as fault:
        raise AnswerError(f"expected the first piece of a statement: {fault}") from None
