# SPDX-License-Identifier: Apache-2.0
"""SEND, RECV and RESET: records in APDUs, the TLS engine, and the application (tls-se.md §5, §6).

Every failure leaves the session closed and all its keys forgotten. A compatible element then
answers 6D16 alone; a hardened one gives the host the alert to forward, with 9002.
"""

from enum import IntEnum
from typing import Final

from iose.applet_api import AppletContext, IdentityModule
from iose.applets.tls_se.application import (
    Application,
    ApplicationSession,
    EchoApplication,
    Reply,
)
from iose.applets.tls_se.endpoint import TestValues, new_engine
from iose.applets.tls_se.output import Output
from iose.applets.tls_se.settings import HEADER_SIZE, RECORD_OVERHEAD, Settings
from iose.applets.tls_se.state import ElementState
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.tls.constants import ContentType
from iose.tls.engine import TlsEngine
from iose.tls.errors import AlertReceived, TlsPeerError
from iose.tls.events import (
    ApplicationData,
    BinderNeeded,
    HandshakeComplete,
    HandshakeSecretNeeded,
    KeyUpdated,
    PeerClosed,
)

FIRST_FRAGMENT: Final = 0x01  # P2 of SEND
LAST_FRAGMENT: Final = 0x02
EXPORT_SIZE: Final = 32  # what one hash gives
_CLOSE_NOTIFY_CONTENT: Final = b"\x01\x00"
_ECHO_APPLICATION: Final = EchoApplication()


class Mode(IntEnum):
    """P1 of SEND, on the last fragment; all but 0 are refused by a hardened element."""

    NORMAL = 0x00
    DECRYPT = 0x01
    ENCRYPT = 0x02
    SELF_TEST = 0x03
    RETURN = 0xFF


class _SessionFailedError(Exception):
    """Ends the session from inside the handling of an event; never leaves this module."""


