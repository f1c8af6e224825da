# SPDX-License-Identifier: Apache-2.0
"""One TCP connection to a SIM array: a line out, a line back; and a slot's session over it.

``sim_array`` of ``protocols`` knows what the lines say; deadlines of commands are the reader's.
"""

import asyncio
from contextlib import suppress
from typing import Final

from iose.iso7816.atr import ATR_SIZE_LIMIT
from iose.protocols.sim_array import LINE_LIMIT, SimReply, decode_reply, encode_exchange
from iose.transport.errors import CardRemovedError, NoReaderError, TransportError
from iose.transport.link import WRONG_LENGTH, reason
from iose.wire.errors import DecodeError, LocalProtocolError

LINE_END: Final = b"\r\n"
HUNG_UP: Final = "the array closed the connection"
ATR_SHORTEST: Final = 2  # TS and T0
ABSENT_HINT: Final = "is the array on, and is this its address? it is tried again by itself"
GARBAGE_HINT: Final = "is it a SIM array that listens there?"
SLOT_HINT: Final = "is the card in order? it is tried again by itself"


class ArrayLine:
    """A connection to an array; one line is answered by one.

    Args:
        name: Of the reader, for errors.
        host: The array.
        port: Its port.
    """

    def __init__(self, name: str, host: str, port: int) -> None:
        self._name = name
        self._host = host
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect, and read the greeting.

        Raises:
            NoReaderError: Nobody is there, or it hangs up.
            TransportError: The greeting is no line.
        """
        try:
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, limit=LINE_LIMIT
            )
        except (OSError, UnicodeError) as error:
            text = f"cannot connect: {reason(error)}"
            raise NoReaderError(self._name, text, hint=ABSENT_HINT) from error
        try:
            await self._hear(self._reader)
        except CardRemovedError as error:
            raise NoReaderError(self._name, HUNG_UP, hint=ABSENT_HINT) from error

    async def ask(self, line: str) -> bytes:
        """Return the answer to a line, both without their ends.

        Raises:
            CardRemovedError: The connection is over.
            TransportError: A line came unasked, or one is too long.
        """
        if self._reader is None or self._writer is None:
            raise CardRemovedError(self._name, "the connection is closed")
        await self._check_silence(self._reader)
        self._writer.write(line.encode("ascii") + b"\n")
        return await self._hear(self._reader)

    def abort(self) -> None:
        """Close the connection at once."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()

    async def _check_silence(self, reader: asyncio.StreamReader) -> None:
        unasked = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                unasked = await self._some(reader)
        if unasked.strip(LINE_END):
            raise TransportError(self._name, "the array answers what it was not asked")

    async def _some(self, reader: asyncio.StreamReader) -> bytes:
        try:
            data = await reader.read(LINE_LIMIT)
        except OSError:
            data = b""
        if not data:
            raise CardRemovedError(self._name, HUNG_UP)
        return data

    async def _hear(self, reader: asyncio.StreamReader) -> bytes:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            text = f"a line is longer than {LINE_LIMIT} bytes"
            raise TransportError(self._name, text, hint=GARBAGE_HINT) from error
        except (asyncio.IncompleteReadError, OSError) as error:
            raise CardRemovedError(self._name, HUNG_UP) from error
        return line.rstrip(LINE_END)


class SlotLink:
    """A session with the card of one slot, over a connection of its own."""

    def __init__(self, name: str, host: str, port: int, slot: int) -> None:
        self._line = ArrayLine(name, host, port)
        self._name = name
        self._slot = slot

    @property
    def name(self) -> str:
        """Name of the reader."""
        return self._name

    async def open(self) -> None:
        """Connect.

        Raises:
            NoReaderError: The array is not there.
            TransportError: It is no array.
        """
        await self._line.open()

    async def start(self) -> bytes:
        """Power the card on and return its ATR.

        Raises:
            CardRemovedError: The connection is over.
            TransportError: The card does not start.
        """
        return await self.restart()

    async def exchange(self, command: bytes) -> bytes:
        """Return the card's answer; 6700 to what T=0 has no form for, as cards do.

        Raises:
            CardRemovedError: The connection is over.
            TransportError: The array refuses, or its answer is none.
        """
        try:
            line = encode_exchange(self._slot, command)
        except LocalProtocolError:
            return WRONG_LENGTH
        reply = await self._ask(line)
        if not reply.is_ok:
            text = f"the array refused a command: {reply.text or 'no reason given'}"
            raise TransportError(self._name, text, hint=SLOT_HINT)
        return reply.payload

    async def restart(self) -> bytes:
        """Free the slot, whoever had it, power its card on and return the ATR.

        Raises:
            CardRemovedError: The connection is over.
            TransportError: The card does not start.
        """
        await self._line.ask(f"FREE {self._slot}")
        reply = await self._ask(f"USE {self._slot}")
        if not reply.is_ok:
            text = f"the card does not start: {reply.text or 'no reason given'}"
            raise TransportError(self._name, text, hint=SLOT_HINT)
        if not ATR_SHORTEST <= len(reply.payload) <= ATR_SIZE_LIMIT:
            raise TransportError(self._name, "the card's ATR is none", hint=SLOT_HINT)
        return reply.payload

    async def close(self) -> None:
        """Power the card off, and let the slot go.

        Raises:
            TransportError: The array does not answer.
        """
        await self._line.ask(f"FREE {self._slot}")
        self._line.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self._line.abort()

    async def _ask(self, line: str) -> SimReply:
        answer = await self._line.ask(line)
        try:
            return decode_reply(answer)
        except DecodeError as error:
            raise TransportError(self._name, str(error), hint=GARBAGE_HINT) from error
