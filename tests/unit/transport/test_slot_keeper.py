# SPDX-License-Identifier: Apache-2.0
"""Sessions over a link, and the keeper of a slot: one at a time, deadlines, cuts, looks."""

import asyncio
import socket

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.transport import link as link_module
from iose.transport.bank import Slot, SlotState
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.link import LinkReader, reason
from iose.transport.slot_keeper import SlotKeeper, look_at

ATR = bytes.fromhex("3B00")
OTHER_ATR = bytes.fromhex("3B01AA")
PING = CommandApdu(0, 0xA4, 4, 0)
READY, EMPTY, FAULT = SlotState.READY, SlotState.EMPTY, SlotState.FAULT


class Wire:
    """What a link under test does: ``errors`` by step, ``stuck`` steps never end."""

    def __init__(self):
        self.errors = {}
        self.stuck = set()
        self.said = []
        self.answers = []
        self.atr = ATR
        self.aborted = asyncio.Event()
        self.reached = asyncio.Event()

    async def step(self, name):
        self.said.append(name)
        self.reached.set()
        if name in self.stuck:
            await self.aborted.wait()
            raise CardRemovedError("wire", "cut")
        if name in self.errors:
            raise self.errors[name]

    def make(self):
        return ScriptedLink(self)


class ScriptedLink:
    name = "wire"

    def __init__(self, wire):
        self.wire = wire

    async def open(self):
        await self.wire.step("open")

    async def start(self):
        await self.wire.step("start")
        return self.wire.atr

    async def exchange(self, command):
        await self.wire.step("exchange")
        return self.wire.answers.pop(0) if self.wire.answers else b"\x90\x00"

    async def restart(self):
        await self.wire.step("restart")
        return ATR

    async def close(self):
        await self.wire.step("close")

    def abort(self):
        self.wire.said.append("abort")
        self.wire.aborted.set()


def over_wire(work):
    async def main():
        await work(Wire())

    asyncio.run(main())


def reader_of(wire, failures=None, *, apdu_s=5.0):
    failures = [] if failures is None else failures
    return LinkReader("wire", wire.make, apdu_s=apdu_s, on_failure=failures.append)


def keeper_of(wire, **given):
    slot = Slot("wire", "wire-1", SlotState.ABSENT)
    return SlotKeeper(slot, wire.make, apdu_s=5.0, **given)


def test_a_session_opens_exchanges_and_closes():
    async def work(wire):
        reader = reader_of(wire)
        connection = await reader.connect()
        assert (connection.atr, reader.is_held) == (ATR, True)
        assert (await connection.transmit(PING)).status == 0x9000
        wire.answers += [b"a\x61\x01", b"b\x90\x00"]
        (answer,) = await connection.transmit_batch([BatchStep(PING)])
        assert answer.data == b"ab"
        assert connection.apdus == 3
        assert await connection.reset() == ATR
        await connection.close()
        await connection.close()
        assert not reader.is_held
        assert wire.said == ["open", "start", *["exchange"] * 3, "restart", "close", "abort"]

    over_wire(work)


def test_a_second_session_is_refused_until_the_first_ends():
    async def work(wire):
        reader = reader_of(wire)
        first = await reader.connect()
        with pytest.raises(TransportError, match="another connection"):
            await reader.connect()
        wire.stuck.add("close")
        ending = asyncio.create_task(first.close())
        await asyncio.sleep(0)
        assert first.is_closing
        second = asyncio.create_task(reader.connect())
        await asyncio.sleep(0)
        wire.aborted.set()
        await ending
        wire.stuck.clear()
        await (await second).close()

    over_wire(work)


def test_a_close_that_is_not_answered_ends_all_the_same(monkeypatch):
    monkeypatch.setattr(link_module, "CLOSE_S", 0.01)

    async def work(wire):
        failures = []
        reader = reader_of(wire, failures)
        wire.stuck.add("close")
        await (await reader.connect()).close()
        assert not reader.is_held
        assert failures == []

    over_wire(work)


@pytest.mark.parametrize("step", ["open", "start", "exchange", "restart"])
def test_no_answer_in_time_is_a_timeout(step, monkeypatch):
    monkeypatch.setattr(link_module, "OPEN_S", 0.01)

    async def work(wire):
        failures = []
        reader = reader_of(wire, failures, apdu_s=0.01)
        wire.stuck.add(step)

        async def use():
            connection = await reader.connect()
            await (connection.reset() if step == "restart" else connection.transmit(PING))

        with pytest.raises(TransportTimeoutError, match=r"no answer within 0\.01 s"):
            await use()
        assert not reader.is_held
        assert [type(failure) for failure in failures] == [TransportTimeoutError]
        wire.stuck.clear()
        await (await reader.connect()).close()

    over_wire(work)


