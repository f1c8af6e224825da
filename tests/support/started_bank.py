# SPDX-License-Identifier: Apache-2.0
"""A bank while a test uses it: started, waited for, stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from iose.tls import PreSharedKey
from iose.transport.bank import ReaderBank, Slot, SlotState
from iose.transport.base import Connection
from iose.transport.errors import CardRemovedError, TransportError
from tests.support.engine_pair import PSK
from tests.support.tls_session import SELECT, check_session
from tests.support.twin import Twin

Fault = tuple[str, dict[str, Any], type[TransportError], str]
"""Its kind and what else the order says; the error it ends in, and a word of that."""
PATIENCE_S = 30.0  # a test that waits longer has failed


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

    def slot(self, name: str) -> Slot:
        """Return one slot, by its name or SEID."""
        return next(slot for slot in self.bank.slots if name in (slot.name, slot.seid))

    async def until(self, condition: Callable[[tuple[Slot, ...]], bool]) -> None:
        """Wait until the slots are as they should be."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition(self.bank.slots):
                self._changed.clear()
                await self._changed.wait()

    async def becomes(self, name: str, state: SlotState) -> Slot:
        """Wait for a slot to have a state, and return it."""
        await self.until(
            lambda slots: any(
                name in (slot.name, slot.seid) and slot.state is state for slot in slots
            )
        )
        return self.slot(name)

    async def connect(self, name: str) -> Connection:
        """Wait for an element, and return a connection to it."""
        slot = await self.becomes(name, SlotState.READY)
        assert slot.reader is not None
        return await slot.reader.connect()

    async def check_element(
        self, name: str, psk: PreSharedKey = PSK, version: str = "iose keystore 1.3"
    ) -> None:
        """Wait for an element, and run a whole session with it."""
        connection = await self.connect(name)
        assert await check_session(connection, psk) == version
        await connection.close()


async def check_fault(bank: StartedBank, name: str, board: Twin, fault: Fault) -> None:
    """Have a fault befall a session: it ends in its error, and the element works again."""
    kind, more, error, match = fault
    connection = await bank.connect(name)
    board.fault(kind, **more)
    with pytest.raises(error, match=match) as caught:
        await check_session(connection)
    assert type(caught.value) is error
    with pytest.raises(CardRemovedError, match="closed"):
        await connection.transmit(SELECT)
    await connection.close()
    board.fault(None)
    await bank.check_element(name)


@asynccontextmanager
async def started(bank: ReaderBank) -> AsyncIterator[StartedBank]:
    """Give a bank that was started; it is stopped when the block ends."""
    watched = StartedBank(bank)
    await bank.start(watched.on_change)
    try:
        yield watched
    finally:
        await bank.stop()
