# SPDX-License-Identifier: Apache-2.0
"""One TLS session with an element, without I/O: lines in, answers out, bytes on the other side.

One command is one record; an answer ends with a line end and may take several records. How the
session ended is remembered and told, in the caller's words, by whoever asks next.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from iose.client.errors import (
    AnswerError,
    AuthenticationError,
    ElementBusyError,
    HandshakeError,
    SessionClosedError,
    UnknownNameError,
)
from iose.client.syntax import syntax_of
from iose.tls import ClientEngine
from iose.tls.config import ClientConfig
from iose.tls.constants import AlertDescription
from iose.tls.errors import AlertReceived, TlsPeerError
from iose.tls.events import (
    ApplicationData,
    BinderNeeded,
    HandshakeSecretNeeded,
    PeerClosed,
)
from iose.wire.errors import IoseError, LocalProtocolError

MAX_LINE_SIZE: Final = 16_384 - 2  # one record, line end included (RFC 8446 §5.1)
MAX_ANSWER_SIZE: Final = 65_536  # what a node relays for one record, so no more can be honest
LINE_END: Final = b"\r\n"

_AUTHENTICATION_HINT: Final = (
    "check the PSK and its identity: iose credentials list shows which elements have one"
)
_BUSY_HINT: Final = (
    "try again in a moment; an element of the published kind also answers so to a wrong PSK"
)
_NAME_HINT: Final = "check the name before the @; on the node, iose element list shows them"
_SILENT_HINT: Final = (
    "published fronts close so when the name is unknown, the element is busy or the PSK is wrong"
)
_PEER_HINT: Final = "check host and port: is it the service port of a node?"


class _Refusal(NamedTuple):
    error: type[HandshakeError]
    message: str
    hint: str


_AUTHENTICATION: Final = _Refusal(
    AuthenticationError, "the element refused the PSK or its identity", _AUTHENTICATION_HINT
)
_UNKNOWN_NAME: Final = _Refusal(
    UnknownNameError, "the node knows no element of that name", _NAME_HINT
)
# which alert a server chooses for a wrong binder or identity is its own affair (RFC 8446 §4.2.11)
_REFUSALS: Final = {
    AlertDescription.DECRYPT_ERROR: _AUTHENTICATION,
    AlertDescription.UNKNOWN_PSK_IDENTITY: _AUTHENTICATION,
    AlertDescription.ILLEGAL_PARAMETER: _AUTHENTICATION,
    AlertDescription.BAD_RECORD_MAC: _AUTHENTICATION,
    AlertDescription.ACCESS_DENIED: _AUTHENTICATION,
    AlertDescription.HANDSHAKE_FAILURE: _AUTHENTICATION,
    AlertDescription.UNRECOGNIZED_NAME: _UNKNOWN_NAME,
    AlertDescription.MISSING_EXTENSION: _UNKNOWN_NAME,
    AlertDescription.INTERNAL_ERROR: _Refusal(
        ElementBusyError, "the element is busy, or failed", _BUSY_HINT
    ),
}


class ElementSession:
    """A client's session; it starts at once, its ClientHello waits in ``data_to_send``.

    With a PSK that is elsewhere it stops at each ``question`` until its ``answer``.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._engine = ClientEngine(config)
        self._was_open = False
        self._question: BinderNeeded | HandshakeSecretNeeded | None = None
        self._line: bytes | None = None
        self._answer = bytearray()
        self._end: IoseError | None = None
        self._run(lambda _: self._engine.start(), b"", is_over=False)

    @property
    def handshake_secret(self) -> bytes | None:
        """The handshake secret, which the element signs to prove who it is."""
        return self._engine.handshake_secret

    def export(self, label: bytes, size: int) -> bytes:
        """Return an exporter value of the session, without context (RFC 8446 §7.5).

        Raises:
            SessionClosedError: The element ended the session.
            AnswerError: The element said something nobody asked for.
            LocalProtocolError: The handshake is not complete.
        """
        self.check_idle()
        return self._engine.export_keying_material(label, b"", size)

    def data_to_send(self) -> bytes:
        """Return bytes for the network, possibly none; also after an error."""
        return self._engine.data_to_send()

    @property
    def question(self) -> BinderNeeded | HandshakeSecretNeeded | None:
        """What the module that holds the PSK is to compute next; the handshake waits for it."""
        return self._question

    def answer(self, computed: bytes) -> None:
        """Give what the module computed for ``question``, 32 bytes."""
        question, self._question = self._question, None
        if isinstance(question, BinderNeeded):
            self._run(self._engine.provide_binder, computed, is_over=False)
        elif question is not None:
            self._run(self._engine.provide_handshake_secret, computed, is_over=False)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the network; none at all means that the other side closed."""
        self._run(self._engine.receive_data, data, is_over=not data)

    def _run(self, step: Callable[[bytes], None], data: bytes, *, is_over: bool) -> None:
        ended_by: AlertDescription | None = None
        fault: TlsPeerError | None = None
        try:
            step(data)
        except AlertReceived as received:
            is_over, ended_by = True, received.alert
        except TlsPeerError as broken:
            is_over, fault = True, broken
        self._was_open = self._was_open or self._engine.is_open
        while (event := self._engine.next_event()) is not None:
            if isinstance(event, ApplicationData):
                self._take(event.data)
            elif isinstance(event, PeerClosed):
                is_over, ended_by = True, event.alert
            elif isinstance(event, BinderNeeded | HandshakeSecretNeeded):
                self._question = event
        if is_over and self._end is None:
            self._end = self._closed(fault) if self._was_open else _refused(ended_by, fault)

    def is_open(self) -> bool:
        """Return whether the handshake is complete.

        Raises:
            HandshakeError: It never will be.
        """
        if self._end is not None and not self._was_open:
            raise self._end
        return self._was_open

    def check_idle(self) -> None:
        """Check that a command may be sent.

        Raises:
            SessionClosedError: The element ended the session.
            AnswerError: The element said something nobody asked for.
        """
        if self._answer:
            self._end = AnswerError("expected silence before the command, found an answer")
        if self._end is not None:
            raise self._end

    def send_line(self, line: bytes) -> None:
        """Queue one command as one record; its line end is added.

        Raises:
            LocalProtocolError: It is longer than a record, or an answer is awaited.
        """
        if self._line is not None:
            raise LocalProtocolError("the answer to the last command has not come yet")
        if len(line) > MAX_LINE_SIZE:
            raise LocalProtocolError(
                f"expected a command of at most {MAX_LINE_SIZE} bytes, found {len(line)}"
            )
        self._engine.send_data(line + LINE_END)
        self._line = line

    def next_answer(self) -> bytes | None:
        """Return the answer to the command without its line end, or None while it is incomplete.

        Raises:
            SessionClosedError: The element ended the session instead.
            AnswerError: The answer is longer than any element's.
        """
        if self._answer.endswith(b"\n"):
            answer = bytes(self._answer)
            self._answer.clear()
            self._line = None
            return answer.removesuffix(b"\n").removesuffix(b"\r")
        if self._end is not None:
            raise self._end
        return None

    def close(self) -> None:
        """Queue close_notify; harmless when the session is over."""
        self._engine.close()

    def _take(self, data: bytes) -> None:
        if self._end is not None:
            return
        self._answer += data
        if len(self._answer) > MAX_ANSWER_SIZE:
            self._answer.clear()
            self._end = AnswerError(f"expected an answer of at most {MAX_ANSWER_SIZE} bytes")

    def _closed(self, fault: TlsPeerError | None) -> SessionClosedError:
        reason = "the element closed the session" if fault is None else f"TLS broke: {fault}"
        if self._line is None:
            return SessionClosedError(
                reason, command_sent=False, hint="elements close idle sessions: connect again"
            )
        return SessionClosedError(
            f"{reason} instead of answering",
            command_sent=True,
            hint=syntax_of(self._line).if_closed,
        )


def _refused(alert: AlertDescription | None, fault: TlsPeerError | None) -> HandshakeError:
    if fault is not None:
        return HandshakeError(f"the other side broke TLS: {fault}", hint=_PEER_HINT)
    if alert is None or alert == AlertDescription.CLOSE_NOTIFY:
        return HandshakeError(
            "the connection was closed during the handshake, without a reason", hint=_SILENT_HINT
        )
    if (refusal := _REFUSALS.get(alert)) is not None:
        return refusal.error(refusal.message, hint=refusal.hint)
    name = getattr(alert, "name", str(int(alert))).lower()
    return HandshakeError(f"the other side refused the session: alert {name}", hint=_PEER_HINT)
