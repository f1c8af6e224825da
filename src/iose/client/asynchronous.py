# SPDX-License-Identifier: Apache-2.0
"""The asyncio form: an ``AsyncElement`` over a transport of the running loop."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from iose.client import commands
from iose.client.access import SystemRng, resolve_access
from iose.client.codec import Command
from iose.client.credentials import CredentialsStore
from iose.client.dialogue import DEFAULT_TIMEOUT_S, Dialogue
from iose.client.uri import PSK_SIZE, ElementUri

T = TypeVar("T")
P = ParamSpec("P")

MAX_UNREAD_SIZE: Final = 65_536  # more than any answer: who sends more has to wait
FLUSH_S: Final = 1.0


def connect_async(
    uri: ElementUri | str,
    *,
    psk: bytes | None = None,
    identity: str | None = None,
    credentials: CredentialsStore | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> "AsyncElement":
    """Return an element whose session ``async with``, or ``open``, opens.

    The key is the first found of: ``psk``, the URI's, the credentials store's, IOSE_PSK.

    Args:
        uri: As in ``keyS://key1.com@127.0.0.1:8888``; its commands are not sent.
        psk: The 32-byte key, when the caller has it.
        identity: The PSK identity, when it is not the usual one.
        credentials: Where keys are kept; None takes this user's file.
        timeout_s: Time for the handshake, and for each answer.

    Raises:
        ElementUriError: The URI is malformed.
        CredentialsError: No key is known, or the credentials file cannot be used.
    """
    access = resolve_access(uri, psk=psk, identity=identity, store=credentials)
    return AsyncElement(Dialogue(access, _open_stream, timeout_s))


def _method(
    build: Callable[P, Command[T]],
) -> Callable[Concatenate["AsyncElement", P], Coroutine[Any, Any, T]]:
    @wraps(build)
    async def method(self: "AsyncElement", /, *args: P.args, **options: P.kwargs) -> T:
        return await self.run(build(*args, **options))

    return method


class AsyncElement:
    """A secure element and the session with it; tasks that share it wait for each other.

    Each method named after a keystore command raises KeystoreError when the element refuses,
    AnswerError when it answers nonsense, SessionClosedError or SessionTimeoutError when the
    session is over, and LocalProtocolError when an argument is out of range. A cancelled
    command closes the session: its answer could be mistaken for the next one's.
    """

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._lock = asyncio.Lock()

    version = _method(commands.version)
    echo = _method(commands.echo)
    echo_bytes = _method(commands.echo_bytes)
    command = _method(commands.raw)
    application_public_key = _method(commands.application_public_key)
    certificate = _method(commands.certificate)
    set_certificate = _method(commands.set_certificate)
    prove = _method(commands.prove)
    session_secret = _method(commands.session_secret)
    clear_key = _method(commands.clear_key)
    generate_key = _method(commands.generate_key)
    seal_key = _method(commands.seal_key)
    is_key_sealed = _method(commands.is_key_sealed)
    public_key = _method(commands.public_key)
    set_public_key = _method(commands.set_public_key)
    private_key = _method(commands.private_key)
    set_private_key = _method(commands.set_private_key)
    sign = _method(commands.sign)
    generate_seed = _method(commands.generate_seed)
    set_seed = _method(commands.set_seed)
    seed = _method(commands.seed)
    derive = _method(commands.derive)
    write_record = _method(commands.write_record)
    read_record = _method(commands.read_record)
    hmac = _method(commands.hmac)
    aes_encrypt = _method(commands.aes_encrypt)
    aes_decrypt = _method(commands.aes_decrypt)
    set_identity = _method(commands.set_identity)
    set_guest_identity = _method(commands.set_guest_identity)
    set_guest_psk = _method(commands.set_guest_psk)
    guest_psk = _method(commands.guest_psk)
    set_flags = _method(commands.set_flags)
    set_module_psk = _method(commands.set_module_psk)
    module_binder = _method(commands.module_binder)
    module_handshake_secret = _method(commands.module_handshake_secret)

    @property
    def uri(self) -> ElementUri:
        """Where the element is."""
        return self._dialogue.access.uri

    @property
    def handshake_secret(self) -> bytes | None:
        """The handshake secret of the session, which ``prove`` signs; None when it is over."""
        return self._dialogue.handshake_secret

    def has_psk(self, psk: bytes) -> bool:
        """Return whether sessions with the element are opened with this key."""
        return self._dialogue.has_psk(psk)

    async def run(self, command: Command[T]) -> T:
        """Return the value of a command's answer; every other method ends here.

        Raises:
            KeystoreError: The element refused; the session goes on.
            AnswerError: The answer is not what the command promises.
            SessionClosedError: The session is over; ``open`` starts another.
            SessionTimeoutError: The answer takes too long; the session is closed.
            LocalProtocolError: The command is too long; the session goes on.
        """
        async with self._lock:
            return await self._dialogue.exchange(command)

    async def change_psk(self, new: bytes | None = None) -> None:
        """Change the PSK, by default to a random one, and go on in a new session under it.

        Old and new are written to the credentials store first; one goes when the other is
        confirmed.

        Raises:
            KeystoreError: The element refused; its PSK is the old one.
            PskChangeError: It keeps the old one, or this is not known yet and both are kept.
            SessionClosedError: There is no session; nothing was changed.
            CredentialsError: The keys cannot be written down; nothing was changed.
            LocalProtocolError: The new PSK is the old one, or is not 32 bytes.
        """
        chosen = SystemRng().random_bytes(PSK_SIZE) if new is None else new
        async with self._lock:
            await self._dialogue.change_psk(chosen)

    async def open(self) -> None:
        """Open a session when there is none.

        Raises:
            UnreachableError: Nothing answers at the host and port.
            SessionTimeoutError: The handshake takes too long.
            HandshakeError: The element refused; the subclass says why.
            CredentialsError: A confirmed key cannot be written down.
        """
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
