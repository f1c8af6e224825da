# SPDX-License-Identifier: Apache-2.0
"""A bank while a test uses it: started, waited for, stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from iose.transport.bank import ReaderBank, Slot, SlotState
from iose.transport.base import Connection

PATIENCE_S = 15.0  # a test that waits longer has failed


class StartedBank:
    """A bank and what it tells.

    Attributes:
        bank: The bank.
        states: Each set of states it has had, oldest first.
    """

    def __init__(self, bank: ReaderBank) -> None:
        self.bank = bank
        self.states: list[dict[str, SlotState]] = []
        self._changed = asyncio.Event()

    def on_change(self) -> None:
        self.states.append({slot.seid: slot.state for slot in self.bank.slots})
        self._changed.set()

    def slot(self, seid: str) -> Slot:
        """Return one slot by its SEID."""
        return next(slot for slot in self.bank.slots if slot.seid == seid)

    async def until(self, condition: Callable[[tuple[Slot, ...]], bool]) -> None:
        """Wait until the slots are as they should be."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition(self.bank.slots):
                self._changed.clear()
                await self._changed.wait()

    async def becomes(self, seid: str, state: SlotState) -> Slot:
        """Wait for a slot to have a state, and return it."""
        await self.until(
            lambda slots: any(slot.seid == seid and slot.state is state for slot in slots)
        )
        return self.slot(seid)

    async def connect(self, seid: str) -> Connection:
        """Wait for an element, and return a connection to it."""
        slot = await self.becomes(seid, SlotState.READY)
        assert slot.reader is not None
        return await slot.reader.connect()


@asynccontextmanager
async def started(bank: ReaderBank) -> AsyncIterator[StartedBank]:
    """Give a bank that was started; it is stopped when the block ends."""
    watched = StartedBank(bank)
    await bank.start(watched.on_change)
    try:
        yield watched
    finally:
        await bank.stop()
