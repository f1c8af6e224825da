# SPDX-License-Identifier: Apache-2.0
"""A TLS front over scripted elements, clients of raw records, and what the log says of them."""

import asyncio
import socket
import struct
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from structlog.testing import capture_logs

from iose.servers.routes import ElementRoute
from iose.servers.tls_front import FrontConfig, TlsFront
from tests.support.client_hello import hello_record
from tests.support.scripted_connection import SERVER_HELLO, EchoElement, ScriptedReader, record

PATIENCE_S = 5.0  # a test that waits longer has failed
FINISHED = record(b"finished")
ALERT_UNKNOWN = bytes.fromhex("15030300020270")
ALERT_MISSING = bytes.fromhex("1503030002026D")
ALERT_BUSY = bytes.fromhex("15030300020250")
ALERT_DECODE = bytes.fromhex("15030300020232")
ALERT_OVERFLOW = bytes.fromhex("15030300020216")


class Client:
    """A TLS client that knows records only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Write bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        return await asyncio.wait_for(self._reader.readexactly(size), PATIENCE_S)

    async def some(self) -> bytes:
        """Return what there is to read, nothing at the end of the stream."""
        return await asyncio.wait_for(self._reader.read(65_536), PATIENCE_S)

    async def rest(self) -> bytes:
        """Return everything up to the end of the stream, which must come."""
        return await asyncio.wait_for(self._reader.read(), PATIENCE_S)

    async def open(self, name: bytes = b"key1.com") -> None:
        """Do what looks like a handshake."""
        await self.send(hello_record(name))
        assert await self.receive(len(SERVER_HELLO)) == SERVER_HELLO
        await self.send(FINISHED)

    async def call(self, payload: bytes) -> bytes:
        """Send one record and return the echo's payload."""
        await self.send(record(payload))
        return (await self.receive(5 + len(payload)))[5:]

    def half_close(self) -> None:
        """Say that nothing more is coming."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close in order."""
        self._writer.close()

    def reset(self) -> None:
        """Vanish: the other side gets a reset."""
        linger = struct.pack("ii", 1, 0)
        connection = self._writer.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:  # else it is closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()


class FrontRig(AbstractAsyncContextManager["FrontRig"]):
    """A running front; ``readers`` are its elements, ``1`` is key1.com and so on."""

    def __init__(self, *readers: Any, routes: Iterable[ElementRoute] = (), **config: Any) -> None:
        self.readers = list(readers) or [ScriptedReader(EchoElement())]
        self.routes = list(routes) or [
            ElementRoute(reader.name, f"key{reader.name}.com", reader) for reader in self.readers
        ]
        config.setdefault("listen", (("127.0.0.1", 0),))
        config.setdefault("drain_s", 0.05)
        self.front = TlsFront(FrontConfig(**config), self.routes)
        self._clients: list[Client] = []
        self._capture = capture_logs()
        self.events: list[Any] = []

    @property
    def element(self) -> EchoElement:
        """The first element."""
        element: EchoElement = self.readers[0].element
        return element

    async def __aenter__(self) -> "FrontRig":
        self.events = self._capture.__enter__()
        await self.front.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        await self.front.stop()
        self._capture.__exit__(None, None, None)

    async def connect(self, index: int = 0) -> Client:
        """Return a new client."""
        client = Client(*await asyncio.open_connection(*self.front.addresses[index][:2]))
        self._clients.append(client)
        return client

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines of one event."""
        return [dict(line) for line in self.events if line["event"] == event]

    async def ended(self, count: int = 1) -> list[str]:
        """Wait for so many sessions to end and return the reasons, in the order of the log."""
        await self.until(lambda: len(self.logged("session.ended")) >= count)
        return [line["reason"] for line in self.logged("session.ended")]

    async def until(self, condition: Any) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # any condition, without an event of its own
                await asyncio.sleep(0.001)
