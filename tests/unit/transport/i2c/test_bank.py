# SPDX-License-Identifier: Apache-2.0
"""A device on a bus, as a bank with one slot and as a reader: what it is, and its sessions."""

import asyncio

import pytest

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr
from iose.iso7816.batch import BatchStep
from iose.transport.bank import SlotState
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NotSentError,
)
from iose.transport.i2c import device
from tests.support.i2c_bank import PATIENCE_S, PING, PINNED, started
from tests.support.i2c_bus import BOARD, PART, DeviceLines

pytestmark = pytest.mark.anyio


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
        with pytest.raises(NotSentError, match="takes 254") as caught:
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
