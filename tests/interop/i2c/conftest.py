# SPDX-License-Identifier: Apache-2.0
"""Devices of a bus that is a program of its own."""

import asyncio

import pytest

from iose.transport.bank import SlotState
from iose.transport.i2c import I2cBank, bank
from tests.support.twin import twin

PATIENCE_S = 15.0
DEVICES = ("--device", "4=key4.com", "--device", "10=key10.com:t1", "--device", "72=:se050")
FLAVOURS = {4: "iose", 10: "t1", 72: "t1"}


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(bank, "RETRY_S", 0.05)


@pytest.fixture(scope="module")
def program():
    with twin("i2c", *DEVICES) as running:
        yield running


class Watched:
    """A started bank of one device, and how to wait for it."""

    def __init__(self, bus, address, **given):
        given.setdefault("apdu_s", 10.0)
        given.setdefault("poll_s", 0.05)
        flavour = FLAVOURS[address]
        self.bank = I2cBank(f"i2c{address}", bus=bus, address=address, flavour=flavour, **given)
        self._changed = asyncio.Event()

    @property
    def slot(self):
        return self.bank.slots[0]

    async def __aenter__(self):
        await self.bank.start(self._changed.set)
        return self

    async def __aexit__(self, *_):
        await self.bank.stop()

    async def until(self, *states):
        async with asyncio.timeout(PATIENCE_S):
            while self.slot.state not in states:
                self._changed.clear()
                await self._changed.wait()

    async def connect(self):
        await self.until(SlotState.READY)
        return await self.slot.reader.connect()

    async def connect_and_close(self):
        await (await self.connect()).close()
