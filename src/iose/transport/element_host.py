# SPDX-License-Identifier: Apache-2.0
"""The node's end of an element host: one Unix socket, many elements (docs/architecture.md).

A link keeps one connection to a host and makes it again when the host comes back. Its readers are
the elements of the host's inventory; what one of them waits for fails when the host dies.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, cast

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.protocols.host_frames import (
    NO_ANSWER,
    Answer,
    ElementInfo,
    ExchangeAnswer,
    ExchangeFlag,
    ExchangeRequest,
    ExchangeStep,
    Failure,
    FailureCode,
    FrameSplitter,
    ListAnswer,
    ListRequest,
    Request,
    decode_answer,
    encode_request,
)
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import (
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.wire.errors import DecodeError

APDU_TIMEOUT_S: Final = 30.0  # a batch on a slow card; a software element answers in milliseconds
RECONNECT_WAIT_S: Final = 2.0  # a supervisor starts a host again in well under a second
BACKOFF_FIRST_S: Final = 0.02
BACKOFF_LAST_S: Final = 1.0
HOST_GONE: Final = "the element host went away"
NO_FLAGS: Final = ExchangeFlag(0)
REQUEST_ID_LIMIT: Final = 1 << 32
CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred of Linux's SO_PEERCRED


class ElementHostLink:
    """One host, over one connection at a time.

    Args:
        path: The host's Unix socket.
        apdu_timeout_s: Longest wait for the answer to one batch.
        reconnect_wait_s: Longest wait of a request for a host that is being started again.
    """

    def __init__(
        self,
        path: Path,
        *,
        apdu_timeout_s: float = APDU_TIMEOUT_S,
        reconnect_wait_s: float = RECONNECT_WAIT_S,
    ) -> None:
        self.path = path
        self.apdu_timeout_s = apdu_timeout_s
        self._reconnect_wait_s = reconnect_wait_s
        self._elements: dict[str, ElementInfo] = {}
        self._channel: HostChannel | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the host is there."""
        return self._up.is_set()

    @property
    def elements(self) -> tuple[ElementInfo, ...]:
        """The host's inventory, as last asked for, with the ATRs seen since."""
        return tuple(self._elements.values())

    async def start(self) -> None:
        """Keep a connection from now on, and wait for the first one.

        Raises:
            NoReaderError: The host did not come up in time; the link goes on trying.
        """
        self._keeper = asyncio.get_running_loop().create_task(self._keep_connected())
        await self.channel()

    async def stop(self) -> None:
        """Give the connection up; the host powers off what was held over it."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    async def refresh(self) -> tuple[ElementInfo, ...]:
        """Ask the host for its inventory and return it.

        Raises:
            TransportError: The host is not there, or does not answer.
        """
        self._take_inventory(await (await self.channel()).list_elements())
        return self.elements

    def reader(self, seid: str) -> "HostReader":
        """Return the reader of one element; whether it exists is seen when it is used."""
        return HostReader(self, seid)

    def info(self, seid: str) -> ElementInfo | None:
        """Return what the inventory says of one element."""
        return self._elements.get(seid)

    def note_atr(self, seid: str, atr: bytes) -> None:
        """Remember the ATR an element answered when it was started."""
        known = self._elements.get(seid)
        if known is not None and known.atr != atr:
            self._elements[seid] = ElementInfo(
                seid, known.sen, atr, known.chunk_size, known.max_record
            )

    async def channel(self) -> "HostChannel":
        """Return the connection to the host, waiting a little for one that is being started.

        Raises:
            NoReaderError: The host is not there.
        """
        if not self._up.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._up.wait(), self._reconnect_wait_s)
        if self._channel is None:
            raise NoReaderError(str(self.path), "the element host is not there")
        return self._channel

    async def _keep_connected(self) -> None:
        delay = BACKOFF_FIRST_S
        while True:
            channel = HostChannel(str(self.path), self.apdu_timeout_s)
            try:
                await self._open(channel)
                self._take_inventory(await channel.list_elements())
                delay = BACKOFF_FIRST_S
                self._channel = channel
                self._up.set()
                await channel.closed.wait()
            except (OSError, TransportError):
                await asyncio.sleep(delay)
                delay = min(2 * delay, BACKOFF_LAST_S)
            finally:
                self._up.clear()
                self._channel = None
                channel.abort()

    async def _open(self, channel: "HostChannel") -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: channel, str(self.path))

    def _take_inventory(self, elements: tuple[ElementInfo, ...]) -> None:
        self._elements = {element.seid: element for element in elements}


class HostReader:
    """One element of a host, as a reader."""

    def __init__(self, link: ElementHostLink, seid: str) -> None:
        self._link = link
        self._seid = seid

    @property
    def name(self) -> str:
        """The element's SEID."""
        return self._seid

    @property
    def limits(self) -> ApduLimits:
        """What the host says the element takes; the published sizes while it is not there."""
        info = self._link.info(self._seid)
        return ApduLimits() if info is None else ApduLimits(info.chunk_size, info.max_record)

    async def connect(self) -> "HostConnection":
        """Return a connection; power comes on with its first exchange, an empty batch included.

        That way the start of a session costs no round trip of its own.

        Raises:
            NoReaderError: The host is not there.
        """
        return HostConnection(self._link, await self._link.channel(), self._seid)


