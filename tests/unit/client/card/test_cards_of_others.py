# SPDX-License-Identifier: Apache-2.0
"""What cards of the field do differently: where their domain is, how they list, what they tell."""

import asyncio

import pytest

from iose.client.card.discovery import find_issuer_domain
from iose.client.card.errors import CardManagementError
from iose.client.card.information import (
    announced_variant,
    decode_production,
    read_identity,
    read_information,
)
from iose.client.card.inventory import read_inventory, state_words
from iose.client.card.manager import select_issuer_domain
from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.life_cycle import Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.status import StatusWordError
from iose.wire.errors import DecodeError
from tests.unit.client.card.scripted_card import ScriptedCard

VISA = "A000000003000000"
ISD = "A000000151000000"
NOTHING = "6A82"
PRODUCTION = "9F7F2A" + "4790" + "5038" + "4791" + "00" * 6 + "12345678" + "00" * 26


def run(awaitable):
    return asyncio.run(awaitable)


def test_an_empty_select_finds_the_domain():
    card = ScriptedCard({"00A4040000": f"6F108408{VISA}A5049F6501FF9000"})
    assert str(run(find_issuer_domain(card))) == VISA
    assert card.sent == ["00A4040000"]


def test_a_domain_with_an_aid_of_its_own_is_known_by_its_management_data():
    answer = "6F168407A0000001234501A50B730906072A864886FC6B019000"
    card = ScriptedCard({"00A4040000": answer})
    assert str(run(find_issuer_domain(card))) == "A0000001234501"


@pytest.mark.parametrize(
    "empty",
    [
        NOTHING,
        "6F0984070102030405060790 00",  # of an application that is selected by default
        "6F02840090 00",
        "A0019000",
        "9000",
        "6F0D8408A000000151000000A5019F9000",
    ],
)
def test_the_usual_aids_are_tried_where_an_empty_select_does_not_help(empty: str):
    answers = {"00A4040000": empty, f"00A4040008{VISA}": "9000"}
    card = ScriptedCard(answers)
    found = str(run(find_issuer_domain(card)))
    assert found in {VISA, ISD}
    if found == VISA:
        assert card.sent[-1] == f"00A4040008{VISA}00"


def test_the_domain_of_a_locked_card_is_found():
    locked = ScriptedCard({"00A4040000": f"6F108408{ISD}A5049F6501FF6283"})
    assert str(run(find_issuer_domain(locked))) == ISD
    named = ScriptedCard({f"00A4040008{ISD}": "6283"})
    assert str(run(select_issuer_domain(named, Aid.from_hex(ISD)))) == ISD


def test_a_card_without_a_domain_is_told_so():
    with pytest.raises(CardManagementError) as caught:
        run(find_issuer_domain(ScriptedCard({})))
    assert "--isd" in caught.value.hint


def test_a_named_domain_is_selected_and_nothing_else_tried():
    card = ScriptedCard({f"00A4040008{VISA}": "9000"})
    assert str(run(select_issuer_domain(card, Aid.from_hex(VISA)))) == VISA
    assert len(card.sent) == 1
    with pytest.raises(CardManagementError):
        run(select_issuer_domain(card, Aid.from_hex(ISD)))


def entry(aid: str, state: str = "07", more: str = "") -> str:
    body = f"4F{len(aid) // 2:02X}{aid}9F7001{state}{more}"
    return f"E3{len(body) // 2:02X}{body}"


def test_a_list_goes_on_as_long_as_the_card_says():
    answers = {
        "80F28002": entry(ISD, "0F") + "9000",
        "80F24002": entry("A000000001") + "6310",
        "80F24003": entry("A000000002", more="C5039E0000") + "9000",
        "80F21002": entry("A0000000", "01") + "9000",
    }
    answers["80F21002"] = entry("A000000003", "01", "8406A00000000301") + "9000"
    card = ScriptedCard(answers)
    found = run(read_inventory(card, Aid.from_hex(ISD)))
    assert found.card_state == 0x0F
    assert [str(one.aid) for one in found.applications] == ["A000000001", "A000000002"]
    assert found.default_selected.aid == Aid.from_hex("A000000002")
    assert [str(one) for one in found.load_files[0].modules] == ["A00000000301"]
    assert found.application(Aid.from_hex("A000000009")) is None


def test_an_empty_card_has_an_empty_list():
    found = run(read_inventory(ScriptedCard({}), Aid.from_hex(ISD)))
    assert (found.applications, found.load_files, found.card_state) == ((), (), None)
    assert found.default_selected is None


def test_a_card_that_lists_without_modules_is_asked_for_files_alone():
    card = ScriptedCard({"80F22002": entry("A000000003", "01") + "9000"})
    found = run(read_inventory(card, Aid.from_hex(ISD)))
    assert [str(one.aid) for one in found.load_files] == ["A000000003"]


