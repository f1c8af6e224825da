# SPDX-License-Identifier: Apache-2.0
"""Which class bytes a card answers, hardened and compatible (docs/security.md)."""

import pytest

from tests.support.probe import ProbeCard

REFUSED = [cla for cla in range(256) if cla & ~0x13]


@pytest.mark.parametrize("cla", REFUSED)
def test_a_hardened_card_refuses_every_other_class(cla: int):
    assert ProbeCard().on().send(f"{cla:02X}0E000000") == "6E00"


def test_a_hardened_card_takes_the_four_channels_and_chaining():
    card = ProbeCard().on()
    card.send("00700001")
    card.send("01A4040006A00000000102")
    assert card.send("010E000000") == "019000"
    assert card.send("1001000001AA") == "9000"
    assert card.send("0001000001BB") == "AABB9000"


@pytest.mark.parametrize("cla", ["04", "20", "40", "5F", "80", "84", "A0", "C0", "C1", "FE", "FF"])
def test_a_compatible_card_ignores_the_class(cla: str):
    assert ProbeCard(is_class_checked=False).on().send(f"{cla}0E000000") == f"{cla}9000"


def test_a_compatible_card_reads_the_channel_of_proprietary_classes():
    assert ProbeCard(is_class_checked=False).on().send("810E000000") == "6881"
