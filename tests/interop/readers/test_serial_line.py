# SPDX-License-Identifier: Apache-2.0
"""A board on a serial line: sessions, and each fault of wire and device (tls-im.md §5)."""

import asyncio
import errno
import os

import pytest

from iose.transport.bank import SlotState
from iose.transport.errors import (
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.serial_line import SerialBank, SerialLine, line, port
from tests.support.started_bank import check_fault, started
from tests.support.tls_session import SELECT, check_session
from tests.support.twin import twin

pytestmark = [pytest.mark.anyio, pytest.mark.interop]

pytest.importorskip("serial", reason="pyserial is an extra")

VERSION = "iose keystore 1.3"
SEID = "serial-ttyTWIN0"
FAULTS = [
    ("silence", {}, TransportTimeoutError, "no answer"),
    ("partial", {}, TransportTimeoutError, "no answer"),
    ("partial", {"close": True}, CardRemovedError, "went away"),
    ("gone", {}, CardRemovedError, "went away"),
    ("garbage", {}, TransportError, "printable"),
    ("crc", {}, TransportError, "APDU in hex"),
    ("refuse", {}, TransportError, "refused the command"),
    ("long", {}, TransportError, "longer than"),
    ("twice", {}, TransportError, "not asked"),
    ("half", {}, TransportError, "not asked"),
    ("slow", {"delay_s": 60}, TransportTimeoutError, "no answer"),
]
NAMES = [kind + "".join(f" {name}" for name in more) for kind, more, *_ in FAULTS]


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(line, "PROBE_S", 0.1)
    monkeypatch.setattr(line, "QUIET_S", 0.01)
    monkeypatch.setattr(port, "RESET_S", 0.001)


@pytest.fixture(scope="module")
def running():
    with twin("serial_line") as board:
        yield board


@pytest.fixture
def board(running):
    running.order(said=True)
    yield running
    running.fault(None)


def bank_of(device, *, apdu_s=1.0):
    return SerialBank("board", device=device, baud=19_200, sen="key1.com", apdu_s=apdu_s)


async def test_an_element_is_found_and_a_tls_session_goes_through(board):
    async with started(bank_of(board.device)) as bank:
        slot = await bank.becomes(SEID, SlotState.READY)
        assert slot.atr == bytes.fromhex("3B08") + b"key1.com"
        assert slot.keys == (board.device, "ttyTWIN0")
        connection = await bank.connect(SEID)
        assert await check_session(connection) == VERSION
        assert await connection.reset() == connection.atr
        await connection.close()
    said = board.order(said=True)["said"]
    assert said[:5] == ["", "on", "off", "on", "A 00A4040006010203040500"]
    assert said[-3:] == ["off", "on", "off"]


async def test_the_line_stays_open_between_sessions(board):
    async with started(bank_of(board.device)) as bank:
        for _ in range(3):
            connection = await bank.connect(SEID)
            assert (await connection.transmit(SELECT)).status == 0x9000
            await connection.close()
    assert board.order(said=True)["said"].count("") == 1


@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
async def test_a_fault_ends_the_session_and_the_board_works_again(board, fault):
    async with started(bank_of(board.device)) as bank:
        await check_fault(bank, SEID, board, fault)


async def test_slow_bytes_are_waited_for(board):
    async with started(bank_of(board.device, apdu_s=10.0)) as bank:
        board.fault("slow", delay_s=0.0001)
        await bank.check_element(SEID)


async def test_a_line_that_takes_nothing_any_more_ends_in_time(board):
    async with started(bank_of(board.device, apdu_s=0.3)) as bank:
        connection = await bank.connect(SEID)
        board.fault("deaf")
        with pytest.raises(TransportTimeoutError, match="no answer"):
            await connection.transmit_raw(bytes.fromhex("00D80003000000") + bytes(60_000))
        await connection.close()
        board.fault(None)
        await bank.becomes(SEID, SlotState.READY)


async def test_a_board_that_is_unplugged_between_sessions_is_absent_until_it_is_back(
    board, monkeypatch
):
    monkeypatch.setattr("iose.transport.slot_keeper.CHECK_S", 0.05)
    async with started(bank_of(board.device)) as bank:
        await bank.becomes(SEID, SlotState.READY)
        board.fault("gone")
        await bank.becomes(SEID, SlotState.ABSENT)
        await bank.until(lambda slots: "no such device" in slots[0].fault)
        assert "plugged in" in bank.slot(SEID).hint
        board.fault(None)
        await bank.check_element(SEID)


async def test_a_board_that_says_nothing_is_a_fault_until_it_does(board):
    board.fault("silence", verb="probe")
    async with started(bank_of(board.device)) as bank:
        slot = await bank.becomes(SEID, SlotState.FAULT)
        assert "nobody answers at 19200 baud" in slot.fault
        assert "speed" in slot.hint
        assert board.order(said=True)["said"] == [""] * 5
        board.fault(None)
        await bank.becomes(SEID, SlotState.READY)


async def test_noise_of_a_board_that_starts_does_not_matter(board):
    board.fault("garbage", verb="probe", count=2)
    async with started(bank_of(board.device)) as bank:
        await bank.becomes(SEID, SlotState.READY)


@pytest.mark.parametrize("kind", ["twice", "refuse"])
async def test_any_sign_of_life_will_do(board, kind):
    board.fault(kind, verb="probe")
    async with started(bank_of(board.device)) as bank:
        await bank.becomes(SEID, SlotState.READY)


async def test_a_board_without_an_element_has_an_empty_slot(board):
    board.fault("refuse", verb="on")
    async with started(bank_of(board.device)) as bank:
        slot = await bank.becomes(SEID, SlotState.EMPTY)
        assert "power the element on" in slot.fault
        board.fault(None)
        await bank.becomes(SEID, SlotState.READY)


async def test_a_reset_that_is_refused_is_no_card(board):
    async with started(bank_of(board.device)) as bank:
        connection = await bank.connect(SEID)
        board.fault("refuse", verb="on", count=1)
        with pytest.raises(NoCardError):
            await connection.reset()
        await connection.close()
        await bank.becomes(SEID, SlotState.READY)


async def test_a_device_that_another_program_has_is_busy(board):
    async with started(bank_of(board.device)) as first:
        await first.becomes(SEID, SlotState.READY)
        async with started(bank_of(board.device)) as second:
            slot = await second.becomes(SEID, SlotState.BUSY)
            assert "another program" in slot.fault
            assert slot.reader is not None
            await first.bank.stop()
            await second.becomes(SEID, SlotState.READY)


async def test_a_device_that_is_not_there_is_absent(tmp_path):
    async with started(bank_of(str(tmp_path / "ttyACM0"))) as bank:
        slot = bank.slot("serial-ttyACM0")
        assert (slot.state, slot.reader) == (SlotState.ABSENT, None)
        assert "no such device" in slot.fault


async def test_a_device_we_may_not_open_says_which_group_may(board, monkeypatch):
    import serial  # noqa: PLC0415

    def refuse(*_, **__):
        raise serial.SerialException(errno.EACCES, "could not open port: Permission denied")

    monkeypatch.setattr(serial, "Serial", refuse)
    async with started(bank_of(board.device)) as bank:
        slot = bank.slot(SEID)
        assert slot.state is SlotState.FAULT
        assert "may not open" in slot.fault
        assert "dialout" in slot.hint


async def test_a_file_is_no_serial_line(tmp_path):
    file = tmp_path / "file"
    file.touch()
    async with started(bank_of(str(file))) as bank:
        slot = bank.slot("serial-file")
        assert slot.state is SlotState.FAULT
        assert "no serial line" in slot.fault


async def test_without_pyserial_the_slot_says_what_to_install(board, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "serial", None)
    async with started(bank_of(board.device)) as bank:
        slot = bank.slot(SEID)
        assert slot.state is SlotState.FAULT
        assert "iose[serial]" in slot.hint


async def test_a_bank_that_stops_while_it_opens_its_line_leaves_nothing_open(board):
    before = set(os.listdir("/proc/self/fd"))
    bank = bank_of(board.device)
    starting = asyncio.create_task(bank.start(lambda: None))
    await asyncio.sleep(0)
    await bank.stop()
    await starting
    assert set(os.listdir("/proc/self/fd")) == before
    assert bank.slots[0].reader is None


async def test_a_line_is_asked_a_text_at_a_time(board):
    serial_line = SerialLine(board.device)
    assert serial_line.name == board.device
    await serial_line.open()
    await serial_line.open()
    assert await serial_line.ask("on") == "OK"
    assert await serial_line.ask("syn") == "ERROR"
    assert await serial_line.ask("off") == "OK"
    serial_line.shut()
    with pytest.raises(CardRemovedError, match="closed"):
        await serial_line.ask("on")
    serial_line.shut()


async def test_a_line_that_gets_no_answer_is_closed(board):
    serial_line = SerialLine(board.device, answer_s=0.1)
    await serial_line.open()
    board.fault("silence", verb="on")
    with pytest.raises(TransportTimeoutError):
        await serial_line.ask("on")
    with pytest.raises(CardRemovedError):
        await serial_line.ask("on")
    board.fault(None)
    await serial_line.open()
    assert await serial_line.ask("on") == "OK"
    serial_line.shut()


async def test_nothing_stays_open_when_opening_is_given_up(board):
    before = set(os.listdir("/proc/self/fd"))
    board.fault("silence", verb="probe")
    serial_line = SerialLine(board.device)
    with pytest.raises(TransportTimeoutError):
        await serial_line.open()
    with pytest.raises(NoReaderError):
        await serial_line.check()
    assert set(os.listdir("/proc/self/fd")) == before
