# SPDX-License-Identifier: Apache-2.0
"""The issuer security domain: who manages a card's contents, over a secure channel."""

from iose.applets.security_domain.domain import SecurityDomainApplet
from iose.applets.security_domain.owner import ISD_AID, read_domain
from iose.applets.security_domain.state import DEFAULT_VARIANT, DomainParameters
from iose.applets.security_domain.state import Name as DomainName

__all__ = [
    "DEFAULT_VARIANT",
    "ISD_AID",
    "DomainName",
    "DomainParameters",
    "SecurityDomainApplet",
    "read_domain",
]
