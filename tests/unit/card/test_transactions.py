# SPDX-License-Identifier: Apache-2.0
"""One command, one transaction: all its writes or none, whatever happens and whenever."""

import pytest

from tests.support.memory_store import MemoryStore, PowerFailure
from tests.support.probe import CRASH_ON, ERROR_MESSAGE, PROBE, WRITE_ON, ProbeCard, plan

GET = "0003070000"


@pytest.fixture
def card() -> ProbeCard:
    card = ProbeCard().on()
    assert card.send("0002070001AA") == "9000"
    return card


def test_a_write_is_stored_before_the_response_leaves(card: ProbeCard):
    assert card.store.contents[f"{PROBE}/object/7"] == b"\xaa"
    assert card.again().send(GET) == "AA9000"


def test_a_command_that_changes_nothing_writes_nothing(card: ProbeCard):
    writes = card.store.writes
    assert card.send("0002070001AA") == "9000"
    assert card.send(GET) == "AA9000"
    assert card.store.writes == writes


def test_the_store_is_read_once_for_each_power_on(card: ProbeCard):
    loads = card.store.loads
    card.send(GET)
    card.card.reset()
    card.send(GET)
    assert card.store.loads == loads
    card.card.power_off()
    card.card.power_on()
    assert card.store.loads == loads + 1


def test_a_refusal_forgets_the_writes(card: ProbeCard):
    assert card.send("0004070001BB") == "6985"
    assert card.send(GET) == "AA9000"
    assert card.again().send(GET) == "AA9000"


def test_what_was_committed_survives_a_refusal_and_the_rest_does_not(card: ProbeCard):
    assert card.send("0008070001BB") == "6985"
    assert card.send(GET) == "BB9000"
    assert card.again().send(GET) == "BB9000"


def test_a_removed_object_is_gone(card: ProbeCard):
    assert card.send("00090700") == "9000"
    assert card.send(GET) == "6A88"
    assert card.again().send(GET) == "6A88"
    assert card.send("00090700") == "9000"


def test_a_crash_forgets_the_writes_and_is_told_without_its_message(card: ProbeCard):
    assert card.send("0005070001BB") == "6F00"
    assert card.send(GET) == "AA9000"
    (fault,) = card.faults
    assert (fault.status, fault.error) == (0x6F00, "ValueError")
    assert fault.place.startswith("tests.support.probe:")
    assert ERROR_MESSAGE not in repr(fault)


def test_a_crash_drops_the_volatile_state_of_its_applet_alone(card: ProbeCard):
    card.send("00700001")
    card.send("01A4040006A00000000102")
    card.send("010B000000")
    card.send("000B000000")
    assert card.send("0005070001BB") == "6F00"
    assert card.send("000B000000") == "019000"
    assert card.send("010B000000") == "029000"


def test_a_crash_forgets_what_the_applet_writes_when_it_is_restarted(card: ProbeCard):
    card.send(plan(WRITE_ON, "select"))
    assert card.send("0005070001BB") == "6F00"
    assert card.send("0002080001CC") == "9000"
    assert f"{PROBE}/object/written" not in card.store.contents


def test_a_reset_forgets_the_writes_of_an_interrupted_command(card: ProbeCard):
    context = card.card._channels.selected(0).context
    context.store.put("7", b"\xbb")
    card.store.cut_at = card.store.steps
    with pytest.raises(PowerFailure):
        context.pin("user", max_tries=3).verify(b"0000")
    card.card.reset()
    assert card.send(GET) == "AA9000"
    assert card.again().send(GET) == "AA9000"


def test_a_card_without_listener_survives_a_crash():
    card = ProbeCard().on()
    object.__setattr__(card.services, "on_fault", None)
    assert card.send("0005070001BB") == "6F00"


def test_an_applet_that_crashes_when_restarted_leaves_nothing_selected(card: ProbeCard):
    card.send(plan(CRASH_ON, "select"))
    assert card.send("0005070001BB") == "6F00"
    assert card.send(GET) == "6999"
    assert len(card.faults) == 2


def test_a_full_disk_refuses_the_write_and_leaves_everything_as_it_was(card: ProbeCard):
    card.store.full = True
    assert card.send("0002070001BB") == "6581"
    assert card.send(GET) == "AA9000"
    assert card.send("0008070001BB") == "6581"
    assert card.send(GET) == "AA9000"
    assert card.again().send(GET) == "AA9000"
    card.store.full = False
    assert card.send("0002070001BB") == "9000"
    assert card.again().send(GET) == "BB9000"


def test_a_full_disk_is_told_to_the_host(card: ProbeCard):
    card.store.full = True
    card.send("0002070001BB")
    assert [(fault.status, fault.error) for fault in card.faults] == [(0x6581, "StoreError")]


def test_a_full_disk_at_power_on_leaves_the_card_alive(card: ProbeCard):
    card.send(plan(WRITE_ON, "select"))
    card.store.full = True
    card.card.reset()
    assert card.send(GET) == "6999"
    card.store.full = False
    card.card.reset()
    assert card.send(GET) == "AA9000"


COMMANDS = [
    "0002070002BBBB",
    "00090700",
    "0008070001BB",
    "000A000003616263",
    "00A4040005A000000001",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_power_lost_at_any_step_leaves_the_state_before_or_after(command: str):
    before = _prepared().store.contents
    whole = _prepared()
    start = whole.store.steps
    whole.send(command)
    after = whole.store.contents
    assert whole.store.steps > start
    for step in range(start, whole.store.steps):
        cut = _prepared()
        cut.store.cut_at = step
        with pytest.raises(PowerFailure):
            cut.send(command)
        assert cut.store.contents in (before, after)
        assert cut.again().send("000D000000") == "A000000001019000"


def _prepared() -> ProbeCard:
    card = ProbeCard(MemoryStore()).on()
    card.send("0002070001AA")
    return card


def test_power_lost_during_installation_leaves_the_instance_whole_or_absent():
    whole = ProbeCard()
    for step in range(whole.store.steps):
        store = MemoryStore()
        store.cut_at = step
        with pytest.raises(PowerFailure):
            ProbeCard(store)
        store.cut_at = None
        card = ProbeCard(store, installed=False).on()
        if card.send("00A4040006A00000000101") == "019000":
            assert card.send("0021000000") == "00039000"
        else:
            assert not store.contents
