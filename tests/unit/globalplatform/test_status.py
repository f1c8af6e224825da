# SPDX-License-Identifier: Apache-2.0
"""Status words of card management in words."""

import pytest

from iose.globalplatform.commands import Ins
from iose.globalplatform.status import explain
from iose.iso7816.status import StatusWord


@pytest.mark.parametrize(
    ("status", "ins", "words"),
    [
        (0x9000, None, "done"),
        (0x9000, Ins.DELETE, "done"),
        (0x6A88, None, "what is referred to was not found"),
        (0x6A88, Ins.INITIALIZE_UPDATE, "no keys of this version"),
        (0x6A88, Ins.GET_STATUS, "nothing of this kind"),
        (0x6438, Ins.INSTALL, "not one of the packages this element can run"),
        (0x6982, Ins.INSTALL, "no secure channel"),
        (0x6982, Ins.EXTERNAL_AUTHENTICATE, "our MAC"),
        (0x6300, Ins.EXTERNAL_AUTHENTICATE, "wrong keys"),
        (0x6985, Ins.DELETE, "still uses it"),
        (0x6A80, Ins.PUT_KEY, "check value"),
        (0x6A84, Ins.LOAD, "memory"),
        (0x63C2, None, "2 tries left"),
        (0x63C1, None, "1 try left"),
        (0x63F1, None, "a warning without a name, 63F1"),
        (0x6300, None, "a warning without a name, 6300"),
        (0x6201, Ins.DELETE, "a warning without a name, 6201"),
        (0x9F1C, None, "done, with status 9F1C"),
        (0x6B12, 0x00, "status word 6B12"),
    ],
)
def test_a_status_word_says_what_it_means_for_its_command(status, ins, words):
    assert words in explain(StatusWord(status), ins)
