# SPDX-License-Identifier: Apache-2.0
"""The TLS-SE applet with its keystore: one package, since they share AID, PINs, keys and PSK."""

from iose.applets.tls_se.owner import (
    TLS_SE_AID,
    ElementSecrets,
    read_secrets,
)
from iose.applets.tls_se.personalisation import Personalisation
from iose.applets.tls_se.server import TlsServerApplet
from iose.applets.tls_se.settings import CommandSet, Limits, Settings, Wire
from iose.applets.tls_se.state import Flag

__all__ = [
    "TLS_SE_AID",
    "CommandSet",
    "ElementSecrets",
    "Flag",
    "Limits",
    "Personalisation",
    "Settings",
    "TlsServerApplet",
    "Wire",
    "read_secrets",
]
