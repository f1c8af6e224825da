# SPDX-License-Identifier: Apache-2.0
"""One bus and its thread: transfers in turn, shared by banks, opened again after it was gone."""

import asyncio
import threading

import pytest

from iose.transport.errors import NoReaderError, TransportError
from iose.transport.i2c import bus as bus_module
from iose.transport.i2c.bus import GAP_S, acquire_bus, release_bus
from iose.transport.i2c.lines import ResetPin
from tests.support.i2c_bus import BOARD, DeviceLines

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bus(wired):
    shared = acquire_bus("/dev/i2c-77")
    yield shared
    await release_bus(shared)


async def test_transfers_are_done_by_one_thread_that_is_not_the_loop_s(wired, bus):
    lines = wired(DeviceLines(a4=BOARD))
    assert await bus.write(4, b"\x5a") == b""
    assert await bus.read(4, 2) == b"\0\0"
    await bus.pulse(ResetPin("x", 4))
    assert lines.log == [("w", 4, b"\x5a"), ("r", 4, 2), ("p", 4)]
    assert len(lines.threads) == 1
    assert threading.get_ident() not in lines.threads


async def test_a_transfer_that_nobody_acknowledges_brings_nothing(wired, bus):
    lines = wired(DeviceLines(a4=BOARD))
    assert await bus.write(5, b"\x5a") is None
    assert await bus.read(5, 1) is None
    assert lines.is_open


async def test_there_is_a_gap_between_two_transfers(wired, bus, monkeypatch):
    wired(DeviceLines(a4=BOARD))
    now, slept = 100.0, []
    monkeypatch.setattr(bus_module.time, "monotonic", lambda: now)
    monkeypatch.setattr(bus_module.time, "sleep", slept.append)
    await bus.read(4, 1)
    await bus.read(4, 1)
    assert slept == [0.0, pytest.approx(GAP_S)]


async def test_those_who_ask_for_one_bus_share_it(wired):
    lines = wired(DeviceLines(a4=BOARD))
    first, second = acquire_bus("/dev/i2c-77"), acquire_bus("/dev/../dev/i2c-77")
    other = acquire_bus("/dev/i2c-78")
    assert first is second
    assert other is not first
    await first.read(4, 1)
    await release_bus(other)
    await release_bus(first)
    assert lines.is_open
    assert await second.read(4, 1) == b"\0"
    await release_bus(second)
    assert not lines.is_open
    again = acquire_bus("/dev/i2c-77")
    assert again is not first
    await release_bus(again)


async def test_a_bus_that_is_not_there_is_opened_when_it_is(wired, bus):
    lines = wired(DeviceLines(a4=BOARD))
    lines.absent = "no such file"
    with pytest.raises(NoReaderError, match="no such file"):
        await bus.read(4, 1)
    lines.absent = None
    assert await bus.read(4, 1) == b"\0"
    lines.absent = "gone"
    with pytest.raises(NoReaderError, match="gone"):
        await bus.read(4, 1)
    assert not lines.is_open
    lines.absent = None
    assert await bus.read(4, 1) == b"\0"


async def test_a_transfer_given_up_before_its_turn_is_not_done(wired, bus):
    lines = wired(DeviceLines(a4=BOARD, a5=BOARD))
    lines.held_by = 4
    stuck = asyncio.ensure_future(bus.read(4, 1))
    await asyncio.to_thread(lines.entered.wait, 5.0)
    late = asyncio.ensure_future(bus.read(5, 1))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    lines.held.set()
    assert await stuck == b"\0"
    assert await bus.read(5, 2) == b"\0\0"
    assert lines.log == [("r", 4, 1), ("r", 5, 2)]


async def test_a_transfer_that_hangs_does_not_hold_up_the_end(wired, monkeypatch):
    lines = wired(DeviceLines(a4=BOARD))
    monkeypatch.setattr(bus_module, "STOP_S", 0.01)
    shared = acquire_bus("/dev/i2c-77")
    lines.held_by = 4
    stuck = asyncio.ensure_future(shared.read(4, 1))
    await asyncio.to_thread(lines.entered.wait, 5.0)
    await release_bus(shared)
    assert not stuck.done()
    lines.held.set()
    assert await stuck == b"\0"


async def test_a_bus_that_is_stopped_says_so(wired):
    wired(DeviceLines(a4=BOARD))
    shared = acquire_bus("/dev/i2c-77")
    await release_bus(shared)
    with pytest.raises(NoReaderError, match="no longer used"):
        await shared.read(4, 1)


@pytest.mark.parametrize(("reader", "is_open"), [("/dev/gpiochip0", True), ("/dev/i2c-77", False)])
async def test_a_line_that_is_none_leaves_the_lines_of_others_alone(wired, bus, reader, is_open):
    lines = wired(DeviceLines(a4=BOARD))

    def broken(pin):
        raise TransportError(reader, "no line 99")

    lines.pulse = broken
    with pytest.raises(TransportError, match="no line 99"):
        await bus.pulse(ResetPin("/dev/gpiochip0", 99))
    assert lines.is_open is is_open


async def test_an_error_of_the_bus_reaches_who_asked(wired, bus):
    lines = wired(DeviceLines(a4=BOARD))

    def broken(address, size):
        raise TransportError("bus", "it says what it may not")

    lines.read = broken
    with pytest.raises(TransportError, match="may not"):
        await bus.read(4, 1)
