# SPDX-License-Identifier: Apache-2.0
"""TLS with a client certificate over one TCP connection, in callbacks, for any event loop.

The engine is ``ssl`` over memory: a connection is admitted before its handshake costs anything,
and one record costs two calls. What is inside, the handler knows.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import Final, Protocol, cast

from iose.transport.addresses import format_address

READ_SIZE: Final = 262_144
LINGER_S: Final = 1.0  # for the client to read the last bytes; a reset would take them away
LINGER_LIMIT_S: Final = 60.0  # for one that reads, but slowly
LINGER_INPUT_LIMIT: Final = 262_144


class StreamHandler(Protocol):
    """What a stream carries bytes for."""

    def connection_made(self) -> bool:
        """Say whether the connection may begin its handshake."""

    def handshake_done(self, connection: ssl.SSLObject) -> None:
        """Take the client's certificate; TLS has verified it."""

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""

    def connection_over(self, reason: str) -> None:
        """Nothing more will come; called once, whichever side ended it."""

    def may_write(self) -> None:
        """The client reads again."""


class TlsStream(asyncio.Protocol):
    """One connection.

    Args:
        context: TLS, server's side.
        handshake_s: Longest handshake, in seconds.
    """

    def __init__(self, context: ssl.SSLContext, handshake_s: float) -> None:
        self.peer = ""
        self.is_write_blocked = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._handshake_s = handshake_s
        self._handler: StreamHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False
        self._is_over = False
        self._is_paused = False
        self._discarded = 0

    def attach(self, handler: StreamHandler) -> None:
        """Name whom the stream works for; before any callback."""
        self._handler = handler

    # --- the network's callbacks ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if the handler wants the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no base of asyncio's
        peername = transport.get_extra_info("peername")
        if peername:
            self.peer = format_address(*peername[:2])
        if self._handler is None or not peername or not self._handler.connection_made():
            self.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._handshake_s, self._end, "handshake timeout")

    def data_received(self, data: bytes) -> None:
        """Take records of the client."""
        if self._is_over:
            self._discarded += len(data)
            if self._discarded > LINGER_INPUT_LIMIT:
                self.abort()
            return
        self._incoming.write(data)
        try:
            if not self._is_open and not self._shake_hands():
                return
            self._read()
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._end(f"TLS: {error.reason or 'broken'}")

    def eof_received(self) -> bool:
        """End: there is nobody to answer to."""
        self._end("client closed")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End, if that has not happened."""
        del exc
        self._transport = None
        self._tell_over("client gone")

    def pause_writing(self) -> None:
        """Take nothing more of a client that does not read: TLS itself answers some of it."""
        self.is_write_blocked = True
        self._switch_reading()

    def resume_writing(self) -> None:
        """Tell the handler that the client reads again."""
        self.is_write_blocked = False
        self._switch_reading()
        if self._handler is not None:
            self._handler.may_write()

    # --- for the handler ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes to the client, unless the connection is over."""
        if self._transport is not None and not self._is_over:
            self._tls.write(data)
            self._transport.write(self._outgoing.read())

    def pause_reading(self) -> None:
        """Take no more of the client for now."""
        self._is_paused = True
        self._switch_reading()

    def resume_reading(self) -> None:
        """Take more again, as soon as the client reads."""
        self._is_paused = False
        self._switch_reading()

    def close(self) -> None:
        """Say goodbye, let the client read what was sent, then close."""
        self._end("closed")

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._transport.abort()
        self._tell_over("aborted")

    # --- steps ----------------------------------------------------------------------------------

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        self._is_open = True
        self._stop_timer()
        if self._handler is not None:
            self._handler.handshake_done(self._tls)
        return not self._is_over

    def _read(self) -> None:
        try:
            while not self._is_over:
                data = self._tls.read(READ_SIZE)
                if not data:
                    self._end("client closed")
                elif self._handler is not None:
                    self._handler.data_received(data)
                if not self._incoming.pending and not self._tls.pending():
                    break  # cheaper than to be told so by an exception
            self._flush()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLZeroReturnError:
            self._end("client closed")

    def _switch_reading(self) -> None:
        if self._transport is not None and not self._is_over:
            if self._is_paused or self.is_write_blocked:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _end(self, reason: str) -> None:
        if self._is_over:
            return
        transport = self._transport
        if transport is not None:
            if self._is_open:
                with suppress(ssl.SSLError, OSError):  # it has said close_notify, or cannot
                    self._tls.unwrap()
                self._flush()
            transport.resume_reading()  # to see that the client goes
        self._tell_over(reason)
        if transport is None:
            return
        if reason == "client closed":
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # asyncio's own loop: the client is gone, and nobody has told us yet
            transport.abort()
            return
        last = asyncio.get_running_loop().time() + LINGER_LIMIT_S
        self._linger(transport.get_write_buffer_size(), last)

    def _linger(self, size: int, last: float) -> None:
        """Wait for the client to read, as long as it does, then drop the connection."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LINGER_S, self._check_linger, size, last)

    def _check_linger(self, size: int, last: float) -> None:
        transport = self._transport
        if transport is not None:
            left = transport.get_write_buffer_size()
            if left < size and asyncio.get_running_loop().time() < last:
                self._linger(left, last)
            else:
                transport.abort()

    def _tell_over(self, reason: str) -> None:
        self._stop_timer()
        if not self._is_over:
            self._is_over = True
            if self._handler is not None:
                self._handler.connection_over(reason)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
