# SPDX-License-Identifier: Apache-2.0
"""Whoever is cancelled while an element loses its power: it loses it, and only then its lock."""

import asyncio
from collections.abc import Awaitable

import pytest

from iose.bridge.stream import EndReason
from iose.iso7816.atr import TransmissionProtocol
from iose.protocols.vpcd import Order
from iose.servers.driver_link import DriverAddress
from iose.servers.holders import Claim, ElementHolders
from iose.servers.racs.elements import RacsElement
from iose.servers.racs.holds import Hold
from iose.servers.virtual_reader import Exposure
from iose.transport.errors import CardRemovedError
from iose.transport.health import WatchedReader
from tests.support.driver import PATIENCE_S, listening_driver
from tests.support.front import FrontRig
from tests.support.scripted_connection import EchoElement, ScriptedReader, record

pytestmark = pytest.mark.anyio

TURNS = 10  # of the loop: more than any end needs that waits for nothing
CLAIM = Claim("racs", 1, "admin", 0.0)


class SlowToClose(WatchedReader):
    """A reader of a node whose element keeps its power until it may lose it."""

    def __init__(self) -> None:
        super().__init__("1")
        self.element = EchoElement()
        self.scripted = self.inner = ScriptedReader(self.element)
        self.scripted.closing.clear()

    async def settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def until_powered_off(self, work: Awaitable[object]) -> None:
        """Cancel work again and again while it closes, then let it."""
        task = asyncio.ensure_future(work)
        for _ in range(3):
            await self.settle()
            task.cancel()
        await self.settle()
        assert not task.done()
        assert self.element.power == ["on"]
        self.scripted.closing.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert self.element.power == ["on", "off"]


async def test_a_session_of_the_front_whose_element_is_taken_out():
    reader = SlowToClose()
    async with FrontRig(reader) as rig:
        client = await rig.connect()
        await client.open()
        lock = rig.front.holders.lock("1")
        reader.scripted.faults.append(CardRemovedError("1", "gone"))
        await client.send(record(b"?"))
        await rig.until(lambda: not reader.health.connections)
        rig.front.end_sessions("1", EndReason.ELEMENT_REMOVED)
        assert rig.logged("element.failed")[0]["error"] == "1: gone"
        await reader.settle()
        assert lock.holder is not None
        reader.scripted.closing.set()
        await rig.until(lambda: lock.holder is None)
        assert reader.element.power == ["on", "off"]


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_hold_of_an_administrator(is_reset):
    reader = SlowToClose()
    lock = ElementHolders().lock("1")
    assert lock.try_acquire(CLAIM, 0.0)
    hold = Hold(RacsElement("1", reader), lock, CLAIM, is_reference=False)
    await hold.power_on()
    await reader.until_powered_off(hold.reset(is_warm=False) if is_reset else hold.let_go())
    assert (lock.holder is None) is not is_reset
    await hold.let_go()
    assert lock.holder is None


async def test_a_reset_by_the_power():
    reader = SlowToClose()
    reader.has_warm_reset = False
    connection = await reader.connect()
    await reader.until_powered_off(connection.reset())


async def test_an_exposure_whose_driver_has_just_gone():
    reader = SlowToClose()
    reader.scripted.closing.set()
    async with listening_driver() as driver:
        address = DriverAddress("127.0.0.1", driver.port)
        exposure = Exposure("1", "", reader.connect, address, TransmissionProtocol.T1)
        await exposure.start()
        card = await driver.card()
        await card.power_on()
        reader.element.power.clear()
        reader.element.power.append("on")
        reader.scripted.closing.clear()
        card.say(Order.POWER_OFF)
        card.close()
        async with asyncio.timeout(PATIENCE_S):
            while reader.health.connections:  # noqa: ASYNC110  # it has no event of its own
                await asyncio.sleep(0)
        stopping = asyncio.create_task(exposure.stop())
        await reader.settle()
        assert not stopping.done()
        reader.scripted.closing.set()
        await stopping
        assert reader.element.power == ["on", "off"]
