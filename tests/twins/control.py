# SPDX-License-Identifier: Apache-2.0
"""Orders to a twin: which fault befalls it, given a line at a time on its standard input."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

HOST = "127.0.0.1"
Order = dict[str, Any]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OnOrder = Callable[[Order], Awaitable[Order | None] | Order | None]


class Faults:
    """The fault in force, for all answers or for the next ones.

    Attributes:
        order: The last order, with what else it says; empty when there is no fault.
        taken: The order whose fault ``take`` returned last.
    """

    def __init__(self) -> None:
        self.order: Order = {}
        self.taken: Order = {}
        self._left: int | None = None

    def give(self, order: Order) -> None:
        """Take an order: ``fault`` names the kind, null ends it; ``count`` limits it."""
        self.order = order if order.get("fault") else {}
        self._left = order.get("count")

    @property
    def kind(self) -> str | None:
        """The fault in force; it is not used up by looking."""
        return self.order.get("fault")

    def take(self, **subject: object) -> str | None:
        """Return the fault that befalls this answer, and count it.

        Args:
            subject: What the answer is about; an order that names another one does not concern it.
        """
        kind = self.kind
        if any(self.order.get(name, value) != value for name, value in subject.items()):
            return None
        self.taken = self.order
        if kind is not None and self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.order = {}
        return kind


class TcpTwin:
    """A twin that serves over TCP, goes away, and comes back at the same port.

    Args:
        serve: Serves one connection, which is closed after it.

    Attributes:
        address: Where it listens.
        said: What was heard, until somebody asks.
    """

    def __init__(self, serve: Serve) -> None:
        self.said: list[str] = []
        self._serve_one = serve
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"{HOST}:{self._port}"

    async def listen(self) -> None:
        """Let clients in."""
        self._server = await asyncio.start_server(self._accept, HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def vanish(self) -> None:
        """End every connection, and let nobody in."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def go_or_come_back(self, order: Order) -> None:
        """Do what an order with a fault says of that."""
        if order.get("fault") == "gone":
            await self.vanish()
        elif self._server is None:
            await self.listen()

    def tell(self) -> Order:
        """Return what was heard since somebody asked."""
        said, self.said = self.said, []
        return {"said": said}

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._serve_one(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()


def report(value: Order) -> None:
    """Print one line for who started the twin."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def obey(faults: Faults, ready: Order, on_order: OnOrder | None = None) -> None:
    """Say that the twin is ready, and take orders until there are no more.

    Args:
        faults: Gets each order.
        ready: Address of the twin, and what else its user needs.
        on_order: Does at once what an order is about, and may say more in its acknowledgement.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    report({"ready": True, **ready})
    try:
        while line := await reader.readline():
            order = json.loads(line)
            if "fault" in order:
                faults.give(order)
            done = on_order(order) if on_order else None
            answer = await done if isinstance(done, Awaitable) else done
            report({"ok": True, **(answer or {})})
    finally:
        transport.close()
