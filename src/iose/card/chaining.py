# SPDX-License-Identifier: Apache-2.0
"""Command chaining: one command in pieces, marked in CLA (ISO/IEC 7816-4 §5.3.3)."""

from dataclasses import replace
from typing import Final

from iose.iso7816.apdu import EXTENDED_DATA_LIMIT, CommandApdu
from iose.iso7816.status import StatusWord, StatusWordError

CHAINING_BIT: Final = 0x10
CHAINING_CLASSES: Final = 0xE0  # the first interindustry classes have these bits clear


class CommandChain:
    """The pieces received so far; a piece of another command drops them."""

    __slots__ = ("_data", "_header")

    def __init__(self) -> None:
        self._data = b""
        self._header: tuple[int, int, int, int] | None = None

    def clear(self) -> None:
        """Drop the pieces."""
        self._data = b""
        self._header = None

    def add(self, command: CommandApdu) -> CommandApdu | None:
        """Return the whole command, or None while more pieces are to come.

        Raises:
            StatusWordError: 6700, the pieces exceed 65 535 bytes; they are dropped.
        """
        is_piece = command.cla & (CHAINING_CLASSES | CHAINING_BIT) == CHAINING_BIT
        if self._header is None and not is_piece:
            return command
        header = (command.cla & ~CHAINING_BIT, command.ins, command.p1, command.p2)
        if header != self._header:
            self.clear()
        data = self._data + command.data
        self.clear()
        if len(data) > EXTENDED_DATA_LIMIT:
            raise StatusWordError(StatusWord.WRONG_LENGTH, "a command chain is too long")
        if not is_piece:
            return replace(command, data=data)
        self._header, self._data = header, data
        return None
