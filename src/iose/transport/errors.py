# SPDX-License-Identifier: Apache-2.0
"""No answer from a card: what happened, and on which reader."""

from typing import Final

from iose.protocols.racs.status import EventClass, StatusLine, Verb
from iose.wire.errors import IoseError

TEXT_LIMIT: Final = 200
_RACS_HINTS: Final = {
    EventClass.UNKNOWN_COMMAND: "the server does not know this command",
    EventClass.NOT_IMPLEMENTED: "the server does not have this command",
    EventClass.ILLEGAL: "power the element on first, in the same session",
    EventClass.BAD_PARAMETER: "is the element there, and may you see it? iose racs list",
    EventClass.UNAUTHORIZED: "ask the operator for a rule that allows it",
    EventClass.IN_USE: "another session holds the element: on the node, iose node status shows it",
    EventClass.HARDWARE: "the element or its reader does not answer: look at the server's log",
    EventClass.SYSTEM: "look at the server's log",
}


class TransportError(IoseError):
    """A command got no answer, or could not be sent.

    Attributes:
        reader: Name of the reader.
    """

    def __init__(self, reader: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{reader}: {message}", hint=hint)
        self.reader = reader


class NoReaderError(TransportError):
    """The reader is not there."""


class NoCardError(TransportError):
    """The reader holds no card."""


class CardRemovedError(TransportError):
    """The card, or what stands for it, went away during the session."""


class CardBusyError(TransportError):
    """Somebody outside of this node holds the card; it is not the card's fault."""


class TransportTimeoutError(TransportError):
    """No answer in the time allowed."""


class NotSentError(TransportError):
    """A command that this reader cannot carry; the card never saw it and is as it was."""


class RacsRefusedError(TransportError):
    """A RACS server refused a command; its session goes on.

    Attributes:
        status: What the server said.
    """

    def __init__(self, reader: str, status: StatusLine) -> None:
        code = f"{status.sign}{status.event_class:d}{status.verb:02d}"
        super().__init__(
            reader,
            f"refused, {code} {status.text[:TEXT_LIMIT]}".rstrip(),
            hint=_RACS_HINTS.get(status.event_class),
        )
        self.status = status

    @property
    def is_by_rule(self) -> bool:
        """Whether a rule over there keeps this APDU from the element, which never saw it."""
        return (self.status.event_class, self.status.verb) == (EventClass.UNAUTHORIZED, Verb.APDU)
