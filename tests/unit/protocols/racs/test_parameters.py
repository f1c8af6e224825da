# SPDX-License-Identifier: Apache-2.0
"""Parameters of APDU and SEN (racs.md §6, §7)."""

import pytest

from iose.protocols.racs.parameters import (
    ApduParameters,
    SenParameters,
    decode_apdu_parameters,
    decode_sen_parameters,
)
from iose.wire.errors import DecodeError

SELECT = bytes.fromhex("00A40400")


@pytest.mark.parametrize("text", ["00A40400", "00a40400", "00:A4:04:00", "00A4-0400", "00_A40400"])
def test_hex_may_be_grouped(text):
    assert decode_apdu_parameters([text]) == ApduParameters(SELECT)


@pytest.mark.parametrize(
    "text", ["zz", "00A4040", "00A404 00"[:6], "00A404000", "00.A40400", "0xA40400", ""]
)
def test_what_is_no_apdu_is_refused(text):
    with pytest.raises(DecodeError):
        decode_apdu_parameters([text])


def test_an_apdu_must_be_there_and_not_be_too_long():
    with pytest.raises(DecodeError):
        decode_apdu_parameters([])
    assert len(decode_apdu_parameters(["00" * 65_544]).command) == 65_544
    with pytest.raises(DecodeError):
        decode_apdu_parameters(["00" * 65_545])


def test_options_come_in_any_order_and_unknown_ones_are_nothing():
    expected = ApduParameters(SELECT, 0x9000, 0x9F, bytes.fromhex("A0C00000"))
    words = ["FETCH=A0c00000", "NEW=1", "MORE=9f", "CONTINUE=9000"]
    assert decode_apdu_parameters(["00A40400", *words]) == expected


@pytest.mark.parametrize(
    "word", ["CONTINUE=900", "CONTINUE=90000", "CONTINUE=", "MORE=6", "MORE=zz", "FETCH=00C0", "61"]
)
def test_a_malformed_option_is_refused_and_skipped_by_the_published_server(word):
    with pytest.raises(DecodeError):
        decode_apdu_parameters(["00A40400", word])
    skipped = decode_apdu_parameters(["00A40400", word], is_reference=True)
    assert skipped == ApduParameters(SELECT)


def test_the_published_server_skips_what_is_no_digit():
    assert decode_apdu_parameters(["00.A4/0400f"], is_reference=True).command == SELECT
    with pytest.raises(DecodeError):
        decode_apdu_parameters(["zz"], is_reference=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], SenParameters(None)),
        (["key7.com"], SenParameters("key7.com")),
        (["key7.com", "010203040500"], SenParameters("key7.com", "010203040500")),
        (["key7.com", "a0"], SenParameters("null")),
        (["null"], SenParameters("null")),
        (["fifteen-letters"], SenParameters("fifteen-letters")),
    ],
)
def test_names_are_read(words, expected):
    assert decode_sen_parameters(words) == expected


@pytest.mark.parametrize("words", [["sixteen-letters."], ["n", "0"], ["n", "zz"], ["n", "00" * 17]])
def test_a_name_that_is_none_is_refused(words):
    with pytest.raises(DecodeError):
        decode_sen_parameters(words)
