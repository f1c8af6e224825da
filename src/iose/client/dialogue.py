# SPDX-License-Identifier: Apache-2.0
"""A conversation with an element over any link: open, ask, change the key, close.

Written once, as coroutines. The asyncio form awaits them; the blocking form has a link that
never waits for an event loop, and runs each coroutine to its end in one step.
"""

import os
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from iose.client.access import Access, SystemRng
from iose.client.codec import Command
from iose.client.commands import replace_psk
from iose.client.credentials import Credential
from iose.client.errors import (
    CredentialsError,
    HandshakeError,
    KeystoreError,
    ModuleError,
    PskChangeError,
    SessionClosedError,
    SessionError,
    SessionTimeoutError,
    UnknownNameError,
    UnreachableError,
)
from iose.client.module import ModuleSession
from iose.client.session import ElementSession
from iose.client.syntax import syntax_of
from iose.client.uri import PSK_SIZE
from iose.crypto.pyca import PycaCrypto
from iose.tls.events import BinderNeeded
from iose.wire.errors import IoseError, LocalProtocolError

T = TypeVar("T")

DEFAULT_TIMEOUT_S: Final = 30.0
MAX_TIMEOUT_S: Final = 86_400.0  # a day: no session lasts that long, and every clock can count it
_CLOSE_TIMEOUT_S: Final = 1.0  # a farewell is not worth a wait
_CRYPTO: Final = PycaCrypto()


class Link(Protocol):
    """A TCP connection."""

    async def send(self, data: bytes, timeout_s: float) -> None:
        """Send all bytes.

        Raises:
            OSError: The connection is gone, or TimeoutError: it takes too long.
        """

    async def receive(self, timeout_s: float) -> bytes:
        """Return some bytes, none at the end.

        Raises:
            OSError: The connection is gone, or TimeoutError: nothing came.
        """

    def received(self) -> bytes | None:
        """Return what has come already, none at the end, or None; never waits.

        Raises:
            OSError: The connection is gone.
        """

    def close(self) -> None:
        """Close the connection; never raises."""


OpenLink = Callable[[str, int, float], Awaitable[Link]]
"""Opens a link to a host and port within a time; raises OSError."""


