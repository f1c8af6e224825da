# SPDX-License-Identifier: Apache-2.0
"""What befalls a device on a bus, its bank, and the others on the bus: errors, states, recovery."""

import asyncio

import pytest

from iose.iso7816.batch import BatchStep
from iose.transport.bank import SlotState
from iose.transport.errors import (
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.i2c import I2cBank, device, reader
from tests.support.i2c_bank import NEVER_S, PATIENCE_S, PING, PINNED, started
from tests.support.i2c_bus import BOARD, PART, DeviceLines

pytestmark = pytest.mark.anyio


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


async def test_resets_of_one_device_harm_no_exchange_of_another(wired):
    lines = wired(DeviceLines(a4=BOARD, a5=PART))
    async with started(4, **PINNED) as reset, started(5, flavour="t1") as other:
        connections = [await reset.connect(), await other.connect()]
        task = asyncio.ensure_future(connections[1].transmit_batch([BatchStep(PING)] * 20))
        resets = 0
        while not task.done():
            await connections[0].reset()
            resets += 1
        assert [one.status for one in await task] == [0x9000] * 20
        assert resets
        assert len(lines.chips[5].commands) == 20
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