def test_a_command_that_is_given_up_ends_the_session_and_is_no_failure():
    async def work(wire):
        failures = []
        reader = reader_of(wire, failures)
        connection = await reader.connect()
        wire.stuck.add("exchange")
        wire.reached.clear()
        waiting = asyncio.create_task(connection.transmit(PING))
        await wire.reached.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not reader.is_held
        assert failures == []
        with pytest.raises(CardRemovedError, match="closed"):
            await connection.transmit(PING)

    over_wire(work)


def test_a_connection_that_is_given_up_lets_go():
    async def work(wire):
        reader = reader_of(wire)
        wire.stuck.add("start")
        waiting = asyncio.create_task(reader.connect())
        await wire.reached.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not reader.is_held
        assert wire.said[-1] == "abort"

    over_wire(work)


def test_an_answer_without_a_status_is_none():
    async def work(wire):
        reader = reader_of(wire)
        connection = await reader.connect()
        wire.answers.append(b"\x90")
        with pytest.raises(TransportError, match="no status word"):
            await connection.transmit(PING)
        assert not reader.is_held

    over_wire(work)


def test_a_session_is_cut_while_it_waits_and_while_it_does_not():
    gone = NoReaderError("wire", "gone")

    async def work(wire):
        failures = []
        reader = reader_of(wire, failures)
        reader.cut(gone)
        connection = await reader.connect()
        reader.cut(gone)
        with pytest.raises(NoReaderError, match="gone"):
            await connection.transmit(PING)
        wire.aborted.clear()
        connection = await reader.connect()
        wire.stuck.add("exchange")
        wire.reached.clear()
        waiting = asyncio.create_task(connection.transmit(PING))
        await wire.reached.wait()
        reader.cut(gone)
        with pytest.raises(NoReaderError, match="gone"):
            await waiting
        with pytest.raises(NoReaderError, match="gone"):
            await connection.transmit(PING)
        await connection.close()
        assert failures == [gone, gone]

    over_wire(work)


@pytest.mark.parametrize("step", ["open", "start"])
def test_a_reader_that_is_no_longer_used_begins_no_session(step):
    async def work(wire):
        keeper = keeper_of(wire)
        keeper.start(lambda: None)
        await keeper.look()
        reader = keeper.slot.reader
        wire.said.clear()
        wire.aborted.clear()
        wire.stuck.add(step)
        opening = asyncio.create_task(reader.connect())
        while wire.said[-1:] != [step]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await keeper.stop()
        with pytest.raises(NoReaderError, match="no longer used"):
            await opening
        wire.stuck.clear()
        wire.said.clear()
        with pytest.raises(NoReaderError, match="no longer used"):
            await reader.connect()
        assert wire.said == ["abort"]
        assert not reader.is_held

    over_wire(work)


def test_a_session_that_begins_while_its_card_is_taken_out_is_cut():
    async def work(wire):
        keeper = keeper_of(wire)
        await keeper.look()
        reader = keeper.slot.reader
        starting = asyncio.Event()

        async def step(name):  # a link whose answer is there before it is cut
            if name == "start":
                keeper.take_out(EMPTY)
                starting.set()

        wire.step = step
        with pytest.raises(CardRemovedError, match="taken out"):
            await reader.connect()
        assert starting.is_set()
        assert (keeper.slot.state, reader.is_held) == (EMPTY, False)

    over_wire(work)


@pytest.mark.parametrize("step", ["exchange", "close"])
def test_an_element_that_was_left_on_is_powered_off(step, monkeypatch):
    monkeypatch.setattr(link_module, "CLOSE_S", 0.01)

    async def work(wire):
        states = []
        keeper = keeper_of(wire)
        keeper.start(lambda: states.append(keeper.slot.state))
        await keeper.look()
        connection = await keeper.slot.reader.connect()
        wire.stuck.add(step)
        wire.aborted.clear()
        wire.said.clear()
        if step == "exchange":
            waiting = asyncio.create_task(connection.transmit(PING))
            while not wire.said:  # noqa: ASYNC110
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await connection.close()
        wire.stuck.clear()
        async with asyncio.timeout(5):
            while wire.said[-5:] != ["abort", "open", "start", "close", "abort"]:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert states == [READY]
        before = list(wire.said)
        await keeper.look()
        assert wire.said == before
        await keeper.stop()

    over_wire(work)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (NoReaderError("wire", "no reader"), SlotState.ABSENT),
        (NoCardError("wire", "no card"), SlotState.EMPTY),
        (CardBusyError("wire", "in use"), SlotState.BUSY),
        (TransportTimeoutError("wire", "silence"), SlotState.FAULT),
        (TransportError("wire", "garbage", hint="look"), SlotState.FAULT),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_a_look_finds_is_the_state_of_the_slot(error, state):
    async def work(wire):
        keeper = keeper_of(wire)
        wire.errors["start"] = error
        await keeper.look()
        slot = keeper.slot
        assert (slot.state, slot.hint) == (state, error.hint or "")
        assert f"wire: {slot.fault}" == str(error)
        assert (slot.reader is not None) == (state is SlotState.BUSY)
        wire.errors.clear()
        await keeper.look()
        assert (keeper.slot.state, keeper.slot.atr, keeper.slot.fault) == (READY, ATR, "")

    over_wire(work)


