# SPDX-License-Identifier: Apache-2.0
"""One PC/SC reader that is there, and the slot that is shown for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from iose.transport.bank import Slot, SlotState
from iose.transport.pcsc.codes import ReaderFlag
from iose.transport.pcsc.faults import CLEAN_CARD, CLOSE_OTHERS
from iose.transport.pcsc.names import keys_of, seid_of
from iose.transport.pcsc.reader import REPLACE_HINT, PcscReader
from iose.transport.pcsc.scard import ReaderLook

PLUG_IN_AGAIN: Final = "unplug it and plug it in again"
RENAME: Final = "use another reader, or give it a name in the configuration of its driver"
COUNT_SHIFT: Final = 16  # above the flags stands a count of insertions and removals


@dataclass(slots=True)
class ReaderEntry:
    """One reader that is there.

    Attributes:
        look: What was last seen of it.
        reader: The way to its card.
        serial: Its serial number, "" when it has none, None while that is not known.
        is_asking: Whether it is being asked for it.
        is_ours: Whether the exclusive use that was last seen is our own.
        uses: Our uses of the card when the reader was last seen.
    """

    look: ReaderLook
    reader: PcscReader
    serial: str | None = None
    is_asking: bool = False
    is_ours: bool = False
    uses: int = 0

    def see(self, look: ReaderLook) -> None:
        """Take what is seen now. The service forgets the ATR of a card without power."""
        if not look.atr and look.has(ReaderFlag.PRESENT) and not self.is_replaced(look):
            look = replace(look, atr=self.look.atr)
        reader = self.reader
        was_used, self.uses = reader.uses != self.uses, reader.uses
        goes_on = self.is_ours and look.has(ReaderFlag.EXCLUSIVE)
        self.is_ours = reader.is_held or was_used or goes_on  # what is seen may be a moment old
        self.look = look

    def is_replaced(self, look: ReaderLook) -> bool:
        """Return whether another card is in the reader since, or none."""
        return look.state >> COUNT_SHIFT != self.look.state >> COUNT_SHIFT

    @property
    def is_busy(self) -> bool:
        """Whether another program holds the card for itself."""
        return self.look.has(ReaderFlag.EXCLUSIVE) and not self.is_ours

    @property
    def can_ask_serial(self) -> bool:
        """Whether the serial number is to be asked for, and may be."""
        is_free = not (self.is_busy or self.is_asking or self.reader.is_held)
        is_usable = not self.reader.stuck_since and self.look.name.isascii()
        return self.serial is None and is_free and is_usable

    def slot(self, readers: Sequence[str]) -> Slot:
        """Return what is shown.

        Args:
            readers: Names of all readers, this one included.
        """
        name, atr, serial = self.look.name, self.look.atr, self.serial or ""
        # a name that the serial number may replace in a moment would not be stable
        seid = seid_of(name, serial, atr if self.serial is not None else b"", readers)
        slot = Slot(name, seid, SlotState.EMPTY, keys=keys_of(name, serial, atr), atr=atr)
        if trouble := self._trouble():
            state, fault, hint = trouble
            return replace(slot, state=state, fault=fault, hint=hint)
        if not self.look.has(ReaderFlag.PRESENT):
            return slot
        if self.is_busy or self.serial is None:  # who holds the card keeps the reader to himself
            reader = None if self.serial is None else self.reader
            fault = "another program holds the card"
            return replace(
                slot, state=SlotState.BUSY, reader=reader, fault=fault, hint=CLOSE_OTHERS
            )
        return replace(slot, state=SlotState.READY, reader=self.reader)

    def _trouble(self) -> tuple[SlotState, str, str] | None:
        """Return what is wrong with reader or card, and what to do about it."""
        if self.reader.stuck_since:
            return SlotState.FAULT, f"no answer since {self.reader.stuck_since}", REPLACE_HINT
        if not self.look.name.isascii():
            return SlotState.FAULT, "pyscard cannot use a reader whose name is not ASCII", RENAME
        if self.look.has(ReaderFlag.UNKNOWN | ReaderFlag.UNAVAILABLE):
            return SlotState.ABSENT, "its driver does not reach the reader", PLUG_IN_AGAIN
        if self.look.has(ReaderFlag.MUTE):
            return SlotState.FAULT, "the card does not answer its reset", CLEAN_CARD
        return None
