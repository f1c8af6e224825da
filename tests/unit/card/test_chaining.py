# SPDX-License-Identifier: Apache-2.0
"""Commands in pieces."""

import pytest

from tests.support.probe import ProbeCard


@pytest.fixture
def card() -> ProbeCard:
    return ProbeCard().on()


def test_pieces_are_processed_as_one_command(card: ProbeCard):
    assert card.send("1001000002AABB") == "9000"
    assert card.send("1001000001CC") == "9000"
    assert card.send("0001000001DD00") == "AABBCCDD9000"
    assert card.send("000B000000") == "029000"


def test_the_last_piece_may_be_empty(card: ProbeCard):
    card.send("1001000002AABB")
    assert card.send("0001000000") == "AABB9000"


@pytest.mark.parametrize("other", ["000B000000", "100B000000"])
def test_another_command_drops_the_pieces(card: ProbeCard, other: str):
    card.send("1001000002AABB")
    card.send(other)
    assert card.send("0001000001CC") == "CC9000"


def test_pieces_of_another_channel_are_another_command(card: ProbeCard):
    card.send("00700001")
    card.send("01A4040006A00000000102")
    card.send("1001000002AABB")
    assert card.send("0101000001CC") == "CC9000"


def test_extended_pieces_are_joined_too(card: ProbeCard):
    card.send("10010000" + "00012C" + "AA" * 300)
    assert (
        card.send("00010000" + "00012C" + "BB" * 300 + "0000") == "AA" * 300 + "BB" * 300 + "9000"
    )


def test_a_chain_of_the_largest_size_is_taken_and_one_byte_more_refused(card: ProbeCard):
    piece = "10010000" + "00FFFF" + "AA" * 65_535
    assert card.send(piece) == "9000"
    assert card.send("0001000001BB") == "6700"
    assert card.send("0001000001CC") == "CC9000"


def test_a_reset_drops_the_pieces(card: ProbeCard):
    card.send("1001000002AABB")
    card.card.reset()
    assert card.send("0001000001CC") == "CC9000"


def test_a_chained_select_is_a_select(card: ProbeCard):
    card.send("10A4040003A00000")
    assert card.send("00A4040003000102") == "029000"


def test_a_chain_in_a_class_that_has_no_chaining_is_an_ordinary_command():
    card = ProbeCard(is_class_checked=False).on()
    assert card.send("9001000001AA") == "AA9000"
