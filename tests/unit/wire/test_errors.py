# SPDX-License-Identifier: Apache-2.0
"""The root errors carry what their readers need."""

from iose.wire.errors import DecodeError, IoseError


def test_an_error_has_a_message_and_may_have_a_hint():
    error = IoseError("it happened", hint="do this")
    assert (str(error), error.hint) == ("it happened", "do this")
    assert IoseError("it happened").hint is None


def test_a_decode_error_says_where():
    error = DecodeError("expected 1, found 2", offset=7)
    assert (str(error), error.offset, error.hint) == ("expected 1, found 2", 7, None)
