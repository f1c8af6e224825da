# SPDX-License-Identifier: Apache-2.0
"""One connection to an element host: frames of ``protocols.host_frames`` over a Unix socket.

It matches answers with requests and bounds every wait; what elements are, its user knows.
"""

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final, cast

from iose.protocols.host_frames import (
    NO_ANSWER,
    Answer,
    FrameSplitter,
    Request,
    decode_answer,
    encode_request,
)
from iose.transport.errors import CardRemovedError, TransportTimeoutError
from iose.wire.errors import DecodeError

HOST_GONE: Final = "the element host went away"
REQUEST_ID_LIMIT: Final = 1 << 32
CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred of Linux's SO_PEERCRED
WRITE_LIMIT: Final = 1 << 24  # 500 sessions that each send the largest batch at once


class HostChannel(asyncio.Protocol):
    """One connection to a host: requests out, answers back, in any order.

    Args:
        name: Of the host, for errors.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, name: str, timeout_s: float) -> None:
        self.name = name
        self.closed = asyncio.Event()
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._splitter = FrameSplitter()
        self._transport: asyncio.Transport | None = None
        self._last_id = NO_ANSWER
        self._pending: dict[int, _Pending] = {}
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, if the host runs as our own user."""
        stream = cast("asyncio.Transport", transport)  # uvloop's has no base of asyncio's
        if peer_uid(stream.get_extra_info("socket")) == os.getuid():
            stream.set_write_buffer_limits(WRITE_LIMIT)
            self._transport = stream
        else:
            stream.abort()

    def pause_writing(self) -> None:
        """Give up a host that lets so much pile up: it does not read any more."""
        self.abort()

    def data_received(self, data: bytes) -> None:
        """Give each answer to whoever waits for it."""
        try:
            for frame in self._splitter.receive_data(data):
                answer = decode_answer(frame)
                pending = self._pending.pop(answer.request_id, None)
                if pending is not None and not pending.future.done():
                    pending.future.set_result(answer)
        except DecodeError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail everything that waits."""
        del exc
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        pending, self._pending = self._pending, {}
        for entry in pending.values():
            if not entry.future.done():
                entry.future.set_exception(CardRemovedError(entry.reader, HOST_GONE))
        self.closed.set()

    def next_id(self) -> int:
        """Return a request number that nobody waits for."""
        self._last_id = (self._last_id + 1) % REQUEST_ID_LIMIT or 1
        return self._last_id

    def send(self, request: Request) -> None:
        """Send a request; without a connection it goes nowhere."""
        if self._transport is not None:
            self._transport.write(encode_request(request))

    async def request(self, request: Request, reader: str) -> Answer:
        """Return the answer to a request.

        Raises:
            CardRemovedError: The host went away.
            TransportTimeoutError: There was no answer in time.
        """
        if self._transport is None:
            raise CardRemovedError(reader, HOST_GONE)
        future: asyncio.Future[Answer] = self._loop.create_future()
        deadline = self._loop.time() + self._timeout_s
        self._pending[request.request_id] = _Pending(future, reader, deadline)
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._expire)
        self._transport.write(encode_request(request))
        return await future

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _expire(self) -> None:
        """Fail what waited too long; all waits are equally long, so the oldest come first."""
        self._timer = None
        now = self._loop.time()
        for request_id, entry in list(self._pending.items()):
            if entry.deadline > now:
                self._timer = self._loop.call_at(entry.deadline, self._expire)
                return
            del self._pending[request_id]
            if not entry.future.done():
                entry.future.set_exception(
                    TransportTimeoutError(entry.reader, f"no answer in {self._timeout_s} s")
                )


@dataclass(slots=True)
class _Pending:
    future: asyncio.Future[Answer]
    reader: str
    deadline: float


def peer_uid(connection: socket.socket) -> int:
    """Return the user at the other end of a Unix socket (unix(7), SO_PEERCRED)."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(data)[1])
