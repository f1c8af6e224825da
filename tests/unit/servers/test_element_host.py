# SPDX-License-Identifier: Apache-2.0
"""The element host and the link to it: exchanges, power, one holder, death and return."""

import asyncio
import os
import stat

import pytest
from structlog.testing import capture_logs

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.iso7816.status import StatusWord
from iose.protocols.host_frames import (
    FRAME_LIMIT,
    ElementInfo,
    ExchangeFlag,
    ExchangeRequest,
    ExchangeStep,
    FailureCode,
    ListAnswer,
    decode_answer,
    encode_request,
)
from iose.runtime.control import listen_unix
from iose.servers import element_host
from iose.servers.element_host import POWER_ON, ElementHostServer
from iose.transport import element_host as link_element_host
from iose.transport import host_channel
from iose.transport.element_host import ElementHostLink
from iose.transport.errors import (
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from tests.support.scripted_connection import ATR, EchoElement, record, removed

pytestmark = pytest.mark.anyio

PATIENCE_S = 5.0
RESET = CommandApdu.decode(bytes.fromhex("00D8000000"))


def send(data, expected=StatusWord.OK):
    return BatchStep(CommandApdu(0, 0xD8, 0, 3, data), expected)


class Rack:
    """Two elements: 1, which echoes, and 2, whose store cannot be read."""

    def __init__(self):
        self.elements = {"1": EchoElement(), "3": EchoElement()}
        self.in_use = []
        self.infos = [
            ElementInfo("1", "key1.com", ATR, 240, 512),
            ElementInfo("2", "", b"", 65_535, 0),
            ElementInfo("3", "key3.com", ATR, 240, 512),
        ]

    def list_elements(self):
        return self.infos

    def open(self, seid):
        if seid == "2":
            raise removed("2")
        element = self.elements.get(seid)
        if element is not None:
            self.in_use.append(seid)
        return element

    def release(self, seid):
        self.in_use.remove(seid)


class Rig:
    """A host and a link to it, in one loop."""

    def __init__(self, path, **link):
        self.path = path
        self.rack = Rack()
        self.host = ElementHostServer(self.rack)
        self.link = ElementHostLink(path, **link)

    @property
    def element(self):
        return self.rack.elements["1"]

    async def __aenter__(self):
        await self.host.start(listen_unix(self.path))
        await self.link.start()
        return self

    async def __aexit__(self, *_):
        await self.link.stop()
        await self.host.stop()

    async def restart_host(self):
        await self.host.stop()
        await self.until(lambda: not self.link.is_up)
        self.host = ElementHostServer(self.rack)
        await self.host.start(listen_unix(self.path))

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # any condition, without an event of its own
                await asyncio.sleep(0.001)


async def test_lists_the_elements_with_their_limits(path):
    async with Rig(path) as rig:
        assert [info.seid for info in rig.link.elements] == ["1", "2", "3"]
        assert rig.link.reader("1").limits == ApduLimits(240, 512)
        assert rig.link.reader("2").limits == ApduLimits(65_535, 0)
        assert rig.link.reader("9").limits == ApduLimits()
        rig.rack.infos = rig.rack.infos[:1]
        assert [info.seid for info in await rig.link.refresh()] == ["1"]


async def test_powers_on_with_the_first_batch_and_off_with_close(path):
    async with Rig(path) as rig:
        connection = await rig.link.reader("1").connect()
        assert rig.element.power == []
        steps = [BatchStep(RESET), send(record(b"hello")), send(record(b"x"))]
        responses = await connection.transmit_batch(steps)
        assert [response.status for response in responses] == [0x9000, 0x9000, 0x9001]
        assert (connection.atr, connection.apdus) == (ATR, 3)
        assert rig.rack.in_use == ["1"]
        await connection.close()
        await connection.close()
        await rig.until(lambda: rig.element.power == ["on", "off"])
        assert rig.rack.in_use == []


async def test_an_empty_batch_powers_on_and_reset_resets(path):
    async with Rig(path) as rig:
        connection = await rig.link.reader("1").connect()
        assert await connection.transmit_batch([]) == []
        assert rig.element.power == ["on"]
        assert await connection.reset() == ATR
        assert rig.element.power == ["on", "reset"]
        other = await rig.link.reader("3").connect()
        assert await other.reset() == ATR
        assert rig.rack.elements["3"].power == ["on"]


async def test_stops_a_batch_at_the_first_unexpected_status(path):
    async with Rig(path) as rig:
        connection = await rig.link.reader("1").connect()
        bad = CommandApdu(0, 0xB0, 0, 0)
        responses = await connection.transmit_batch(
            [BatchStep(bad, None), BatchStep(bad), send(record(b"never"))]
        )
        assert [response.status for response in responses] == [0x6A82, 0x6A82]
        assert rig.element.records == []


async def test_drains_at_the_host_and_not_for_a_raw_command(path):
    async with Rig(path) as rig:
        answers = [b"\xaa\x9f\x01", b"\xbb\x61\x01", b"\xcc\x90\x02"]
        rig.element.process = lambda command: answers.pop(0)
        connection = await rig.link.reader("1").connect()
        (response,) = await connection.transmit_batch([send(b"x")])
        assert (response.data, response.status) == (b"\xaa\xbb\xcc", 0x9002)
        assert connection.apdus == 3
        answers.append(b"\xaa\x9f\x01")
        response = await connection.transmit(CommandApdu(0, 0xC0, 0, 0, le=1))
        assert (response.data, response.status) == (b"\xaa", 0x9F01)
        assert connection.apdus == 4


async def test_remembers_the_atr_an_element_answered(path):
    async with Rig(path) as rig:
        rig.element.power_on = lambda: b"\x3b\x01x"
        connection = await rig.link.reader("1").connect()
        assert connection.atr == ATR
        await connection.transmit_batch([])
        assert connection.atr == b"\x3b\x01x"
        assert rig.link.info("1").atr == b"\x3b\x01x"


async def test_refuses_an_unknown_element(path):
    async with Rig(path) as rig:
        connection = await rig.link.reader("9").connect()
        with pytest.raises(NoCardError, match="9: no such element"):
            await connection.transmit_batch([])


async def test_refuses_an_element_that_cannot_be_opened(path):
    async with Rig(path) as rig:
        with capture_logs() as events:
            connection = await rig.link.reader("2").connect()
            with pytest.raises(CardRemovedError):
                await connection.transmit_batch([])
        assert [(line["event"], line["seid"]) for line in events] == [("element.fault", "2")]


async def test_a_bug_in_one_element_powers_it_off_and_leaves_the_others_alone(path):
    async with Rig(path) as rig:
        other = await rig.link.reader("3").connect()
        await other.transmit_batch([BatchStep(RESET)])
        rig.element.on_record = lambda data: {}["bug"]
        connection = await rig.link.reader("1").connect()
        with capture_logs(), pytest.raises(CardRemovedError, match="internal error"):
            await connection.transmit_batch([send(record(b"x"))])
        assert rig.element.power == ["on", "off"]
        assert rig.rack.in_use == ["3"]
        assert (await other.transmit_batch([BatchStep(RESET)]))[0].status == StatusWord.OK


async def test_an_element_is_held_by_one_node_at_a_time(path):
    async with Rig(path) as rig:
        second = ElementHostLink(path)
        await second.start()
        connection = await rig.link.reader("1").connect()
        await connection.transmit_batch([])
        other = await second.reader("1").connect()
        with pytest.raises(TransportError, match="held by another node"):
            await other.transmit_batch([])
        await connection.close()
        await rig.until(lambda: not rig.rack.in_use)
        third = await second.reader("1").connect()
        await third.transmit_batch([])
        await second.stop()
        await rig.until(lambda: not rig.rack.in_use)
        assert rig.element.power == ["on", "off", "on", "off"]


async def test_powers_off_what_a_node_held_when_it_goes_away(path):
    async with Rig(path) as rig:
        for seid in ("1", "3"):
            await (await rig.link.reader(seid).connect()).transmit_batch([])
        rig.rack.elements["1"].power_off = lambda: {}["bug"]
        with capture_logs():
            await rig.link.stop()
            await rig.until(lambda: not rig.rack.in_use)
        assert rig.rack.elements["3"].power == ["on", "off"]


async def test_powers_off_the_rest_where_one_cannot_be_released(path):
    async with Rig(path) as rig:
        for seid in ("1", "3"):
            await (await rig.link.reader(seid).connect()).transmit_batch([])
        rig.rack.in_use.remove("1")  # so that the rack has a bug
        with capture_logs() as events:
            await rig.link.stop()
            await rig.until(lambda: not rig.host._sessions)
        assert [line["seid"] for line in events] == ["1"]
        assert rig.rack.elements["3"].power == ["on", "off"]
        assert rig.host.holders == {}


async def test_has_powered_everything_off_when_it_has_stopped(path):
    async with Rig(path) as rig:
        await (await rig.link.reader("1").connect()).transmit_batch([])
        stopping = asyncio.ensure_future(rig.host.stop())
        await asyncio.sleep(0)
        assert rig.element.power == ["on", "off"]
        assert (rig.rack.in_use, rig.host.holders) == ([], {})
        await stopping


async def test_fails_what_waits_when_the_host_dies_and_works_when_it_is_back(path):
    async with Rig(path) as rig:
        connection = await rig.link.reader("1").connect()
        await connection.transmit_batch([])
        await rig.restart_host()
        with pytest.raises(CardRemovedError):
            await connection.transmit_batch([BatchStep(RESET)])
        await connection.close()
        again = await rig.link.reader("1").connect()
        assert (await again.transmit_batch([BatchStep(RESET)]))[0].status == StatusWord.OK


async def test_fails_an_exchange_under_way_when_the_connection_breaks(path):
    async with Rig(path) as rig:
        connection = await rig.link.reader("1").connect()
        waiting = asyncio.ensure_future(connection.transmit_batch([]))
        await asyncio.sleep(0)
        rig.link._channel.abort()
        with pytest.raises(CardRemovedError, match="1: the element host went away"):
            await waiting


async def test_says_that_there_is_no_host(path):
    link = ElementHostLink(path, reconnect_wait_s=0.02)
    with pytest.raises(NoReaderError):
        await link.start()
    with pytest.raises(NoReaderError):
        await link.reader("1").connect()
    await link.stop()


async def test_gives_up_a_host_that_does_not_answer(path):
    server = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, str(path))
    link = ElementHostLink(path, apdu_timeout_s=0.02, reconnect_wait_s=0.1)
    with pytest.raises(NoReaderError):
        await link.start()
    await link.stop()
    server.close()


