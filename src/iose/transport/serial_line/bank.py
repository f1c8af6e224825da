# SPDX-License-Identifier: Apache-2.0
"""The element of a board on a serial line, as a bank of one slot (tls-im.md §5)."""

from collections.abc import Callable
from pathlib import PurePath

from iose.transport.bank import Slot, SlotState
from iose.transport.serial_line.line import SerialLine
from iose.transport.slot_keeper import SlotKeeper, look_at
from iose.transport.text_link import TextLink


class SerialBank:
    """One element behind a serial line.

    Args:
        name: What the operator calls it.
        device: Device file.
        baud: Speed.
        sen: The element's name; the line does not tell one.
        apdu_s: Longest wait for an answer, in seconds.
    """

    def __init__(self, name: str, *, device: str, baud: int, sen: str, apdu_s: float) -> None:
        self._line = SerialLine(device, baud=baud, answer_s=apdu_s)
        base = PurePath(device).name
        slot = Slot(
            name,
            f"serial-{base}",
            SlotState.ABSENT,
            keys=(device, base),
            sen=sen,
            has_warm_reset=False,
            fault="not looked at yet",
        )
        self._keeper = SlotKeeper(
            slot,
            lambda: TextLink(self._line, sen),
            apdu_s=apdu_s,
            check=self._line.check,
        )

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
        """Look no more, and close the line."""
        await self._keeper.stop()
        self._line.shut()
