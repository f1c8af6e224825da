# SPDX-License-Identifier: Apache-2.0
"""TLS over a byte stream: records in and out, alerts, closure. Both roles, any version.

It implements ``TlsEngine``; what a handshake message means is up to the waiting states of the role
it was built with. It owns no socket and no clock.
"""

from collections.abc import Callable
from typing import Final

from iose.crypto.errors import InvalidTagError
from iose.tls.alerts import alert_for
from iose.tls.constants import (
    HEADER_SIZE,
    AlertDescription,
    ContentType,
    HandshakeType,
    KeyUpdateRequest,
)
from iose.tls.errors import AlertReceived, TlsPeerError
from iose.tls.events import ApplicationData, Event, PeerClosed
from iose.tls.messages import HandshakeBuffer
from iose.tls.record_layer import RecordBuffer
from iose.tls.session import Session
from iose.tls.states import LocalInput, State, StateMachine, WaitingState
from iose.wire.errors import IoseError, LocalProtocolError

MAX_PAUSED_SIZE: Final = 65_536
"""Bytes held while our caller owes us an answer: three records and some; a peer waits for us."""
MAX_CHANGE_CIPHER_SPECS: Final = 4
"""One per flight is all that middlebox compatibility explains (RFC 8446 §D.4)."""

_ALERT_SIZE: Final = 2
_BEFORE_KEY_CHANGE = frozenset(
    {
        HandshakeType.CLIENT_HELLO,
        HandshakeType.SERVER_HELLO,
        HandshakeType.FINISHED,
        HandshakeType.KEY_UPDATE,
    }
)
_NOTHING_SAID = (State.CLIENT_START, State.CLIENT_WAIT_BINDER)
_NO_CHANGE_CIPHER_SPEC = frozenset(
    {
        State.SERVER_WAIT_CLIENT_HELLO,
        State.CLIENT_OPEN,
        State.SERVER_OPEN,
    }
)


