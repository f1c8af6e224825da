# SPDX-License-Identifier: Apache-2.0
"""What SELECT finds, what it leaves when it finds nothing, and who is told."""

import pytest

from tests.support.probe import CRASH_ON, PROBE, REFUSE_ON, ProbeCard, plan

SELECT_PROBE = "00A4040006A00000000101"
SELECT_SECOND = "00A4040006A00000000102"
WHO = "000D000000"


@pytest.fixture
def card() -> ProbeCard:
    return ProbeCard().on()


def test_a_reset_selects_the_default_applet(card: ProbeCard):
    assert card.send(WHO) == "A000000001019000"


def test_select_by_full_aid_gives_the_answer_of_the_applet(card: ProbeCard):
    assert card.send(SELECT_SECOND) == "029000"
    assert card.send(WHO) == "A000000001029000"


def test_select_of_an_unknown_aid_leaves_the_selection(card: ProbeCard):
    assert card.send("00200000043030303000") == "9000"
    assert card.send("00A4040006A00000000109") == "6A82"
    assert card.send(WHO) == "A000000001019000"
    assert card.send("0021000000") == "01039000"


def test_select_by_the_first_bytes_of_an_aid_finds_the_first_installed(card: ProbeCard):
    assert card.send("00A4040005A000000001") == "019000"


def test_select_next_walks_the_instances_and_then_ends(card: ProbeCard):
    assert card.send("00A4040005A000000001") == "019000"
    assert card.send("00A4040205A000000001") == "029000"
    assert card.send("00A4040205A000000001") == "6A82"
    assert card.send(WHO) == "A000000001029000"


def test_select_next_begins_with_the_first_when_the_selected_one_does_not_match(card: ProbeCard):
    assert card.send("00A4040205B000000001") == "019000"
    assert card.send(WHO) == "B0000000019000"


def test_select_next_on_a_channel_with_nothing_selected_finds_the_first(card: ProbeCard):
    assert card.send("0070000001") == "019000"
    assert card.send("01A4040205B000000001") == "019000"


@pytest.mark.parametrize("control", ["00", "04", "08", "0C"])
def test_select_takes_every_control_information(card: ProbeCard, control: str):
    assert card.send(f"00A404{control}06A00000000102") == "029000"


@pytest.mark.parametrize("occurrence", ["01", "03", "10", "80"])
def test_select_refuses_occurrences_it_does_not_know(card: ProbeCard, occurrence: str):
    assert card.send(f"00A404{occurrence}06A00000000102") == "6A86"


def test_select_of_more_than_an_aid_finds_nothing(card: ProbeCard):
    assert card.send("00A4040007A0000000010100") == "6A82"


@pytest.mark.parametrize("command", ["00A40400", "00A4040000"])
def test_select_of_the_issuer_finds_nothing_on_a_card_without_security_domain(
    card: ProbeCard, command: str
):
    assert card.send(command) == "6A82"


def test_select_of_a_file_goes_to_the_applet(card: ProbeCard):
    assert card.send("00A40000023F00") == "6D00"


def test_a_deselected_applet_is_told(card: ProbeCard):
    card.send(SELECT_SECOND)
    assert card.store.contents[f"{PROBE}/object/deselected"] == b"1"


def test_selecting_again_keeps_the_instance_and_starts_its_session_anew(card: ProbeCard):
    assert card.send("000B000000") == "019000"
    assert card.send("000B000000") == "029000"
    assert card.send(SELECT_PROBE) == "019000"
    assert card.send("000B000000") == "019000"


def test_an_applet_that_refuses_selection_leaves_nothing_selected(card: ProbeCard):
    assert card.send(plan(REFUSE_ON, "select")) == "9000"
    assert card.send(SELECT_PROBE) == "6986"
    assert card.send(WHO) == "6999"
    assert card.send(SELECT_SECOND) == "029000"
    assert not card.faults


def test_an_applet_that_crashes_in_selection_leaves_nothing_selected(card: ProbeCard):
    assert card.send(plan(CRASH_ON, "select")) == "9000"
    assert card.send(SELECT_PROBE) == "6F00"
    assert card.send(WHO) == "6999"
    assert [fault.error for fault in card.faults] == ["ValueError"]


def test_an_applet_that_crashes_in_deselection_is_left_all_the_same(card: ProbeCard):
    assert card.send(plan(CRASH_ON, "deselect")) == "9000"
    assert card.send(SELECT_SECOND) == "029000"
    assert card.send(WHO) == "A000000001029000"
    assert [fault.error for fault in card.faults] == ["ValueError"]


def test_an_applet_that_crashes_at_reset_leaves_the_card_alive(card: ProbeCard):
    assert card.send(plan(CRASH_ON, "select")) == "9000"
    card.card.reset()
    assert card.send(WHO) == "6999"
    assert card.send(SELECT_SECOND) == "029000"
    assert [fault.error for fault in card.faults] == ["ValueError"]


def test_a_card_without_default_applet_starts_with_nothing_selected():
    card = ProbeCard(installed=False)
    card.card.install("probe", PROBE)
    card.on()
    assert card.send(WHO) == "6999"
    assert card.send(SELECT_PROBE) == "019000"
