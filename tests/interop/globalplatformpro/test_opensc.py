# SPDX-License-Identifier: Apache-2.0
"""OpenSC's tools reach one of our cards through PC/SC, as any program for smart cards does."""

import pytest

from tests.support.opensc import opensc, send
from tests.support.virtual_card import VirtualCard

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SELECT_DOMAIN = "00A4040008A000000151000000"


def test_opensc_reads_the_name_of_the_element_in_its_atr(card: VirtualCard):
    answer = bytes.fromhex(opensc("--atr").replace(":", ""))
    assert b"key1.com" in answer


def test_opensc_selects_the_issuer_security_domain(card: VirtualCard):
    (answer,) = send(SELECT_DOMAIN + "00")
    assert answer == "6F108408A000000151000000A5049F6501FF9000"
    assert bytes.fromhex(SELECT_DOMAIN + "00") in card.commands


def test_opensc_reads_what_the_domain_says_of_itself(card: VirtualCard):
    _, data, keys, missing = send(SELECT_DOMAIN, "80CA006600", "80CA00E000", "80CA123400")
    assert bytes.fromhex("2A864886FC6B040370").hex().upper() in data
    assert keys == "E012C00401308810C00402308810C004033088109000"
    assert missing == "6A88"


def test_opensc_begins_a_secure_channel_but_cannot_manage_without_it(card: VirtualCard):
    _, begun, refused, denied = send(
        SELECT_DOMAIN, "8050000008" + "00" * 8 + "00", "80F28002024F0000", "80E6020000"
    )
    assert (len(begun), begun[-4:]) == (2 * 34, "9000")
    assert (refused, denied) == ("6982", "6982")


def test_opensc_uses_the_applet_that_a_reset_selects(card: VirtualCard):
    wrong, right = send("002000000431313131", "002000000430303030")
    assert (wrong, right) == ("6302", "9000")
