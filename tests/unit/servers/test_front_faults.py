# SPDX-License-Identifier: Apache-2.0
"""Faults at the TLS front: what the peer sees, what the log says, and that the element is free.

The rows of docs/faults.md; each test asserts both columns.
"""

import asyncio
import contextlib

import pytest

from iose.bridge.stream import EndReason
from iose.iso7816.batch import ApduLimits
from iose.transport.errors import CardBusyError, NoReaderError
from tests.support.client_hello import client_hello, hello_record
from tests.support.front import (
    ALERT_BUSY,
    ALERT_DECODE,
    ALERT_MISSING,
    ALERT_OVERFLOW,
    ALERT_UNKNOWN,
    FINISHED,
    FrontRig,
)
from tests.support.scripted_connection import (
    SERVER_HELLO,
    EchoElement,
    ScriptedReader,
    record,
    removed,
)

pytestmark = pytest.mark.anyio


async def assert_serves(rig, name=b"key1.com"):
    client = await rig.connect()
    await client.open(name)
    assert await client.call(b"still here") == b"still here"
    client.close()


class SlowlyOffReader(ScriptedReader):
    """Its element takes its time to be switched off."""

    def __init__(self, element) -> None:
        super().__init__(element)
        self.is_closing = asyncio.Event()
        self.may_close = asyncio.Event()

    async def connect(self):
        connection = await super().connect()
        switch_off = connection.close

        async def close():
            self.is_closing.set()
            await self.may_close.wait()
            await switch_off()

        connection.close = close
        return connection


# --- before there is an element ------------------------------------------------------


async def test_unknown_name():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.send(hello_record(b"key9.com"))
        assert await client.rest() == ALERT_UNKNOWN
        (line,) = rig.logged("session.ended")
        assert (line["reason"], line["sen"], line["seid"]) == ("unknown_name", "key9.com", None)
        assert rig.element.power == []


async def test_no_name():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.send(hello_record())
        assert await client.rest() == ALERT_MISSING
        assert await rig.ended() == ["missing_name"]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", record(b"\x02\0\0\0", 0x16)])
async def test_malformed_hello(data):
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.send(data)
        assert await client.rest() == ALERT_DECODE
        assert await rig.ended() == ["malformed_hello"]


async def test_hello_larger_than_the_element_takes():
    reader = ScriptedReader(EchoElement(), limits=ApduLimits(240, 512))
    async with FrontRig(reader) as rig:
        client = await rig.connect()
        await client.send(hello_record(b"key1.com", padding=500))
        assert await client.rest() == ALERT_OVERFLOW
        assert await rig.ended() == ["record_overflow"]
        assert rig.element.power == []


async def test_connection_without_a_hello():
    async with FrontRig(first_record_s=0.05) as rig:
        client = await rig.connect()
        await client.send(hello_record(b"key1.com")[:20])
        assert await client.rest() == b""
        assert await rig.ended() == ["first_record_timeout"]
        assert rig.element.power == []


async def test_client_that_closes_before_its_hello_is_whole():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.send(hello_record(b"key1.com")[:-1])
        client.close()
        assert await rig.ended() == ["client_closed"]
        assert rig.element.power == []


async def test_silent_front_closes_without_alerts():
    async with FrontRig(is_silent=True) as rig:
        for hello in (hello_record(b"key9.com"), hello_record(), b"GET /"):
            client = await rig.connect()
            await client.send(hello)
            assert await client.rest() == b""
        assert await rig.ended(3) == ["unknown_name", "missing_name", "malformed_hello"]


# --- records -------------------------------------------------------------------------


async def test_one_byte_at_a_time():
    async with FrontRig() as rig:
        client = await rig.connect()
        for byte in hello_record(b"key1.com"):
            await client.send(bytes((byte,)))
        assert await client.receive(len(SERVER_HELLO)) == SERVER_HELLO
        for byte in FINISHED + record(b"?00"):
            await client.send(bytes((byte,)))
        assert await client.receive(8) == record(b"?00")
        assert rig.element.records == [hello_record(b"key1.com"), FINISHED, record(b"?00")]


async def test_hello_split_over_records():
    hello = client_hello(b"key1.com")
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.send(record(hello[:7], 0x16))
        await client.send(record(hello[7:], 0x16))
        assert await client.receive(len(SERVER_HELLO)) == SERVER_HELLO


async def test_oversize_record_on_an_open_session():
    reader = ScriptedReader(EchoElement(), limits=ApduLimits(240, 512))
    async with FrontRig(reader) as rig:
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"
        await client.send(record(bytes(508)))
        assert await client.rest() == b""
        assert await rig.ended() == ["record_overflow"]
        assert len(rig.element.records) == 3
        await assert_serves(rig)


