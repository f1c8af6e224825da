# SPDX-License-Identifier: Apache-2.0
"""An element behind ``on``, ``A <hex>`` and ``off``, one line each (tls-im.md §5, racs.md §12.1).

Boards speak these lines over a serial port, and in the records of a TLS session as RACS Lite does.
"""

from typing import Final, Protocol

from iose.iso7816.apdu import HEADER_SIZE
from iose.iso7816.atr import Atr, is_se_name
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.racsl import (
    RacslAnswer,
    RacslCommand,
    RacslVerb,
    decode_answer,
    encode_command,
)
from iose.transport.errors import NoCardError, TransportError
from iose.transport.link import WRONG_LENGTH

NO_ELEMENT_HINT: Final = "is an element in the board, and does nobody else use it?"
GARBAGE_HINT: Final = "does the board carry APDUs as lines of text?"


class TextLine(Protocol):
    """What carries a line there and a line back."""

    @property
    def name(self) -> str:
        """Name of the reader, for errors."""

    async def open(self) -> None:
        """Reach the board, if that is still to be done.

        Raises:
            TransportError: It is not there, or does not answer.
        """

    async def ask(self, line: str) -> str:
        """Return the answer to a line, both without their ends.

        Raises:
            TransportError: There is none.
        """

    async def close(self) -> None:
        """End a session that went well.

        Raises:
            TransportError: The board does not take note.
        """

    def abort(self) -> None:
        """End the session at once; without effect after ``close``."""


class TextLink:
    """A session with the element of a board.

    Args:
        line: The way to the board.
        sen: The element's name, for the ATR that these lines do not tell; may be empty.
    """

    def __init__(self, line: TextLine, sen: str) -> None:
        self._line = line
        self._atr = Atr(sen.encode() if is_se_name(sen) else b"").encode()

    @property
    def name(self) -> str:
        """Name of the reader."""
        return self._line.name

    async def open(self) -> None:
        """Reach the board.

        Raises:
            TransportError: It is not there, or does not answer.
        """
        await self._line.open()

    async def start(self) -> bytes:
        """Power the element on and return an ATR with its name.

        Raises:
            NoCardError: The board refuses; its element is missing, or in use.
            TransportError: The board's answer is none.
        """
        answer = await self._ask(RacslCommand(RacslVerb.ON))
        if not answer.is_ok or answer.apdu:
            text = "the board does not power the element on"
            raise NoCardError(self.name, text, hint=NO_ELEMENT_HINT)
        return self._atr

    async def exchange(self, command: bytes) -> bytes:
        """Return the element's answer; 6700 to what is no command at all.

        Raises:
            TransportError: The board refuses, or its answer is none.
        """
        if len(command) < HEADER_SIZE:
            return WRONG_LENGTH
        answer = await self._ask(RacslCommand(RacslVerb.APDU, command))
        if not answer.is_ok:
            raise TransportError(self.name, "the board refused the command")
        return answer.apdu

    async def restart(self) -> bytes:
        """Power the element off and on and return its ATR.

        Raises:
            NoCardError: The board refuses.
            TransportError: The board is gone, or its answer is none.
        """
        await self._ask(RacslCommand(RacslVerb.OFF))
        return await self.start()

    async def close(self) -> None:
        """Power the element off, and end the session.

        Raises:
            TransportError: The board does not answer.
        """
        await self._ask(RacslCommand(RacslVerb.OFF))
        await self._line.close()

    def abort(self) -> None:
        """End the session at once."""
        self._line.abort()

    async def _ask(self, command: RacslCommand) -> RacslAnswer:
        line = encode_command(command).decode("ascii").removesuffix("\r\n")
        answer = await self._line.ask(line)
        try:
            return decode_answer(answer)
        except RacsPeerError as error:
            raise TransportError(self.name, str(error), hint=GARBAGE_HINT) from error
