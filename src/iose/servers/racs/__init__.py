# SPDX-License-Identifier: Apache-2.0
"""The administration plane: RACS over TLS with certificates, with rights, locks and audit."""

from iose.servers.racs.audit import AuditError, AuditEvent, AuditLog, AuditOutcome
from iose.servers.racs.config import RacsConfig
from iose.servers.racs.elements import RacsElement
from iose.servers.racs.http import HttpBinding
from iose.servers.racs.names import NameRegister
from iose.servers.racs.policy import AccessPolicy, Rule, RuleError
from iose.servers.racs.racsl import RacslListener
from iose.servers.racs.server import RacsServer

__all__ = [
    "AccessPolicy",
    "AuditError",
    "AuditEvent",
    "AuditLog",
    "AuditOutcome",
    "HttpBinding",
    "NameRegister",
    "RacsConfig",
    "RacsElement",
    "RacsServer",
    "RacslListener",
    "Rule",
    "RuleError",
]
