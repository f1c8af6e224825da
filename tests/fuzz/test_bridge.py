# SPDX-License-Identifier: Apache-2.0
"""Hostile clients and hostile elements for the bridge; bounded here, longer with IOSE_FUZZ_RUNS.

Whatever either side does, nothing raises, the element gets the client's bytes and no others, the
client gets the element's and at most one alert, and only before the element has spoken.
"""

import os
import random
from collections.abc import Iterator

import pytest

from iose.bridge.client_hello import read_server_name
from iose.bridge.stream import (
    BATCH_RECORDS,
    HELLO_RECORDS,
    OUTPUT_LIMIT,
    RESET_TLS,
    BridgeState,
    EndReason,
    StreamBridge,
)
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.iso7816.status import StatusWord
from iose.tls.constants import AlertDescription
from iose.wire.errors import DecodeError
from tests.support.client_hello import client_hello, extension, hello_record, name_list
from tests.support.mutation import mutate, pieces
from tests.support.scripted_connection import record

RUNS = int(os.environ.get("IOSE_FUZZ_RUNS", "150"))
ALERT_SIZE = 7
STATUSES = [0x9000] * 20 + [0x9001] * 3 + [0x9002, 0x9003, 0x6D16, 0x6F00, 0x9100]


def fragmented(message: bytes, rng: random.Random) -> bytes:
    """Return a handshake message in records of any sizes."""
    return b"".join(record(piece, 0x16) for piece in pieces(message, (1, 2, 40, 300), rng))


def client_stream(rng: random.Random) -> bytes:
    hello = client_hello(b"key1.com", padding=rng.choice((0, 0, 1, 500, 9000)))
    stream = fragmented(hello, rng)
    for _ in range(rng.randrange(30)):
        kind = rng.choice((0x14, 0x15, 0x16, 0x17, 0x17))
        stream += record(rng.randbytes(rng.choice((0, 1, 22, 235, 236, 600, 16_640))), kind)
    return mutate(stream, rng)


def chunks(stream: bytes, rng: random.Random) -> Iterator[bytes]:
    return pieces(stream, (1, 4, 5, 6, 50, 1000, 70_000), rng)


class HostileElement:
    """Answers a batch as its host may: up to and with the first unexpected status."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.received = b""
        self.sent = b""

    def run(self, batch: list[BatchStep]) -> list[ResponseApdu]:
        answers = []
        for step in batch:
            answer = self._answer(step.command)
            answers.append(answer)
            if answer.status != step.expected:
                break
        return answers

    def _answer(self, command: CommandApdu) -> ResponseApdu:
        self.received += command.data
        is_last = bool(command.p2 & 2)
        status = StatusWord(self.rng.choice(STATUSES) if is_last else 0x9000)
        if self.rng.random() < 0.01:
            status = StatusWord(self.rng.randrange(0x10000))
        sizes = (0, 0, 47, 252, OUTPUT_LIMIT, OUTPUT_LIMIT + 1) if is_last else (0,) * 99 + (1,)
        return ResponseApdu(self.rng.randbytes(self.rng.choice(sizes)), status)


@pytest.mark.timeout(0)
def test_a_bridge_between_hostile_ends_carries_bytes_or_ends():
    rng = random.Random("bridge")  # noqa: S311  # repeatable
    reasons = set()
    for _ in range(RUNS):
        stream = client_stream(rng)
        bridge, element, output, spoken = StreamBridge(), HostileElement(rng), b"", b""
        limits = ApduLimits(rng.choice((1, 240, 255, 16_645)), rng.choice((0, 0, 512)))
        start = rng.choice(((), (BatchStep(RESET_TLS),)))
        for chunk in chunks(stream, rng):
            bridge.receive_data(chunk)
            if bridge.state is BridgeState.ROUTING:
                bridge.attach(limits, start)
            assert len(bridge._records) <= HELLO_RECORDS + BATCH_RECORDS
            while batch := bridge.next_batch():
                answers = element.run(batch)
                bridge.receive_responses(answers)
                for step, answer in zip(batch, answers, strict=False):
                    spoken += answer.data if step.command.data else b""  # the start is not relayed
            output += bridge.data_to_send()
        assert (bridge.end is None) == (bridge.state is not BridgeState.CLOSED)
        assert stream.startswith(element.received)
        carried = output
        if bridge.end is not None:
            reasons.add(bridge.end.reason)
            bridge.fail(EndReason.SHUTDOWN, AlertDescription.INTERNAL_ERROR)
            assert (bridge.next_batch(), bridge.data_to_send()) == ([], b"")
            if len(output) == ALERT_SIZE and output[:6] == b"\x15\x03\x03\x00\x02\x02":
                assert not bridge._has_spoken
                carried = b""
        assert spoken.startswith(carried)
    assert len(reasons) > 2  # the elements were reached


@pytest.mark.timeout(0)
def test_a_mutated_hello_is_read_or_refused():
    rng = random.Random("hello")  # noqa: S311  # repeatable
    names = [b"key1.com", b"k", b"a" * 255, b"\x00", b"\xff\x1b[2J"]
    for _ in range(RUNS * 10):
        extensions = extension(43, b"\x02\x03\x04")
        for _ in range(rng.randrange(3)):
            extensions += extension(0, name_list(*rng.sample(names, 2), kind=rng.randrange(2)))
        hello = mutate(client_hello(extensions=mutate(extensions, rng)), rng)
        try:
            name = read_server_name(hello)
        except DecodeError as error:
            assert 0 <= error.offset <= len(hello), hello.hex()  # noqa: PT017  # most are no errors
        else:
            assert name is None or (name.isascii() and name.isprintable()), hello.hex()


@pytest.mark.timeout(0)
def test_a_hello_of_any_pieces_asks_for_the_same_name():
    rng = random.Random("pieces")  # noqa: S311  # repeatable
    for _ in range(RUNS):
        bridge = StreamBridge()
        for chunk in chunks(fragmented(client_hello(b"key1.com"), rng), rng):
            bridge.receive_data(chunk)
        assert (bridge.state, bridge.server_name) == (BridgeState.ROUTING, "key1.com")
    assert hello_record(b"key1.com")[5:] == client_hello(b"key1.com")