async def test_truncated_record_then_close():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.open()
        await client.send(record(b"?00")[:-1])
        client.half_close()
        assert await client.rest() == b""
        assert await rig.ended() == ["client_closed"]
        assert rig.element.records[2:] == []
        assert rig.element.power == ["on", "off"]


async def test_truncated_record_then_silence():
    async with FrontRig(idle_s=0.05) as rig:
        client = await rig.connect()
        await client.open()
        await client.send(record(b"?00")[:-1])
        assert await client.rest() == b""
        assert await rig.ended() == ["idle_timeout"]
        assert rig.element.power == ["on", "off"]


async def test_element_that_refuses_a_record():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.open()
        await client.send(record(b"!!"))
        assert await client.rest() == b""
        (line,) = rig.logged("session.ended")
        assert (line["reason"], line["status"], line["seid"]) == ("element_refused", "6D16", "1")
        await assert_serves(rig)


async def test_element_that_refuses_the_hello():
    element = EchoElement()
    element.process = lambda command: b"\x90\x00" if command[4] == 0 else b"\x6d\x16"
    async with FrontRig(ScriptedReader(element)) as rig:
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        assert await client.rest() == ALERT_BUSY
        assert await rig.ended() == ["element_refused"]


async def test_element_that_closes():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.open()
        await client.send(record(b"?02"))
        assert await client.rest() == record(b"?02")
        (line,) = rig.logged("session.ended")
        assert (line["reason"], line["apdus"], line["sen"]) == ("element_closed", 4, "key1.com")


async def test_the_last_words_reach_a_client_that_closed_before_the_element_was_off():
    reader = SlowlyOffReader(EchoElement())
    async with FrontRig(reader) as rig:
        client = await rig.connect()
        await client.open()
        (session,) = rig.front._sessions.values()
        await client.send(record(b"?02"))
        await rig.until(reader.is_closing.is_set)
        client.half_close()
        await rig.until(lambda: session._has_client_closed)
        reader.may_close.set()
        assert await client.rest() == record(b"?02")
        assert await rig.ended() == ["element_closed"]


# --- time ----------------------------------------------------------------------------


async def test_hello_and_then_silence():
    async with FrontRig(handshake_s=0.05) as rig:
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        assert await client.rest() == SERVER_HELLO
        assert await rig.ended() == ["handshake_timeout"]
        assert rig.element.power == ["on", "off"]
        await assert_serves(rig)


async def test_open_session_that_goes_idle():
    async with FrontRig(idle_s=0.05) as rig:
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"
        assert await client.rest() == b""
        assert await rig.ended() == ["idle_timeout"]


async def test_session_that_lasts_too_long():
    async with FrontRig(session_s=0.2) as rig:
        client = await rig.connect()
        await client.open()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await client.call(b"busy")
        assert await rig.ended() == ["session_timeout"]
        assert rig.element.power == ["on", "off"]


async def test_element_slower_than_the_idle_limit_is_waited_for():
    async with FrontRig(idle_s=0.02) as rig:
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"
        rig.readers[0].gate = gate = asyncio.Event()
        await client.send(record(b"slow"))
        asyncio.get_running_loop().call_later(0.1, gate.set)
        assert await client.receive(9) == record(b"slow")


# --- clients that go away ------------------------------------------------------------


async def test_client_gone_mid_command():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"
        rig.readers[0].gate = asyncio.Event()
        await client.send(record(b"slow"))
        client.reset()
        assert await rig.ended() == ["client_gone"]
        assert rig.element.power == ["on", "off"]
        rig.readers[0].gate = None
        await assert_serves(rig)


async def test_client_that_says_goodbye_still_gets_its_answer():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.open()
        await client.send(record(b"last words"))
        client.half_close()
        assert await client.rest() == record(b"last words")
        assert await rig.ended() == ["client_closed"]


async def test_client_that_does_not_read_is_let_go():
    reader = ScriptedReader(EchoElement(), limits=ApduLimits(240, 0))
    async with FrontRig(reader, idle_s=0.3) as rig:
        client = await rig.connect()
        await client.open()
        big = record(bytes(16_000))

        async def pour():
            while True:
                await client.send(big)

        pouring = asyncio.ensure_future(pour())
        assert await rig.ended() == ["idle_timeout"]
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
        assert rig.element.power == ["on", "off"]


# --- two clients ---------------------------------------------------------------------


async def test_two_clients_at_once_are_served_in_turn():
    async with FrontRig() as rig:
        first, second, third = [await rig.connect() for _ in range(3)]
        await first.open()
        await second.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.front.holders.lock("1").waiting == 1)
        await third.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.front.holders.lock("1").waiting == 2)
        assert rig.element.power == ["on"]
        assert await first.call(b"mine") == b"mine"
        first.close()
        assert await second.receive(len(SERVER_HELLO)) == SERVER_HELLO
        assert rig.front.holders.lock("1").waiting == 1
        second.close()
        assert await third.receive(len(SERVER_HELLO)) == SERVER_HELLO
        assert rig.element.power == ["on", "off", "on", "off", "on"]


