# SPDX-License-Identifier: Apache-2.0
"""The element of a board on a serial line, as a bank of one slot (tls-im.md §5)."""

from pathlib import PurePath

from iose.transport.bank import Slot, SlotState
from iose.transport.serial_line.line import SerialLine
from iose.transport.slot_keeper import OneSlotBank, SlotKeeper
from iose.transport.text_link import TextLink


class SerialBank(OneSlotBank):
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
        super().__init__(
            SlotKeeper(
                slot,
                lambda: TextLink(self._line, sen),
                apdu_s=apdu_s,
                check=self._line.check,
            )
        )

    async def stop(self) -> None:
        """Look no more, and close the line."""
        await super().stop()
        self._line.shut()
