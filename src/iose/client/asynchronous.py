# SPDX-License-Identifier: Apache-2.0
"""The asyncio form: an ``AsyncElement`` over a transport of the running loop."""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Final, Self, TypeVar

from iose.client.access import resolve_access
from iose.client.attestation.procedure import attest, certify, take_over
from iose.client.attestation.result import Attestation, Expectations
from iose.client.codec import Command
from iose.client.credentials import CredentialsStore
from iose.client.dialogue import DEFAULT_TIMEOUT_S, Dialogue
from iose.client.element import KeystoreElement
from iose.client.module import Module, ModuleSession
from iose.client.module_session import module_of
from iose.client.uri import ElementUri

T = TypeVar("T")

MAX_UNREAD_SIZE: Final = 65_536  # more than any answer: who sends more has to wait
FLUSH_S: Final = 1.0


def connect_async(
    uri: ElementUri | str,
    *,
    psk: bytes | None = None,
    module: Module | ModuleSession | None = None,
    identity: str | None = None,
    credentials: CredentialsStore | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> "AsyncElement":
    """Return an element whose session ``async with``, or ``open``, opens.

    Arguments and errors are those of ``iose.connect``; what concerns the session itself is raised
    by ``open``.
    """
    access = resolve_access(uri, psk=psk, module=module, identity=identity, store=credentials)
    computing = module_of(access, _open_stream, timeout_s, lambda session: session)
    return AsyncElement(Dialogue(access, _open_stream, timeout_s, computing))


class AsyncElement(KeystoreElement):
    """A secure element and the session with it; tasks that share it wait for each other.

    Its methods are those of ``iose.Element``, to be awaited, and raise the same. A cancelled
    command closes the session: its answer could be mistaken for the next one's.
    """

    def __init__(self, dialogue: Dialogue) -> None:
        super().__init__(dialogue)
        self._lock = asyncio.Lock()

    async def run(self, command: Command[T]) -> T:
        """Return the value of a command's answer; the methods named after commands end here."""
        async with self._lock:
            return await self._dialogue.exchange(command)

    async def change_psk(self, new: bytes | None = None) -> None:
        """Change the PSK, by default to a random one, and go on in a new session under it."""
        async with self._lock:
            await self._dialogue.change_psk(new)

    async def attest(
        self,
        authority: bytes,
        *,
        package_hash: bytes | None = None,
        requires_statement: bool = False,
    ) -> Attestation:
        """Return what the element showed of itself in this session, all of it verified."""
        expected = Expectations(authority, package_hash, requires_statement)
        async with self._lock:
            return await attest(self._dialogue, expected)

    async def take_over(
        self,
        authority: bytes,
        *,
        new_psk: bytes | None = None,
        package_hash: bytes | None = None,
        requires_statement: bool = False,
        accepts_copy: bool = False,
    ) -> Attestation:
        """Attest, change the PSK in the same session, and confirm it in a new one."""
        expected = Expectations(authority, package_hash, requires_statement)
        async with self._lock:
            return await take_over(self._dialogue, expected, new_psk, accepts_copy=accepts_copy)

    async def certify(
        self, authority_private: bytes, *, accepts_no_statement: bool = False
    ) -> Attestation:
        """Certify the element's application key, for its provider, and verify all of it."""
        async with self._lock:
            return await certify(
                self._dialogue, authority_private, accepts_no_statement=accepts_no_statement
            )

    async def open(self) -> None:
        """Open a session when there is none."""
        async with self._lock:
            await self._dialogue.open()

    async def close(self) -> None:
        """Close the session; harmless when it is over."""
        async with self._lock:
            await self._dialogue.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class _StreamLink(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._is_paused = False
        self._is_over = False
        self._fault: Exception | None = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._news.set()
        if len(self._received) > MAX_UNREAD_SIZE and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over, self._fault = True, exc
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- what the dialogue calls

    async def send(self, data: bytes, timeout_s: float) -> None:
        if self._is_over or self._transport is None:
            raise ConnectionResetError("the connection is closed")
        self._transport.write(data)
        if not self._writable.is_set():
            await _within(self._writable.wait(), timeout_s)

    async def receive(self, timeout_s: float) -> bytes:
        while (data := self.received()) is None:
            self._news.clear()
            await _within(self._news.wait(), timeout_s)
        return data

    def received(self) -> bytes | None:
        if self._received:
            data = bytes(self._received)
            self._received.clear()
            self._resume_reading()
            return data
        if self._is_over and self._fault is not None:
            raise ConnectionResetError("the connection was cut") from self._fault
        return b"" if self._is_over else None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()  # sends what is left, but not to someone who never reads
            asyncio.get_running_loop().call_later(FLUSH_S, self._transport.abort)

    def _resume_reading(self) -> None:
        if self._is_paused and not self._is_over and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()


async def _within(waiting: Awaitable[T], timeout_s: float) -> T:
    async with asyncio.timeout(timeout_s):
        return await waiting


async def _open_stream(host: str, port: int, timeout_s: float) -> _StreamLink:
    loop = asyncio.get_running_loop()
    opening = loop.create_connection(_StreamLink, host, port)
    _, link = await _within(opening, timeout_s)
    return link