async def test_client_that_waited_long_enough():
    async with FrontRig(queue_wait_s=0.05) as rig:
        first, second = await rig.connect(), await rig.connect()
        await first.open()
        await second.send(hello_record(b"key1.com"))
        assert await second.rest() == ALERT_BUSY
        assert await rig.ended() == ["queue_timeout"]
        assert await first.call(b"mine") == b"mine"
        assert rig.front.holders.lock("1").waiting == 0


async def test_queue_that_is_full():
    async with FrontRig() as rig:
        rig.front.holders.lock("1")._size = 0
        first, second = await rig.connect(), await rig.connect()
        await first.open()
        await second.send(hello_record(b"key1.com"))
        assert await second.rest() == ALERT_BUSY
        assert await rig.ended() == ["queue_full"]


async def test_client_that_leaves_the_queue():
    async with FrontRig() as rig:
        first, second = await rig.connect(), await rig.connect()
        await first.open()
        await second.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.front.holders.lock("1").waiting == 1)
        second.close()
        assert await rig.ended() == ["client_closed"]
        assert rig.front.holders.lock("1").waiting == 0
        assert await first.call(b"mine") == b"mine"


async def test_too_many_connections_of_one_address():
    async with FrontRig(source_connections=1) as rig:
        first, second = await rig.connect(), await rig.connect()
        assert await second.rest() == ALERT_BUSY
        assert await rig.ended() == ["source_limit"]
        first.close()
        await rig.until(lambda: not rig.front.snapshot().connections)
        await assert_serves(rig)


async def test_too_many_connections_in_all():
    async with FrontRig(session_limit=1) as rig:
        first = await rig.connect()
        await first.open()
        second = await rig.connect()
        assert await second.rest() == ALERT_BUSY
        assert await rig.ended() == ["session_limit"]
        assert await first.call(b"x") == b"x"


async def test_silent_client_makes_room_where_there_are_too_many():
    async with FrontRig(session_limit=2) as rig:
        serving, silent = await rig.connect(), await rig.connect()
        await serving.open()
        newcomer = await rig.connect()
        with contextlib.suppress(ConnectionError):
            assert await silent.rest() == b""
        assert await rig.ended() == ["session_limit"]
        await newcomer.send(hello_record(b"key9.com"))
        assert await newcomer.rest() == ALERT_UNKNOWN
        assert await serving.call(b"x") == b"x"


# --- elements that fail --------------------------------------------------------------


async def test_element_that_vanishes_before_it_spoke():
    reader = ScriptedReader(EchoElement())
    async with FrontRig(reader) as rig:
        reader.faults.append(removed())
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        assert await client.rest() == ALERT_BUSY
        assert await rig.ended() == ["element_failed"]
        assert rig.logged("element.failed")[0]["error"] == "1: the card is gone"
        await assert_serves(rig)


async def test_element_that_vanishes_after_it_spoke():
    reader = ScriptedReader(EchoElement())
    async with FrontRig(reader) as rig:
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"
        reader.faults.append(removed())
        await client.send(record(b"y"))
        assert await client.rest() == b""
        assert await rig.ended() == ["element_failed"]
        await assert_serves(rig)


async def test_element_that_does_not_answer_in_the_time_of_a_handshake():
    reader = ScriptedReader(EchoElement())
    async with FrontRig(reader, handshake_s=0.05) as rig:
        reader.gate = asyncio.Event()
        for count in range(1, 4):
            client = await rig.connect()
            await client.send(hello_record(b"key1.com"))
            assert await client.rest() == ALERT_BUSY
            assert await rig.ended(count) == ["element_failed"] * count
        assert rig.logged("element.failed")[0]["error"] == "1: no answer in 0.05 s"
        assert rig.front.snapshot().elements[0].is_degraded
        assert rig.front.holders.lock("1").holder is None
        assert rig.element.power == ["on", "off"] * 3


async def test_element_whose_start_is_refused():
    element = EchoElement()
    element.process = lambda command: b"\x6a\x82"
    async with FrontRig(ScriptedReader(element)) as rig:
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        assert await client.rest() == ALERT_BUSY
        (line,) = rig.logged("session.ended")
        assert (line["reason"], line["status"]) == ("start_refused", "6A82")


async def test_reader_that_is_not_there():
    reader = ScriptedReader(EchoElement())
    async with FrontRig(reader) as rig:
        for _ in range(5):
            reader.faults.append(NoReaderError("1", "no host"))
            client = await rig.connect()
            await client.send(hello_record(b"key1.com"))
            assert await client.rest() == ALERT_BUSY
        assert await rig.ended(5) == ["element_unavailable"] * 5
        await assert_serves(rig)


