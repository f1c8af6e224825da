# SPDX-License-Identifier: Apache-2.0
"""A bank: one configured way to real elements, and the slots it has (iose-server.md §8).

A PC/SC service, a SIM array, an I2C bus, another node: each is a bank, of one slot or of many,
whose elements come and go. A bank knows nothing of configuration files, names given by operators,
or who uses its readers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from iose.transport.base import ApduLimits, Reader


class SlotState(Enum):
    """What is to be had in a slot."""

    READY = "ready"
    EMPTY = "empty"
    ABSENT = "absent"
    BUSY = "busy"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Slot:
    """One place for an element, as the bank sees it now.

    Attributes:
        name: Name of the reader, as its kind writes it; unique in the bank.
        seid: What the element is called where the operator says nothing: made of what does not
            depend on the order in which things are plugged in; "" while nothing is known.
        state: What is to be had: an element, no card, no reader, one that another program holds,
            one that does not answer as it should.
        reader: The way to the element; None unless the state is READY or BUSY.
        keys: What the operator may mean this slot by, besides ``name`` and ``seid``: serial
            numbers, a slot number, the card's name.
        atr: The element's answer to reset; b"" when it is not known.
        sen: The element's server name where the wire tells one that is not in the ATR.
        limits: What the element takes at a time where the wire tells; None for what is published.
        has_warm_reset: Whether the element can be reset with its power on.
        fault: What is wrong, in words; "" when nothing is.
        hint: What the operator does about it.
    """

    name: str
    seid: str
    state: SlotState
    reader: Reader | None = None
    keys: tuple[str, ...] = ()
    atr: bytes = b""
    sen: str = ""
    limits: ApduLimits | None = None
    has_warm_reset: bool = True
    fault: str = ""
    hint: str = ""


class ReaderBank(Protocol):
    """One configured way to elements."""

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What is there now, in a stable order.

        One slot in state ABSENT or FAULT says why a whole bank cannot be reached.
        """

    async def start(self, changed: Callable[[], None]) -> None:
        """Look, and keep looking from now on; returns when the first look is done or has failed.

        Never raises because of what is plugged in or not: slots say it.

        Args:
            changed: Called in the loop after ``slots`` has become another.
        """

    async def refresh(self) -> None:
        """Look again now."""

    async def stop(self) -> None:
        """Look no more, and let go of everything; never raises."""