class StreamEngine:
    """One TLS connection over a stream; see ``TlsEngine`` for its face."""

    __slots__ = (
        "_change_cipher_specs",
        "_handshake",
        "_machine",
        "_received",
        "_session",
        "_started",
    )

    def __init__(self, session: Session, first: WaitingState) -> None:
        self._session = session
        self._machine = StateMachine(first)
        self._received = RecordBuffer()
        self._handshake = HandshakeBuffer()
        self._change_cipher_specs = 0
        self._started = False

    @property
    def state(self) -> State:
        """What the engine waits for."""
        return self._machine.state

    @property
    def is_open(self) -> bool:
        """Whether application data may flow."""
        return self._machine.is_open

    @property
    def is_closed(self) -> bool:
        """Whether the session is over: closed by either side, or after an error."""
        return self._machine.state is State.CLOSED

    @property
    def handshake_secret(self) -> bytes | None:
        """The handshake secret (RFC 8446 §7.1) once known; None before, and after the end."""
        secret = self._session.handshake_secret
        return None if secret is None else secret.secret

    def start(self) -> None:
        """Begin the handshake: a client queues its ClientHello; a server does nothing.

        Raises:
            LocalProtocolError: Called twice, or after the end.
        """
        if self._started or self.is_closed:
            raise LocalProtocolError("the handshake has begun already")
        self._started = True
        if self._machine.state is State.CLIENT_START:
            self._guard(lambda: self._resume(LocalInput.START, b""))

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the network, any split; what comes after the end is ignored.

        Raises:
            TlsPeerError: The peer broke TLS; the alert is queued, the engine closed.
            AlertReceived: The peer sent a fatal alert; the engine is closed.
        """
        if self.is_closed:
            return
        self._received.append(data)
        self._guard(self._process)

    def next_event(self) -> Event | None:
        """Return the oldest event not yet seen, or None."""
        return self._session.events.popleft() if self._session.events else None

    def records_to_send(self) -> list[bytes]:
        """Return whole records not yet taken, one handshake message each, in order."""
        records = self._session.records
        self._session.records = []
        return records

    def data_to_send(self) -> bytes:
        """Return the same, joined."""
        return b"".join(self.records_to_send())

    def send_data(self, data: bytes) -> None:
        """Queue application data, in as many records as the limits ask for; b"" sends nothing.

        Raises:
            LocalProtocolError: The session is not open.
        """
        self._require_open()
        self._session.send_data(data)

    def send_key_update(self, *, request_peer: bool) -> None:
        """Change our sending keys, and ask the peer for the same (RFC 8446 §4.6.3).

        Raises:
            LocalProtocolError: The session is not open.
        """
        self._require_open()
        self._session.send_key_update(KeyUpdateRequest(request_peer))

    def close(self) -> None:
        """Queue close_notify and close; harmless when closed already."""
        if self.is_closed:
            return
        if self._machine.state not in _NOTHING_SAID:
            self._session.send_alert(AlertDescription.CLOSE_NOTIFY)
        self._end()

    def provide_binder(self, binder: bytes) -> None:
        """Answer ``BinderNeeded``.

        Raises:
            LocalProtocolError: None was asked for, or its size is wrong; nothing changes.
            TlsPeerError: It differs from the client's binder (server only), or the peer broke TLS
                meanwhile; the engine is closed.
            AlertReceived: The peer gave up meanwhile; the engine is closed.
        """
        self._provide(LocalInput.BINDER, binder)

    def provide_handshake_secret(self, secret: bytes) -> None:
        """Answer ``HandshakeSecretNeeded``.

        Raises:
            LocalProtocolError: None was asked for, or its size is wrong; nothing changes.
            TlsPeerError: The peer broke TLS meanwhile; the engine is closed.
            AlertReceived: The peer gave up meanwhile; the engine is closed.
        """
        self._provide(LocalInput.SECRET, secret)

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return an exporter value (RFC 8446 §7.5).

        Raises:
            LocalProtocolError: The handshake is not complete, the length is over 255 hashes, or the
                label over 249 bytes.
        """
        if not self.is_open or self._session.exporter is None:
            raise LocalProtocolError("the handshake is not complete")
        return self._session.exporter.export(label, context, length)

    def _require_open(self) -> None:
        if not self._machine.is_open:
            raise LocalProtocolError(
                f"the session is not open but {self._machine.state.name.lower()}"
            )

    def _provide(self, given: LocalInput, value: bytes) -> None:
        self._machine.require(given)
        if len(value) != self._session.hash_size:
            raise LocalProtocolError(
                f"expected {self._session.hash_size} bytes, found {len(value)}"
            )
        self._guard(lambda: self._resume(given, value))

    def _resume(self, given: LocalInput, value: bytes) -> None:
        self._machine.resume(given, value)
        self._process()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except AlertReceived:
            self._end()
            raise
        except TlsPeerError as fault:
            self._fail(fault.alert)
            raise
        except LocalProtocolError as fault:
            self._fail(alert_for(fault))
            raise
        except IoseError as fault:
            alert = alert_for(fault)
            self._fail(alert)
            raise TlsPeerError(alert, str(fault)) from fault

    def _fail(self, alert: AlertDescription) -> None:
        self._session.send_alert(alert)
        self._end()

    def _end(self) -> None:
        self._machine.close()
        self._session.wipe()
        self._received.clear()
        self._handshake = HandshakeBuffer()

    def _process(self) -> None:
        while not self._machine.is_paused and not self.is_closed:
            record = self._received.next_record()
            if record is None:
                return
            self._receive_record(*record)
        if self._received.size > MAX_PAUSED_SIZE:
            raise TlsPeerError(AlertDescription.UNEXPECTED_MESSAGE, "too much data ahead of time")

    def _receive_record(self, header: bytes, body: bytes) -> None:
        if header[0] == ContentType.CHANGE_CIPHER_SPEC:
            self._receive_change_cipher_spec(body)
            return
        opened = self._unprotect(header, body)
        if opened is None:
            return
        content_type, content = opened
        match content_type:
            case ContentType.HANDSHAKE:
                self._receive_handshake(content)
            case ContentType.ALERT:
                self._receive_alert(content)
            case ContentType.APPLICATION_DATA:
                self._receive_application_data(content)
            case _:
                raise TlsPeerError(
                    AlertDescription.UNEXPECTED_MESSAGE,
                    f"a protected record of type {content_type}",
                )

    def _unprotect(self, header: bytes, body: bytes) -> tuple[int, bytes] | None:
        """Return what is in a record, or None for refused early data.

        Raises:
            InvalidTagError: The record fails authentication.
            TlsPeerError: It has no place here.
        """
        session = self._session
        is_application_data = header[0] == ContentType.APPLICATION_DATA
        if session.reader.is_protected != is_application_data:
            if is_application_data and session.early_data_budget:
                self._skip_early_data(body)
                return None
            if self._is_early_alert(header[0]):
                return header[0], body
            raise TlsPeerError(
                AlertDescription.UNEXPECTED_MESSAGE,
                f"record type {header[0]} in state {self._machine.state.name.lower()}",
            )
        try:
            opened = session.reader.unprotect(header, body)
        except InvalidTagError:
            if not session.early_data_budget:
                raise
            self._skip_early_data(body)
            return None
        if session.reader.is_protected:
            session.early_data_budget = 0
        return opened

    def _skip_early_data(self, body: bytes) -> None:
        self._require_whole_messages()
        # the header counts too, or empty records would be skipped for ever
        budget = self._session.early_data_budget - HEADER_SIZE - len(body)
        self._session.early_data_budget = max(budget, 0)

    def _is_early_alert(self, content_type: int) -> bool:
        """Whether a client refuses our ServerHello, hence has no keys for its alert."""
        return (
            content_type == ContentType.ALERT
            and self._machine.state is State.SERVER_WAIT_FINISHED
            and self._session.reader.sequence == 0
        )

    def _receive_change_cipher_spec(self, body: bytes) -> None:
        self._change_cipher_specs += 1
        if (
            body != b"\x01"
            or self._machine.state in _NO_CHANGE_CIPHER_SPEC
            or self._change_cipher_specs > MAX_CHANGE_CIPHER_SPECS
        ):
            raise TlsPeerError(AlertDescription.UNEXPECTED_MESSAGE, "a stray change_cipher_spec")
        self._require_whole_messages()

    def _receive_handshake(self, content: bytes) -> None:
        if not content:
            raise TlsPeerError(AlertDescription.UNEXPECTED_MESSAGE, "an empty handshake record")
        self._handshake.append(content)
        while (message := self._handshake.next_message()) is not None:
            if message.type in _BEFORE_KEY_CHANGE:
                self._require_whole_messages()
            self._machine.receive(message)
        self._session.request_key_update_if_due()

    def _receive_application_data(self, content: bytes) -> None:
        self._require_whole_messages()
        if not self._machine.is_open:
            raise TlsPeerError(AlertDescription.UNEXPECTED_MESSAGE, "application data too early")
        if content:
            self._session.count_useful_record()
            self._session.events.append(ApplicationData(content))
        else:
            self._session.count_idle_record()
        self._session.request_key_update_if_due()

    def _receive_alert(self, content: bytes) -> None:
        if not content:
            raise TlsPeerError(AlertDescription.UNEXPECTED_MESSAGE, "an empty alert record")
        if len(content) != _ALERT_SIZE:
            raise TlsPeerError(AlertDescription.DECODE_ERROR, "an alert is not two bytes")
        alert = AlertDescription(content[1])
        if alert is AlertDescription.USER_CANCELED:
            self._session.count_idle_record()
            return
        self._session.events.append(PeerClosed(alert))
        if alert is not AlertDescription.CLOSE_NOTIFY:
            raise AlertReceived(alert)
        self.close()

    def _require_whole_messages(self) -> None:
        if not self._handshake.is_empty:
            raise TlsPeerError(
                AlertDescription.UNEXPECTED_MESSAGE,
                "a handshake message does not end where its record must",
            )
