# SPDX-License-Identifier: Apache-2.0
"""Status lines: a sign, an event class, a command number, a line number, text (racs.md §5)."""

from dataclasses import dataclass
from enum import IntEnum

from iose.wire.numbers import unknown_member

__all__ = ["EventClass", "StatusLine", "Verb"]

TWO_DIGITS = 99


class Verb(IntEnum):
    """The number of a command; a number of someone else's survives (racs.md §5.1)."""

    NONE = 0
    BEGIN = 1
    GET_VERSION = 2
    SET_VERSION = 3
    LIST = 4
    RESET = 5
    APDU = 6
    SHUTDOWN = 7
    POWERON = 8
    ECHO = 9
    SEN = 10
    GET_SEN = 11
    QUIT = 12

    @classmethod
    def _missing_(cls, value: object) -> "Verb | None":
        return unknown_member(cls, value, TWO_DIGITS, "VERB_{:02d}")


class EventClass(IntEnum):
    """What kind of event a status line tells: the digit after the sign (racs.md §5.1)."""

    EXECUTION = 0  # with a plus sign: no error
    UNKNOWN_COMMAND = 1
    NOT_IMPLEMENTED = 2
    ILLEGAL = 3  # wrong state
    BAD_PARAMETER = 4
    SYNTAX = 5
    UNAUTHORIZED = 6
    IN_USE = 7
    HARDWARE = 8
    SYSTEM = 9


@dataclass(frozen=True, slots=True)
class StatusLine:
    """One status line.

    Attributes:
        sign: ``+`` or ``-``.
        event_class: The kind of event.
        verb: The command it speaks of.
        line: Number of that command's line in the request; BEGIN is 0.
        text: What follows; data for some commands, else for people.
    """

    sign: str
    event_class: EventClass
    verb: Verb
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.sign}{self.event_class:d}{self.verb:02d} {self.line:03d} {self.text}"
