# SPDX-License-Identifier: Apache-2.0
"""How answers leave: the manners of T=0 and T=1, and whose GET RESPONSE it is."""

import pytest

from iose.iso7816.atr import TransmissionProtocol
from tests.support.probe import ProbeCard


def sized(size: int) -> str:
    return bytes(index & 0xFF for index in range(size)).hex().upper()


@pytest.fixture
def t1() -> ProbeCard:
    return ProbeCard().on()


@pytest.fixture
def t0() -> ProbeCard:
    return ProbeCard(protocol=TransmissionProtocol.T0).on()


@pytest.mark.parametrize("le", ["", "00", "10"])
def test_t1_answers_at_once_with_and_without_le(t1: ProbeCard, le: str):
    assert t1.send("000100000211AA" + le) == "11AA9000"


def test_t1_gives_256_bytes_at_once_and_announces_the_rest(t1: ProbeCard):
    assert t1.send("00060100") == sized(256) + "9F1C"
    assert t1.send("00060101") == sized(257)[:-2] + "6101"
    assert t1.send("00C0000001") == "009F1C"


def test_t1_gives_what_le_asks_and_the_status_with_the_last_piece(t1: ProbeCard):
    assert t1.send("0006000A04") == "00010203" + "6106"
    assert t1.send("00C0000004") == "04050607" + "6102"
    assert t1.send("00C0000000") == "0809" + "9F1C"


def test_t1_gives_all_at_once_to_an_extended_command(t1: ProbeCard):
    assert t1.send("0006100000" + "0000") == sized(4096) + "9F1C"
    assert t1.send("0006100000" + "0001" + "FF") == sized(4096) + "9F1C"


def test_get_response_reaches_the_applet_when_the_card_holds_nothing(t1: ProbeCard):
    assert t1.send("00C0000006") == "6170706C65749000"
    t1.send("0006000A04")
    t1.send("00C0000006")
    assert t1.send("00C0000006") == "6170706C65749000"


@pytest.mark.parametrize("command", ["0001000001AA", "00C0000001AA", "000B000000", "0006"])
def test_another_command_drops_what_the_card_holds(t1: ProbeCard, command: str):
    t1.send("0006000A04")
    t1.send(command)
    assert t1.send("00C0000006") == "6170706C65749000"


def test_get_response_with_data_is_a_command_like_others(t1: ProbeCard):
    t1.send("0006000A04")
    assert t1.send("00C0000001AA06") == "6170706C65749000"


def test_get_response_on_another_channel_reaches_the_applet_there(t1: ProbeCard):
    t1.send("00700001")
    t1.send("01A4040006A00000000102")
    t1.send("0006000A04")
    assert t1.send("01C0000006") == "6170706C65749000"
    assert t1.send("00C0000006") == "6170706C65749000"


def test_a_reset_drops_what_the_card_holds(t1: ProbeCard):
    t1.send("0006000A04")
    t1.card.reset()
    assert t1.send("00C0000006") == "6170706C65749000"


@pytest.mark.parametrize("le", ["", "00"])
def test_t0_announces_the_answer_to_a_command_with_data(t0: ProbeCard, le: str):
    assert t0.send("000100000211AA" + le) == "6102"
    assert t0.send("00C0000002") == "11AA9000"


def test_t0_announces_the_answer_to_a_bare_header(t0: ProbeCard):
    assert t0.send("00060002") == "6102"
    assert t0.send("00C0000002") == "00019F1C"


def test_t0_announces_256_bytes_as_zero(t0: ProbeCard):
    assert t0.send("00060104") == "6100"
    assert t0.send("00C0000000") == sized(256) + "6104"
    assert t0.send("00C0000004") == "00010203" + "9F1C"


def test_t0_gives_the_pieces_asked_for(t0: ProbeCard):
    t0.send("000100000411AABBCC")
    assert t0.send("00C0000001") == "116103"
    assert t0.send("00C0000003") == "AABBCC9000"


def test_t0_corrects_a_get_response_that_asks_for_too_much_and_loses_nothing(t0: ProbeCard):
    t0.send("000100000211AA")
    assert t0.send("00C0000003") == "6C02"
    assert t0.send("00C0000002") == "11AA9000"


def test_t0_corrects_le_and_gives_the_answer_without_processing_again(t0: ProbeCard):
    assert t0.send("000B000000") == "6C01"
    assert t0.send("000B000001") == "019000"
    assert t0.send("000B000001") == "029000"


def test_t0_processes_the_corrected_command_again_when_its_le_is_still_wrong(t0: ProbeCard):
    assert t0.send("000B000000") == "6C01"
    assert t0.send("000B000003") == "6C01"
    assert t0.send("000B000001") == "029000"


def test_t0_processes_a_command_other_than_the_one_corrected(t0: ProbeCard):
    assert t0.send("000B000000") == "6C01"
    assert t0.send("000B000101") == "029000"
    assert t0.send("000B000001") == "039000"


def test_t0_leaves_a_command_without_answer_as_it_is(t0: ProbeCard):
    assert t0.send("0002010002AABB") == "9000"
    assert t0.send("0002010000") == "9000"


def test_t0_gives_the_applet_its_own_get_response(t0: ProbeCard):
    assert t0.send("00C0000006") == "6170706C65749000"


def test_statuses_of_the_applet_pass_unchanged(t1: ProbeCard):
    for status in ("9001", "9002", "9F3A", "6C10", "6D16", "6100"):
        assert t1.send(f"0007{status}") == status
    assert t1.send("00079F1C0111") == "119F1C"
