# SPDX-License-Identifier: Apache-2.0
"""Hostile frames for a host and for a node; bounded here, longer with IOSE_FUZZ_RUNS.

Only DecodeError comes out of the decoders. A host that is fed anything keeps its books and its
power in order; a node that is fed anything answers every request of its own, or fails it.
"""

import asyncio
import os
import random
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from iose.protocols.host_frames import (
    FRAME_LIMIT,
    ElementInfo,
    ExchangeAnswer,
    ExchangeFlag,
    ExchangeRequest,
    ExchangeStep,
    Failure,
    FrameSplitter,
    ListAnswer,
    ListRequest,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from iose.servers.element_host import ElementHostServer, HostSession
from iose.transport.errors import TransportError
from iose.transport.host_channel import HostChannel
from iose.wire.errors import DecodeError
from tests.support.mutation import mutate, pieces
from tests.support.scripted_connection import ATR, EchoElement, record, removed

RUNS = int(os.environ.get("IOSE_FUZZ_RUNS", "150"))
ALL_FLAGS = int(ExchangeFlag(0xF))
STEPS = (
    ExchangeStep(bytes.fromhex("00D8000000"), 0x9000),
    ExchangeStep(bytes.fromhex("00D80003") + b"\x08" + record(b"?00"), 0),
    ExchangeStep(bytes.fromhex("00B0000000"), 0x9000),
    ExchangeStep(b"", 0x9000),
)


def a_request(rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return encode_request(ListRequest(rng.randrange(3)))
    steps = tuple(rng.choices(STEPS, k=rng.randrange(4)))
    seid = rng.choice(("1", "2", "3", "9"))
    flags = rng.randrange(ALL_FLAGS + 1)
    return encode_request(ExchangeRequest(rng.randrange(3), flags, seid, steps))


def an_answer(request_id: int, rng: random.Random) -> bytes:
    responses = tuple(rng.randbytes(rng.randrange(5)) for _ in range(rng.randrange(4)))
    answers = (
        ListAnswer(request_id, (ElementInfo("1", "key1.com", ATR, 240, 512),) * rng.randrange(3)),
        ExchangeAnswer(request_id, rng.randbytes(rng.randrange(33)), 3, responses),
        Failure(request_id, rng.randrange(8), "é" * rng.randrange(9)),
    )
    return encode_answer(rng.choice(answers))


def chunks(stream: bytes, rng: random.Random) -> Iterator[bytes]:
    return pieces(stream, (1, 3, 4, 5, 50), rng)


class Wire:
    """A transport that ends nowhere."""

    def __init__(self) -> None:
        self.written = b""
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True


class Rack:
    """Three elements: one that works, one that cannot start, one that breaks now and then."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.elements = {"1": EchoElement(), "2": EchoElement(), "3": EchoElement()}
        self.in_use: list[str] = []
        self.elements["3"].on_record = self._break

    def list_elements(self) -> list[ElementInfo]:
        return [ElementInfo(seid, "", ATR, 240, 512) for seid in self.elements]

    def open(self, seid: str) -> EchoElement | None:
        if seid == "2":
            raise removed("2")
        if seid in self.elements:
            assert seid not in self.in_use
            self.in_use.append(seid)
        return self.elements.get(seid)

    def release(self, seid: str) -> None:
        self.in_use.remove(seid)

    def _break(self, _: bytes) -> None:
        if self.rng.random() < 0.5:
            raise ValueError("a bug")


@pytest.mark.timeout(0)
@pytest.mark.parametrize("decode", [decode_request, decode_answer])
def test_mutated_frames_are_decoded_or_refused(decode):
    rng = random.Random(decode.__name__)  # noqa: S311  # repeatable
    for _ in range(RUNS * 10):
        frame = mutate(rng.choice((a_request(rng), an_answer(rng.randrange(9), rng)))[4:], rng)
        try:
            decode(frame)
        except DecodeError as error:
            assert 0 <= error.offset <= len(frame), frame.hex()  # noqa: PT017  # most are no errors


@pytest.mark.timeout(0)
def test_a_splitter_gives_the_same_frames_for_any_chunks():
    rng = random.Random("splitter")  # noqa: S311  # repeatable
    for _ in range(RUNS):
        stream = mutate(b"".join(a_request(rng) for _ in range(rng.randrange(6))), rng)
        results = []
        for cut in ([stream], chunks(stream, rng)):
            splitter, frames = FrameSplitter(), []
            try:
                for piece in cut:
                    frames += splitter.receive_data(piece)
            except DecodeError:
                frames = ["over the limit"]
            assert len(splitter._buffer) <= FRAME_LIMIT
            results.append(frames)
        # the frames before one that is over the limit are lost with it, whole or not
        assert results[0] == results[1]


@pytest.mark.timeout(0)
def test_a_host_that_is_fed_anything_keeps_its_books():
    rng = random.Random("host")  # noqa: S311  # repeatable
    for _ in range(RUNS):
        rack = Rack(rng)
        host = ElementHostServer(rack)
        sessions = [HostSession(host) for _ in range(2)]
        wires = [Wire() for _ in sessions]
        with capture_logs():
            for session, wire in zip(sessions, wires, strict=True):
                session._transport = wire
                host.add_session(session)
            for _ in range(rng.randrange(30)):
                session = rng.choice(sessions)
                for chunk in chunks(mutate(a_request(rng), rng), rng):
                    session.data_received(chunk)
                held = sorted(seid for one in sessions for seid in one._held)
                assert held == sorted(rack.in_use) == sorted(host.holders)
            for wire in wires:
                for frame in FrameSplitter().receive_data(wire.written):
                    decode_answer(frame)
            for session in sessions:
                session.connection_lost(None)
        assert (rack.in_use, host.holders, host._sessions) == ([], {}, set())
        for element in rack.elements.values():
            assert element.power[-1:] in ([], ["off"])


@pytest.mark.timeout(0)
def test_a_node_that_is_fed_anything_answers_or_fails_each_of_its_requests():
    rng = random.Random("node")  # noqa: S311  # repeatable

    async def once() -> None:
        channel, wire = HostChannel("host", 30.0), Wire()
        channel._transport = wire
        waiting = [
            asyncio.ensure_future(channel.request(ListRequest(channel.next_id()), "1"))
            for _ in range(rng.randrange(6))
        ]
        await asyncio.sleep(0)
        for _ in range(rng.randrange(9)):
            for chunk in chunks(mutate(an_answer(rng.randrange(9), rng), rng), rng):
                channel.data_received(chunk)
        channel.connection_lost(None)
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, ListAnswer | ExchangeAnswer | Failure | TransportError)
        assert (channel._pending, channel.closed.is_set()) == ({}, True)

    with asyncio.Runner() as runner:
        for _ in range(RUNS):
            runner.run(once())
