# SPDX-License-Identifier: Apache-2.0
"""A device on a bus, as a bank with one slot and as a reader: states, sessions, faults."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr
from iose.iso7816.batch import BatchStep
from iose.transport.bank import SlotState
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.i2c import I2cBank, device, reader
from tests.support.i2c_bus import BOARD, PART, DeviceLines

pytestmark = pytest.mark.anyio

PATIENCE_S = 10.0
NEVER_S = 3600.0
PING = CommandApdu(0, 0xA4, 4, 0, b"ping")
PINNED = {"reset_chip": "/dev/gpiochip0", "reset_line": 4}


class Watched:
    """A started bank, and what it told."""

    def __init__(self, bank):
        self.bank = bank
        self.changes = []
        self._changed = asyncio.Event()

    @property
    def slot(self):
        return self.bank.slots[0]

    def note(self):
        self.changes.append(self.slot.state)
        self._changed.set()

    async def until(self, state):
        async with asyncio.timeout(PATIENCE_S):
            while self.slot.state is not state:
                self._changed.clear()
                await self._changed.wait()

    async def connect(self):
        await self.until(SlotState.READY)
        return await self.slot.reader.connect()


@asynccontextmanager
async def started(address=4, poll_s=NEVER_S, apdu_s=5.0, **given):
    watched = Watched(
        I2cBank("i2c", bus="/dev/i2c-1", address=address, apdu_s=apdu_s, poll_s=poll_s, **given)
    )
    await watched.bank.start(watched.note)
    try:
        yield watched
    finally:
        await watched.bank.stop()


async def test_a_board_says_its_name_in_its_atr(wired):
    wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        slot = watched.slot
        assert (slot.name, slot.seid, slot.state) == ("i2c004", "1004", SlotState.READY)
        assert slot.atr == bytes.fromhex("3B086B6579312E636F6D")
        assert Atr.decode(slot.atr).se_name == "key1.com"
        assert slot.keys == ("0x04", "4")
        assert not slot.has_warm_reset
        assert watched.changes == [SlotState.READY]


async def test_a_part_says_its_name_in_an_atr_of_t1(wired):
    wired(DeviceLines(a72=PART))
    async with started(72, flavour="t1", sen="key9.com") as watched:
        atr = Atr.decode(watched.slot.atr)
        assert (atr.protocols, atr.historical_bytes) == ((1,), b"key1.com")
        assert (watched.slot.seid, watched.slot.sen) == ("1072", "key9.com")


async def test_a_long_text_of_a_part_is_cut_and_of_a_board_refused(wired):
    lines = wired(DeviceLines(a4=BOARD, a5=PART))
    for chip in lines.chips.values():
        chip.historical_bytes = b"0123456789abcdefg"
    async with started(5, flavour="t1") as watched:
        assert Atr.decode(watched.slot.atr).historical_bytes == b"0123456789abcde"
    async with started(4) as watched:
        assert watched.slot.state is SlotState.FAULT
        assert "17 bytes" in watched.slot.fault


@pytest.mark.parametrize(("kind", "flavour"), [(BOARD, "iose"), (PART, "t1")])
async def test_commands_are_answered(wired, kind, flavour):
    lines = wired(DeviceLines(a4=kind))
    async with started(flavour=flavour) as watched:
        connection = await watched.connect()
        assert (await connection.transmit(PING)).data == PING.encode()
        assert await connection.transmit_raw(b"\0\1\2\3") == b"\0\1\2\3\x90\0"
        steps = [BatchStep(PING), BatchStep(PING, None)]
        assert [one.status for one in await connection.transmit_batch(steps)] == [0x9000, 0x9000]
        assert connection.apdus == 4
        assert len(lines.chips[4].commands) == 4
        await connection.close()
        await connection.close()


async def test_what_a_board_announces_is_fetched(wired):
    lines = wired(DeviceLines(a4=BOARD))
    lines.chips[4].answers = [b"ab\x61\x02", b"cd\x90\x00"]
    async with started() as watched:
        connection = await watched.connect()
        (answer,) = await connection.transmit_batch([BatchStep(PING)])
        assert answer == ResponseApdu(b"abcd")
        assert lines.chips[4].commands[1] == bytes.fromhex("00C0000002")
        await connection.close()


@pytest.mark.parametrize(("kind", "flavour", "le"), [(BOARD, "iose", b""), (PART, "t1", b"\0")])
async def test_le_after_data_goes_to_parts_only(wired, kind, flavour, le):
    lines = wired(DeviceLines(a4=kind))
    async with started(flavour=flavour) as watched:
        connection = await watched.connect()
        await connection.transmit(CommandApdu(0, 0xA4, 4, 0, b"ping", 256))
        await connection.transmit(CommandApdu(0, 0xCA, 0, 0, le=256))
        await connection.transmit_raw(bytes.fromhex("00A404000141") + b"\0")
        assert lines.chips[4].commands == [
            PING.encode() + le,
            bytes.fromhex("00CA000000"),
            bytes.fromhex("00A40400014100"),
        ]
        await connection.close()


async def test_a_command_too_long_for_a_board_is_refused_and_harms_nothing(wired):
    wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        connection = await watched.connect()
        with pytest.raises(TransportError, match="takes 254") as caught:
            await connection.transmit_raw(bytes(255))
        assert "chunk_size" in caught.value.hint
        assert (await connection.transmit_raw(bytes(252)))[-2:] == b"\x90\0"
        assert watched.slot.state is SlotState.READY
        await connection.close()


async def test_a_part_takes_long_commands_and_gives_long_answers_in_chains(wired):
    lines = wired(DeviceLines(a4=PART))
    async with started(flavour="t1") as watched:
        connection = await watched.connect()
        command = bytes.fromhex("00D80000000800") + bytes(2048)
        assert await connection.transmit_raw(command) == command + b"\x90\0"
        assert lines.chips[4].commands == [command]
        await connection.close()


async def test_a_session_begins_and_ends_with_a_pulse_where_there_is_a_line(wired):
    lines = wired(DeviceLines(a4=BOARD))
    async with started(**PINNED) as watched:
        assert ("p", 4) not in lines.log
        connection = await watched.connect()
        assert lines.log.count(("p", 4)) == 1
        assert await connection.reset() == connection.atr
        assert lines.log.count(("p", 4)) == 2
        await connection.close()
        assert lines.log.count(("p", 4)) == 3
        assert lines.log[-1] == ("p", 4)


async def test_an_element_is_given_time_to_start_after_a_pulse(wired, monkeypatch):
    lines = wired(DeviceLines(a4=BOARD))
    start_s, slept = 1000.0, []

    async def sleep(seconds):
        slept.append((seconds, lines.log[-1]))

    async with started(**PINNED) as watched:
        with monkeypatch.context() as patched:
            patched.setattr(device, "RESET_START_S", start_s)
            patched.setattr(device.asyncio, "sleep", sleep)
            connection = await watched.slot.reader.connect()
        assert slept == [(pytest.approx(start_s, abs=PATIENCE_S), ("p", 4))]
        await connection.close()


async def test_without_a_line_a_session_begins_and_ends_with_a_soft_reset(wired):
    lines = wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        connection = await watched.connect()
        restarts = lines.chips[4].restarts
        await connection.reset()
        await connection.close()
        assert lines.chips[4].restarts == restarts + 2
        assert not any(entry[0] == "p" for entry in lines.log)


async def test_two_sessions_at_once_are_refused(wired):
    wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        first = await watched.connect()
        with pytest.raises(CardBusyError):
            await watched.connect()
        await first.close()
        await (await watched.connect()).close()


async def test_tasks_that_share_a_session_wait_for_each_other(wired):
    wired(DeviceLines(a4=PART))
    async with started(flavour="t1") as watched:
        connection = await watched.connect()
        answers = await asyncio.gather(*(connection.transmit_raw(bytes(n)) for n in (4, 5, 6)))
        assert [len(answer) for answer in answers] == [6, 7, 8]
        await connection.close()


async def test_a_command_given_up_ends_the_session_and_not_the_device(wired):
    lines = wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        connection = await watched.connect()
        lines.faults.give({"fault": "silence"})
        task = asyncio.ensure_future(connection.transmit(PING))
        before = len(lines.log)
        async with asyncio.timeout(PATIENCE_S):
            while len(lines.log) < before + 3:  # noqa: ASYNC110  # the thread of the bus counts
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(CardRemovedError, match="over"):
            await connection.transmit(PING)
        lines.faults.give({"fault": None})
        await connection.close()
        connection = await watched.connect()
        assert (await connection.transmit(PING)).status == 0x9000
        await connection.close()


async def test_a_session_that_is_over_takes_nothing(wired):
    wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        connection = await watched.connect()
        await connection.close()
        for work in (connection.reset, lambda: connection.transmit(PING)):
            with pytest.raises(CardRemovedError, match="over"):
                await work()


@pytest.mark.parametrize(
    ("fault", "error", "state", "words"),
    [
        ("silence", TransportTimeoutError, SlotState.FAULT, "no answer in time"),
        ("crc", TransportError, SlotState.FAULT, "wrong CRC"),
        ("lost", TransportError, SlotState.FAULT, "wrong CRC"),
        ("garbage", TransportError, SlotState.FAULT, "begins with 17"),
        ("partial", TransportError, SlotState.FAULT, "wrong CRC"),
        ("nack", CardRemovedError, SlotState.EMPTY, "no acknowledgement"),
        ("gone", CardRemovedError, SlotState.EMPTY, "no acknowledgement"),
        ("other", TransportError, SlotState.FAULT, "reports an error, 81"),
        ("element", TransportError, SlotState.FAULT, "error of the element, 82"),
        ("reset", TransportTimeoutError, SlotState.FAULT, "no answer in time"),
    ],
)
async def test_a_fault_ends_the_session_and_is_over_when_it_is_over(
    wired, fault, error, state, words
):
    lines = wired(DeviceLines(a4=BOARD))
    async with started(poll_s=0.01, apdu_s=0.1) as watched:
        connection = await watched.connect()
        lines.faults.give({"fault": fault})
        with pytest.raises(error, match=words) as caught:
            await connection.transmit(PING)
        assert caught.value.hint
        assert (watched.slot.state, watched.slot.reader) == (state, None)
        assert (watched.slot.fault, watched.slot.hint) == (
            str(caught.value).removeprefix("i2c004: "),
            caught.value.hint,
        )
        await connection.close()
        lines.faults.give({"fault": None})
        connection = await watched.connect()
        assert (await connection.transmit(PING)).status == 0x9000
        await connection.close()


@pytest.mark.parametrize("fault", ["crc", "lost", "nack", "slow", "partial"])
@pytest.mark.parametrize(("kind", "flavour"), [(BOARD, "iose"), (PART, "t1")])
async def test_two_faults_in_a_row_are_survived(wired, fault, kind, flavour):
    lines = wired(DeviceLines(a4=kind))
    async with started(flavour=flavour) as watched:
        connection = await watched.connect()
        lines.faults.give({"fault": fault, "count": 2})
        assert (await connection.transmit(PING)).status == 0x9000
        assert len(lines.chips[4].commands) == 1
        assert (await connection.transmit(PING)).status == 0x9000
        assert watched.slot.state is SlotState.READY
        await connection.close()


async def test_a_part_may_ask_for_time(wired):
    lines = wired(DeviceLines(a4=PART))
    async with started(flavour="t1") as watched:
        connection = await watched.connect()
        lines.faults.give({"fault": "waiting", "count": 1})
        assert (await connection.transmit(PING)).status == 0x9000
        await connection.close()


async def test_nobody_at_the_address_is_an_empty_slot_until_somebody_is(wired):
    lines = wired(DeviceLines(a4=BOARD))
    lines.faults.give({"fault": "gone"})
    async with started(poll_s=0.01) as watched:
        assert watched.slot.state is SlotState.EMPTY
        assert "acknowledges" in watched.slot.fault
        assert "i2cdetect" in watched.slot.hint
        lines.faults.give({"fault": None})
        await watched.until(SlotState.READY)
        lines.faults.give({"fault": "gone"})
        await watched.until(SlotState.EMPTY)


async def test_a_bus_that_is_not_there_is_an_absent_slot_until_it_is(wired):
    lines = wired(DeviceLines(a4=BOARD))
    lines.absent = "cannot be used: No such file or directory"
    async with started(poll_s=0.01) as watched:
        assert (watched.slot.state, watched.slot.fault) == (SlotState.ABSENT, lines.absent)
        lines.absent = None
        await watched.until(SlotState.READY)
        reader = watched.slot.reader
        lines.absent = "gone"
        with pytest.raises(NoReaderError):
            await reader.connect()
        await watched.until(SlotState.ABSENT)


async def test_an_element_that_vanished_since_is_no_card_at_the_start_of_a_session(wired):
    lines = wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        lines.faults.give({"fault": "gone"})
        with pytest.raises(NoCardError):
            await watched.connect()
        assert watched.slot.state is SlotState.EMPTY
        lines.faults.give({"fault": None})
        await (await watched.connect()).close()


async def test_a_look_changes_nothing_in_the_element(wired):
    lines = wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        restarts = lines.chips[4].restarts
        for _ in range(3):
            await watched.bank.refresh()
        assert lines.chips[4].restarts == restarts
        assert watched.changes == [SlotState.READY]


async def test_a_board_without_an_echo_is_looked_at_by_a_reset(wired, monkeypatch):
    lines = wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        lines.faults.give({"fault": "other", "count": 1})
        await watched.bank.refresh()
        assert watched.changes == [SlotState.READY]


async def test_a_device_that_hangs_is_helped_by_its_reset_line(wired):
    lines = wired(DeviceLines(a4=BOARD))
    lines.faults.give({"fault": "garbage", "count": 1})
    async with started(**PINNED) as watched:
        assert watched.slot.state is SlotState.READY
        assert ("p", 4) in lines.log


async def test_an_element_in_use_is_not_looked_at(wired):
    lines = wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        connection = await watched.connect()
        before = len(lines.log)
        await watched.bank.refresh()
        assert len(lines.log) == before
        await connection.close()


async def test_a_look_that_waited_leaves_the_element_to_the_session_that_came(wired):
    lines = wired(DeviceLines(a4=BOARD))
    async with started() as watched:
        bank, reader = watched.bank, watched.slot.reader
        before = len([entry for entry in lines.log if entry[0] == "w"])
        looks = (bank.refresh(), bank.refresh())
        _, _, connection = await asyncio.gather(*looks, reader.connect())
        assert len([entry for entry in lines.log if entry[0] == "w"]) == before + 2
        await connection.close()


async def test_a_bank_that_is_stopped_ends_the_session(wired):
    wired(DeviceLines(a4=BOARD, a5=BOARD))
    async with started(5) as other:
        async with started() as watched:
            connection = await watched.connect()
            watched.changes.clear()
        with pytest.raises(CardRemovedError, match="over"):
            await connection.transmit(PING)
        with pytest.raises(NoReaderError, match="no longer used"):
            await connection.reset()
        await connection.close()
        assert watched.changes == []
        await (await other.connect()).close()


@pytest.mark.parametrize("pin", [{}, PINNED], ids=["soft", "line"])
async def test_a_bank_that_is_stopped_powers_off_the_element_of_a_session(wired, pin):
    lines = wired(DeviceLines(a4=BOARD))
    async with started(**pin) as watched:
        connection = await watched.connect()
        assert (await connection.transmit(PING)).status == 0x9000
        restarts = lines.chips[4].restarts
    assert lines.chips[4].restarts == restarts + 1
    assert not lines.is_open
    await connection.close()


async def test_a_bank_is_stopped_in_the_middle_of_a_command(wired, monkeypatch):
    lines = wired(DeviceLines(a4=BOARD))
    monkeypatch.setattr(reader, "CLOSE_S", 0.05)
    async with started(apdu_s=NEVER_S) as watched:
        connection = await watched.connect()
        lines.faults.give({"fault": "silence"})
        task = asyncio.ensure_future(connection.transmit(PING))
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(NoReaderError, match="no longer used"):
            await task
    await connection.close()


async def test_a_stuck_device_leaves_the_bus_to_the_others(wired):
    lines = wired(DeviceLines(a4=BOARD, a5=BOARD))
    async with started(4, apdu_s=60.0) as stuck, started(5) as other:
        assert stuck.bank._bus is other.bank._bus
        connections = [await stuck.connect(), await other.connect()]
        lines.faults.give({"fault": "silence", "address": 4, "count": None})
        task = asyncio.ensure_future(connections[0].transmit(PING))
        for _ in range(20):
            assert (await connections[1].transmit(PING)).status == 0x9000
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        lines.faults.give({"fault": None})
        for connection in connections:
            await connection.close()


async def test_a_bus_that_hangs_is_given_up_in_time(wired, monkeypatch):
    lines = wired(DeviceLines(a4=BOARD))
    monkeypatch.setattr(device, "TRANSFER_GRACE_S", 0.01)
    async with started(apdu_s=0.05) as watched:
        connection = await watched.connect()
        lines.held_by = 4
        with pytest.raises(TransportTimeoutError, match="bus does nothing"):
            await connection.transmit(PING)
        assert watched.slot.state is SlotState.FAULT
        lines.held_by = 0
        lines.held.set()
        await connection.close()


async def test_a_bank_that_is_not_started_has_nothing():
    bank = I2cBank("i2c", bus="/dev/i2c-1", address=4, apdu_s=1.0)
    await bank.refresh()
    await bank.stop()
    assert bank.slots[0].state is SlotState.ABSENT
