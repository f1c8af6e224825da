# SPDX-License-Identifier: Apache-2.0
"""A virtual reader's driver in a test's hands: it listens, and says to the card what it is told.

Like the real one it takes one card at a time; another one connects and hears nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from iose.protocols.vpcd import Order

PATIENCE_S = 10.0


class CardLink:
    """The driver's end of one card's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, message: bytes | Order) -> None:
        content = bytes((message,)) if isinstance(message, Order) else message
        self.writer.write(len(content).to_bytes(2, "big") + content)

    async def hear(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            size = int.from_bytes(await self.reader.readexactly(2), "big")
            return await self.reader.readexactly(size)

    async def ask(self, message: bytes | Order) -> bytes:
        self.say(message)
        return await self.hear()

    async def ask_hex(self, command: str) -> str:
        return (await self.ask(bytes.fromhex(command))).hex().upper()

    async def power_on(self) -> bytes:
        """Power the card on and return its ATR."""
        self.say(Order.POWER_ON)
        return await self.ask(Order.ATR)

    async def ended(self) -> None:
        """Return when the card has hung up."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.reader.read(65_536):
                pass

    def close(self) -> None:
        self.writer.transport.abort()


class Driver:
    """A listening driver.

    Attributes:
        port: Where it listens.
        greeting: Said to each card at once; b"" for nothing.
    """

    def __init__(self) -> None:
        self.port = 0
        self.greeting = b"\x00\x01\x04"
        self._server: asyncio.Server | None = None
        self._cards: asyncio.Queue[CardLink] = asyncio.Queue()
        self._links: list[CardLink] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=1 << 20
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End as a service that is killed does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in self._links:
            link.close()
        self._links.clear()

    async def card(self) -> CardLink:
        """Return the next card that connects; its answer to the greeting is read."""
        async with asyncio.timeout(PATIENCE_S):
            link = await self._cards.get()
        if self.greeting:
            await link.hear()
        return link

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = CardLink(reader, writer)
        self._links.append(link)
        writer.write(self.greeting)
        self._cards.put_nowait(link)


@asynccontextmanager
async def listening_driver() -> AsyncIterator[Driver]:
    driver = Driver()
    await driver.start()
    try:
        yield driver
    finally:
        await driver.stop()
