# SPDX-License-Identifier: Apache-2.0
"""What a reader and its element are called whatever the order they are plugged in.

The service writes ``NAME [INTERFACE] (SERIAL) NN SS``: digits NN count readers as they come, SS
are the slot of a reader. NN is never part of a name of ours.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from iose.iso7816.atr import Atr
from iose.wire.errors import DecodeError

PREFIX: Final = "pcsc-"
SEID_LIMIT: Final = 63  # iose-server.md §1
_NAME: Final = re.compile(
    r"(?P<model>.*?)(?: (?P<number>[0-9A-F]{2}) (?P<slot>[0-9A-F]{2})| [0-9]+)?"
)
_SERIAL: Final = re.compile(r".*\(([^()]+)\)")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ReaderName:
    """A reader's name, taken apart.

    Attributes:
        model: All but the digits.
        number: Digits of the order it was plugged in.
        slot: Digits of the slot.
        serial: What stands in the last parentheses; "" when there are none.
    """

    model: str
    number: str
    slot: str
    serial: str

    @classmethod
    def read(cls, text: str) -> "ReaderName":
        """Return the parts of a name."""
        found = _NAME.fullmatch(text)
        model, number, slot = found.group("model", "number", "slot") if found else (text, "", "")
        serial = _SERIAL.fullmatch(model)
        return cls(model, number or "", slot or "", serial[1].strip() if serial else "")


def element_name(atr: bytes) -> str:
    """Return the element's server name from its ATR, "" when it has none there."""
    try:
        return Atr.decode(atr).se_name or ""
    except DecodeError:
        return ""


def seid_of(text: str, serial: str, atr: bytes, others: Sequence[str]) -> str:
    """Return what the element is called on the administration plane, "" while nothing tells.

    Args:
        text: The reader's name.
        serial: Its serial number; "" when it does not tell one.
        atr: The card's answer to reset; b"" without a card.
        others: Names of all readers, this one included.
    """
    name = ReaderName.read(text)
    slot = f"-{name.slot}" if _has_more_slots(name, others) else ""
    known = serial or name.serial
    if known:
        return _fit(known, slot)
    if sen := element_name(atr):
        return _fit(sen, "")
    return _fit(name.model, slot) if atr else ""


def keys_of(text: str, serial: str, atr: bytes) -> tuple[str, ...]:
    """Return what else an operator may mean a slot by."""
    name = ReaderName.read(text)
    keys = (serial, name.serial, element_name(atr), name.model)
    return tuple(dict.fromkeys(key for key in keys if key))


def _has_more_slots(name: ReaderName, others: Sequence[str]) -> bool:
    found = [ReaderName.read(other) for other in others]
    return sum((other.model, other.number) == (name.model, name.number) for other in found) > 1


def _fit(text: str, slot: str) -> str:
    return PREFIX + _UNFIT.sub("-", text).strip("-")[: SEID_LIMIT - len(PREFIX + slot)] + slot
