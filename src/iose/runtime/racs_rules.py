# SPDX-License-Identifier: Apache-2.0
"""From the operator's settings of the administration plane to the plane's own forms."""

from dataclasses import fields

from iose.runtime.errors import ConfigurationError
from iose.runtime.racs_settings import RacsSettings
from iose.servers.racs.config import RacsConfig
from iose.servers.racs.policy import AccessPolicy, Rule, RuleError


def check_rules(racs: RacsSettings) -> None:
    """Check every rule of a configuration.

    Raises:
        ConfigurationError: One means nothing; the message says which.
    """
    for number, rule in enumerate(racs.rules, 1):
        try:
            AccessPolicy([Rule(rule.user, rule.elements, rule.verbs, rule.aids, rule.deny)])
        except RuleError as error:
            raise ConfigurationError(
                f"racs.rules, number {number}: {error}", hint=error.hint
            ) from (error)


def access_policy(racs: RacsSettings) -> AccessPolicy:
    """Return the rules in the plane's own form; they have been checked."""
    return AccessPolicy(
        Rule(rule.user, rule.elements, rule.verbs, rule.aids, rule.deny) for rule in racs.rules
    )


def racs_config(racs: RacsSettings) -> RacsConfig:
    """Return the plane's settings in its own form; its defaults fill the gaps.

    Where it listens is the supervisor's business.
    """
    known = {item.name for item in fields(RacsConfig)} - {"listen", "http_listen", "racsl_listen"}
    given = {
        item.name: value
        for item in fields(RacsSettings)
        if item.name in known and (value := getattr(racs, item.name)) is not None
    }
    return RacsConfig(listen=(), **given)