class Dialogue:
    """The state of one caller's conversation; not for use by several at once.

    Raises:
        LocalProtocolError: The timeout is not above 0, or more than a day.
    """

    def __init__(
        self,
        access: Access,
        open_link: OpenLink,
        timeout_s: float,
        module: ModuleSession | None = None,
    ) -> None:
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise LocalProtocolError(
                f"expected a timeout above 0 and up to {MAX_TIMEOUT_S:g} s, found {timeout_s:g} s"
            )
        self._access = access
        self._credential = access.credential
        self._open_link = open_link
        self._timeout_s = timeout_s
        self._module = module
        self._link: Link | None = None
        self._session: ElementSession | None = None

    @property
    def access(self) -> Access:
        """Whom we talk to."""
        return self._access

    @property
    def handshake_secret(self) -> bytes | None:
        """The handshake secret of the session, or None when there is none."""
        session = self._session  # another thread may take it away
        return None if session is None else session.handshake_secret

    def export(self, label: bytes, size: int) -> bytes:
        """Return an exporter value of the session, without context (RFC 8446 §7.5).

        Raises:
            SessionClosedError: The session is over.
            AnswerError: The element said something nobody asked for.
        """
        session = self._session
        if session is None:
            raise SessionClosedError("the session is closed", command_sent=False)
        return session.export(label, size)

    def has_psk(self, psk: bytes) -> bool:
        """Return whether sessions are opened with this key; never, when a module has it."""
        own = self._credential.psk
        return own is not None and _CRYPTO.constant_time_equal(own, psk)

    @property
    def is_change_lost(self) -> bool:
        """Whether the session is under the old key, though the element was asked to change it."""
        return self._session is not None and self._credential.pending_psk is not None

    async def open(self) -> None:
        """Open a session; with two keys in question, a session under the new one settles it.

        One under the old does not: others may know that key, and answer in the element's place.

        Raises:
            UnreachableError: Nothing answers at the host and port.
            SessionTimeoutError: The handshake takes too long.
            UnknownNameError: The node knows no such element; no other key is tried.
            ModuleError: The module that has the key cannot be reached, or refuses.
            HandshakeError: The element refused; the subclass says why.
            CredentialsError: The key that holds cannot be written down.
        """
        if self._session is not None:
            return
        fault: HandshakeError | None = None
        for psk in self._credential.candidates:
            try:
                await self._open_with(psk)
            except UnknownNameError:
                raise
            except HandshakeError as refusal:
                fault = refusal
                continue
            if psk is not None and psk is self._credential.pending_psk:
                self._settle(self._credential.confirm(psk))
            return
        if fault is not None:
            raise fault

    async def exchange(self, command: Command[T]) -> T:
        """Return the value of a command's answer.

        Raises:
            KeystoreError: The element refused; the session goes on.
            AnswerError: The answer is not what the command promises; the session is closed, for
                the next answer could be another command's.
            SessionClosedError: The session is over.
            SessionTimeoutError: The answer takes too long; the session is closed.
            LocalProtocolError: The command is too long; the session goes on.
        """
        link, session = self._link, self._session
        if link is None or session is None:
            raise SessionClosedError(
                "the session is closed", command_sent=False, hint="open it again"
            )
        try:
            self._check_idle(link, session)
            session.send_line(command.line)
            answer = await self._await_answer(link, session, command.line)
            return command.read_answer(answer)
        except (LocalProtocolError, KeystoreError):
            raise
        except BaseException:
            self._drop()
            raise

    async def change_psk(self, new: bytes | None = None, *, is_attested: bool = False) -> None:
        """Change the PSK, and open a session with the new one.

        Both keys are kept until the new one is confirmed.

        Args:
            new: 32 bytes; None takes the one of a change that was not confirmed, or draws them.
            is_attested: Whether the element has proved to be at the other end of this session: then
                its answer confirms the new key, and the old one is not used any more.

        Raises:
            KeystoreError: The element refused; its PSK is the old one.
            PskChangeError: The old PSK still opens a session, or none could be opened: the new one
                stays in the credentials store, and a session under it settles it.
            SessionClosedError: The session is over; nothing was changed.
            CredentialsError: The keys cannot be written down, or another program wrote down others
                meanwhile; nothing was changed.
            ModuleError: A module has the PSK.
            LocalProtocolError: The new PSK is the old one, or is not 32 bytes.
            IoseError: One of these.
        """
        settled = self._credential
        if new is None:
            new = settled.pending_psk or SystemRng().random_bytes(PSK_SIZE)
        old = settled.psk
        if old is None:
            raise ModuleError(
                "the PSK is in an identity module", hint="have the module's administrator change it"
            )
        command = replace_psk(old, new)
        if _CRYPTO.constant_time_equal(old, new):
            raise LocalProtocolError("the new PSK is the old one")
        if self._session is None:
            raise SessionClosedError("the session is closed", command_sent=False)
        self._write_down(settled, new)
        lost: IoseError | None = None
        try:
            await self.exchange(command)
        except IoseError as fault:
            if _is_unchanged(fault):
                self._settle(settled)
                raise
            lost = fault  # whether it was obeyed is what the next session finds out
        else:
            if is_attested:
                self._settle(settled.confirm(new))
        await self._reopen(command, new, lost)

    async def close(self) -> None:
        """Say goodbye and close; harmless when closed already."""
        link, session = self._link, self._session
        if link is not None and session is not None:
            session.close()
            try:
                await link.send(session.data_to_send(), _CLOSE_TIMEOUT_S)
            except OSError:
                pass  # the other side went first
            finally:
                self._drop()

    async def _reopen(self, change: Command[bytes], new: bytes, lost: IoseError | None) -> None:
        await self.close()
        try:
            await self.open()
        except SessionError as fault:
            raise PskChangeError(
                f"which PSK the element keeps is not known yet: {fault}"
                if len(self._credential.candidates) > 1
                else f"the element took the new PSK, but no session with it followed: {fault}",
                hint=f"what is known is in {self._access.store.path}: connect again",
            ) from fault
        if not self.has_psk(new):
            raise PskChangeError(
                "the element kept its old PSK, or somebody else who has that one answers",
                hint=f"both are in {self._access.store.path}: change it again, or "
                f"{syntax_of(change.line).if_closed}",
            ) from lost

    async def _open_with(self, psk: bytes | None) -> None:
        try:
            if self._module is not None:
                await self._module.open()
            await self._connect(psk)
        finally:
            if self._module is not None:
                await self._module.close()

    async def _connect(self, psk: bytes | None) -> None:
        deadline = time.monotonic() + self._timeout_s
        uri = self._access.uri
        session = ElementSession(self._access.client_config(psk))
        try:
            link = await self._open_link(uri.host, uri.port, self._timeout_s)
        except OSError as fault:
            raise UnreachableError(
                f"nothing answers at {uri.host} port {uri.port}: {_reason(fault)}",
                hint="check host and port, and that the node runs",
            ) from None
        try:
            await self._shake_hands(link, session, deadline)
        except BaseException:
            link.close()
            raise
        self._link, self._session = link, session

    async def _shake_hands(self, link: Link, session: ElementSession, deadline: float) -> None:
        try:
            await self._compute(session)
            await _flush(link, session, deadline)
            while not session.is_open():
                session.receive_data(await link.receive(_left(deadline)))
                await self._compute(session)
                await _flush(link, session, deadline)  # also the alert that says what is wrong
        except TimeoutError:
            raise SessionTimeoutError(
                f"no session within {self._timeout_s:g} s",
                hint="the element may be serving someone else: try again, or wait longer",
            ) from None
        except OSError:
            session.receive_data(b"")
            session.is_open()

    async def _compute(self, session: ElementSession) -> None:
        while (question := session.question) is not None and self._module is not None:
            if isinstance(question, BinderNeeded):
                session.answer(await self._module.binder(question.transcript_hash))
            else:
                secret = await self._module.handshake_secret(question.shared_secret)
                await self._module.close()  # nobody else waits for it longer than need be
                session.answer(secret)

    def _check_idle(self, link: Link, session: ElementSession) -> None:
        try:
            while (data := link.received()) is not None:
                session.receive_data(data)
                session.check_idle()
        except OSError:
            session.receive_data(b"")
        session.check_idle()

    async def _await_answer(self, link: Link, session: ElementSession, line: bytes) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        try:
            await _flush(link, session, deadline)
            while (answer := session.next_answer()) is None:
                session.receive_data(await link.receive(_left(deadline)))
                await _flush(link, session, deadline)
        except TimeoutError:
            raise SessionTimeoutError(
                f"no answer within {self._timeout_s:g} s: {syntax_of(line).meaning}",
                hint="the command may have been obeyed; connect again, or wait longer",
            ) from None
        except OSError:
            session.receive_data(b"")
            answer = session.next_answer() or b""  # raises: the session is over
        return answer

    def _write_down(self, settled: Credential, new: bytes) -> None:
        store, asked = self._access.store, settled.begin_change(new)
        if not (store.replace(settled, asked) or store.replace(None, asked)):
            raise CredentialsError(
                f"the credentials hold another PSK of {settled.address} than this session's",
                hint="connect with that one, or remove it: iose credentials list shows it",
            )
        self._credential = asked

    def _settle(self, settled: Credential) -> None:
        # what another program wrote down meanwhile is newer than what we know
        try:
            self._access.store.replace(self._credential, settled)
        except BaseException:
            self._drop()
            raise
        self._credential = settled

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = self._session = None


async def _flush(link: Link, session: ElementSession, deadline: float) -> None:
    if data := session.data_to_send():
        try:
            await link.send(data, _left(deadline))
        except TimeoutError:
            raise
        except OSError:
            pass  # the other side went, maybe after a last word: receiving tells


def _is_unchanged(fault: IoseError) -> bool:
    was_never_sent = isinstance(fault, SessionClosedError) and not fault.command_sent
    return was_never_sent or isinstance(fault, KeystoreError)


def _left(deadline: float) -> float:
    # who sends without end is given up too: never 0, which sockets take for "do not wait at all"
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return left


def _reason(fault: OSError) -> str:
    if isinstance(fault, TimeoutError):
        return "no answer in time"
    if fault.errno is not None and fault.errno > 0:  # asyncio words the reason its own way
        return os.strerror(fault.errno).lower()
    return (fault.strerror or str(fault) or type(fault).__name__).lower()
