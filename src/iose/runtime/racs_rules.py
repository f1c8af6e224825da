# SPDX-License-Identifier: Apache-2.0
"""From the operator's settings of the administration plane to the plane's own forms."""

from dataclasses import fields
from pathlib import Path
from typing import Final

from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import OTHERS
from iose.runtime.racs_settings import RacsSettings
from iose.servers.racs.config import RacsConfig
from iose.servers.racs.policy import AccessPolicy, Rule, RuleError

PSK_SIZES: Final = range(16, 65)
PSK_FILE_LIMIT: Final = 1024
PSK_HINT: Final = (
    f"write {PSK_SIZES[0]} to {PSK_SIZES[-1]} bytes in hex, as openssl rand -hex 32, mode 0600"
)


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
            ) from error


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


def racsl_credentials(racs: RacsSettings) -> dict[str, tuple[bytes, str]]:
    """Return key and SEID of each client of RACS Lite, by PSK identity.

    Raises:
        ConfigurationError: A key's file cannot be read, may be read by others, or holds no key.
    """
    found: dict[str, tuple[bytes, str]] = {}
    for one in racs.racsl:
        if one.identity in found:
            raise ConfigurationError(f"racs.racsl: the identity {one.identity!r} is there twice")
        found[one.identity] = (read_psk(Path(one.psk_file)), one.element)
    return found


def read_psk(path: Path) -> bytes:
    """Return the key in a file.

    Raises:
        ConfigurationError: The file cannot be read, may be read by others, or holds no key.
    """
    try:
        if path.stat().st_mode & OTHERS:
            raise ConfigurationError(
                f"{path} may be read by others", hint=f"chmod 600 {path}; and change the key"
            )
        with path.open(encoding="ascii") as file:
            psk = bytes.fromhex(file.read(PSK_FILE_LIMIT))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}", hint=PSK_HINT
        ) from error
    except ValueError:
        psk = b""
    if len(psk) not in PSK_SIZES:
        raise ConfigurationError(f"{path} holds no key", hint=PSK_HINT)
    return psk