def test_an_element_that_works_is_looked_at_lightly_or_not_at_all():
    async def work(wire):
        plain = keeper_of(wire)
        for _ in range(3):
            await plain.look()
        assert wire.said.count("start") == 1
        checks = []

        async def check():
            checks.append(1)
            if len(checks) == 2:
                raise NoReaderError("wire", "unplugged")

        light = keeper_of(wire, check=check)
        for _ in range(3):
            await light.look()
        assert (light.slot.state, len(checks)) == (SlotState.ABSENT, 2)

    over_wire(work)


def test_a_held_element_is_not_looked_at():
    async def work(wire):
        keeper = keeper_of(wire)
        await keeper.look()
        connection = await keeper.slot.reader.connect()
        before = list(wire.said)
        await keeper.look()
        assert (keeper.is_held, wire.said) == (True, before)
        await connection.close()

    over_wire(work)


def test_a_session_that_fails_makes_the_slot_a_fault_and_a_look_follows():
    async def work(wire):
        states = []
        keeper = keeper_of(wire)
        seen = asyncio.Event()

        def changed():
            states.append(keeper.slot.state)
            seen.set()

        keeper.start(changed)
        await keeper.look()
        connection = await keeper.slot.reader.connect()
        wire.errors["exchange"] = TransportError("wire", "garbage")
        with pytest.raises(TransportError):
            await connection.transmit(PING)
        assert keeper.slot.atr == ATR
        async with asyncio.timeout(5):
            while states[-1] is not READY or len(states) < 3:
                seen.clear()
                await seen.wait()
        assert states == [READY, FAULT, READY]
        await keeper.stop()

    over_wire(work)


def test_a_slot_without_a_card_is_left_alone_until_there_is_one():
    async def work(wire):
        keeper = keeper_of(wire)
        await keeper.look()
        connection = await keeper.slot.reader.connect()
        keeper.take_out(EMPTY)
        with pytest.raises(CardRemovedError, match="taken out"):
            await connection.transmit(PING)
        assert (keeper.slot.state, keeper.slot.fault) == (EMPTY, "")
        before = list(wire.said)
        await keeper.look()
        assert wire.said == before
        keeper.put_in()
        await keeper.look()
        assert keeper.slot.state is READY
        keeper.put_in()
        assert keeper.slot.state is READY

    over_wire(work)


def test_an_element_that_may_be_another_stays_unless_it_is():
    async def work(wire):
        states = []
        keeper = keeper_of(wire)
        keeper.start(lambda: states.append((keeper.slot.state, keeper.slot.atr)))
        await keeper.look()
        keeper.put_in(is_another=True)
        await keeper.look()
        assert wire.said.count("start") == 2
        assert states == [(READY, ATR)]
        wire.atr = OTHER_ATR
        keeper.put_in(is_another=True)
        await keeper.look()
        assert states[1:] == [(EMPTY, b""), (READY, OTHER_ATR)]
        await keeper.stop()

    over_wire(work)


def test_a_stuck_element_holds_up_nobody_who_waits_for_looks(monkeypatch):
    monkeypatch.setattr("iose.transport.slot_keeper.LOOK_S", 0.01)

    async def work(wire):
        other = Wire()
        wire.stuck.add("start")
        keepers = [keeper_of(wire), keeper_of(other)]
        await look_at(keepers)
        await look_at([])
        assert [keeper.slot.state for keeper in keepers] == [SlotState.ABSENT, READY]

    over_wire(work)


def test_reasons_are_the_systems_words():
    assert reason(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)")) == (
        "Connection refused"
    )
    assert reason(OSError("Multiple exceptions")) == "Multiple exceptions"
    assert reason(socket.gaierror(-2, "Name or service not known")) == "Name or service not known"
    assert "host name" in reason(UnicodeError("label empty or too long"))
