# SPDX-License-Identifier: Apache-2.0
"""Status lines and the numbers in them (racs.md §5)."""

import pytest

from iose.protocols.racs.status import EventClass, StatusLine, Verb


def test_a_line_is_sign_class_number_line_and_text():
    line = StatusLine("-", EventClass.IN_USE, Verb.POWERON, 3, "in use")
    assert str(line) == "-708 003 in use"
    assert str(StatusLine("+", EventClass.EXECUTION, Verb.LIST, 1000)) == "+004 1000 "


def test_a_number_of_somebody_else_survives():
    assert Verb(42) == 42
    assert Verb(42) is Verb(42)
    assert Verb(42).name == "VERB_42"


@pytest.mark.parametrize("number", [-1, 100, "POWERON"])
def test_what_has_no_two_digits_is_no_number(number):
    with pytest.raises(ValueError, match="is not a valid Verb"):
        Verb(number)
