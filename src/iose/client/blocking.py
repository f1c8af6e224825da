# SPDX-License-Identifier: Apache-2.0
"""The blocking form: an ``Element`` over a socket. It needs no event loop, and starts none."""

import select
import socket
import threading
from collections.abc import Callable, Coroutine
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

RECEIVE_SIZE: Final = 65_536


def connect(
    uri: ElementUri | str,
    *,
    psk: bytes | None = None,
    identity: str | None = None,
    credentials: CredentialsStore | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> "Element":
    """Return an element with an open session.

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
        UnreachableError: Nothing answers at the host and port.
        SessionTimeoutError: The handshake takes too long.
        HandshakeError: The element refused; the subclass says why.
    """
    access = resolve_access(uri, psk=psk, identity=identity, store=credentials)
    element = Element(Dialogue(access, _open_socket, timeout_s))
    element.open()
    return element


def _method(build: Callable[P, Command[T]]) -> Callable[Concatenate["Element", P], T]:
    @wraps(build)
    def method(self: "Element", /, *args: P.args, **options: P.kwargs) -> T:
        return self.run(build(*args, **options))

    return method


class Element:
    """A secure element and the session with it; threads that share it wait for each other.

    Each method named after a keystore command raises KeystoreError when the element refuses,
    AnswerError when it answers nonsense, SessionClosedError or SessionTimeoutError when the
    session is over, and LocalProtocolError when an argument is out of range.
    """

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._lock = threading.RLock()

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

    def run(self, command: Command[T]) -> T:
        """Return the value of a command's answer; every other method ends here.

        Raises:
            KeystoreError: The element refused; the session goes on.
            AnswerError: The answer is not what the command promises.
            SessionClosedError: The session is over; ``open`` starts another.
            SessionTimeoutError: The answer takes too long; the session is closed.
            LocalProtocolError: The command is too long; the session goes on.
        """
        with self._lock:
            return _finish(self._dialogue.exchange(command))

    def change_psk(self, new: bytes | None = None) -> None:
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
        with self._lock:
            _finish(self._dialogue.change_psk(chosen))

    def open(self) -> None:
        """Open a session when there is none.

        Raises:
            UnreachableError: Nothing answers at the host and port.
            SessionTimeoutError: The handshake takes too long.
            HandshakeError: The element refused; the subclass says why.
            CredentialsError: A confirmed key cannot be written down.
        """
        with self._lock:
            _finish(self._dialogue.open())

    def close(self) -> None:
        """Close the session; harmless when it is over."""
        with self._lock:
            _finish(self._dialogue.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _finish(coroutine: Coroutine[Any, Any, T]) -> T:
    # a socket link waits inside its calls, so the coroutine never suspends
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a blocking link must not suspend")


class _SocketLink:
    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)

    async def send(self, data: bytes, timeout_s: float) -> None:
        self._socket.settimeout(timeout_s)
        self._socket.sendall(data)

    async def receive(self, timeout_s: float) -> bytes:
        self._socket.settimeout(timeout_s)
        return self._socket.recv(RECEIVE_SIZE)

    def received(self) -> bytes | None:
        return self._socket.recv(RECEIVE_SIZE) if self._readable.poll(0) else None

    def close(self) -> None:
        self._socket.close()


async def _open_socket(host: str, port: int, timeout_s: float) -> _SocketLink:
    connection = socket.create_connection((host, port), timeout_s)
    try:
        return _SocketLink(connection)
    except OSError:  # gone before it was used
        connection.close()
        raise
