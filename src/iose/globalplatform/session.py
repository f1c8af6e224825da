# SPDX-License-Identifier: Apache-2.0
"""What one session of a secure channel computes, whichever the protocol and the end.

``scp02`` and ``scp03`` implement ``Session``; ``host`` and ``card`` hold one each and close
the channel when it raises. Nothing here knows in which order commands may come.
"""

from typing import Final, Protocol

from iose.globalplatform.channel import (
    CHANNEL_BITS,
    FURTHER_CHANNEL,
    SECURE_MESSAGING,
    SECURE_MESSAGING_BITS,
    SecureChannelError,
    SecurityLevel,
)
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.wire.errors import LocalProtocolError

WARNINGS: Final = (0x62, 0x63)  # SW1


class Session(Protocol):
    """Keys, counters and MAC chain of one session, the same at both ends.

    Attributes:
        level: Protection after EXTERNAL AUTHENTICATE.
    """

    level: SecurityLevel

    @property
    def card_cryptogram(self) -> bytes:
        """What proves the card's keys."""

    @property
    def host_cryptogram(self) -> bytes:
        """What proves the host's keys."""

    def sign_command(self, command: CommandApdu) -> CommandApdu:
        """Return a command with its MAC and never encrypted: EXTERNAL AUTHENTICATE.

        Raises:
            LocalProtocolError: The class byte is of a secured command, or of a channel above 3.
        """

    def verify_command(self, command: CommandApdu) -> CommandApdu:
        """Return what ``sign_command`` was given.

        Raises:
            SecureChannelError: The MAC is missing or wrong.
        """

    def protect_command(self, command: CommandApdu) -> CommandApdu:
        """Return a command as ``level`` asks.

        Raises:
            LocalProtocolError: The class byte is of a secured command, or of a channel above 3.
        """

    def unprotect_command(self, command: CommandApdu) -> CommandApdu:
        """Return what ``protect_command`` was given.

        Raises:
            SecureChannelError: MAC or padding are missing or wrong.
        """

    def protect_response(self, response: ResponseApdu) -> ResponseApdu:
        """Return the answer to the last command as ``level`` asks."""

    def unprotect_response(self, response: ResponseApdu) -> ResponseApdu:
        """Return what ``protect_response`` was given.

        Raises:
            SecureChannelError: MAC or padding are missing or wrong.
        """

    def encrypt_key(self, key: bytes) -> bytes:
        """Return a key wrapped for this session.

        Raises:
            LocalProtocolError: The key does not fit the cipher's blocks.
        """

    def decrypt_key(self, data: bytes) -> bytes:
        """Return a wrapped key, padding included.

        Raises:
            DecodeError: Not whole blocks.
        """

    @property
    def max_command_data(self) -> int:
        """Data of the longest command that stays short once protected, in bytes."""

    @property
    def max_response_data(self) -> int:
        """Data of the longest answer that stays short once protected, in bytes."""


def secured_class(command: CommandApdu) -> int:
    """Return the class byte with its secure messaging bit (GPCS 2.3.1 §11.1.4).

    Raises:
        LocalProtocolError: The command is secured already, or for a channel above 3.
    """
    if command.cla & (SECURE_MESSAGING_BITS | FURTHER_CHANNEL):
        raise LocalProtocolError(f"class {command.cla:02X} cannot be protected")
    return command.cla | SECURE_MESSAGING


def plain_class(command: CommandApdu) -> int:
    """Return the class byte without its secure messaging bit (GPCS 2.3.1 §11.1.4).

    Raises:
        SecureChannelError: The command is not secured, or for a channel above 3.
    """
    if command.cla & (SECURE_MESSAGING_BITS | FURTHER_CHANNEL) != SECURE_MESSAGING:
        raise SecureChannelError("a command without secure messaging")
    return command.cla & ~SECURE_MESSAGING


def authenticated_header(command: CommandApdu) -> bytes:
    """Return the four header bytes as a MAC sees them: secured, of channel 0."""
    cla = (command.cla | SECURE_MESSAGING) & ~CHANNEL_BITS
    return bytes((cla, command.ins, command.p1, command.p2))


def is_protected(status: StatusWord) -> bool:
    """Return whether an answer of this status is: errors are not (Amendment D 1.2 §6.2.5)."""
    return status == StatusWord.OK or status.sw1 in WARNINGS
