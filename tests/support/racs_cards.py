# SPDX-License-Identifier: Apache-2.0
"""Elements for the twin of the published RACS server."""

from collections import deque
from collections.abc import Iterable

from tests.support.racs_twin import TwinElement

OK = b"\x90\x00"


class KeystoreCard:
    """As much of the keystore applet as the transcripts use; random numbers come from a list."""

    def __init__(self, randoms: Iterable[bytes] = ()) -> None:
        self._randoms = deque(randoms)
        self._is_verified = False

    def process(self, command: bytes) -> bytes:
        """Answer a command."""
        match command[1]:
            case 0xA4:
                self._is_verified = False
                return OK
            case 0x20:
                self._is_verified = True
                return OK
            case 0x8B:
                return self._randoms.popleft() if self._is_verified else b"\x63\x80"
            case 0xD8 if len(command) == 5 and command[4]:
                return b"\x67\x00"
            case 0xD8:
                return OK
            case _:
                return b"\x6d\x00"


class ChunkCard:
    """A card that keeps the rest of long answers for GET RESPONSE, announced by one SW1.

    Its data come from INS CA, as many bytes as P1 P2 say; INS EE is unknown.
    """

    def __init__(self, sw1: int = 0x61, chunk: int = 100) -> None:
        self._sw1, self._chunk = sw1, chunk
        self._rest = b""
        self.commands: list[str] = []

    def process(self, command: bytes) -> bytes:
        """Answer a command."""
        self.commands.append(command.hex().upper())
        if command[1] == 0xA4:
            return OK
        if command[1] == 0xCA:
            self._rest = bytes(range(256)) * 20
            self._rest = self._rest[: int.from_bytes(command[2:4], "big")]
        elif command[1] != 0xC0:
            return b"\x6d\x00"
        data, self._rest = self._rest[: self._chunk], self._rest[self._chunk :]
        if self._rest:
            return data + bytes((self._sw1, min(len(self._rest), self._chunk)))
        return data + OK


def element(card: object = None, *seids: str, sen: str = "", **given: object) -> TwinElement:
    """Return an element of the twin, ``key1`` when nothing else is said."""
    return TwinElement(seids or ("key1",), (card or KeystoreCard()).process, sen, **given)
