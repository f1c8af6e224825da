# SPDX-License-Identifier: Apache-2.0
"""Failures only the operator can mend, and a control channel that does not answer."""

from iose.wire.errors import IoseError


class ConfigurationError(IoseError):
    """The operator must change something: a setting, a name, a folder, a passphrase."""


class ControlError(IoseError):
    """The other end of a control channel is gone, late, or failed in a way of its own."""
