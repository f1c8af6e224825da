# SPDX-License-Identifier: Apache-2.0
"""Words for the status words of card management (GPCS 2.3.1 §11.1.9 and each command's own).

For people who administer cards: what a refusal means for the command it answers.
"""

from typing import Final

from iose.globalplatform.commands import Ins
from iose.iso7816.status import StatusWord

_GENERAL: Final[dict[int, str]] = {
    0x9000: "done",
    0x6283: "the card is locked",
    0x6310: "more follows",
    0x6400: "no specific diagnosis",
    0x6438: "not one of the packages this element can run",
    0x6581: "memory failure",
    0x6700: "wrong length",
    0x6881: "this logical channel is not supported",
    0x6882: "secure messaging is not supported",
    0x6982: "security status not satisfied: no secure channel, or one without this right",
    0x6985: "conditions of use not satisfied",
    0x6999: "the application refused to be selected",
    0x6A80: "wrong values in the data",
    0x6A81: "not supported in this state of the card",
    0x6A82: "not found",
    0x6A84: "not enough memory",
    0x6A86: "wrong P1 or P2",
    0x6A88: "what is referred to was not found",
    0x6D00: "the card does not know this command",
    0x6E00: "the card does not know this class",
    0x6F00: "the card gives no reason",
    0x9484: "algorithm not supported",
    0x9485: "wrong key check value",
}
_OF_COMMAND: Final[dict[tuple[int, int], str]] = {
    (Ins.INITIALIZE_UPDATE, 0x6A88): "the card has no keys of this version",
    (Ins.INITIALIZE_UPDATE, 0x6982): "the security domain is blocked",
    (Ins.INITIALIZE_UPDATE, 0x6983): "the security domain is blocked after too many wrong keys",
    (Ins.EXTERNAL_AUTHENTICATE, 0x6300): "the card did not accept our cryptogram: wrong keys",
    (Ins.EXTERNAL_AUTHENTICATE, 0x6982): "the card did not accept our MAC: wrong keys",
    (Ins.EXTERNAL_AUTHENTICATE, 0x6A86): "the card has no such security level",
    (Ins.SELECT, 0x6A82): "no such application, or it is locked",
    (Ins.SELECT, 0x6283): "selected; the card is locked",
    (Ins.DELETE, 0x6985): "something still uses it: delete its instances first, or all of it",
    (Ins.DELETE, 0x6A80): "what to delete is not named as it should be",
    (Ins.DELETE, 0x6A82): "nothing of this AID is on the card",
    (Ins.DELETE, 0x6A88): "nothing of this AID, or no such key, is on the card",
    (Ins.DELETE, 0x6200): "deleted logically only",
    (
        Ins.INSTALL,
        0x6985,
    ): "an AID in use, or a state or module that does not allow it",
    (Ins.INSTALL, 0x6A80): "the parameters are wrong, or the AID is in use",
    (Ins.INSTALL, 0x6A82): "the load file, module or instance is not on the card",
    (Ins.INSTALL, 0x6A88): "the load file, module or security domain is not on the card",
    (
        Ins.LOAD,
        0x6985,
    ): "no INSTALL [for load] came before, or another load file",
    (Ins.LOAD, 0x6A80): "the load file is malformed, or a block is out of order",
    (Ins.LOAD, 0x6A86): "a block is out of order",
    (Ins.PUT_KEY, 0x6A80): "the keys are malformed, or a check value is wrong",
    (Ins.PUT_KEY, 0x6A88): "there is no key set of the version to replace",
    (Ins.PUT_KEY, 0x6985): "a key set of this version is there already",
    (Ins.SET_STATUS, 0x6985): "this change of state is not allowed",
    (Ins.SET_STATUS, 0x6A80): "there is no such state",
    (Ins.SET_STATUS, 0x6A88): "nothing of this AID is on the card",
    (Ins.GET_STATUS, 0x6A88): "nothing of this kind is on the card",
    (Ins.GET_DATA, 0x6A88): "the card does not have this data object",
    (Ins.STORE_DATA, 0x6985): "no INSTALL [for personalization] came before, or it is personalised",
    (Ins.STORE_DATA, 0x6A80): "the application refused the data",
    (Ins.STORE_DATA, 0x6A88): "the application to personalise was not found",
}
_TRIES_SW1: Final = 0x63
_TRIES_MARK: Final = 0xC0  # 63CX, X tries left
_TRIES_MASK: Final = 0x0F
_WARNING_SW1: Final = 0x62


def explain(status: StatusWord, ins: int | None = None) -> str:
    """Return what a status word means, for people, as answer to ``ins`` when that is given."""
    found = _OF_COMMAND.get((ins, int(status))) if ins is not None else None
    return found or _GENERAL.get(int(status)) or _by_class(status)


def _by_class(status: StatusWord) -> str:
    if status.sw1 == _TRIES_SW1 and status.sw2 & ~_TRIES_MASK == _TRIES_MARK:
        left = status.sw2 & _TRIES_MASK
        return f"wrong value, {left} {'try' if left == 1 else 'tries'} left"
    if status.sw1 in {_WARNING_SW1, _TRIES_SW1}:
        return f"a warning without a name, {status}"
    if status.is_success:
        return f"done, with status {status}"
    return f"status word {status}"
