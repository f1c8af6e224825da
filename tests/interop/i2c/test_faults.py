# SPDX-License-Identifier: Apache-2.0
"""What befalls devices of a bus in another program: the documented error, and then work again."""

import asyncio

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.transport.bank import SlotState
from iose.transport.errors import (
    CardRemovedError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from tests.interop.i2c.conftest import DEVICES, PATIENCE_S, Watched
from tests.support.twin import twin

pytestmark = pytest.mark.anyio

SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))
FOR_EVER = 1_000_000  # times that a slow device says "not ready" here; a passing fault has few
LASTING = {
    "silence": (TransportTimeoutError, SlotState.FAULT),
    "slow": (TransportTimeoutError, SlotState.FAULT),
    "reset": (TransportTimeoutError, SlotState.FAULT),
    "crc": (TransportError, SlotState.FAULT),
    "lost": (TransportError, SlotState.FAULT),
    "garbage": (TransportError, SlotState.FAULT),
    "partial": (TransportError, SlotState.FAULT),
    "other": (TransportError, SlotState.FAULT),
    "element": (TransportError, SlotState.FAULT),
    "nack": (CardRemovedError, SlotState.EMPTY),
    "gone": (CardRemovedError, SlotState.EMPTY),
}
ADDRESSES = pytest.mark.parametrize("address", [4, 10], ids=["iose", "t1"])


@pytest.fixture
def order(program):
    """Orders to the twin; what went wrong is over after the test."""
    yield program.fault
    program.fault(None)


@ADDRESSES
@pytest.mark.parametrize("fault", LASTING)
async def test_a_lasting_fault_ends_in_its_error_and_is_over_by_itself(
    program, order, address, fault
):
    error, state = LASTING[fault]
    async with Watched(program.ready["bus"], address, apdu_s=0.3, poll_s=60.0) as device:
        connection = await device.connect()
        assert (await connection.transmit(SELECT)).status == 0x9000
        order(fault, address=address, polls=FOR_EVER)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(TransportError) as caught:
                await connection.transmit(SELECT)
        assert type(caught.value) is error
        assert caught.value.hint
        assert device.slot.state is state
        await connection.close()
        order(None)
        connection = await device.connect()
        assert (await connection.transmit(SELECT)).status == 0x9000
        await connection.close()


@ADDRESSES
@pytest.mark.parametrize("fault", ["crc", "lost", "partial", "nack", "slow"])
async def test_a_passing_fault_is_not_even_seen(program, order, address, fault):
    async with Watched(program.ready["bus"], address) as device:
        connection = await device.connect()
        order(fault, 2, address=address)
        assert (await connection.transmit(SELECT)).status == 0x9000
        assert device.slot.state is SlotState.READY
        await connection.close()


async def test_one_stuck_device_leaves_the_bus_to_the_other(program, order):
    bus = program.ready["bus"]
    async with Watched(bus, 4, apdu_s=30.0) as stuck, Watched(bus, 10) as other:
        waiting, working = await stuck.connect(), await other.connect()
        order("silence", address=4)
        task = asyncio.ensure_future(waiting.transmit(SELECT))
        for _ in range(20):
            assert (await working.transmit(SELECT)).status == 0x9000
        assert not task.done()
        order(None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await waiting.close()
        await working.close()


@pytest.mark.parametrize("pin", [{}, {"reset_chip": "twin", "reset_line": 4}], ids=["soft", "line"])
async def test_a_reset_makes_the_element_forget(program, pin):
    async with Watched(program.ready["bus"], 4, **pin) as device:
        connection = await device.connect()
        verify = CommandApdu(0, 0x20, 0, 0, b"0000")
        protected = CommandApdu(0, 0x85, 0, 0x0C, bytes(32))
        assert (await connection.transmit(SELECT)).status == 0x9000
        assert (await connection.transmit(verify)).status == 0x9000
        assert (await connection.transmit(protected)).status.sw1 == 0x61
        assert await connection.reset() == connection.atr
        assert (await connection.transmit(SELECT)).status == 0x9000
        assert (await connection.transmit(protected)).status == 0x6380
        await connection.close()


async def test_a_line_that_is_none_is_told(program):
    pin = {"reset_chip": "twin", "reset_line": 99}
    async with Watched(program.ready["bus"], 4, **pin) as device:
        with pytest.raises(TransportError, match="no line 99"):
            await device.connect()


async def test_a_bus_whose_program_dies_is_absent_until_it_is_back(tmp_path):
    options = (*DEVICES, "--socket", str(tmp_path / "bus"))
    with twin("i2c", *options) as first:
        async with Watched(first.ready["bus"], 4) as device:
            connection = await device.connect()
            first.kill()
            with pytest.raises(NoReaderError):
                await connection.transmit(SELECT)
            assert device.slot.state is SlotState.ABSENT
            assert device.slot.hint
            await connection.close()
            with twin("i2c", *options):
                connection = await device.connect()
                assert (await connection.transmit(SELECT)).status == 0x9000
                await connection.close()


async def test_a_bus_may_be_reached_over_tcp():
    with twin("i2c", *DEVICES, "--tcp") as program:
        async with Watched(program.ready["bus"], 10) as device:
            connection = await device.connect()
            assert (await connection.transmit(SELECT)).status == 0x9000
            await connection.close()
