# SPDX-License-Identifier: Apache-2.0
"""TLS over a byte stream ⇄ APDU batches, as a pure state machine (iose-server.md §5, §6).

A server feeds it what the network brings, learns the name the client asks for, attaches the
element's limits, carries each batch to the element and its answers back, and writes what there is
to send. The TLS inside is the element's: nothing is decrypted, and only the ClientHello is read.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from iose.bridge.client_hello import handshake_size, read_server_name
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.iso7816.status import StatusWord
from iose.tls.constants import AlertDescription, ContentType
from iose.wire.errors import DecodeError, LocalProtocolError

INS_SEND: Final = 0xD8
P2_FIRST: Final = 0x01
P2_LAST: Final = 0x02
RESET_TLS: Final = CommandApdu(0x00, INS_SEND, 0x00, 0x00, le=256)  # 00D8000000

RECORD_HEADER_SIZE: Final = 5
PLAINTEXT_LIMIT: Final = 16_384  # RFC 8446 §5.1
CIPHERTEXT_LIMIT: Final = 16_640  # RFC 8446 §5.2
VERSION_MAJOR: Final = 3
HELLO_LIMIT: Final = 16_384  # iose-server.md §5.2
HELLO_RECORDS: Final = 1024  # a usual hello may come a byte a record; a record costs us 50 bytes
OUTPUT_LIMIT: Final = 65_536  # iose-server.md §6.5
BATCH_LIMIT: Final = 32_768  # records sent in one batch, in bytes: answers must not wait long
BATCH_RECORDS: Final = 8
BUFFER_LIMIT: Final = 65_536  # what a client may send ahead of its element
ALERT_FATAL: Final = 2


class EndReason(StrEnum):
    """Why a session ended; the names are stable, logs and counters use them."""

    UNKNOWN_NAME = "unknown_name"
    MISSING_NAME = "missing_name"
    MALFORMED_HELLO = "malformed_hello"
    RECORD_OVERFLOW = "record_overflow"
    ELEMENT_CLOSED = "element_closed"
    ELEMENT_REFUSED = "element_refused"
    ELEMENT_FAILED = "element_failed"
    ELEMENT_UNAVAILABLE = "element_unavailable"
    ELEMENT_DEGRADED = "element_degraded"
    ELEMENT_REMOVED = "element_removed"
    START_REFUSED = "start_refused"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    SOURCE_LIMIT = "source_limit"
    SESSION_LIMIT = "session_limit"
    FIRST_RECORD_TIMEOUT = "first_record_timeout"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    SESSION_TIMEOUT = "session_timeout"
    CLIENT_CLOSED = "client_closed"
    CLIENT_GONE = "client_gone"
    SHUTDOWN = "shutdown"
    PREEMPTED = "preempted"
    INTERNAL_ERROR = "internal_error"


class BridgeState(Enum):
    """What the bridge waits for."""

    HELLO = "the whole ClientHello"
    ROUTING = "an element"
    RELAY = "records and answers"
    CLOSED = "nothing"


class _StepKind(Enum):
    START = 0
    CHUNK = 1
    LAST = 2


@dataclass(frozen=True, slots=True)
class BridgeEnd:
    """How a session ended.

    Attributes:
        reason: Why.
        status: The status word that ended it, if one did.
    """

    reason: EndReason
    status: StatusWord | None = None


def plaintext_alert(description: AlertDescription) -> bytes:
    """Return a fatal alert as one unprotected record (RFC 8446 §6)."""
    return bytes((ContentType.ALERT, VERSION_MAJOR, 3, 0, 2, ALERT_FATAL, description))


def record_steps(record: bytes, chunk_size: int) -> list[BatchStep]:
    """Return the commands that carry one record, header included (iose-server.md §6.1)."""
    size = len(record)
    if size <= chunk_size:
        return [BatchStep(CommandApdu(0, INS_SEND, 0, P2_FIRST | P2_LAST, record))]
    steps = []
    for start in range(0, size, chunk_size):
        stop = start + chunk_size
        is_last = stop >= size
        p2 = (P2_FIRST if start == 0 else 0) | (P2_LAST if is_last else 0)
        command = CommandApdu(0, INS_SEND, 0, p2, record[start:stop])
        steps.append(BatchStep(command, wants_data=is_last))
    return steps


class StreamBridge:
    """One client's stream and the element at its other end.

    Args:
        is_silent: Close without alerts, as the published servers do.

    Attributes:
        state: What it waits for.
        server_name: The name asked for, once it is known.
        end: How the session ended, once it has.
        is_open: Whether the element has said that TLS is open.
        has_answered: Whether the element has answered a batch, in whatever way.
    """

    def __init__(self, *, is_silent: bool = False) -> None:
        self.state = BridgeState.HELLO
        self.server_name: str | None = None
        self.end: BridgeEnd | None = None
        self.is_open = False
        self._is_silent = is_silent
        self._limits = ApduLimits(max_record=0)
        self._start: Sequence[BatchStep] = ()
        self._buffer = b""
        self._buffered = 0
        self._hello = bytearray()
        self._records: deque[bytes] = deque()
        self._plan: list[_StepKind] = []
        self._output = b""
        self._has_spoken = False
        self.has_answered = False

    @property
    def is_full(self) -> bool:
        """Whether the client should be held back until the element has caught up."""
        return self._buffered >= BUFFER_LIMIT

    def receive_data(self, data: bytes) -> None:
        """Take bytes of the client; what is wrong with them ends the session."""
        if self.state is BridgeState.CLOSED:
            return
        self._buffer = self._buffer + data if self._buffer else data
        self._buffered += len(data)
        self._take_records()

    def attach(self, limits: ApduLimits, start: Sequence[BatchStep] = ()) -> None:
        """Join the element whose turn has come; ``start`` runs before the first record.

        Records longer than the element takes end the session before it hears of them.

        Raises:
            LocalProtocolError: No client waits for an element.
        """
        if self.state is not BridgeState.ROUTING:
            raise LocalProtocolError(f"cannot attach an element while waiting for {self.state}")
        self._limits = limits
        self._start = start
        self.state = BridgeState.RELAY
        if any(self._is_too_long(len(record)) for record in self._records):
            self.fail(EndReason.RECORD_OVERFLOW, AlertDescription.RECORD_OVERFLOW)

    def next_batch(self) -> list[BatchStep]:
        """Return the commands to send now; empty when the client has to speak first.

        Raises:
            LocalProtocolError: The answers to the batch before are missing.
        """
        if self.state is not BridgeState.RELAY or not self._records:
            return []
        if self._plan:
            raise LocalProtocolError("a batch has not been answered yet")
        batch = list(self._start)
        plan = [_StepKind.START] * len(batch)
        size = 0
        for record in self._records:
            size += len(record)
            if plan.count(_StepKind.LAST) == BATCH_RECORDS or (size > BATCH_LIMIT and plan):
                break
            steps = record_steps(record, self._limits.chunk_size)
            batch += steps
            plan += [_StepKind.CHUNK] * (len(steps) - 1)
            plan.append(_StepKind.LAST)
        self._plan = plan
        return batch

    def receive_responses(self, responses: Sequence[ResponseApdu]) -> None:
        """Take the drained answers to the batch, up to and with the first unexpected one.

        Raises:
            LocalProtocolError: Answers are missing, or there are too many.
        """
        plan, self._plan = self._plan, []
        self.has_answered = True
        if self.state is BridgeState.CLOSED:
            return
        if not 0 < len(responses) <= len(plan):
            raise LocalProtocolError(f"{len(responses)} answers to {len(plan)} commands")
        for index, (kind, response) in enumerate(zip(plan, responses, strict=False)):
            if kind is _StepKind.LAST:
                self._buffered -= len(self._records.popleft())
                self._take_answer(response)
            elif kind is _StepKind.START:
                self._check(response.status, self._start[index].expected, EndReason.START_REFUSED)
            elif response.data:
                self._refuse(EndReason.ELEMENT_REFUSED, response.status)
            else:
                self._check(response.status, StatusWord.OK, EndReason.ELEMENT_REFUSED)
            if self.end is not None:
                return
        if len(responses) < len(plan) and responses[-1].status == StatusWord.OK:
            raise LocalProtocolError(f"{len(responses)} answers to {len(plan)} commands")
        self._start = ()
        self._take_records()

    def data_to_send(self) -> bytes:
        """Return, once, what the client has to be sent."""
        output, self._output = self._output, b""
        return output

    def fail(
        self,
        reason: EndReason,
        alert: AlertDescription | None = None,
        status: StatusWord | None = None,
    ) -> None:
        """End the session; the alert goes out only while the element has not spoken.

        After its first byte a plaintext alert would itself be an error (iose-server.md §7).
        """
        if self.state is BridgeState.CLOSED:
            return
        self.state = BridgeState.CLOSED
        self.end = BridgeEnd(reason, status)
        self._records.clear()
        self._hello.clear()
        self._buffer = b""
        if alert is not None and not self._has_spoken and not self._is_silent:
            self._output += plaintext_alert(alert)

    def _take_records(self) -> None:
        """Cut off the records that the next batch can hold; the rest waits as it came.

        An empty record costs its sender five bytes, and us ten times that once it is cut off.
        """
        buffer = self._buffer
        position = 0
        while (stop := self._next_record(buffer, position)) is not None:
            record = buffer[position:stop]
            position = stop
            self._records.append(record)
            if self.state is BridgeState.HELLO:
                self._extend_hello(record)
        if position and self.state is not BridgeState.CLOSED:
            self._buffer = buffer[position:]

    def _next_record(self, buffer: bytes, position: int) -> int | None:
        """Return where the record at ``position`` ends, None while none is complete or wanted."""
        is_hello = self.state is BridgeState.HELLO
        wanted = HELLO_RECORDS if is_hello else BATCH_RECORDS
        if self.state is BridgeState.CLOSED or len(self._records) >= wanted:
            return None
        available = len(buffer) - position
        if is_hello and available and buffer[position] != ContentType.HANDSHAKE:
            self._refuse_hello()
            return None
        if available < RECORD_HEADER_SIZE:
            return None
        length = (buffer[position + 3] << 8) | buffer[position + 4]
        if is_hello and (buffer[position + 1] != VERSION_MAJOR or length == 0):
            self._refuse_hello()
            return None
        if length > (PLAINTEXT_LIMIT if is_hello else CIPHERTEXT_LIMIT) or self._is_too_long(
            RECORD_HEADER_SIZE + length
        ):
            self.fail(EndReason.RECORD_OVERFLOW, AlertDescription.RECORD_OVERFLOW)
            return None
        stop = RECORD_HEADER_SIZE + length
        return position + stop if available >= stop else None

    def _is_too_long(self, size: int) -> bool:
        return 0 < self._limits.max_record < size

    def _extend_hello(self, record: bytes) -> None:
        self._hello += record[RECORD_HEADER_SIZE:]
        try:
            size = handshake_size(self._hello)
            if size is not None and size > HELLO_LIMIT:
                self.fail(EndReason.RECORD_OVERFLOW, AlertDescription.RECORD_OVERFLOW)
            elif size is not None and len(self._hello) >= size:
                self.server_name = read_server_name(bytes(self._hello))
                self._hello.clear()
                self.state = BridgeState.ROUTING
            elif len(self._records) == HELLO_RECORDS:
                self._refuse_hello()
        except DecodeError:
            self._refuse_hello()

    def _refuse_hello(self) -> None:
        self.fail(EndReason.MALFORMED_HELLO, AlertDescription.DECODE_ERROR)

    def _check(self, status: StatusWord, expected: StatusWord | None, reason: EndReason) -> None:
        if expected is not None and status != expected:
            self._refuse(reason, status)

    def _refuse(self, reason: EndReason, status: StatusWord) -> None:
        self.fail(reason, AlertDescription.INTERNAL_ERROR, status)

    def _take_answer(self, response: ResponseApdu) -> None:
        status = response.status
        if status not in (StatusWord.OK, StatusWord.TLS_OPEN, StatusWord.TLS_CLOSED):
            self._refuse(EndReason.ELEMENT_REFUSED, status)
            return
        if len(response.data) > OUTPUT_LIMIT:
            self._refuse(EndReason.ELEMENT_FAILED, status)
            return
        if response.data:
            self._output += response.data
            self._has_spoken = True
        if status == StatusWord.TLS_OPEN:
            self.is_open = True
        elif status == StatusWord.TLS_CLOSED:
            self.fail(EndReason.ELEMENT_CLOSED, status=status)
