# SPDX-License-Identifier: Apache-2.0
"""What the published RACS server was measured to say, from tests/vectors/racs."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.shared import VECTORS

FOLDER = VECTORS / "racs"
NOT_DIALOGUES = {"racs_openssl_s_client.txt", "racs_user_None.txt"}
NAMES = sorted(path.name for path in FOLDER.glob("racs_*.txt") if path.name not in NOT_DIALOGUES)


@dataclass
class Turn:
    """What a client sent in one record and what it got; the same client goes on until told."""

    client: int
    sent: bytes
    received: bytes = b""
    is_closed: bool = False


def turns(name: str) -> list[Turn]:
    """Return the turns of one transcript, in order."""
    client = 0
    found: list[Turn] = []
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith("--"):
            client = 1 if "second" in line else 0
        elif line.startswith("C: "):
            found.append(Turn(client, ast.literal_eval(line[3:]).encode()))
        elif line == "S: <closed>":
            found[-1].is_closed = True
        elif line.startswith("S: '"):
            found[-1].received = ast.literal_eval(line[3:]).encode()
    return found


def answers() -> Iterator[bytes]:
    """Yield every answer in the transcripts."""
    for name in NAMES:
        yield from (turn.received for turn in turns(name) if turn.received)


def winscard() -> list[tuple[bytes, bytes]]:
    """Return requests and answers of the published PC/SC emulator, session by session joined."""
    lines = (FOLDER / "winscard.txt").read_text().splitlines()
    blocks: list[list[str]] = []
    for line in lines:
        if line.startswith("BEGIN"):
            blocks.append([])
        if blocks and (
            line.startswith(("BEGIN", "END", "APDU", "+", "-")) and "END" not in blocks[-1]
        ):
            blocks[-1].append(line)
    return [_pair(block) for block in blocks]


def _pair(block: list[str]) -> tuple[bytes, bytes]:
    data = "".join(f"{line}\r\n" for line in block).encode()
    return (data, b"") if block[1].startswith("APDU") else (b"", data)
