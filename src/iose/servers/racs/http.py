# SPDX-License-Identifier: Apache-2.0
"""RACS over HTTP/1.1 with client certificates: one request is one session (racs.md §13).

h11 reads HTTP, ``http_pages`` says what a request means, the server's own sessions carry it out:
rights, locks and audit are those of the RACS port.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import h11
import structlog

from iose.protocols.racs.request import RequestMachine
from iose.protocols.racs.response import RacsResponse
from iose.servers.listening import Listeners
from iose.servers.racs.http_pages import (
    HttpRefusedError,
    HttpRequest,
    request_lines,
    response_page,
)
from iose.servers.racs.server import RacsServer
from iose.servers.racs.session import RacsSession
from iose.servers.racs.tls_stream import TlsStream
from iose.servers.racs.users import Identity, IdentityError, identify
from iose.servers.waiting import Turn, Wakeup

HEAD_LIMIT: Final = 200_000  # a GET with an extended APDU in hex
BODY_LIMIT: Final = 1 << 20
IDLE_S: Final = 60.0  # between two requests, and for all of one to arrive

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.racs")


class HttpBinding:
    """The HTTP face of a RACS server.

    Args:
        server: Does the work; its ``stop`` ends the requests that run, so stop listening first.
        context: TLS; None for the server's own.
    """

    def __init__(self, server: RacsServer, context: ssl.SSLContext | None = None) -> None:
        self.server = server
        self.context = context or server.context
        self._listeners = Listeners()

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the binding listens, real ports included."""
        return self._listeners.addresses

    async def start(self, listeners: Sequence[socket.socket] = ()) -> None:
        """Listen on ``http_listen``, or on the bound sockets handed in.

        Raises:
            OSError: An address cannot be had; none is listened on.
        """
        addresses = self.server.config.http_listen
        await self._listeners.open(self._accept, addresses, listeners)

    async def stop(self) -> None:
        """Listen no more."""
        await self._listeners.close()

    def _accept(self) -> TlsStream:
        return HttpConnection(self).stream


