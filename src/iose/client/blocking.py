# SPDX-License-Identifier: Apache-2.0
"""The blocking form: an ``Element`` over a socket.

It needs no event loop, and starts one, in a thread, only to reach an identity module.
"""

import select
import socket
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

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

RECEIVE_SIZE: Final = 65_536


def connect(
    uri: ElementUri | str,
    *,
    psk: bytes | None = None,
    module: Module | ModuleSession | None = None,
    identity: str | None = None,
    credentials: CredentialsStore | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> "Element":
    """Return an element with an open session.

    The key is the first found of: ``psk``, the URI's, the credentials store's, IOSE_PSK.

    Args:
        uri: As in ``keyS://key1.com@127.0.0.1:8888``; its commands are not sent.
        psk: The 32-byte key, when the caller has it.
        module: Who has the key, when the caller has not.
        identity: The PSK identity, when it is not the usual one.
        credentials: Where keys are kept; None takes this user's file.
        timeout_s: Time for the handshake, and for each answer.

    Raises:
        ElementUriError: The URI is malformed, or a PSK is not 32 bytes.
        LocalProtocolError: The timeout is not above 0, or more than a day.
        CredentialsError: No key is known, or the credentials file cannot be used.
        UnreachableError: Nothing answers at the host and port.
        SessionTimeoutError: The handshake takes too long.
        HandshakeError: The element refused; the subclass says why.
        ModuleError: The module that has the key cannot be reached, or refuses.
    """
    access = resolve_access(uri, psk=psk, module=module, identity=identity, store=credentials)
    computing = module_of(access, _open_socket, timeout_s, _on_loop)
    element = Element(Dialogue(access, _open_socket, timeout_s, computing))
    element.open()
    return element


class Element(KeystoreElement):
    """A secure element and the session with it; threads that share it wait for each other.

    Each method named after a keystore command raises what ``run`` raises, and LocalProtocolError
    when an argument is out of range.
    """

    def __init__(self, dialogue: Dialogue) -> None:
        super().__init__(dialogue)
        self._lock = threading.RLock()

    def run(self, command: Command[T]) -> T:
        """Return the value of a command's answer; the methods named after commands end here.

        Raises:
            KeystoreError: The element refused; the session goes on.
            AnswerError: The answer is not what the command promises; the session is closed.
            SessionClosedError: The session is over; ``open`` starts another.
            SessionTimeoutError: The answer takes too long; the session is closed.
            LocalProtocolError: The command is too long; the session goes on.
        """
        with self._lock:
            return _finish(self._dialogue.exchange(command))

    def change_psk(self, new: bytes | None = None) -> None:
        """Change the PSK, by default to a random one, and go on in a new session under it.

        Old and new are written to the credentials store first; the old one goes when the new one
        is confirmed.

        Raises:
            KeystoreError: The element refused; its PSK is the old one.
            PskChangeError: The old one still opens a session, or none could be opened; both are
                kept.
            SessionClosedError: There is no session; nothing was changed.
            CredentialsError: The keys cannot be written down, or another program wrote down others
                meanwhile; nothing was changed.
            LocalProtocolError: The new PSK is the old one, or is not 32 bytes.
        """
        with self._lock:
            _finish(self._dialogue.change_psk(new))

    def attest(
        self,
        authority: bytes,
        *,
        package_hash: bytes | None = None,
        requires_statement: bool = False,
    ) -> Attestation:
        """Return what the element showed of itself in this session, all of it verified.

        Args:
            authority: Public key of whoever certifies elements, 65 bytes.
            package_hash: SHA-256 that its applet's load file must have.
            requires_statement: Refuse elements that make no statement on themselves.

        Raises:
            AttestationError: Something does not hold; the session is closed.
            IoseError: As for ``run``; the session is closed.
        """
        expected = Expectations(authority, package_hash, requires_statement)
        with self._lock:
            return _finish(attest(self._dialogue, expected))

    def take_over(
        self,
        authority: bytes,
        *,
        new_psk: bytes | None = None,
        package_hash: bytes | None = None,
        requires_statement: bool = False,
        accepts_copy: bool = False,
    ) -> Attestation:
        """Attest, change the PSK in the same session, and confirm it in a new one.

        Args:
            authority: Public key of whoever certifies elements, 65 bytes.
            new_psk: 32 bytes; None draws them.
            package_hash: SHA-256 that its applet's load file must have.
            requires_statement: Refuse elements that make no statement on themselves.
            accepts_copy: Take over an element although another may hold the same keys.

        Raises:
            AttestationError: Something does not hold; PSK as before, session closed.
            IoseError: As for ``run`` and ``change_psk``.
        """
        expected = Expectations(authority, package_hash, requires_statement)
        with self._lock:
            return _finish(take_over(self._dialogue, expected, new_psk, accepts_copy=accepts_copy))

    def certify(
        self, authority_private: bytes, *, accepts_no_statement: bool = False
    ) -> Attestation:
        """Certify the element's application key, for its provider, and verify all of it.

        Raises:
            AttestationError: It is certified already, makes no statement though none is accepted
                to be missing, or something does not hold.
            CryptoError: The authority's key is not a scalar of secp256k1.
            IoseError: As for ``run``.
        """
        with self._lock:
            return _finish(
                certify(
                    self._dialogue, authority_private, accepts_no_statement=accepts_no_statement
                )
            )

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


def _on_loop(module: ModuleSession) -> ModuleSession:
    from iose.client.module_thread import ThreadedModule  # noqa: PLC0415  # few need asyncio

    return ThreadedModule(module)


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
