# SPDX-License-Identifier: Apache-2.0
"""Every fault of the administration plane and the status line it becomes (racs.md §5.2).

Two columns: ours, which follows the draft's classes, and the published server's.
"""

from enum import Enum
from typing import Final

from iose.protocols.racs.status import EventClass, StatusLine, Verb
from iose.wire.errors import IoseError


class Fault(Enum):
    """What can go wrong with a command, in the order of the checks."""

    UNKNOWN_COMMAND = EventClass.UNKNOWN_COMMAND, "unknown command"
    SYNTAX = EventClass.SYNTAX, "parameter missing or malformed"
    VERSION = EventClass.BAD_PARAMETER, "version not supported"
    ELEMENT = EventClass.BAD_PARAMETER, "invalid SEID"
    PARAMETER = EventClass.BAD_PARAMETER, "parameter not supported"
    RIGHT = EventClass.UNAUTHORIZED, "not allowed"
    IN_USE = EventClass.IN_USE, "in use by another session"
    NOT_POWERED = EventClass.ILLEGAL, "not powered on by this session"
    FILTERED = EventClass.UNAUTHORIZED, "refused"
    MISMATCH = EventClass.EXECUTION, "unexpected status word"
    NO_CARD = EventClass.HARDWARE, "the element does not start"
    CARD = EventClass.HARDWARE, "no answer from the element"
    TOO_LARGE = EventClass.SYSTEM, "the answer is too large"
    FULL = EventClass.SYSTEM, "the response is full"
    SYSTEM = EventClass.SYSTEM, "internal error"
    AUDIT = EventClass.SYSTEM, "the audit log cannot be written"
    NO_NAME = EventClass.SYSTEM, "no name"

    def __init__(self, event_class: EventClass, text: str) -> None:
        self.event_class = event_class
        self.text = text


REFERENCE: Final = {
    (Verb.NONE, Fault.UNKNOWN_COMMAND): (EventClass.SYSTEM, Verb.NONE),
    (Verb.SET_VERSION, Fault.SYNTAX): (EventClass.SYNTAX, Verb.GET_VERSION),
    (Verb.SET_VERSION, Fault.VERSION): (EventClass.BAD_PARAMETER, Verb.GET_VERSION),
    (Verb.RESET, Fault.NOT_POWERED): (EventClass.IN_USE, Verb.RESET),
    (Verb.RESET, Fault.CARD): (EventClass.SYSTEM, Verb.RESET),
    (Verb.APDU, Fault.NOT_POWERED): (EventClass.IN_USE, Verb.APDU),
    (Verb.APDU, Fault.FILTERED): (EventClass.IN_USE, Verb.APDU),
    (Verb.APDU, Fault.TOO_LARGE): (EventClass.IN_USE, Verb.APDU),
    (Verb.SHUTDOWN, Fault.CARD): (EventClass.SYSTEM, Verb.SHUTDOWN),
    (Verb.POWERON, Fault.NO_CARD): (EventClass.SYSTEM, Verb.POWERON),
    (Verb.GET_SEN, Fault.ELEMENT): (EventClass.SYNTAX, Verb.GET_SEN),
}
REFERENCE_TOO_FULL: Final = EventClass.EXECUTION, Verb.BEGIN  # -001, whatever the command
REFERENCE_CLOSING: Final = frozenset({Fault.UNKNOWN_COMMAND, Fault.TOO_LARGE})
TEXT_LIMIT: Final = 200
MISMATCH_REFERENCE_TEXT: Final = "APDU wrong status"


class RefusedError(IoseError):
    """A command that gets a minus sign.

    Attributes:
        fault: What went wrong.
        text: For people; begins with the fault's own words unless given.
    """

    def __init__(self, fault: Fault, text: str = "") -> None:
        super().__init__(text or fault.text)
        self.fault = fault
        self.text = text or fault.text


def refusal_line(verb: Verb, line: int, refusal: RefusedError, *, is_reference: bool) -> StatusLine:
    """Return the status line of a refusal (racs.md §5.2)."""
    event_class, number = refusal.fault.event_class, verb
    if is_reference:
        if refusal.fault is Fault.FULL:
            event_class, number = REFERENCE_TOO_FULL
        else:
            key = (verb, refusal.fault)
            event_class, number = REFERENCE.get(key, (event_class, verb))
    return StatusLine("-", event_class, number, line, refusal.text)


def success_line(verb: Verb, line: int, text: str, *, is_reference: bool) -> StatusLine:
    """Return the status line of a success; the published server calls SET-VERSION 02."""
    if is_reference and verb is Verb.SET_VERSION:
        verb = Verb.GET_VERSION
    return StatusLine("+", EventClass.EXECUTION, verb, line, text)


def printable(text: str) -> str:
    """Return a text as it may stand in a status line: visible ASCII and blanks, not too long."""
    shown = text[:TEXT_LIMIT]
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in shown)
