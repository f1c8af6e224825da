# SPDX-License-Identifier: Apache-2.0
"""The link to an element host that does not keep to the protocol."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from iose.bridge.stream import RESET_TLS
from iose.iso7816.batch import BatchStep
from iose.iso7816.status import StatusWord
from iose.protocols.host_frames import (
    ElementInfo,
    ExchangeAnswer,
    ExchangeRequest,
    FrameSplitter,
    ListAnswer,
    ListRequest,
    decode_request,
    encode_answer,
)
from iose.servers.tls_front import FrontConfig
from iose.transport.element_host import RECONNECT_WAIT_S, ElementHostLink, next_delay
from iose.transport.errors import CardRemovedError, NoReaderError, TransportTimeoutError
from iose.transport.host_channel import REQUEST_ID_LIMIT, HostChannel
from tests.support.scripted_connection import ATR

OK = StatusWord.OK

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def linked_to(protocol, path):
    """A link to something that is no host of ours."""
    server = await asyncio.get_running_loop().create_unix_server(protocol, str(path))
    link = ElementHostLink(path)
    try:
        yield link
    finally:
        await link.stop()
        server.close()


class Imposter(asyncio.Protocol):
    """Lists one element, and answers exchanges with ``responses``; none: it goes away."""

    connections = 0
    responses = None
    fifth: asyncio.Event

    def connection_made(self, transport):
        Imposter.connections += 1
        if Imposter.connections == 5:
            Imposter.fifth.set()
        self.transport = transport
        self.splitter = FrameSplitter()

    def data_received(self, data):
        for frame in self.splitter.receive_data(data):
            request = decode_request(frame)
            answer = ListAnswer(request.request_id, (ElementInfo("1", "key1.com", ATR, 240, 0),))
            if isinstance(request, ExchangeRequest):
                answer = ExchangeAnswer(request.request_id, ATR, 1, self.responses)
            self.transport.write(encode_answer(answer))
            if self.responses is None:
                self.transport.close()


async def test_does_not_hurry_back_to_a_host_that_goes_away_at_once(path):
    Imposter.connections, Imposter.responses, Imposter.fifth = 0, None, asyncio.Event()
    async with linked_to(Imposter, path) as link:
        with suppress(NoReaderError):
            await link.start()
        began = asyncio.get_running_loop().time()
        await asyncio.wait_for(Imposter.fifth.wait(), 5.0)
        assert asyncio.get_running_loop().time() - began > 0.2  # 20, 40, 80, 160 ms in between


def test_waits_longer_and_longer_until_a_connection_has_lasted():
    delay, delays = 0.0, []
    for lasted_s in (0, 0, 0.9, 0, 0, 0, 0, 0, 1.1, 0):
        delay = next_delay(delay, lasted_s)
        delays.append(delay)
    assert delays == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 0.02, 0.04]


@pytest.mark.parametrize(
    "responses",
    [
        (),
        (b"\x90\x00",),
        (b"\x90\x00", b"\x90\x00"),
        (b"\x90\x00", b"\x90\x00", b"\x6d\x16"),
        (b"\x90\x00",) * 4,
    ],
)
async def test_refuses_a_number_of_answers_that_cannot_be(path, responses):
    Imposter.responses = responses
    async with linked_to(Imposter, path) as link:
        await link.start()
        connection = await link.reader("1").connect()
        steps = [BatchStep(RESET_TLS, expected) for expected in (OK, OK, None, OK)]
        if len(responses) == len(steps):
            assert len(await connection.transmit_batch(steps)) == 4
        else:
            with pytest.raises(CardRemovedError, match=f"{len(responses)} answers to 4 commands"):
                await connection.transmit_batch(steps)


@pytest.mark.parametrize("responses", [(), (b"\x90\x00", b"\x90\x00")])
async def test_refuses_another_number_of_answers_to_raw_bytes_than_one(path, responses):
    Imposter.connections, Imposter.responses, Imposter.fifth = 0, responses, asyncio.Event()
    async with linked_to(Imposter, path) as link:
        await link.start()
        connection = await link.reader("1").connect()
        with pytest.raises(CardRemovedError, match=f"{len(responses)} answers to 1 command"):
            await connection.transmit_raw(b"\x00\xb0\x00\x00")


async def test_raw_bytes_power_the_element_on_and_come_back_raw(path):
    Imposter.connections, Imposter.responses, Imposter.fifth = 0, (b"\x61",), asyncio.Event()
    async with linked_to(Imposter, path) as link:
        await link.start()
        connection = await link.reader("1").connect()
        assert await connection.transmit_raw(b"\x00") == b"\x61"
        assert connection.apdus == 1


async def test_gives_up_each_request_at_its_own_time(path):
    server = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, str(path))
    channel = HostChannel("host", 0.1)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, str(path))
    try:
        first = asyncio.ensure_future(channel.request(ListRequest(channel.next_id()), "1"))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(channel.request(ListRequest(channel.next_id()), "2"))
        for task in (first, second):
            with pytest.raises(TransportTimeoutError):
                await asyncio.wait_for(task, 5.0)
        assert channel._pending == {}
    finally:
        channel.abort()
        await channel.closed.wait()
        server.close()


async def test_numbers_no_request_as_one_without_an_answer():
    channel = HostChannel("host", 1.0)
    channel._last_id = REQUEST_ID_LIMIT - 2
    assert [channel.next_id() for _ in range(3)] == [REQUEST_ID_LIMIT - 1, 1, 2]


def test_a_host_is_waited_for_like_an_element_in_use_and_no_client_gives_up_before():
    config = FrontConfig()
    assert config.queue_wait_s <= RECONNECT_WAIT_S < config.handshake_s
