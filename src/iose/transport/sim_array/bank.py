# SPDX-License-Identifier: Apache-2.0
"""The slots of a SIM array: its contents are asked for every few seconds, each card kept apart.

Contents come over a connection of their own, so that sessions are not disturbed and do not delay
them. A session that works is believed more than contents that do not come.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from iose.protocols.sim_array import SimBoard, decode_content
from iose.transport.bank import Slot, SlotState
from iose.transport.errors import CardRemovedError, NoReaderError, TransportError
from iose.transport.link import CLOSE_S, OPEN_S, within
from iose.transport.sim_array.line import GARBAGE_HINT, ArrayLine, SlotLink
from iose.transport.slot_keeper import SlotKeeper, look_at
from iose.wire.errors import DecodeError

LOOKS_AT_A_TIME: Final = 8
CARDS_AT_MOST: Final = 1000  # five times the readers of a published server
NOT_LOOKED: Final = "not looked at yet"
NOT_LISTED: Final = "the array has no such slot"
SLOT_HINT: Final = "slots are 100 times the board plus the position: correct the configuration"


class SimArrayBank:
    """The cards of one SIM array (iose-server.md §8.3).

    Args:
        name: What the operator calls it.
        host: The array.
        port: Its port.
        slots: Slots to use; all that it lists when empty.
        apdu_s: Longest wait for an answer, in seconds.
        poll_s: Time between looks at its contents, in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        host: str,
        port: int,
        slots: Sequence[int] = (),
        apdu_s: float,
        poll_s: float,
    ) -> None:
        self._name = name
        self._host = host
        self._port = port
        self._wanted = tuple(slots)
        self._apdu_s = apdu_s
        self._poll_s = poll_s
        self._turns = asyncio.Semaphore(LOOKS_AT_A_TIME)
        self._polls = asyncio.Lock()
        self._keepers: dict[int, SlotKeeper] = {}
        self._whole: Slot | None = None
        self._is_reset = False
        self._changed: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What is there now, by number; one slot for the array where none is known."""
        if not self._keepers and self._whole is not None:
            return (self._whole,)
        return tuple(keeper.slot for _, keeper in sorted(self._keepers.items()))

    async def start(self, changed: Callable[[], None]) -> None:
        """Look, and keep looking from now on."""
        self._changed = changed
        for slot in self._wanted:
            self._keeper(slot).take_out(SlotState.ABSENT, NOT_LOOKED)
        await self.refresh()
        self._task = asyncio.create_task(self._poll_on())

    async def refresh(self) -> None:
        """Look again now: at the contents, then at each card that is not held."""
        await self._poll()
        await look_at(self._keepers.values())

    async def stop(self) -> None:
        """Look no more; sessions end."""
        self._changed = lambda: None
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for keeper in self._keepers.values():
            await keeper.stop()

    async def _poll_on(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self._poll()

    async def _poll(self) -> None:
        async with self._polls:
            try:
                boards = await within(self._name, self._contents(), OPEN_S)
                self._check_size(boards)
            except TransportError as error:
                self._take_error(error)
            else:
                self._take_contents(boards)

    async def _contents(self) -> tuple[SimBoard, ...]:
        line = ArrayLine(self._name, self._host, self._port)
        try:
            if not self._is_reset:
                await self._reset()
            await line.open()
            boards = decode_content(await line.ask("CONTENT"))
            with suppress(TransportError):  # some hang up at once; what they say does not matter
                await within(self._name, line.ask("QUIT"), CLOSE_S)
        except DecodeError as error:
            raise TransportError(self._name, str(error), hint=GARBAGE_HINT) from error
        except CardRemovedError as error:
            text = "the array hung up"
            raise NoReaderError(self._name, text, hint=error.hint) from error
        finally:
            line.abort()
        return boards

    async def _reset(self) -> None:
        """Reset the array, once: what a program before us left on is off."""
        line = ArrayLine(self._name, self._host, self._port)
        try:
            await line.open()
            await line.ask("RESET")
            self._is_reset = True
        finally:
            line.abort()

    def _check_size(self, boards: Iterable[SimBoard]) -> None:
        """Check that there are not too many cards, together with those that were there before.

        Raises:
            TransportError: There are.
        """
        found = {
            board.first + place
            for board in boards
            for place, card in enumerate(board.cards)
            if card
        }
        if len(found | set(self._keepers)) > CARDS_AT_MOST:
            text = f"the array lists more than {CARDS_AT_MOST} cards"
            raise TransportError(self._name, text, hint=GARBAGE_HINT)

    def _take_contents(self, boards: Iterable[SimBoard]) -> None:
        if self._whole is not None:
            self._whole = None
            self._changed()
        cards = {}
        for board in boards:
            for place, card in enumerate(board.cards):
                slot = board.first + place
                cards[slot] = card
                if card and (slot in self._wanted or not self._wanted):
                    self._keeper(slot).put_in(is_another=board.has_changed)
        for slot, keeper in self._keepers.items():
            if slot not in cards:
                keeper.take_out(SlotState.ABSENT, NOT_LISTED, SLOT_HINT)
            elif not cards[slot]:
                keeper.take_out(SlotState.EMPTY)

    def _take_error(self, error: TransportError) -> None:
        fault = str(error).removeprefix(f"{error.reader}: ")
        is_absent = isinstance(error, NoReaderError)
        state = SlotState.ABSENT if is_absent else SlotState.FAULT
        for keeper in self._keepers.values():
            if not keeper.is_held:
                keeper.take_out(state, fault, error.hint or "")
        whole = Slot(self._name, "", state, fault=fault, hint=error.hint or "")
        if whole != self._whole:
            self._whole = whole
            self._changed()

    def _keeper(self, slot: int) -> SlotKeeper:
        if slot not in self._keepers:
            name = f"{self._name} slot {slot}"
            keeper = SlotKeeper(
                Slot(
                    name,
                    f"sim-{slot}",
                    SlotState.EMPTY,
                    keys=(str(slot),),
                    has_warm_reset=False,
                ),
                lambda: SlotLink(name, self._host, self._port, slot),
                apdu_s=self._apdu_s,
                turns=self._turns,
            )
            keeper.start(self._changed)
            self._keepers[slot] = keeper
        return self._keepers[slot]