async def test_ignores_an_answer_that_comes_after_its_time(path):
    async with Rig(path, apdu_timeout_s=0.05) as rig:
        connection = await rig.link.reader("1").connect()
        channel = rig.link._channel
        channel._transport.pause_reading()
        with pytest.raises(TransportTimeoutError, match=r"no answer in 0\.05 s"):
            await connection.transmit_batch([])
        channel._transport.resume_reading()
        assert (await connection.transmit_batch([BatchStep(RESET)]))[0].status == StatusWord.OK
        assert channel._pending == {}


async def test_forgets_an_exchange_whose_caller_gave_up(path):
    async with Rig(path) as rig:
        connection = await rig.link.reader("1").connect()
        waiting = asyncio.ensure_future(connection.transmit_batch([]))
        await asyncio.sleep(0)
        waiting.cancel()
        await connection.close()
        await rig.until(lambda: rig.element.power == ["on", "off"])
        await rig.until(lambda: not rig.link._channel._pending)


async def test_cuts_a_node_off_that_does_not_speak_the_protocol(path):
    async with Rig(path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        with capture_logs() as events:
            writer.write(b"\xff\xff\xff\xff")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await asyncio.wait_for(reader.readexactly(1), PATIENCE_S)
        assert events[0]["event"] == "host.malformed"
        writer.close()


class Stranger(asyncio.Protocol):
    """Says something else than a host."""

    def connection_made(self, transport):
        transport.write(b"\xff\xff\xff\xff")


async def test_gives_up_a_host_that_does_not_speak_the_protocol(path):
    server = await asyncio.get_running_loop().create_unix_server(Stranger, str(path))
    link = ElementHostLink(path, reconnect_wait_s=0.05)
    with pytest.raises(NoReaderError):
        await link.start()
    await link.stop()
    server.close()


async def test_answers_only_nodes_of_the_same_user(path, monkeypatch):
    async with Rig(path) as rig:
        monkeypatch.setattr(element_host, "peer_uid", lambda connection: os.getuid() + 1)
        with capture_logs() as events:
            reader, writer = await asyncio.open_unix_connection(str(path))
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await asyncio.wait_for(reader.readexactly(1), PATIENCE_S)
        assert (events[0]["event"], events[0]["uid"]) == ("host.refused", os.getuid() + 1)
        writer.close()
        assert len(rig.host._sessions) == 1


async def test_listens_for_its_owner_alone_and_replaces_a_stale_socket(path):
    listen_unix(path).close()
    listener = listen_unix(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listener.close()


async def test_answers_a_batch_too_large_for_a_frame_with_a_failure(path):
    async with Rig(path) as rig:
        rig.element.process = lambda command: bytes(65_536) + b"\x90\x00"
        connection = await rig.link.reader("1").connect()
        with pytest.raises(TransportError, match="over the limit"):
            await connection.transmit_batch([send(b"x")] * (FRAME_LIMIT // 65_536 + 1))


async def test_power_comes_first_and_can_be_cycled(path):
    async with Rig(path) as rig:
        channel = await rig.link.channel()

        async def exchange(flags):
            return await channel.request(ExchangeRequest(channel.next_id(), flags, "1"), "1")

        assert (await exchange(ExchangeFlag.RESET)).code == FailureCode.NOT_POWERED
        assert (await exchange(ExchangeFlag.POWER_ON)).atr == ATR
        assert (await exchange(ExchangeFlag.POWER_ON)).atr == ATR
        assert (await exchange(ExchangeFlag.RESET | ExchangeFlag.POWER_OFF)).atr == ATR
        assert rig.element.power == ["on", "off", "on", "reset", "off"]
        assert rig.rack.in_use == []


async def test_refuses_an_answer_without_a_status_word(path):
    async with Rig(path) as rig:
        rig.element.process = lambda command: b"\x90"
        connection = await rig.link.reader("1").connect()
        assert rig.link.reader("1").name == "1"
        with pytest.raises(CardRemovedError, match="an answer is malformed"):
            await connection.transmit(RESET)


async def test_says_that_a_host_cannot_list_its_elements(path):
    async with Rig(path) as rig:
        rig.rack.infos = None
        with capture_logs(), pytest.raises(CardRemovedError, match="internal error"):
            await rig.link.refresh()
        with pytest.raises(CardRemovedError, match="something else"):
            link_element_host._refuse("1", ListAnswer(1, ()))


async def test_trusts_only_a_host_of_the_same_user(path, monkeypatch):
    server = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, str(path))
    monkeypatch.setattr(host_channel, "peer_uid", lambda connection: os.getuid() + 1)
    link = ElementHostLink(path, reconnect_wait_s=0.05)
    with pytest.raises(NoReaderError):
        await link.start()
    await link.stop()
    server.close()


async def test_works_no_more_for_a_node_that_does_not_read(path):
    async with Rig(path) as rig:
        rig.element.process = lambda command: rig.element.commands.append(command) or bytes(65_000)
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
        step = ExchangeStep(bytes(5), 0)
        count = 500
        for number in range(1, count + 1):
            flags = ExchangeFlag.POWER_ON if number == 1 else 0
            writer.write(encode_request(ExchangeRequest(number, flags, "1", (step,))))
        await rig.until(lambda: any(one._is_blocked for one in rig.host._sessions))
        (session,) = [one for one in rig.host._sessions if one._is_blocked]
        assert len(rig.element.commands) < 100  # what fits in the buffers on the way
        assert session._transport.get_write_buffer_size() < 200_000
        for number in range(1, count + 1):
            size = int.from_bytes(await asyncio.wait_for(reader.readexactly(4), PATIENCE_S), "big")
            assert decode_answer(await reader.readexactly(size)).request_id == number
        assert len(rig.element.commands) == count
        writer.close()


async def test_gives_up_a_host_that_does_not_read(path, monkeypatch):
    monkeypatch.setattr(host_channel, "WRITE_LIMIT", 100_000)
    async with Rig(path) as rig:
        (session,) = rig.host._sessions
        session._transport.pause_reading()
        connection = await rig.link.reader("1").connect()
        waiting = [
            asyncio.ensure_future(connection.transmit_batch([send(bytes(60_000))]))
            for _ in range(20)
        ]
        for task in waiting:
            with pytest.raises(CardRemovedError):
                await asyncio.wait_for(task, PATIENCE_S)
        await rig.until(lambda: rig.link.is_up)
        assert len(await rig.link.refresh()) == 3


async def test_stops_also_where_a_node_does_not_read(path):
    async with Rig(path) as rig:
        rig.element.process = lambda command: bytes(65_000)
        _, writer = await asyncio.open_unix_connection(str(path), limit=1)
        step = ExchangeStep(bytes(5), 0)
        for number in range(1, 100):
            writer.write(encode_request(ExchangeRequest(number, POWER_ON, "1", (step,))))
        await rig.until(lambda: any(one._is_blocked for one in rig.host._sessions))
        await asyncio.wait_for(rig.host.stop(), PATIENCE_S)
        await rig.until(lambda: not rig.host._sessions)
        assert rig.element.power[-1] == "off"
        writer.close()


async def test_a_second_close_leaves_the_next_holder_alone(path):
    async with Rig(path) as rig:
        first = await rig.link.reader("1").connect()
        await first.transmit_batch([])
        await first.close()
        second = await rig.link.reader("1").connect()
        await second.transmit_batch([])
        await first.close()
        assert (await second.transmit_batch([BatchStep(RESET)]))[0].status == StatusWord.OK
        assert rig.element.power == ["on", "off", "on"]


async def test_carries_out_nothing_after_a_malformed_request(path):
    async with Rig(path) as rig:
        (session,) = rig.host._sessions
        good = encode_request(ExchangeRequest(1, POWER_ON, "1"))
        with capture_logs():
            session.data_received(b"\x00\x00\x00\x01\x00" + good)
            session.resume_writing()
        assert (rig.element.power, len(session._requests)) == ([], 0)
