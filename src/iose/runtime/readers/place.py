# SPDX-License-Identifier: Apache-2.0
"""One slot of a bank, with what the node makes of it: names, limits, what was found, how it does.

The inventory keeps one for each slot. It outlives the element in the slot, so that an element
that comes back is known again by its ATR, and what went wrong before is not forgotten.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import Final

from iose.iso7816.atr import Atr, is_se_name
from iose.protocols.host_frames import ElementInfo
from iose.runtime.config import ElementSettings
from iose.runtime.readers.settings import ReaderSettings
from iose.servers.discovery import Discovery
from iose.servers.racs.elements import SEID_LIMIT
from iose.servers.sources import TokenBucket
from iose.transport.bank import Slot, SlotState
from iose.transport.base import ApduLimits
from iose.transport.health import ReaderHealth, WatchedReader
from iose.wire.errors import DecodeError

KNOWN_LIMIT: Final = 16  # elements that one slot remembers
LINES: Final = 20  # of the log at once, on an element that comes and goes
LINES_RATE: Final = 1 / 60  # more of them per second: a reader that flaps must not fill the disk
NAMES_KEPT: Final = 1024  # of ATRs of up to 33 bytes
RENAME_HINT: Final = "give it a SEID of its own in 'seids' of table [[readers]]"
PROBE_HINT: Final = "wait a moment; apdu_s of table [[readers]] bounds it"
NO_APPLET_HINT: Final = (
    "install a TLS-SE applet, or name its AID in 'aid' of table [element]; administration works"
)

Overrides = Callable[[str, str], ElementSettings]
"""What the operator says of the element of a SEID and a SEN."""


class Place:
    """One slot.

    Args:
        table: The table its bank was made of.
        slot: The slot as it is now.

    Attributes:
        reader: The way to its element, whichever it is at the moment.
        settings: What the operator says of the element.
        probe: What looks into the element now.
        visit: Counts the elements that were here.
        is_tried: This element has been looked into, in vain or not.
        is_settled: This element is known as well as it will be for now, so that it can be used.
        clash: Why it is kept away, and what to do; "" when it is not.
    """

    def __init__(self, table: ReaderSettings, slot: Slot) -> None:
        self.table = table
        self.slot = slot
        self.reader = WatchedReader(slot.name)
        self.settings = ElementSettings()
        self.probe: asyncio.Task[None] | None = None
        self.visit = 0
        self.is_tried = False
        self.is_settled = False
        self.clash = ""
        self._found: dict[bytes, Discovery] = {}
        self._seen_atr = b""
        self._lines = TokenBucket(LINES, 0.0)

    @property
    def is_present(self) -> bool:
        """Whether there is an element that can be tried."""
        is_there = self.slot.state in (SlotState.READY, SlotState.BUSY)
        return is_there and self.slot.reader is not None

    @property
    def seid(self) -> str:
        """What its element is called on the administration plane."""
        for key in (self.slot.name, *self.slot.keys, self.slot.seid):
            if key in self.table.seids:
                return self.table.seids[key]
        return self.slot.seid

    @property
    def has_seid(self) -> bool:
        """Whether that is a SEID at all."""
        return 0 < len(self.seid) <= SEID_LIMIT and all("!" <= one <= "~" for one in self.seid)

    @property
    def atr(self) -> bytes:
        """The element's answer to reset, as far as it is known."""
        return self.slot.atr or self._seen_atr

    @property
    def own_sen(self) -> str:
        """The name that the element says itself, or its bank for it."""
        name = self.slot.sen or _name_in(self.atr)
        return name if name and is_se_name(name) else ""

    @property
    def found(self) -> Discovery | None:
        """What was found in this element."""
        return self._found.get(self.atr)

    @property
    def found_aid(self) -> str:
        """What was found to be selected before TLS, in hex."""
        found = self.found
        return "" if found is None or found.aid is None else found.aid.hex().upper()

    @property
    def wants_probe(self) -> bool:
        """Whether the element should be looked into now."""
        is_said = bool(self.settings.aid) and self.known_limits is not None
        is_free = self.probe is None and self.slot.state is SlotState.READY
        return is_free and not self.is_tried and not self._is_known and not is_said

    @property
    def known_limits(self) -> ApduLimits | None:
        """The element's limits where they need not be found out."""
        said = self._said_limits
        if self.slot.limits is None and None in said:
            return None
        return self._limits(self.slot.limits or ApduLimits())

    @property
    def info(self) -> ElementInfo:
        """The element, as the node sees every element."""
        limits = self.reader.limits
        return ElementInfo(self.seid, self._sen, self.atr, limits.chunk_size, limits.max_record)

    def update(self, table: ReaderSettings, slot: Slot, overrides: Overrides) -> None:
        """Take what the bank and the operator say now.

        Another element may be here already: nobody looked between the two.
        """
        was_present, sen, atr = self.is_present, self.own_sen, self.atr
        self.table = table
        self.slot = slot
        reader = self.reader
        reader.inner = slot.reader
        if not self.is_present or (was_present and self.own_sen != sen):
            self._empty()
        elif slot.state is SlotState.BUSY or self.atr != atr:
            self.is_tried = False  # for when it is free again
        if self.is_present:
            self._seen_atr = self.atr  # not every bank tells it of an element in use
        self.settings = overrides(self.seid, self.own_sen)
        said = self.settings.warm_reset
        reader.has_warm_reset = (table.warm_reset if said is None else said) is not False
        reader.limits = self._limits(self._own_limits)

    def note_probe(self, atr: bytes, found: Discovery) -> None:
        """Keep what was found in the element of an ATR."""
        if not self.slot.atr:
            self._seen_atr = atr
        if len(self._found) >= KNOWN_LIMIT:
            self._found.pop(next(iter(self._found)))
        self._found[self.atr] = found

    def forget_failure(self) -> None:
        """Let the element be looked into again, if that found nothing to serve."""
        if not self._is_known:
            self.is_tried = False

    def may_log(self, now: float) -> bool:
        """Say whether the log has room for a line on who comes and goes here; count it if so."""
        return self._lines.take(now, rate=LINES_RATE, burst=LINES)

    def view(self) -> dict[str, object]:
        """Return what an operator sees of it."""
        slot, info, limits = self.slot, self.info, self.reader.limits
        fault, hint = self._fault()
        return {
            "bank": self.table.label,
            "type": self.table.type,
            "reader": slot.name,
            "seid": self.seid,
            "sen": info.sen,
            "state": self._state.value,
            "atr": self.atr.hex().upper(),
            "fault": fault,
            "hint": hint,
            "keys": list(slot.keys),
            "max_record": limits.max_record,
            "chunk_size": limits.chunk_size,
            "warm_reset": slot.has_warm_reset and self.reader.has_warm_reset,
            "aid": self.settings.aid.upper() or self.found_aid,
            "health": health_view(self.reader.health),
        }

    @property
    def _state(self) -> SlotState:
        """What the operator is told: an element is ready when clients can have it."""
        if self.clash:
            return SlotState.FAULT
        return SlotState.BUSY if self.is_present and not self.is_settled else self.slot.state

    def _fault(self) -> tuple[str, str]:
        if self.clash:
            return self.clash, RENAME_HINT
        if self.is_present and not self.is_settled:
            return "what it can do is being found out", PROBE_HINT
        if self.is_present and self._lacks_applet:
            return "no TLS-SE applet answers", NO_APPLET_HINT
        return self.slot.fault, self.slot.hint

    def _empty(self) -> None:
        if self.is_settled or self.is_tried or self.probe is not None:
            self.visit += 1
        # one without an ATR may be another, and one without an applet may get it elsewhere
        served = {atr: one for atr, one in self._found.items() if atr and one.speaks_tls_se}
        self._found = served
        self.is_tried = self.is_settled = False
        self._seen_atr = b""
        if self.probe is not None:
            self.probe.cancel()

    @property
    def _sen(self) -> str:
        return self.settings.sen or ("" if self._lacks_applet else self.own_sen)

    @property
    def _is_known(self) -> bool:
        """Whether the element need not be looked into again: what it lacks it may get."""
        return self.found is not None and self.found.speaks_tls_se

    @property
    def _lacks_applet(self) -> bool:
        """Whether the element has nothing that could serve, and the operator says nothing else."""
        found = self.found
        is_said = bool(self.settings.sen or self.settings.aid)
        return found is not None and not found.speaks_tls_se and not is_said

    @property
    def _own_limits(self) -> ApduLimits:
        if self.found is not None:
            return self.found.limits
        if self.slot.limits is not None:
            return self.slot.limits
        return ApduLimits() if self.slot.reader is None else self.slot.reader.limits

    @property
    def _said_limits(self) -> tuple[int | None, int | None]:
        """Chunk size and longest record that the operator gives."""
        element, table = self.settings, self.table
        return (
            table.chunk_size if element.chunk_size is None else element.chunk_size,
            table.max_record if element.max_record is None else element.max_record,
        )

    def _limits(self, own: ApduLimits) -> ApduLimits:
        chunk_size, max_record = self._said_limits
        return ApduLimits(
            own.chunk_size if chunk_size is None else chunk_size,
            own.max_record if max_record is None else max_record,
        )


@lru_cache(NAMES_KEPT)
def _name_in(atr: bytes) -> str:
    """Return the name in an ATR, "" for none; each look asks for that of every element."""
    try:
        return Atr.decode(atr).se_name or ""
    except DecodeError:
        return ""


def health_view(health: ReaderHealth) -> dict[str, object]:
    """Return how a reader does, in seconds from now."""
    return {
        "sessions": health.sessions,
        "apdus": health.apdus,
        "failures": health.failures,
        "last_fault": health.last_fault,
        "last_fault_ago_s": _ago(health.last_fault_at),
        "slowest_s": round(health.slowest_s, 6),
        "waiting_since_s": _ago(health.waiting_since),
    }


def _ago(when: float | None) -> float | None:
    return None if when is None else round(monotonic() - when, 3)
