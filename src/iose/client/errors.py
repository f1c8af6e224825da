# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a caller and an element; messages and hints never hold a key."""

from typing import Final

from iose.wire.errors import DecodeError, IoseError, RemoteProtocolError

URI_HINT: Final = "an element's URI looks like keyS://name@host:port/?command"


class ElementUriError(DecodeError):
    """A text is not the URI of an element; the message never repeats its key."""

    def __init__(self, message: str, *, hint: str | None = URI_HINT) -> None:
        super().__init__(message, hint=hint)


class CredentialsError(IoseError):
    """The credentials file cannot be used, or lacks what is needed."""


class MissingPskError(CredentialsError):
    """No key is known for an element; a program may ask its user for it."""


class SessionError(IoseError):
    """There is no session with the element, or it is over."""


class UnreachableError(SessionError):
    """Nothing answers at the host and port."""


class SessionTimeoutError(SessionError):
    """The element did not answer in time; the session is closed."""


class HandshakeError(SessionError):
    """The session did not open."""


class AuthenticationError(HandshakeError):
    """The element refused the PSK or its identity; it does not say which."""


class UnknownNameError(HandshakeError):
    """The node knows no element of that name."""


class ElementBusyError(HandshakeError):
    """The element serves another session, or has failed for now."""


class ModuleError(SessionError):
    """The identity module that holds the PSK cannot be reached, or refuses."""


class ModulePinError(ModuleError):
    """The module refused its PIN; it is not tried again."""


class SessionClosedError(SessionError):
    """The element ended the session.

    Attributes:
        command_sent: Whether a command was on its way: it may or may not have been obeyed.
    """

    def __init__(self, message: str, *, command_sent: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.command_sent = command_sent


class KeystoreError(IoseError):
    """The element answered ERROR: it refused the command and the session goes on."""


class AnswerError(RemoteProtocolError):
    """The element answered something other than the command promises."""


class AttestationError(RemoteProtocolError):
    """The element could not show what it was asked to show; the session is closed."""


class PskChangeError(SessionError):
    """The PSK was not changed, or which one the element keeps is not known yet."""
