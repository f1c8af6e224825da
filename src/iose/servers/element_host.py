# SPDX-License-Identifier: Apache-2.0
"""The element host: software elements served over a Unix socket (docs/architecture.md).

A node connects, holds elements, runs batches on them and lets them go; when it goes away, what it
held loses its power. The elements come from an ``ElementRack``, handed in: this file knows
neither the card nor where its state is kept. Commands run in the event loop, one at a time: a
host is one core's worth of elements.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol, cast

import structlog

from iose.iso7816.apdu import STATUS_SIZE
from iose.protocols.host_frames import (
    Answer,
    ElementInfo,
    ExchangeAnswer,
    ExchangeFlag,
    ExchangeRequest,
    Failure,
    FailureCode,
    FrameSplitter,
    ListAnswer,
    Request,
    decode_request,
    encode_answer,
)
from iose.servers.listening import stop_accepting
from iose.transport.host_channel import peer_uid
from iose.transport.stack import ApduMeter, drain_raw
from iose.wire.errors import DecodeError, IoseError, LocalProtocolError

# Plain numbers: a test of an IntFlag costs more than the rest of a small exchange.
POWER_ON: Final = ExchangeFlag.POWER_ON.value
RESET: Final = ExchangeFlag.RESET.value
POWER_OFF: Final = ExchangeFlag.POWER_OFF.value
RAW: Final = ExchangeFlag.RAW.value

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.element_host")


class HostedElement(Protocol):
    """One element, off until ``power_on``."""

    def power_on(self) -> bytes:
        """Start the card from cold and return its ATR.

        Raises:
            IoseError: The card cannot start.
        """

    def reset(self) -> bytes:
        """Reset the powered card and return its ATR.

        Raises:
            IoseError: The card cannot start.
        """

    def process(self, command: bytes) -> bytes:
        """Return the raw answer to one raw command.

        Raises:
            IoseError: The card is broken.
        """

    def power_off(self) -> None:
        """Drop everything volatile."""


class ElementRack(Protocol):
    """The elements of one host. It may keep closed elements open for later, within its bounds."""

    def list_elements(self) -> Sequence[ElementInfo]:
        """Return what there is, in a stable order."""

    def open(self, seid: str) -> HostedElement | None:
        """Return the element, in use until ``release``; None when there is no such element.

        Raises:
            IoseError: Its state cannot be read.
        """

    def release(self, seid: str) -> None:
        """Take back an element that has no power any more."""


class ElementHostServer:
    """Serves the elements of a rack to nodes, over a Unix socket handed in.

    Args:
        rack: The elements.
    """

    def __init__(self, rack: ElementRack) -> None:
        self.rack = rack
        self.holders: dict[str, HostSession] = {}
        self._sessions: set[HostSession] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve the connections of ``listener``, which then belongs to the host."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: HostSession(self), sock=listener)

    async def stop(self) -> None:
        """Stop listening, close the connections and power every element off."""
        self._close_sessions()
        if self._server is not None:
            await stop_accepting(self._server)
            self._close_sessions()  # of who came last
            await self._server.wait_closed()

    def add_session(self, session: "HostSession") -> None:
        """Remember a connection."""
        self._sessions.add(session)

    def remove_session(self, session: "HostSession") -> None:
        """Forget a connection that ended."""
        self._sessions.discard(session)

    def _close_sessions(self) -> None:
        for session in list(self._sessions):
            session.close()


class HostSession(asyncio.Protocol):
    """One node's connection and the elements it holds."""

    def __init__(self, host: ElementHostServer) -> None:
        self._host = host
        self._splitter = FrameSplitter()
        self._requests: deque[bytes] = deque()
        self._is_blocked = False
        self._held: dict[str, HostedElement] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit a peer that runs as our own user, nobody else."""
        stream = cast("asyncio.Transport", transport)  # uvloop's has no base of asyncio's
        uid = peer_uid(stream.get_extra_info("socket"))
        if uid != os.getuid():
            log.warning("host.refused", uid=uid)
            stream.abort()
            return
        self._transport = stream
        self._host.add_session(self)

    def data_received(self, data: bytes) -> None:
        """Carry out every request that ``data`` completes, in order."""
        if self._transport is None:
            return
        try:
            self._requests.extend(self._splitter.receive_data(data))
            self._work(self._transport)
        except DecodeError as error:
            log.warning("host.malformed", error=str(error))
            self._requests.clear()
            self._transport.abort()

    def pause_writing(self) -> None:
        """Work no more for a node that does not read its answers."""
        self._is_blocked = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on with what waits: the node reads again."""
        self._is_blocked = False
        if self._transport is not None:
            self._transport.resume_reading()
            self.data_received(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Power off what the node held."""
        del exc
        self._transport = None
        self._let_all_go()
        self._host.remove_session(self)

    def close(self) -> None:
        """Power off what the node holds, and drop the connection, read to its end or not."""
        self._let_all_go()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _work(self, transport: asyncio.Transport) -> None:
        while self._requests and not self._is_blocked:
            request = decode_request(self._requests.popleft())
            answer = self._answer(request)
            if request.request_id:
                transport.write(_encode(answer))

    def _answer(self, request: Request) -> Answer:
        seid = request.seid if isinstance(request, ExchangeRequest) else ""
        try:
            if isinstance(request, ExchangeRequest):
                return self._exchange(request)
            return ListAnswer(request.request_id, tuple(self._host.rack.list_elements()))
        except IoseError as error:
            message = str(error)
            log.warning("element.fault", seid=seid, error=message)
        except Exception:  # the top of a server task: one element's bug is not everybody's
            message = "internal error"
            log.exception("element.fault", seid=seid)
        self._let_go(seid)
        return Failure(request.request_id, FailureCode.ELEMENT_FAULT, message)

    def _exchange(self, request: ExchangeRequest) -> Answer:
        flags, seid = request.flags, request.seid
        element = self._held.get(seid)
        atr = b""
        if flags & POWER_ON:
            if element is None:
                if seid in self._host.holders:
                    return Failure(request.request_id, FailureCode.HELD, "held by another node")
                element = self._host.rack.open(seid)
                if element is None:
                    code = FailureCode.UNKNOWN_ELEMENT
                    return Failure(request.request_id, code, "no such element")
                self._held[seid] = element
                self._host.holders[seid] = self
            else:
                element.power_off()
            atr = element.power_on()
        if element is None:
            return Failure(request.request_id, FailureCode.NOT_POWERED, "the element has no power")
        if flags & RESET:
            atr = element.reset()
        meter = ApduMeter()
        responses = _run(element, request, meter) if request.steps else ()
        if flags & POWER_OFF:
            self._let_go(seid)
        return ExchangeAnswer(request.request_id, atr, meter.commands, responses)

    def _let_all_go(self) -> None:
        for seid in list(self._held):
            self._let_go(seid)

    def _let_go(self, seid: str) -> None:
        element = self._held.pop(seid, None)
        if element is None:
            return
        del self._host.holders[seid]
        for step in (element.power_off, lambda: self._host.rack.release(seid)):
            try:
                step()
            except Exception:  # the rest of what the node held must lose its power too
                log.exception("element.fault", seid=seid)


def _encode(answer: Answer) -> bytes:
    try:
        return encode_answer(answer)
    except LocalProtocolError as error:
        return encode_answer(Failure(answer.request_id, FailureCode.BAD_REQUEST, str(error)))


def _run(element: HostedElement, request: ExchangeRequest, meter: ApduMeter) -> tuple[bytes, ...]:
    is_raw = request.flags & RAW
    responses = []
    for step in request.steps:
        if is_raw:
            answer = element.process(step.command)
            meter.count(step.command, answer)
        else:
            answer = drain_raw(element.process, step.command, meter)
        responses.append(answer)
        if step.expected and int.from_bytes(answer[-STATUS_SIZE:], "big") != step.expected:
            break
    return tuple(responses)
