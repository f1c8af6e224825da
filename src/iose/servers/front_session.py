# SPDX-License-Identifier: Apache-2.0
"""One client of the TLS front, from accept to close (iose-server.md §5).

The ClientHello is taken in callbacks; only a client that named an element gets a task. Every time
limit is one deadline, every end goes through ``StreamBridge.fail``, and the element is free again
before the client's socket is.
"""

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

import structlog

from iose.bridge.stream import BridgeEnd, BridgeState, EndReason, StreamBridge
from iose.servers.holders import Claim, QueueFullError
from iose.servers.routes import ElementRoute
from iose.servers.shuttle import shuttle
from iose.servers.waiting import Wakeup
from iose.tls.constants import AlertDescription
from iose.transport.base import Connection
from iose.transport.errors import (
    CardBusyError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)

if TYPE_CHECKING:
    from iose.servers.tls_front import TlsFront

NAME_SHOWN: Final = 64  # characters of an unknown name that a log line repeats
HALF_OPEN_S: Final = 3.0  # silence in a handshake, while others wait for the element
HALF_OPEN_STEP_S: Final = 0.5  # how soon it is seen that others wait
DRAIN_IDLE_S: Final = 1.0  # silence on an open session, while the front stops
LINGER_S: Final = 1.0  # for the client to read the last bytes; a reset would take them away
LINGER_INPUT_LIMIT: Final = 65_536
BUSY_STEP_S: Final = 0.25  # between two tries of an element that another program holds
BUSY_ALERT: Final = AlertDescription.INTERNAL_ERROR  # iose-server.md §5.2

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.tls_front")

UNLINGERED: Final = (EndReason.SOURCE_LIMIT, EndReason.SESSION_LIMIT)  # too many as it is


class SessionState(Enum):
    """How far a session has come; shown by ``iose node status``."""

    HELLO = "hello"
    QUEUED = "queued"
    HANDSHAKE = "handshake"
    OPEN = "open"
    ENDED = "ended"


