# SPDX-License-Identifier: Apache-2.0
"""Names of elements: which SENs are accepted, and how SEIDs and default SENs are made.

A SEN is both the TLS server name and the ATR's historical bytes, hence a host name of at most
15 characters, compared without regard to case (RFC 6066 §3).
"""

import re
from collections.abc import Collection, Iterable
from itertools import count
from typing import Final

from iose.crypto.base import Rng
from iose.runtime.errors import ConfigurationError

SEN_LIMIT: Final = 15  # historical bytes of an ATR (ISO/IEC 7816-3 §8.2.2)
SEID_RANDOM_SIZE: Final = 4
SEID: Final = re.compile(r"se-[0-9a-f]{8}")
RESERVED_SENS: Final = frozenset({"null"})  # the field's word for "no name"
TAKEN_HINT: Final = "choose another name; 'iose element list' shows those in use"
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")


def check_sen(sen: str) -> None:
    """Check that a name may be an element's SEN.

    Raises:
        ConfigurationError: It is no host name of 1 to 15 characters, is an address, or is reserved.
    """
    labels = sen.split(".")
    if not 1 <= len(sen) <= SEN_LIMIT or not all(_LABEL.fullmatch(label) for label in labels):
        raise ConfigurationError(
            f"the name {sen!r} is not a host name of 1 to {SEN_LIMIT} characters",
            hint="use letters, digits, hyphens and dots, as in key1.com; longer names are aliases",
        )
    if labels[-1].isdigit() or sen.lower() in RESERVED_SENS:
        raise ConfigurationError(
            f"the name {sen!r} cannot be a TLS server name", hint="choose a name such as key1.com"
        )


def check_unique_sen(sen: str, taken: Iterable[str], *, hint: str = TAKEN_HINT) -> None:
    """Check that no other element has this name; case makes no difference.

    Args:
        sen: The name.
        taken: Names of the others.
        hint: Where those are shown.

    Raises:
        ConfigurationError: Another element has it.
    """
    if sen.lower() in {other.lower() for other in taken}:
        raise ConfigurationError(f"another element is already named {sen!r}", hint=hint)


def check_seid(seid: str) -> None:
    """Check the form of a SEID, which is also a file name.

    Raises:
        ConfigurationError: It is not "se-" and 8 hex digits.
    """
    if SEID.fullmatch(seid) is None:
        raise ConfigurationError(f"{seid!r} is not an element's SEID (se- and 8 hex digits)")


def new_seid(rng: Rng, taken: Collection[str]) -> str:
    """Return a random SEID that no other element of the folder has."""
    while True:
        seid = "se-" + rng.random_bytes(SEID_RANDOM_SIZE).hex()
        if seid not in taken:
            return seid


def free_sens(taken: Iterable[str], number: int) -> list[str]:
    """Return the first ``number`` names of key1.com, key2.com, … that no element has."""
    used = {name.lower() for name in taken}
    names: list[str] = []
    for index in count(1):
        if len(names) == number:
            break
        if (name := f"key{index}.com") not in used:
            names.append(name)
    return names
