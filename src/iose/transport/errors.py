# SPDX-License-Identifier: Apache-2.0
"""No answer from a card: what happened, and on which reader."""

from iose.wire.errors import IoseError


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


class TransportTimeoutError(TransportError):
    """No answer in the time allowed."""
