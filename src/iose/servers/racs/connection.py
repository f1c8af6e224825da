# SPDX-License-Identifier: Apache-2.0
"""One RACS connection: lines in, blocks out, commands strictly one after the other (racs.md §4).

One task per connection feeds the session; it waits while the client does not read, and the
client is not read while it is far ahead.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, Final

import structlog

from iose.protocols.racs.request import LINE_LIMIT, RequestMachine
from iose.servers.racs.session import RacsSession
from iose.servers.racs.tls_stream import TlsStream
from iose.servers.racs.users import IdentityError, identify
from iose.servers.waiting import Turn, Wakeup

if TYPE_CHECKING:
    from iose.servers.racs.server import RacsServer

AHEAD_LIMIT: Final = LINE_LIMIT + 65_536  # input of one client that waits to be looked at
LINES_LIMIT: Final = 256  # lines that are no command, in one turn

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.racs")


class RacsConnection:
    """A client of the RACS port, as a ``StreamHandler``."""

    def __init__(self, server: "RacsServer") -> None:
        self._server = server
        self._config = server.config
        self._loop = server.loop
        self.stream = TlsStream(server.context, self._config.handshake_s)
        self.stream.attach(self)
        self._machine = RequestMachine(
            is_reference=self._config.is_reference, block_limit=self._config.block_limit
        )
        self._session: RacsSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._wakeup = Wakeup()
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        self._reason = ""
        self._since = self._loop.time()
        self._last_active = self._since

    # --- the stream's callbacks -------------------------------------------------------------

    def connection_made(self) -> bool:
        """Say whether there is room for one more connection."""
        return self._server.add_connection(self)

    def handshake_done(self, connection: ssl.SSLObject) -> None:
        """Find out who it is, and begin."""
        try:
            identity = identify(connection)
        except IdentityError as error:
            log.warning("racs.refused", peer=self.stream.peer, error=str(error))
            self.stream.close()
            return
        self._server.recognise(self)
        self._session = self._server.open_session(identity, self.stream.peer, "racs", self.end)
        if self._session is None:
            self.stream.close()
            return
        self._task = self._server.run(self._run(self._session))
        self._task.add_done_callback(lambda _: self.stream.close())
        self._arm_timer()

    def data_received(self, data: bytes) -> None:
        """Take lines of the client."""
        self._machine.receive_data(data)
        self._last_active = self._loop.time()
        if self._machine.buffered > AHEAD_LIMIT:
            self.stream.pause_reading()
        self._wakeup.wake()

    def may_write(self) -> None:
        """Go on: the client reads again."""
        self._last_active = self._loop.time()
        self._wakeup.wake()

    def connection_over(self, reason: str) -> None:
        """End the session after the command that runs."""
        self._server.remove_connection(self)
        self.end(reason)

    # --- for the server -------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """End the session after the command that runs; a connection without one at once."""
        if not self._is_over:
            self._is_over = True
            self._reason = reason
        if self._session is None:
            self.stream.close()
        else:
            self._session.is_ended = True
            self._wakeup.wake()

    def drain(self) -> None:
        """End a session that is between two requests; the others when theirs is answered."""
        if self._session is None or (self._machine.is_idle and self._wakeup.is_awaited):
            self.end("shutdown")

    def abort(self) -> None:
        """End the session whatever it does."""
        self.end("shutdown")
        self.stream.abort()

    # --- the session --------------------------------------------------------------------------

    async def _run(self, session: RacsSession) -> None:
        try:
            await session.open()
            while not self._is_over:
                await self._work(session)
                if self._machine.is_closed:
                    self._reason = self._reason or "closed"
                    break
                if self._server.is_draining and self._machine.is_idle:
                    self._reason = self._reason or "shutdown"
                    break
                if not self._is_over:
                    await self._wakeup.wait()
        except Exception:  # the top of a server task: the other sessions go on
            log.exception("racs.fault", session=session.number)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await session.close(self._reason)

    async def _work(self, session: RacsSession) -> None:
        """Carry out every whole line there is."""
        machine, stream = self._machine, self.stream
        turn = Turn(self._loop)
        while (command := machine.next_command(LINES_LIMIT)) is not None or machine.is_behind:
            if command is not None:
                status, closes = await session.execute(command, machine.room)
                machine.answer(status, closes=closes)
            self._send()
            await turn.next(is_over=command is None)
            while stream.is_write_blocked and not self._is_over:
                await self._wakeup.wait()
            if self._is_over:
                return
        self._send()
        if machine.buffered <= AHEAD_LIMIT:
            stream.resume_reading()

    def _send(self) -> None:
        data = self._machine.data_to_send()
        if data:
            self.stream.write(data)
            self._last_active = self._loop.time()

    # --- waiting --------------------------------------------------------------------------------

    def _deadline(self) -> tuple[float, str]:
        idle = self._last_active + self._config.idle_s
        if self._config.session_s:
            last = self._since + self._config.session_s
            if last < idle:
                return last, "session timeout"
        return idle, "idle timeout"

    def _arm_timer(self) -> None:
        self._timer = self._loop.call_at(self._deadline()[0], self._check_deadline)

    def _check_deadline(self) -> None:
        when, reason = self._deadline()
        is_at_work = not self._wakeup.is_awaited and reason == "idle timeout"
        if self._loop.time() < when:
            self._arm_timer()
        elif is_at_work:
            self._last_active = self._loop.time()
            self._arm_timer()
        else:
            self.end(reason)
