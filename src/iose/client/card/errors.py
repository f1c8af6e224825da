# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in card management besides a refusal, a lost card or a broken channel."""

from iose.globalplatform.channel import SecureChannelError
from iose.wire.errors import IoseError


class CardManagementError(IoseError):
    """What was asked for cannot be done to this card, or not with these keys or files."""


class WrongKeysError(SecureChannelError):
    """The card's keys are not those it was opened with, now or when they were tried before."""