def test_an_older_card_answers_in_the_plain_form():
    def answer(command) -> str:
        if command.p2 & 0x02:
            return "6A86"
        if command.p1 == 0x40:
            return "05A0000000010704" + "9000"
        if command.p1 == 0x10:
            return "05A0000000030100" + "01" + "06A00000000301" + "9000"
        return "08" + ISD + "019E" + "9000"

    found = run(read_inventory(ScriptedCard(answer), Aid.from_hex(ISD)))
    assert found.applications[0].privileges == Privilege.DEFAULT_SELECTED
    assert found.load_files[0].privileges is None
    assert [str(one) for one in found.load_files[0].modules] == ["A00000000301"]
    assert found.card_state == 0x01


def test_an_older_card_may_not_know_files_with_modules():
    def answer(command) -> str:
        if command.p2 & 0x02 or command.p1 == 0x10:
            return "6A86"
        return "05A0000000030100" + "9000" if command.p1 == 0x20 else "6A88"

    found = run(read_inventory(ScriptedCard(answer), Aid.from_hex(ISD)))
    assert [str(one.aid) for one in found.load_files] == ["A000000003"]


@pytest.mark.parametrize("plain", ["05A00000000107", "FFA0", "04A00000000704"])
def test_a_damaged_plain_list_is_refused(plain: str):
    card = ScriptedCard(lambda command: "6A86" if command.p2 & 0x02 else plain + "9000")
    with pytest.raises(DecodeError):
        run(read_inventory(card, Aid.from_hex(ISD)))


def test_a_refused_list_is_told_in_words():
    with pytest.raises(StatusWordError, match=r"listing the card.*6982"):
        run(read_inventory(ScriptedCard(lambda _: "6982"), Aid.from_hex(ISD)))


def test_a_list_that_never_ends_is_left():
    card = ScriptedCard(lambda _: entry("A000000001") + "6310")
    with pytest.raises(CardManagementError, match="does not end"):
        run(read_inventory(card, Aid.from_hex(ISD)))


@pytest.mark.parametrize(
    ("state", "is_card", "words"),
    [
        (0x03, False, "installed"),
        (0x07, False, "selectable"),
        (0x0F, False, "personalized"),
        (0x87, False, "locked selectable"),
        (0x97, False, "locked"),
        (0x17, False, "state 17"),
        (0x0F, True, "secured"),
        (0x7F, True, "card locked"),
    ],
)
def test_states_are_told_in_words(state: int, is_card: object, words: str):
    assert state_words(state, is_card=bool(is_card)) == words


def test_what_a_card_says_of_itself_is_read():
    card = ScriptedCard(
        {
            "80CA9F7F": PRODUCTION + "9000",
            "80CA0042": "4203112233" + "9000",
            "80CA0045": "4502AABB" + "9000",
            "80CA00C1": "C103000102" + "9000",
            "80CA00E0": "E006C00401FF8010" + "9000",
        }
    )
    found = run(read_information(card))
    assert (found.production["fabricator"], found.production["serial"]) == ("4790", "12345678")
    assert (found.issuer_number, found.card_number) == (b"\x11\x22\x33", b"\xaa\xbb")
    assert found.sequence_counter == 0x102
    assert (found.keys[0].version, found.keys[0].components) == (0xFF, ((0x80, 16),))
    assert (found.data, found.capabilities, found.protocols) == (None, None, ())


@pytest.mark.parametrize("answer", ["6A88", "9000", "009000", "6602FFFF9000", "E0019F9000"])
def test_what_cannot_be_read_counts_as_missing(answer: str):
    found = run(read_information(ScriptedCard(lambda _: answer)))
    assert (found.production, found.keys, found.data) == ({}, (), None)
    assert found.sequence_counter is None
    assert run(announced_variant(ScriptedCard(lambda _: answer))) is None


def test_production_data_of_another_size_are_left_out():
    assert decode_production(bytes(42))["fabricator"] == "0000"
    assert decode_production(bytes(41)) == {}
    assert decode_production(None) == {}


def test_a_card_is_told_from_others_by_what_it_says():
    production = {"80CA9F7F": PRODUCTION + "9000"}
    numbers = {"80CA0042": "420111" + "9000", "80CA0045": "450122" + "9000"}
    blank = {"80CA9F7F": "9F7F2A" + "00" * 42 + "9000"}
    identities = [
        run(read_identity(ScriptedCard(answers), "reader/1"))
        for answers in (production, numbers, blank | numbers, blank, {})
    ]
    assert len(identities[0]) == 42
    assert identities[1:] == [b"\x11\x22", b"\x11\x22", b"reader/1", b"reader/1"]


def test_the_best_protocol_that_is_spoken_here_is_taken():
    scp = "640B06092A864886FC6B04{}"
    inner = "06072A864886FC6B01" + scp.format("0215") + scp.format("0370") + scp.format("0105")
    recognition = f"73{len(inner) // 2:02X}{inner}"
    data = f"66{len(recognition) // 2:02X}{recognition}"
    card = ScriptedCard({"80CA0066": data + "9000"})
    assert run(announced_variant(card)) == ScpVariant(3, 0x70)
