# SPDX-License-Identifier: Apache-2.0
"""RACS Lite: TLS 1.3 with a pre-shared key, one key for one element (racs.md §12.1).

Our own TLS engine, since the key is external; below it the sessions of the RACS server, with its
rights, locks and audit. A user is ``psk:`` and the identity.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, cast

import structlog

from iose.crypto.base import CryptoProvider, Rng
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.racsl import (
    RacslAnswer,
    RacslCommand,
    RacslLines,
    RacslVerb,
    decode_command,
    encode_answer,
)
from iose.protocols.racs.request import RacsCommand
from iose.protocols.racs.status import Verb
from iose.servers.listening import Listeners
from iose.servers.racs.server import RacsServer
from iose.servers.racs.session import RacsSession
from iose.servers.racs.users import psk_user
from iose.servers.waiting import Turn, Wakeup
from iose.tls import ServerEngine
from iose.tls.config import EngineConfig, PreSharedKey, ServerConfig
from iose.tls.constants import CipherSuite, NamedGroup
from iose.tls.errors import AlertReceived, TlsPeerError
from iose.tls.events import ApplicationData, HandshakeComplete, PeerClosed
from iose.transport.addresses import format_address

SUITES: Final = (CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_128_CCM_SHA256)
GROUPS: Final = (NamedGroup.SECP256R1,)
PLANE: Final = "racsl"
QUEUE_LIMIT: Final = 16  # lines of a client that does not wait for answers
VERBS: Final = {
    RacslVerb.ON: Verb.POWERON,
    RacslVerb.OFF: Verb.SHUTDOWN,
    RacslVerb.APDU: Verb.APDU,
}
REFUSED: Final = RacslAnswer(is_ok=False)

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.racs")


class RacslListener:
    """The RACS Lite face of a RACS server.

    Args:
        server: Does the work.
        credentials: Key and SEID by PSK identity.
        crypto: The primitives.
        rng: Source of randoms and ephemeral keys.
    """

    def __init__(
        self,
        server: RacsServer,
        credentials: Mapping[str, tuple[bytes, str]],
        crypto: CryptoProvider,
        rng: Rng,
    ) -> None:
        self.server = server
        self._engine = EngineConfig(crypto, rng, suites=SUITES, groups=GROUPS)
        self._listeners = Listeners()
        self._keys: dict[str, tuple[bytes, str]] = {}
        self.reload(credentials)

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where it listens, real ports included."""
        return self._listeners.addresses

    async def start(self, listeners: Sequence[socket.socket] = ()) -> None:
        """Listen on ``racsl_listen``, or on the bound sockets handed in.

        Raises:
            OSError: An address cannot be had; none is listened on.
        """
        addresses = self.server.config.racsl_listen
        await self._listeners.open(lambda: RacslConnection(self), addresses, listeners)

    async def stop(self) -> None:
        """Listen no more; sessions end with the server's own."""
        await self._listeners.close()

    def reload(self, credentials: Mapping[str, tuple[bytes, str]]) -> None:
        """Replace the credentials; sessions end whose own is not there any more."""
        self.seids = {identity: seid for identity, (_, seid) in credentials.items()}
        psks = tuple(
            PreSharedKey(identity.encode(), key) for identity, (key, _) in credentials.items()
        )
        keys = {psk_user(identity).user: credential for identity, credential in credentials.items()}
        for session in list(self.server.sessions.values()):
            user = session.identity.user
            if session.plane == PLANE and keys.get(user) != self._keys.get(user):
                session.end("credential replaced")
        self._keys = keys
        self.tls = ServerConfig(self._engine, psks) if psks else None


