# SPDX-License-Identifier: Apache-2.0
"""What is seen of a reader may be a moment old: our own use of a card is nobody else's."""

from iose.transport.bank import SlotState
from iose.transport.pcsc.codes import ReaderFlag
from iose.transport.pcsc.entry import ReaderEntry
from iose.transport.pcsc.reader import PcscReader
from iose.transport.pcsc.scard import ReaderLook, Scard
from tests.support.scripted_scard import NAMED_ATR, OK, ScriptedReader, ScriptedScard

NAME = "Maker Model 00 00"
FREE = ReaderLook(NAME, ReaderFlag.PRESENT, NAMED_ATR)
HELD = ReaderLook(NAME, ReaderFlag.PRESENT | ReaderFlag.EXCLUSIVE, NAMED_ATR)


def make() -> ReaderEntry:
    service = Scard(ScriptedScard(**{NAME: ScriptedReader()}))
    reader = PcscReader(service, NAME, apdu_s=1.0, changed=lambda: None)
    return ReaderEntry(FREE, reader, serial="")


def state(entry: ReaderEntry, look: ReaderLook) -> SlotState:
    entry.see(look)
    return entry.slot([NAME]).state


def test_a_session_of_ours_that_has_ended_since_does_not_make_its_card_busy():
    entry = make()
    entry.reader.uses += 1
    assert state(entry, HELD) is SlotState.READY
    assert state(entry, HELD) is SlotState.READY  # it is being let go
    assert state(entry, FREE) is SlotState.READY


def test_who_holds_a_card_after_us_makes_it_busy():
    entry = make()
    entry.reader.uses += 1
    assert state(entry, FREE) is SlotState.READY
    assert state(entry, FREE) is SlotState.READY
    assert state(entry, HELD) is SlotState.BUSY


def test_the_count_of_insertions_is_asked_for_without_the_flag_that_clears_it():
    service = ScriptedScard(**{NAME: ScriptedReader(count=3)})
    code, looks = service.SCardGetStatusChange(0, 0, [(NAME, 0)])
    assert (code, looks[0][1] & ReaderFlag.CHANGED) == (OK, ReaderFlag.CHANGED)
    (look, _) = Scard(service).wait_for_change(0, 0, [(NAME, 0)])
    assert look.state == service.readers[NAME].state