class HostConnection:
    """One element held for one session."""

    def __init__(self, link: ElementHostLink, channel: "HostChannel", seid: str) -> None:
        self._link = link
        self._channel = channel
        self._seid = seid
        self._atr = b""
        self._apdus = 0
        self._has_power = False

    @property
    def atr(self) -> bytes:
        """The answer to the last reset; the inventory's until power is on."""
        info = self._link.info(self._seid)
        return self._atr or (info.atr if info is not None else b"")

    @property
    def apdus(self) -> int:
        """Commands the element has had on this connection."""
        return self._apdus

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return (await self._exchange(ExchangeFlag.RAW, (BatchStep(command, None),)))[0]

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await self._exchange(NO_FLAGS, steps)

    async def reset(self) -> bytes:
        """Reset the card and return its ATR.

        Raises:
            TransportError: The element is gone.
        """
        await self._exchange(ExchangeFlag.RESET if self._has_power else NO_FLAGS, ())
        return self._atr

    async def close(self) -> None:
        """Power the element off and let it go; never raises, never waits."""
        had_power, self._has_power = self._has_power, False
        if had_power:
            self._channel.send(ExchangeRequest(NO_ANSWER, ExchangeFlag.POWER_OFF, self._seid))

    async def _exchange(
        self, flags: ExchangeFlag, steps: Sequence[BatchStep]
    ) -> list[ResponseApdu]:
        if not self._has_power:
            flags |= ExchangeFlag.POWER_ON
            self._has_power = True
        wire = tuple([ExchangeStep(step.command.encode(), step.expected or 0) for step in steps])
        channel = self._channel
        answer = await channel.request(
            ExchangeRequest(channel.next_id(), flags, self._seid, wire), self._seid
        )
        if not isinstance(answer, ExchangeAnswer):
            _refuse(self._seid, answer)
        self._apdus += answer.apdus
        if answer.atr:
            self._atr = answer.atr
            self._link.note_atr(self._seid, answer.atr)
        try:
            return [ResponseApdu.decode(response) for response in answer.responses]
        except DecodeError as error:
            raise CardRemovedError(self._seid, f"an answer is malformed: {error}") from error


class HostChannel(asyncio.Protocol):
    """One connection to a host: requests out, answers back, in any order."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self.closed = asyncio.Event()
        self._name = name
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
            self._transport = stream
        else:
            stream.abort()

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

    async def list_elements(self) -> tuple[ElementInfo, ...]:
        """Return the host's inventory.

        Raises:
            TransportError: The host went away or does not answer.
        """
        answer = await self.request(ListRequest(self.next_id()), self._name)
        if not isinstance(answer, ListAnswer):
            _refuse(self._name, answer)
        return answer.elements

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


def _refuse(reader: str, answer: Answer) -> NoReturn:
    if not isinstance(answer, Failure):
        raise CardRemovedError(reader, "the element host answered something else")
    if answer.code == FailureCode.UNKNOWN_ELEMENT:
        raise NoCardError(reader, answer.message)
    if answer.code in (FailureCode.NOT_POWERED, FailureCode.ELEMENT_FAULT):
        raise CardRemovedError(reader, answer.message)
    raise TransportError(reader, answer.message)