class FrontSession(asyncio.Protocol):
    """One connection of the service plane."""

    def __init__(self, front: "TlsFront") -> None:
        self.number = 0
        self.peer = ""
        self.source = ""
        self.since = 0.0
        self.state = SessionState.HELLO
        self.route: ElementRoute | None = None
        self.apdus = 0
        self._front = front
        self._config = front.config
        self._loop = front.loop
        self._bridge = StreamBridge(is_silent=front.config.is_silent)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._wakeup = Wakeup()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._deadline = 0.0
        self._deadline_reason = EndReason.FIRST_RECORD_TIMEOUT
        self._queue_end = 0.0
        self._handshake_end = 0.0
        self._has_client_closed = False
        self._is_write_blocked = False
        self._is_read_paused = False
        self._discarded = 0

    # --- the network's callbacks ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the client, within the limits, and wait for its ClientHello."""
        stream = cast("asyncio.Transport", transport)  # uvloop's has no base of asyncio's
        self._transport = stream
        self.since = self._loop.time()
        refusal = self._front.admit(self, stream.get_extra_info("peername"))
        if refusal is not None:
            self.end(refusal, BUSY_ALERT)
            return
        self._set_deadline(EndReason.FIRST_RECORD_TIMEOUT, self._config.first_record_s)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        bridge = self._bridge
        if bridge.state is BridgeState.CLOSED:
            self._discard(data)
            return
        bridge.receive_data(data)
        if bridge.end is not None:
            self._stop()
        elif self._task is not None:
            self._wakeup.wake()
        elif bridge.state is BridgeState.ROUTING:
            self._find_element()
        self._hold_back()

    def eof_received(self) -> bool:
        """Serve what the client sent before it closed, then end."""
        self._has_client_closed = True
        if self.state is SessionState.ENDED:
            return False
        if self.state in (SessionState.HELLO, SessionState.QUEUED):
            self.end(EndReason.CLIENT_CLOSED)
        else:
            self._wakeup.wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what the client does not wait for any more."""
        del exc
        self._transport = None
        self.end(EndReason.CLIENT_GONE)
        self._front.leave(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause_writing(self) -> None:
        """Hold the element back: the client does not read."""
        self._is_write_blocked = True

    def resume_writing(self) -> None:
        """Go on: the client reads again."""
        self._is_write_blocked = False
        self._wakeup.wake()

    # --- what the shuttle and the front ask for ---------------------------------------------

    async def wait_for_client(self) -> None:
        """Return when the client has spoken, or the session has ended."""
        if self._has_client_closed:
            self._bridge.fail(EndReason.CLIENT_CLOSED)
            return
        if self._is_read_paused and self._transport is not None and not self._bridge.is_full:
            self._is_read_paused = False
            self._transport.resume_reading()
        await self._wakeup.wait()

    async def send(self, data: bytes) -> None:
        """Write what the element answered; wait while the client does not read."""
        if self._transport is not None and data:
            self._transport.write(data)
        if self._bridge.is_open and self.state is SessionState.HANDSHAKE:
            self._note_open()
        self._limit_silence()
        while self._is_write_blocked and self._bridge.end is None:
            await self._wakeup.wait()

    def end(self, reason: EndReason, alert: AlertDescription | None = None) -> None:
        """End the session now, whatever it waits for; a second end changes nothing."""
        if self._bridge.end is None:
            self._bridge.fail(reason, alert)
            self._stop()

    def drain(self) -> None:
        """End a session that has not got far, and soon one that has nothing to say."""
        if self.state in (SessionState.HELLO, SessionState.QUEUED):
            self.end(EndReason.SHUTDOWN, BUSY_ALERT)
        elif self._bridge.end is None:
            self._limit_silence()

    def abort(self) -> None:
        """Drop the connection without waiting for the client."""
        if self._transport is not None:
            self._transport.abort()

    # --- the session --------------------------------------------------------------------------

    def _find_element(self) -> None:
        name = self._bridge.server_name
        self.route = self._front.table.find(name)
        if self.route is None and name is None:
            self.end(EndReason.MISSING_NAME, AlertDescription.MISSING_EXTENSION)
        elif self.route is None:
            self.end(EndReason.UNKNOWN_NAME, AlertDescription.UNRECOGNIZED_NAME)
        elif not self._front.health(self.route).may_try(self._loop.time()):
            self.end(EndReason.ELEMENT_DEGRADED, BUSY_ALERT)
        else:
            self._bridge.attach(self.route.reader.limits, self.route.start)
            if self._bridge.end is not None:
                self._stop()
                return
            self.state = SessionState.QUEUED
            self._queue_end = self._loop.time() + self._config.queue_wait_s
            self._set_deadline(EndReason.QUEUE_TIMEOUT, self._config.queue_wait_s)
            self._task = self._loop.create_task(self._run(self.route))
            self._task.add_done_callback(lambda _: self._close())  # also if it never started

    async def _run(self, route: ElementRoute) -> None:
        try:
            await self._queue_and_serve(route)
        except asyncio.CancelledError:
            self._bridge.fail(EndReason.SHUTDOWN, BUSY_ALERT)
        except Exception:  # the top of a server task: the other sessions go on
            log.exception("session.fault", session=self.number, seid=route.seid)
            self._bridge.fail(EndReason.INTERNAL_ERROR, BUSY_ALERT)

    async def _queue_and_serve(self, route: ElementRoute) -> None:
        lock = self._front.holders.lock(route.seid)
        claim = Claim("tls", self.number, self.source, self._loop.time(), self._evict)
        try:
            await lock.acquire(claim)
        except QueueFullError:
            self._bridge.fail(EndReason.QUEUE_FULL, BUSY_ALERT)
            return
        try:
            await self._serve(route)
        finally:
            lock.release(claim, self._loop.time())

    async def _serve(self, route: ElementRoute) -> None:
        self._begin_handshake()
        try:
            connection = await self._connect(route)
            try:
                await shuttle(self._bridge, connection, self)
            except TransportError as error:  # told before the element is let go, which takes time
                self._fail_element(error)
            finally:
                self.apdus = connection.apdus
                await connection.close()
        except TransportError as error:
            self._fail_element(error)
        finally:
            self._judge(route)

    async def _connect(self, route: ElementRoute) -> Connection:
        """Return a connection; another program that holds the element has its time to let go.

        Raises:
            TransportError: The element does not start.
        """
        while True:
            try:
                connection = await route.reader.connect()
            except CardBusyError:
                self._wait_in_queue()
                await asyncio.sleep(BUSY_STEP_S)
                continue
            if self.state is SessionState.QUEUED:
                self._begin_handshake()
            return connection

    def _begin_handshake(self) -> None:
        self.state = SessionState.HANDSHAKE
        self._handshake_end = self._loop.time() + self._config.handshake_s
        self._limit_silence()

    def _wait_in_queue(self) -> None:
        """Go on as one that waits: what its place in the queue left of the time is its limit."""
        if self.state is not SessionState.QUEUED:
            self.state = SessionState.QUEUED
            left = self._queue_end - self._loop.time()
            self._set_deadline(EndReason.QUEUE_TIMEOUT, max(left, 0.0))

    def _judge(self, route: ElementRoute) -> None:
        """Note how the element did, however the session ended."""
        end = self._bridge.end
        if end is not None and end.reason in (EndReason.START_REFUSED, EndReason.ELEMENT_FAILED):
            status = "" if end.status is None else f" with {end.status}"
            self._front.note_failure(route, end.reason.value + status)
        elif self._bridge.has_answered:
            self._front.note_success(route)

    def _hold_back(self) -> None:
        """Read no more of a client that is too far ahead; one that ended is read to its close."""
        is_ahead = self._bridge.is_full and self._bridge.end is None
        if is_ahead and not self._is_read_paused and self._transport is not None:
            self._transport.pause_reading()
            self._is_read_paused = True

    def _evict(self) -> None:
        self.end(EndReason.PREEMPTED, BUSY_ALERT)

    def _fail_element(self, error: TransportError) -> None:
        is_away = isinstance(error, NoReaderError | CardBusyError)
        reason = EndReason.ELEMENT_UNAVAILABLE if is_away else EndReason.ELEMENT_FAILED
        log.warning("element.failed", session=self.number, error=str(error))
        self._bridge.fail(reason, BUSY_ALERT)

    def _note_open(self) -> None:
        self.state = SessionState.OPEN
        self._front.counters.opened += 1
        log.debug("session.opened", session=self.number)

    # --- waiting and ending -------------------------------------------------------------------

    def _stop(self) -> None:
        """Bring an ended session to its close: by its task if it has one, else at once."""
        if self._task is None:
            self._close()
        elif not self._task.done():
            self._task.cancel()

    def _close(self) -> None:
        """Say why the session ended, send what is left, and let the client read it."""
        end = self._bridge.end
        if end is None or self.state is SessionState.ENDED:
            return
        if self._bridge.is_open and self.state is SessionState.HANDSHAKE:
            self._note_open()
        had_element = self.state in (SessionState.HANDSHAKE, SessionState.OPEN)
        self.state = SessionState.ENDED
        self._front.session_ended(self, end.reason)
        if had_element or self._front.may_log_unserved():
            self._log_end(end)
        transport = self._transport
        if transport is None:
            return
        data = self._bridge.data_to_send()
        if data:
            transport.write(data)
        if self._has_client_closed or end.reason in UNLINGERED:
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # asyncio's own loop: the client is gone, and nobody has told us yet
            transport.abort()
            return
        if self._is_read_paused:
            transport.resume_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_S, transport.abort)

    def _log_end(self, end: BridgeEnd) -> None:
        name = self.route.sen if self.route is not None else self._bridge.server_name
        log.info(
            "session.ended",
            session=self.number,
            peer=self.peer,
            sen=name and name[:NAME_SHOWN],
            seid=None if self.route is None else self.route.seid,
            reason=end.reason.value,
            status=end.status and str(end.status),
            apdus=self.apdus,
            duration=round(self._loop.time() - self.since, 6),
        )

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > LINGER_INPUT_LIMIT and self._transport is not None:
            self._transport.abort()

    def _limit_silence(self) -> None:
        """Bound the time until the client speaks next, or the element on its behalf."""
        if self.state is SessionState.HANDSHAKE:
            left = self._handshake_end - self._loop.time()
            self._set_deadline(EndReason.HANDSHAKE_TIMEOUT, min(left, HALF_OPEN_S))
        elif self._front.is_draining:
            self._set_deadline(EndReason.SHUTDOWN, min(self._config.idle_s, DRAIN_IDLE_S))
        else:
            self._set_deadline(EndReason.IDLE_TIMEOUT, self._config.idle_s)

    def _set_deadline(self, reason: EndReason, seconds: float) -> None:
        when = self._loop.time() + seconds
        last = self.since + self._config.session_s
        if when > last:
            when, reason = last, EndReason.SESSION_TIMEOUT
        self._deadline = when
        self._deadline_reason = reason
        if self._timer is not None and self._timer_at > when:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._arm_timer()

    def _arm_timer(self) -> None:
        self._timer_at = self._deadline  # uvloop's handles do not all have when()
        self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        """End the session if its deadline has come; most deadlines have moved on by then."""
        self._timer = None
        if self._bridge.end is not None:
            return
        now, reason = self._loop.time(), self._deadline_reason
        is_elements_turn = not self._wakeup.is_awaited
        if now < self._deadline:
            self._arm_timer()
        elif reason in (EndReason.IDLE_TIMEOUT, EndReason.SHUTDOWN) and is_elements_turn:
            self._limit_silence()
        elif (
            reason is EndReason.HANDSHAKE_TIMEOUT
            and now < self._handshake_end
            and (is_elements_turn or not self._is_awaited())
        ):
            self._set_deadline(reason, min(self._handshake_end - now, HALF_OPEN_STEP_S))
        elif reason is EndReason.HANDSHAKE_TIMEOUT and is_elements_turn and self.route is not None:
            error = f"no answer in {self._config.handshake_s} s"
            fault = TransportTimeoutError(self.route.reader.name, error)
            self._fail_element(fault)
            self._stop()
        else:
            self.end(reason, BUSY_ALERT if reason is EndReason.QUEUE_TIMEOUT else None)

    def _is_awaited(self) -> bool:
        """Return whether others wait for this session's element."""
        return self.route is not None and self._front.holders.lock(self.route.seid).waiting > 0
