# SPDX-License-Identifier: Apache-2.0
"""A started bank of one I2C device, and how a test waits for what becomes of it."""

import asyncio
from contextlib import asynccontextmanager

from iose.iso7816.apdu import CommandApdu
from iose.transport.bank import SlotState
from iose.transport.i2c import I2cBank

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
