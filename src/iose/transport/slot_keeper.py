# SPDX-License-Identifier: Apache-2.0
"""Keeps one slot of a bank: says what is there, and looks again after a fault until it works.

To look is to power the element on and off again, never while a session has it. Banks of one slot
have one keeper, arrays one per slot, so that none waits for another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from iose.transport.bank import Slot, SlotState
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
)
from iose.transport.link import ElementLink, LinkReader

FIRST_WAIT_S: Final = 0.5  # before the second look; doubled each time
LONGEST_WAIT_S: Final = 10.0
LOOK_S: Final = 10.0  # for looks that somebody waits for: a stuck reader holds nobody up
CHECK_S: Final = 5.0  # between light looks at a reader that works
TAKEN_OUT: Final = "the card was taken out"
USABLE: Final = (SlotState.READY, SlotState.BUSY)


class SlotKeeper:
    """One slot: its state, its reader, and the task that looks after them.

    Args:
        slot: The slot as it is before the first look.
        make_link: Makes the link of a session.
        apdu_s: Longest wait for an answer, in seconds.
        check: A light look at a reader that works and is not held; raises what is wrong.
        turns: Limits how many slots of a bank are looked at at a time.
    """

    def __init__(
        self,
        slot: Slot,
        make_link: Callable[[], ElementLink],
        *,
        apdu_s: float,
        check: Callable[[], Awaitable[None]] | None = None,
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        self._reader = LinkReader(
            slot.name,
            make_link,
            apdu_s=apdu_s,
            on_failure=self._take_error,
            on_left=self._power_off,
        )
        self._slot = slot
        self._check = check
        self._turns = turns or asyncio.Semaphore()
        self._changed: Callable[[], None] = lambda: None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_expected = True
        self._is_doubtful = False
        self._turn = asyncio.Lock()

    @property
    def slot(self) -> Slot:
        """What is known of the slot."""
        return self._slot

    @property
    def is_held(self) -> bool:
        """Whether a session has the element."""
        return self._reader.is_held

    def start(self, changed: Callable[[], None]) -> None:
        """Look after the slot from now on; ``changed`` is called when it has become another."""
        self._changed = changed
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Look no more; a session in progress ends, and none begins."""
        self._changed = lambda: None
        self._reader.retire(NoReaderError(self._slot.name, "the reader is no longer used"))
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> None:
        """Look at the element now, unless a session has it; a look under way is waited for."""
        is_under_way = self._turn.locked()
        async with self._turn:
            if is_under_way or not self._is_expected or self.is_held:
                return
            try:
                async with self._turns:
                    if self._is_ready and not self._is_doubtful:
                        await self._look_lightly()
                    else:
                        await self._look_closely()
            except TransportError as error:
                self._take_error(error)

    def take_out(self, state: SlotState, fault: str = "", hint: str = "") -> None:
        """Note that no element is to be had, nor looked for; a session that has it ends."""
        self._is_expected = False
        self._reader.cut(CardRemovedError(self._slot.name, fault or TAKEN_OUT))
        self._become(state, fault=fault, hint=hint)

    def put_in(self, *, is_another: bool = False) -> None:
        """Note that an element should be there, perhaps another one; it is looked at soon."""
        if is_another or not self._is_expected:
            self._is_expected = True
            self._is_doubtful = is_another
            self._wake.set()

    @property
    def _is_ready(self) -> bool:
        return self._slot.state is SlotState.READY

    async def _keep(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            self._wake.clear()
            await self.look()
            if self._is_ready or self.is_held:
                wait_s = FIRST_WAIT_S
                await self._pause(CHECK_S)
            elif self._is_expected:
                await self._pause(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                await self._wake.wait()

    async def _pause(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()

    async def _look_closely(self) -> None:
        atr = await self._reader.look()
        self._is_doubtful = False
        if self._is_expected:
            if self._is_ready and atr != self._slot.atr:
                self._become(SlotState.EMPTY)  # for who knows the other element
            self._become(SlotState.READY, atr=atr)

    async def _look_lightly(self) -> None:
        if self._check is not None:
            await self._check()

    def _take_error(self, error: TransportError) -> None:
        if not self._is_expected:
            return
        text = str(error).removeprefix(f"{error.reader}: ")
        self._become(_state_after(error), fault=text, hint=error.hint or "")
        if not self._turn.locked():  # not what a look has found: a session failed
            self._wake.set()

    def _power_off(self) -> None:
        """Have an element that was left on looked at, which ends with its power off."""
        self._is_doubtful = True
        self._wake.set()

    def _become(
        self, state: SlotState, *, atr: bytes = b"", fault: str = "", hint: str = ""
    ) -> None:
        reader = self._reader if state in USABLE else None
        if state is SlotState.FAULT:
            atr = self._slot.atr  # most likely of the same element
        slot = replace(self._slot, state=state, reader=reader, atr=atr, fault=fault, hint=hint)
        if slot != self._slot:
            self._slot = slot
            self._changed()


async def look_at(keepers: Iterable[SlotKeeper]) -> None:
    """Look at elements at the same time; those that take long are looked at again later."""
    looks = [asyncio.create_task(keeper.look()) for keeper in keepers]
    if looks:
        _, late = await asyncio.wait(looks, timeout=LOOK_S)
        for look in late:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


class OneSlotBank:
    """A bank whose one slot has a keeper (``ReaderBank``)."""

    def __init__(self, keeper: SlotKeeper) -> None:
        self._keeper = keeper

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The one slot."""
        return (self._keeper.slot,)

    async def start(self, changed: Callable[[], None]) -> None:
        """Look, and keep looking from now on."""
        self._keeper.start(changed)
        await self.refresh()

    async def refresh(self) -> None:
        """Look again now, unless a session has the element."""
        await look_at((self._keeper,))

    async def stop(self) -> None:
        """Look no more; a session ends."""
        await self._keeper.stop()


def _state_after(error: TransportError) -> SlotState:
    match error:
        case NoReaderError():
            return SlotState.ABSENT
        case NoCardError():
            return SlotState.EMPTY
        case CardBusyError():
            return SlotState.BUSY
        case _:
            return SlotState.FAULT