class RacslConnection(asyncio.Protocol):
    """A client of the RACS Lite port."""

    def __init__(self, listener: RacslListener) -> None:
        self._listener = listener
        self._server = listener.server
        self._config = listener.server.config
        self._loop = listener.server.loop
        self._engine = None if listener.tls is None else ServerEngine(listener.tls)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._lines = RacslLines()
        self._queue: deque[str] = deque()
        self._seid = ""
        self._session: RacsSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._wakeup = Wakeup()
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        self._is_write_blocked = False
        self._reason = "client gone"

    # --- the network's callbacks ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room and somebody to expect."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no base of asyncio's
        peername = transport.get_extra_info("peername")
        if not peername or self._engine is None or not self._server.add_connection(self):
            self._transport.abort()
            return
        self._peer = format_address(*peername[:2])
        self._timer = self._loop.call_later(self._config.handshake_s, self._end, "handshake")

    def data_received(self, data: bytes) -> None:
        """Take records of the client."""
        engine = self._engine
        if engine is None or self._is_over:
            return
        try:
            engine.receive_data(data)
            while (event := engine.next_event()) is not None:
                if isinstance(event, HandshakeComplete):
                    self._open(event.psk_identity.decode("utf-8", "replace"))
                elif isinstance(event, ApplicationData):
                    self._take(event.data)
                elif isinstance(event, PeerClosed):
                    self._end("client closed")
        except (TlsPeerError, AlertReceived) as error:
            self._end(f"TLS: {error}")
        except RacsPeerError as error:
            self._end(str(error))
        self._flush()

    def eof_received(self) -> bool:
        """End: there is nobody to answer to."""
        self._end("client closed")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End, if that has not happened."""
        del exc
        self._transport = None
        self._stop_timer()
        self._server.remove_connection(self)
        self._end("client gone")

    def pause_writing(self) -> None:
        """Do nothing more for a client that does not read, and take nothing more of it."""
        self._is_write_blocked = True
        if self._transport is not None and not self._is_over:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_write_blocked = False
        self._wakeup.wake()

    # --- for the server -------------------------------------------------------------------------

    def drain(self) -> None:
        """End now between two commands, else when the command is answered."""
        self._end("shutdown")

    def abort(self) -> None:
        """End now, whatever runs."""
        self._end("shutdown")
        if self._transport is not None:
            self._transport.abort()

    # --- the session --------------------------------------------------------------------------

    def _open(self, identity: str) -> None:
        self._server.recognise(self)
        self._seid = self._listener.seids.get(identity, "")
        user = psk_user(identity)
        self._session = self._server.open_session(user, self._peer, PLANE, self._end)
        if self._session is None:
            self._end("too many sessions")
            return
        self._rearm(self._config.idle_s, "idle timeout")
        self._task = self._server.run(self._run(self._session))
        self._task.add_done_callback(lambda _: self._close())

    def _take(self, data: bytes) -> None:
        self._queue.extend(self._lines.receive_data(data))
        self._rearm(self._config.idle_s, "idle timeout")
        if len(self._queue) > QUEUE_LIMIT and self._transport is not None:
            self._transport.pause_reading()
        self._wakeup.wake()

    async def _run(self, session: RacsSession) -> None:
        try:
            await session.open()
            turn = Turn(self._loop)
            while not self._is_over:
                if self._is_write_blocked:
                    await self._wakeup.wait()
                elif self._queue:
                    answer = await self._answer(session, self._queue.popleft())
                    self._send(encode_answer(answer))
                    await turn.next()
                else:
                    if self._transport is not None:
                        self._transport.resume_reading()
                    await self._wakeup.wait()
        except Exception:  # the top of a server task: the other sessions go on
            log.exception("racs.fault", session=session.number)
        finally:
            await session.close(self._reason)

    async def _answer(self, session: RacsSession, line: str) -> RacslAnswer:
        """Return the answer to one line: ERROR for everything refused."""
        try:
            asked = decode_command(line)
        except RacsPeerError:
            return REFUSED
        command = _as_racs(asked, self._seid)
        status, _ = await session.execute(command, self._config.block_limit)
        if status.sign == "-":
            return REFUSED
        is_apdu = asked.verb is RacslVerb.APDU
        return RacslAnswer(is_ok=True, apdu=bytes.fromhex(status.text) if is_apdu else b"")

    def _send(self, data: bytes) -> None:
        if self._engine is not None and self._engine.is_open:
            self._engine.send_data(data)
            self._flush()

    def _flush(self) -> None:
        if self._engine is not None and self._transport is not None:
            data = self._engine.data_to_send()
            if data:
                self._transport.write(data)

    # --- waiting and ending -------------------------------------------------------------------

    def _end(self, reason: str) -> None:
        """End the session after the command that runs; a connection without one at once."""
        if self._is_over:
            return
        self._is_over = True
        self._reason = reason
        if self._session is not None:
            self._session.is_ended = True
            self._wakeup.wake()
        else:
            self._close()

    def _close(self) -> None:
        self._stop_timer()
        self._server.remove_connection(self)
        if self._engine is not None and self._transport is not None:
            self._engine.close()
            self._flush()
            self._transport.close()
            self._timer = self._loop.call_later(self._config.handshake_s, self._abort_slow)

    def _abort_slow(self) -> None:
        """Drop a client that does not read the last bytes."""
        if self._transport is not None:
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rearm(self, seconds: float, reason: str) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, self._end, reason)


def _as_racs(command: RacslCommand, seid: str) -> RacsCommand:
    verb = VERBS[command.verb]
    parameters = (seid, command.apdu.hex()) if command.apdu else (seid,)
    return RacsCommand(1, verb.name, verb, parameters)
