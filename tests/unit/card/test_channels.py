# SPDX-License-Identifier: Apache-2.0
"""Four logical channels, each with its own selection."""

import pytest

from tests.support.probe import ProbeCard

OPEN = "0070000001"


@pytest.fixture
def card() -> ProbeCard:
    return ProbeCard().on()


def test_three_channels_open_beside_the_basic_one(card: ProbeCard):
    assert [card.send(OPEN) for _ in range(4)] == ["019000", "029000", "039000", "6A81"]


def test_a_channel_is_opened_by_number_without_data(card: ProbeCard):
    assert card.send("00700002") == "9000"
    assert card.send(OPEN) == "019000"
    assert card.send(OPEN) == "039000"


def test_a_channel_that_is_open_is_not_opened_again(card: ProbeCard):
    card.send(OPEN)
    assert card.send("00700001") == "6A86"


def test_a_fifth_channel_is_not_opened_by_number(card: ProbeCard):
    assert card.send("00700004") == "6A81"


def test_a_closed_channel_is_free_again(card: ProbeCard):
    card.send(OPEN)
    assert card.send("00708001") == "9000"
    assert card.send("010D000000") == "6881"
    assert card.send(OPEN) == "019000"


def test_a_channel_closes_itself(card: ProbeCard):
    card.send(OPEN)
    assert card.send("01708000") == "9000"
    assert card.send("010D000000") == "6881"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("00708000", "6A81"),  # the basic channel stays open
        ("00708004", "6A81"),
        ("00708002", "6200"),
        ("00701000", "6A86"),
        ("0070000001AA", "6700"),
    ],
)
def test_manage_channel_refuses(card: ProbeCard, command: str, answer: str):
    assert card.send(command) == answer


def test_a_command_on_a_closed_channel_is_refused(card: ProbeCard):
    assert card.send("030D000000") == "6881"
    assert card.send("03A4040006A00000000102") == "6881"


def test_each_channel_has_its_own_applet(card: ProbeCard):
    card.send(OPEN)
    assert card.send("010D000000") == "6999"
    assert card.send("01A4040006A00000000102") == "029000"
    assert card.send("010D000000") == "A000000001029000"
    assert card.send("000D000000") == "A000000001019000"


def test_an_instance_selected_on_one_channel_is_refused_on_another(card: ProbeCard):
    card.send(OPEN)
    assert card.send("01A4040006A00000000101") == "6985"
    assert card.send("00A4040006A00000000102") == "029000"
    assert card.send("01A4040006A00000000101") == "019000"


def test_a_new_channel_gets_the_default_applet_when_it_is_free(card: ProbeCard):
    card.send("00A4040006A00000000102")
    assert card.send(OPEN) == "019000"
    assert card.send("010D000000") == "A000000001019000"


def test_closing_a_channel_deselects_its_applet(card: ProbeCard):
    card.send(OPEN)
    card.send("01A4040006A00000000102")
    card.send("00708001")
    assert card.store.contents["A00000000102/object/deselected"] == b"1"
    assert card.send("00A4040006A00000000102") == "029000"


def test_a_reset_closes_all_channels_but_the_basic_one(card: ProbeCard):
    card.send(OPEN)
    card.card.reset()
    assert card.send("010D000000") == "6881"
    assert card.send("000D000000") == "A000000001019000"