async def test_element_that_fails_again_and_again_is_left_alone_and_tried_again():
    bad, good = ScriptedReader(EchoElement()), ScriptedReader(EchoElement(), name="2")
    async with FrontRig(bad, good) as rig:
        for _ in range(3):
            bad.faults.append(removed())
            client = await rig.connect()
            await client.send(hello_record(b"key1.com"))
            assert await client.rest() == ALERT_BUSY
        (line,) = rig.logged("element.degraded")
        assert (line["seid"], line["sen"]) == ("1", "key1.com")
        status = rig.front.snapshot().elements[0]
        assert (status.is_degraded, status.failures) == (True, 3)
        assert 0 < status.retry_in_s <= 1
        powered = list(bad.element.power)
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        assert await client.rest() == ALERT_BUSY
        assert (await rig.ended(4))[3] == "element_degraded"
        assert bad.element.power == powered
        await assert_serves(rig, b"key2.com")
        rig.front.health(rig.routes[0]).retry_at = 0.0
        client = await rig.connect()
        await client.open()
        await client.send(record(b"?02"))
        assert await client.rest() == record(b"?02")
        await rig.until(lambda: rig.logged("element.recovered"))


async def test_bug_in_one_session_leaves_the_others_alone():
    element = EchoElement()
    element.faults.append(ValueError("a bug"))
    async with FrontRig(ScriptedReader(element)) as rig:
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        assert await client.rest() == ALERT_BUSY
        assert await rig.ended() == ["internal_error"]
        assert rig.logged("session.fault")[0]["seid"] == "1"
        await assert_serves(rig)


# --- elements behind readers ---------------------------------------------------------


def busy() -> CardBusyError:
    return CardBusyError("1", "another program holds the card")


async def test_an_element_that_another_program_holds_is_waited_for():
    async with FrontRig() as rig:
        rig.readers[0].faults += [busy(), busy()]
        client = await rig.connect()
        await client.open()
        assert await client.call(b"now") == b"now"
        status = rig.front.snapshot()
        assert (status.elements[0].failures, status.opened) == (0, 1)
        assert [one.state for one in status.sessions] == ["open"]


async def test_an_element_that_another_program_keeps_is_not_taken_for_broken():
    async with FrontRig(queue_wait_s=0.05) as rig:
        for count in range(1, 5):
            rig.readers[0].faults = [busy() for _ in range(100)]
            client = await rig.connect()
            await client.send(hello_record(b"key1.com"))
            assert await client.rest() == ALERT_BUSY
            assert await rig.ended(count) == ["queue_timeout"] * count
        assert not rig.front.snapshot().elements[0].is_degraded
        rig.readers[0].faults.clear()
        await assert_serves(rig)


async def test_who_has_waited_in_the_queue_does_not_wait_as_long_again_for_another_program():
    async with FrontRig(queue_wait_s=3600.0) as rig:
        holder, waiter = await rig.connect(), await rig.connect()
        await holder.open()
        await waiter.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.front.holders.lock("1").waiting)
        rig.readers[0].faults = [busy() for _ in range(100)]
        (session,) = [one for one in rig.front._sessions.values() if one.state.value == "queued"]
        session._queue_end = rig.front.loop.time()  # an hour has passed
        holder.close()
        assert await waiter.rest() == ALERT_BUSY
        assert rig.logged("session.ended")[-1]["reason"] == "queue_timeout"


async def test_an_element_taken_by_another_program_in_mid_session_is_not_taken_for_broken():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.open()
        assert await client.call(b"now") == b"now"
        rig.readers[0].faults.append(busy())
        await client.send(record(b"again"))
        assert await client.rest() == b""
        assert await rig.ended() == ["element_unavailable"]
        assert rig.front.snapshot().elements[0].failures == 0


@pytest.mark.parametrize("has_spoken", [False, True])
async def test_sessions_of_an_element_that_is_removed_end_at_once(has_spoken):
    async with FrontRig() as rig:
        gate = rig.readers[0].gate = asyncio.Event()
        holder, waiter = await rig.connect(), await rig.connect()
        if has_spoken:
            gate.set()
            await holder.open()
        else:
            await holder.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.element.power == ["on"])
        await waiter.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.front.holders.lock("1").waiting)
        rig.front.end_sessions("2", EndReason.ELEMENT_REMOVED)
        assert not rig.logged("session.ended")
        rig.front.end_sessions("1", EndReason.ELEMENT_REMOVED)
        assert await waiter.rest() == b""
        assert ALERT_BUSY not in await holder.rest()
        assert await rig.ended(2) == ["element_removed"] * 2
        assert rig.front.holders.lock("1").holder is None
        assert rig.front.snapshot().elements[0].failures == 0