class HttpConnection:
    """A client of the HTTP port, as a ``StreamHandler``."""

    def __init__(self, binding: HttpBinding) -> None:
        self._server = binding.server
        self._config = binding.server.config
        self.stream = TlsStream(binding.context, self._config.handshake_s)
        self.stream.attach(self)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._identity: Identity | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._session: RacsSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wakeup = Wakeup()
        self._ahead = 0
        self._is_over = False

    # --- the stream's callbacks -------------------------------------------------------------

    def connection_made(self) -> bool:
        """Say whether there is room for one more connection."""
        return self._server.add_connection(self)

    def handshake_done(self, connection: ssl.SSLObject) -> None:
        """Find out who it is."""
        try:
            self._identity = identify(connection)
        except IdentityError as error:
            log.warning("racs.refused", peer=self.stream.peer, error=str(error))
            self.stream.close()
            return
        self._arm_timer()

    def data_received(self, data: bytes) -> None:
        """Take HTTP of the client; one request at a time."""
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError:  # after the end of what it may send
            self.stream.close()
            return
        if self._task is not None:  # what comes now waits; that nobody is there must be seen
            self._ahead += len(data)
            if self._ahead > HEAD_LIMIT:
                self.stream.pause_reading()
        self._take_events()

    def may_write(self) -> None:
        """Go on: the client reads again."""
        self._wakeup.wake()

    def connection_over(self, reason: str) -> None:
        """End what runs after its command."""
        self._server.remove_connection(self)
        self._is_over = True
        self._stop_timer()
        self._wakeup.wake()
        if self._session is not None:
            self._session.end(reason)

    # --- for the server -------------------------------------------------------------------------

    def drain(self) -> None:
        """End now between two requests, else when the request is answered."""
        if self._task is None:
            self.stream.close()

    def abort(self) -> None:
        """End now, whatever runs."""
        self.stream.abort()

    # --- requests -------------------------------------------------------------------------------

    def _read(self) -> None:
        while self._task is None:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                _check_framing(event)
                self._request = event
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self.stream.write(self._http.send(go_on) or b"")
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > BODY_LIMIT:
                    self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"too large\n")
                    self.stream.close()
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._stop_timer()
                self._server.recognise(self)
                self._task = self._server.run(self._serve())
                self._task.add_done_callback(self._served)
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                self.stream.close()
                return
            else:
                return

    async def _serve(self) -> None:
        """Answer one request, and take the next."""
        request, identity = self._request, self._identity
        if request is None or identity is None:
            self.stream.close()
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers
        }
        asked = HttpRequest(
            request.method.decode("ascii"),
            request.target.decode("latin-1"),
            headers,
            bytes(self._body),
        )
        self._body.clear()
        try:
            lines = request_lines(asked, get_acts=self._config.http_get_acts)
            response = await self._execute(identity, lines)
            kind, body = response_page(response, headers.get("accept", ""))
            self._answer(HTTPStatus.OK, body, kind)
        except HttpRefusedError as error:
            self._answer(error.status, f"{error}\n".encode("ascii", "replace"))
        except Exception:  # the top of a server task: the other connections go on
            log.exception("racs.fault", peer=self.stream.peer)
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"internal error\n")
        await self._drained()
        self._task = None
        self._next()

    def _served(self, task: asyncio.Task[None]) -> None:
        """Close what a bug would leave open for ever."""
        if not task.cancelled() and task.exception() is not None:
            log.error("racs.fault", peer=self.stream.peer, error=repr(task.exception()))
            self.stream.close()

    async def _execute(self, identity: Identity, lines: tuple[str, ...]) -> RacsResponse:
        """Run one request as one session: what it holds is released with its response.

        Raises:
            HttpRefusedError: There are too many sessions, or the client went away.
        """
        session = self._server.open_session(identity, self.stream.peer, "http", self._end)
        if session is None:
            raise HttpRefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many sessions")
        self._session = session
        machine = RequestMachine(block_limit=self._config.block_limit)
        machine.receive_data("\r\n".join((*lines, "")).encode("ascii"))
        turn = Turn(self._server.loop)
        try:
            await session.open()
            while not session.is_ended and (command := machine.next_command()) is not None:
                status, _ = await session.execute(command, machine.room)
                machine.answer(status)
                await turn.next()
        finally:
            self._session = None
            await session.close("request over")
        responses = machine.responses()
        if not responses:
            raise HttpRefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "the session was ended")
        return responses[0]

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
        if self._is_over or self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, POST"))
        if self._server.is_draining:
            headers.append(("Connection", "close"))
        is_head = self._request is not None and self._request.method == b"HEAD"
        events = (
            h11.Response(status_code=status, reason=status.phrase.encode(), headers=headers),
            h11.Data(data=b"" if is_head else body),
            h11.EndOfMessage(),
        )
        self.stream.write(b"".join(self._http.send(event) or b"" for event in events))

    def _next(self) -> None:
        is_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if self._is_over or not is_done or self._server.is_draining:
            self.stream.close()
            return
        self._http.start_next_cycle()
        self._request = None
        self._server.set_aside(self)
        self._arm_timer()
        self._take_events()
        self._ahead = 0 if self._task is None else len(self._http.trailing_data[0])
        if self._ahead <= HEAD_LIMIT:
            self.stream.resume_reading()

    async def _drained(self) -> None:
        """Wait until the client has read its answer, within the time of a request."""
        self._arm_timer()
        while self.stream.is_write_blocked and not self._is_over:
            await self._wakeup.wait()
        self._stop_timer()

    def _take_events(self) -> None:
        try:
            self._read()
        except h11.RemoteProtocolError as error:
            self._answer(HTTPStatus(error.error_status_hint), b"this is no HTTP\n")
            self.stream.close()

    # --- ending -----------------------------------------------------------------------------------

    def _end(self, reason: str) -> None:
        log.info("racs.http_ended", peer=self.stream.peer, reason=reason)
        self._server.loop.call_soon(self.stream.close)

    def _arm_timer(self) -> None:
        self._timer = self._server.loop.call_later(IDLE_S, self.stream.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _check_framing(request: h11.Request) -> None:
    """Refuse a body of two lengths: who stands between might take the other (RFC 9112 §6.1).

    Raises:
        h11.RemoteProtocolError: It has them.
    """
    names = {name for name, _ in request.headers}
    if {b"content-length", b"transfer-encoding"} <= names:
        raise h11.RemoteProtocolError("a body of two lengths")