class TlsSession:
    """The one TLS session of an element, and the buffer its records arrive in."""

    def __init__(
        self, context: AppletContext, state: ElementState, application: Application
    ) -> None:
        self._context = context
        self._state = state
        self._application = application
        self._buffer = bytearray()
        self._output = Output()
        self._engine: TlsEngine | None = None
        self._closing = b""
        self._change_cipher_specs = 0
        self._is_guest = False
        self.handshake_secret: bytes | None = None
        self.test_values = TestValues()

    def reset(self) -> None:
        """Forget the session: keys, counters, buffers."""
        self._buffer.clear()
        self._output.clear()
        self._drop()

    def send(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to SEND, or to RESET, which is a SEND of nothing.

        Raises:
            StatusWordError: 6D02 the record does not fit, or not its length; 6D16 the session
                has failed; 6985 a mode is refused.
        """
        profile = self._state.profile
        settings = profile.settings
        mode = command.p1
        if not command.data and not mode and not command.p2:
            self.reset()
            return ResponseApdu()
        if self._output.is_waiting():
            return self._output.refuse(settings)
        if mode and profile.is_locked:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        record = self._assemble(command, settings)
        if record is None:
            return ResponseApdu()
        if mode == Mode.RETURN:
            return self._output.start([record], StatusWord.OK, settings, command.le)
        messages, final = self._process(record, mode, settings)
        if settings.is_hardened and len(messages) > 1:
            messages = [b"".join(messages)]
        return self._output.start(messages, final, settings, command.le)

    def receive(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to RECV: the next piece, 6Cxx, or 9000 when nothing waits."""
        return self._output.fetch(command.le, self._state.profile.settings)

    def caller(self) -> ApplicationSession:
        """Return who calls the application now, past the session."""
        return ApplicationSession(self._is_guest, self.handshake_secret)

    def _caller_in(self, engine: TlsEngine) -> ApplicationSession:
        def export(label: bytes) -> bytes:
            return engine.export_keying_material(label, b"", EXPORT_SIZE)

        return ApplicationSession(self._is_guest, self.handshake_secret, export)

    def _assemble(self, command: CommandApdu, settings: Settings) -> bytes | None:
        buffer = self._buffer
        if command.p2 & FIRST_FRAGMENT:
            buffer.clear()
        if len(buffer) + len(command.data) > settings.record_buffer:
            raise StatusWordError(StatusWord.BUFFER_OVERFLOW)
        if not command.p2 & LAST_FRAGMENT:
            buffer += command.data
            return None
        record = bytes(buffer) + command.data if buffer else command.data
        buffer.clear()
        return record

    def _process(
        self, record: bytes, mode: int, settings: Settings
    ) -> tuple[list[bytes], StatusWord]:
        # The session counts as closed until this record is done with: whatever is raised, it is.
        engine, self._engine = self._engine, None
        is_open = engine is not None and engine.is_open
        if mode == Mode.ENCRYPT and (is_open or self._closing):
            return self._encrypt(engine, record)
        if len(record) < HEADER_SIZE or _length_field(record) != len(record) - HEADER_SIZE:
            self._engine = engine
            raise StatusWordError(StatusWord.BUFFER_OVERFLOW)
        if engine is None:
            engine = self._new_engine(is_test=bool(mode))
        try:
            self._check_reference_record(record, settings)
            engine.receive_data(record)
            if mode == Mode.DECRYPT and is_open:
                return self._decrypted(engine)
            final = self._handle_events(engine, record, mode, settings)
            messages = engine.records_to_send()
            if not (messages or settings.is_hardened):
                _check_reference_progress(record, final)
        except (TlsPeerError, AlertReceived, _SessionFailedError):
            return self._failed(engine, settings)
        if final is StatusWord.TLS_CLOSED:
            self._drop()
        else:
            self._engine = engine
        return messages, final

    def _new_engine(self, *, is_test: bool) -> TlsEngine:
        self._drop()
        return new_engine(self._context, self._state, self.test_values if is_test else None)

    def _check_reference_record(self, record: bytes, settings: Settings) -> None:
        if settings.is_hardened or record[0] != ContentType.CHANGE_CIPHER_SPEC:
            return
        self._change_cipher_specs += 1
        if self._change_cipher_specs > 1:
            raise _SessionFailedError

    def _handle_events(
        self, engine: TlsEngine, record: bytes, mode: int, settings: Settings
    ) -> StatusWord:
        final = StatusWord.OK
        was_open = engine.is_open
        seen = 0
        while (event := engine.next_event()) is not None:
            seen += 1
            match event:
                case BinderNeeded() | HandshakeSecretNeeded():
                    self._ask_module(engine, event)
                case HandshakeComplete():
                    self._open(engine, event)
                    final = StatusWord.TLS_OPEN
                case ApplicationData(data=line):
                    if not settings.is_hardened and len(line) != len(record) - RECORD_OVERHEAD:
                        raise _SessionFailedError  # padding, which the reference cannot read
                    final = self._answer(engine, line, mode, settings)
                case KeyUpdated() | PeerClosed():
                    if not settings.is_hardened:
                        raise _SessionFailedError
                    final = StatusWord.TLS_CLOSED if engine.is_closed else final
                case _:
                    raise _SessionFailedError
        if not seen and was_open and len(record) == RECORD_OVERHEAD:
            return self._answer(engine, b"", mode, settings)  # an empty line is a line too
        return final

    def _ask_module(self, engine: TlsEngine, event: BinderNeeded | HandshakeSecretNeeded) -> None:
        try:
            module = self._identity_module()
            if isinstance(event, BinderNeeded):
                engine.provide_binder(module.binder(event.transcript_hash))
            else:
                engine.provide_handshake_secret(module.handshake_secret(event.shared_secret))
        except StatusWordError:
            engine.records_to_send()  # a ServerHello is of no use without what follows it
            raise _SessionFailedError from None

    def _identity_module(self) -> IdentityModule:
        aid = self._state.module
        module = None if aid is None else self._context.identity_module(aid)
        if module is None:
            raise StatusWordError(StatusWord.NOT_FOUND)
        return module

    def _open(self, engine: TlsEngine, event: HandshakeComplete) -> None:
        self.handshake_secret = engine.handshake_secret
        self._is_guest = event.psk_identity != self._state.identity

    def _answer(self, engine: TlsEngine, line: bytes, mode: int, settings: Settings) -> StatusWord:
        application = _ECHO_APPLICATION if mode == Mode.SELF_TEST else self._application
        reply = application.handle(line, self._caller_in(engine))
        engine.send_data(reply.data)
        if not (reply.ends_session or mode):
            return StatusWord.OK
        return self._end(engine, reply, settings)

    def _end(self, engine: TlsEngine, reply: Reply, settings: Settings) -> StatusWord:
        if settings.is_hardened:
            engine.close()
        elif not reply.data:
            raise _SessionFailedError
        return StatusWord.TLS_CLOSED

    def _decrypted(self, engine: TlsEngine) -> tuple[list[bytes], StatusWord]:
        event = engine.next_event()
        if isinstance(event, ApplicationData):
            content = event.data + bytes((ContentType.APPLICATION_DATA,))
            self._engine = engine
        elif isinstance(event, PeerClosed):
            # Our close_notify is made already; the host asks for it by encrypting one.
            content = bytes((_CLOSE_NOTIFY_CONTENT[0], event.alert, ContentType.ALERT))
            self._closing = engine.data_to_send()
        else:
            raise _SessionFailedError
        return [content], StatusWord.OK

    def _encrypt(self, engine: TlsEngine | None, content: bytes) -> tuple[list[bytes], StatusWord]:
        record, self._closing = self._closing, b""
        kind = content[-1:]
        if engine is not None and kind == bytes((ContentType.APPLICATION_DATA,)):
            engine.send_data(content[:-1])
            self._engine = engine
            return engine.records_to_send(), StatusWord.OK
        if content == _CLOSE_NOTIFY_CONTENT + bytes((ContentType.ALERT,)):
            if engine is not None:
                engine.close()
                record = engine.data_to_send()
            return [record], StatusWord.OK
        self._drop()
        raise StatusWordError(StatusWord.TLS_ERROR)

    def _failed(self, engine: TlsEngine, settings: Settings) -> tuple[list[bytes], StatusWord]:
        self._drop()
        if not settings.is_hardened:
            raise StatusWordError(StatusWord.TLS_ERROR)
        return engine.records_to_send(), StatusWord.TLS_CLOSED

    def _drop(self) -> None:
        self._engine = None
        self._closing = b""
        self._change_cipher_specs = 0
        self._is_guest = False
        self.handshake_secret = None


def _check_reference_progress(record: bytes, final: StatusWord) -> None:
    # The reference has one whole message per record: what led to nothing was a part of one.
    if record[0] != ContentType.CHANGE_CIPHER_SPEC and final is StatusWord.OK:
        raise _SessionFailedError


def _length_field(record: bytes) -> int:
    return record[3] << 8 | record[4]
