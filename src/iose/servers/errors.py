# SPDX-License-Identifier: Apache-2.0
"""Failures that both planes of a node share; what loads them loads nothing else."""

from iose.wire.errors import IoseError


class RoutingError(IoseError):
    """A name cannot be routed: not a name, or two elements' name."""
