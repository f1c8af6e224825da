# SPDX-License-Identifier: Apache-2.0
"""Errors of the engine: the peer's fault with the alert it gets, and the peer giving up on us."""

from iose.tls.constants import AlertDescription
from iose.wire.errors import IoseError, RemoteProtocolError


class TlsPeerError(RemoteProtocolError):
    """The peer broke TLS.

    Attributes:
        alert: The alert to send; the engine has already queued it.
    """

    def __init__(self, alert: AlertDescription, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.alert = alert


class AlertReceived(IoseError):  # noqa: N818  # an outcome the peer chose, not a fault
    """The peer gave up on us.

    Attributes:
        alert: The alert received.
    """

    def __init__(self, alert: AlertDescription, *, hint: str | None = None) -> None:
        super().__init__(f"the peer sent alert {alert.name.lower()}", hint=hint)
        self.alert = alert
