# SPDX-License-Identifier: Apache-2.0
"""A peer that does not speak RACS, or RACS Lite, as agreed."""

from iose.wire.errors import RemoteProtocolError


class RacsPeerError(RemoteProtocolError):
    """The peer sent something that is no RACS; the stream cannot be read on."""
