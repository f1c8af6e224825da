# SPDX-License-Identifier: Apache-2.0
"""Names of elements in PC/SC readers do not depend on the order in which readers are plugged in."""

import pytest

from iose.transport.pcsc.names import ReaderName, keys_of, seid_of

NAMED = bytes.fromhex("3B08") + b"key1.com"
NAMELESS = bytes.fromhex("3B00")
PLAIN = "Maker Model 00 00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Maker Model 00 01", ReaderName("Maker Model", "00", "01", "")),
        ("Maker Model (1A2B) 0A 00", ReaderName("Maker Model (1A2B)", "0A", "00", "1A2B")),
        ("Maker (EU) [CCID] (77) 00 00", ReaderName("Maker (EU) [CCID] (77)", "00", "00", "77")),
        ("Maker Model 0", ReaderName("Maker Model", "", "", "")),
        ("Maker Model", ReaderName("Maker Model", "", "", "")),
        ("Maker () 00 00", ReaderName("Maker ()", "00", "00", "")),
    ],
)
def test_a_name_is_taken_apart(text: str, expected: ReaderName):
    assert ReaderName.read(text) == expected


def test_the_serial_number_of_the_reader_comes_first():
    assert seid_of("Maker (77) 00 00", "SN 5/1", NAMED, ["Maker (77) 00 00"]) == "pcsc-SN-5-1"


def test_then_what_its_name_holds_of_one():
    assert seid_of("Maker (77) 00 00", "", NAMED, ["Maker (77) 00 00"]) == "pcsc-77"


def test_then_the_name_of_the_card():
    assert seid_of(PLAIN, "", NAMED, [PLAIN]) == "pcsc-key1.com"


@pytest.mark.parametrize("name", ["Maker Model 00 00", "Maker Model 03 00"])
def test_then_the_name_of_the_reader_without_the_order_it_came_in(name: str):
    assert seid_of(name, "", NAMELESS, ["Maker Model 00 00", "Maker Model 03 00"]) == (
        "pcsc-Maker-Model"
    )


def test_slots_of_one_reader_are_told_apart():
    names = ["Maker Model 00 00", "Maker Model 00 01"]
    assert [seid_of(name, "", NAMELESS, names) for name in names] == [
        "pcsc-Maker-Model-00",
        "pcsc-Maker-Model-01",
    ]
    assert [seid_of(name, "77", NAMED, names) for name in names] == ["pcsc-77-00", "pcsc-77-01"]


def test_an_empty_reader_that_tells_nothing_stable_has_no_name():
    assert seid_of(PLAIN, "", b"", [PLAIN]) == ""


def test_a_name_is_never_longer_than_a_seid():
    seid = seid_of("M" * 100 + " 00 00", "", NAMELESS, ["M" * 100 + " 00 00", "M" * 100 + " 00 01"])
    assert (len(seid), seid[-4:]) == (63, "M-00")


def test_a_broken_atr_is_no_name():
    assert seid_of(PLAIN, "", b"\xff", [PLAIN]) == "pcsc-Maker-Model"


def test_an_operator_may_mean_a_slot_by_serial_card_or_model():
    assert keys_of("Maker (77) 00 00", "77", NAMED) == ("77", "key1.com", "Maker (77)")
