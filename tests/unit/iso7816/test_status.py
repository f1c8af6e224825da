# SPDX-License-Identifier: Apache-2.0
"""Status words, known and unknown."""

import pytest

from iose.iso7816.status import StatusWord, StatusWordError


def test_an_unknown_status_survives_and_prints_as_four_digits():
    status = StatusWord(0x61A6)
    assert (status, str(status), status.sw1, status.sw2) == (0x61A6, "61A6", 0x61, 0xA6)
    assert StatusWord(0x61A6) is status
    assert status.name == "SW_61A6"


def test_every_status_of_sixteen_bits_exists_and_no_other():
    assert [StatusWord(value) for value in range(0x10000)] == list(range(0x10000))
    for value in (-1, 0x10000, "9000"):
        with pytest.raises(ValueError, match="not a valid StatusWord"):
            StatusWord(value)


@pytest.mark.parametrize("status", [0x9000, 0x9001, 0x9002, 0x90FF, 0x9F1C, 0x6100])
def test_90xx_9fxx_and_61xx_are_success(status: int):
    assert StatusWord(status).is_success


@pytest.mark.parametrize("status", [0x6200, 0x6302, 0x6C10, 0x6D16, 0x6F00, 0x9100, 0x9E00])
def test_everything_else_is_not(status: int):
    assert not StatusWord(status).is_success


def test_a_refusal_carries_its_status():
    error = StatusWordError(0x6A82)
    assert (error.status, str(error), error.hint) == (
        StatusWord.NOT_FOUND,
        "status word 6A82",
        None,
    )
    assert str(StatusWordError(0x6302, "2 tries left")) == "2 tries left"
