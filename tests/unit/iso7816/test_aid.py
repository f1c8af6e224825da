# SPDX-License-Identifier: Apache-2.0
"""Application identifiers."""

import pytest

from iose.iso7816.aid import Aid
from iose.wire.errors import DecodeError


@pytest.mark.parametrize("size", [5, 6, 16])
def test_an_aid_has_5_to_16_bytes(size: int):
    assert Aid(bytes(size)).value == bytes(size)


@pytest.mark.parametrize("size", [0, 4, 17])
def test_other_sizes_are_refused(size: int):
    with pytest.raises(DecodeError):
        Aid(bytes(size))


def test_an_aid_is_read_and_printed_in_hex():
    assert str(Aid.from_hex("01 02 03 04 05 0a")) == "01020304050A"


@pytest.mark.parametrize("text", ["", "01020304", "0102030405x", "010203040"])
def test_what_is_not_an_aid_in_hex_is_refused(text: str):
    with pytest.raises(DecodeError):
        Aid.from_hex(text)
