# SPDX-License-Identifier: Apache-2.0
"""The TLS-IM applet: an identity module, which keeps a PSK and computes with it (tls-im.md)."""

from iose.applets.tls_im.applet import TlsIdentityApplet
from iose.applets.tls_im.owner import TLS_IM_AID, ModuleSecrets, read_module_secrets
from iose.applets.tls_im.personalisation import ModulePersonalisation
from iose.applets.tls_im.state import Setting

__all__ = [
    "TLS_IM_AID",
    "ModulePersonalisation",
    "ModuleSecrets",
    "Setting",
    "TlsIdentityApplet",
    "read_module_secrets",
]
