# SPDX-License-Identifier: Apache-2.0
"""The clear part of an exported element's file, and the keys that passphrases give.

Light on purpose: the owner's command and the supervisor need no cipher. A passphrase stays in the
process that was given it; only a key, good for one file or folder, goes further.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from iose.crypto.base import Rng
from iose.crypto.errors import CryptoError
from iose.crypto.passphrase import ScryptParameters, derive_passphrase_key
from iose.runtime.elements.names import check_seid
from iose.runtime.errors import ConfigurationError

ARCHIVE_FORMAT: Final = "iose-element"
ARCHIVE_VERSION: Final = 1
ARCHIVE_LIMIT: Final = 16 * 1024 * 1024  # an element holds some kilobytes
PASSPHRASE_MIN: Final = 8
SALT_SIZE: Final = 16
FIELDS: Final = frozenset(
    {"format", "version", "seid", "export_id", "copy", "salt", "cost_log2", "nonce", "sealed"}
)


@dataclass(frozen=True, slots=True)
class PassphraseKey:
    """A key made of a passphrase, and what it takes to make it again."""

    key: bytes = field(repr=False)
    parameters: ScryptParameters


def new_passphrase_key(passphrase: str, rng: Rng) -> PassphraseKey:
    """Return a key of its own for one file or folder; this takes a while on purpose.

    Raises:
        ConfigurationError: The passphrase is shorter than 8 characters.
    """
    if len(passphrase) < PASSPHRASE_MIN:
        raise ConfigurationError(f"a passphrase has at least {PASSPHRASE_MIN} characters")
    parameters = ScryptParameters(rng.random_bytes(SALT_SIZE))
    return PassphraseKey(derive_passphrase_key(passphrase.encode(), parameters), parameters)


def passphrase_key(passphrase: str, kept: Mapping[str, object]) -> bytes:
    """Return the key made again, from the ``salt`` and ``cost_log2`` kept beside what it opens.

    Raises:
        ConfigurationError: They are damaged, or ask for a gigantic computation.
    """
    try:
        salt, cost_log2 = bytes.fromhex(str(kept.get("salt"))), int(str(kept.get("cost_log2")))
        return derive_passphrase_key(passphrase.encode(), ScryptParameters(salt, cost_log2))
    except (ValueError, CryptoError):
        raise ConfigurationError("what was kept to find the key again is damaged") from None


@dataclass(frozen=True, slots=True)
class ArchiveHeader:
    """What an export file says of itself; unverified until it is opened.

    Attributes:
        seid: The element's SEID.
        export_id: Random name of the export.
        is_copy: Whether the element also stayed where it was.
    """

    seid: str
    export_id: str
    is_copy: bool


def read_archive_header(content: bytes) -> ArchiveHeader:
    """Return what an export file says of itself.

    Raises:
        ConfigurationError: It is no export file.
    """
    header = read_archive_fields(content)
    return ArchiveHeader(str(header["seid"]), str(header["export_id"]), header["copy"] is True)


def read_archive_fields(content: bytes) -> Mapping[str, object]:
    """Return every field of an export file.

    Raises:
        ConfigurationError: It is no export file, or one of another version.
    """
    try:
        header = json.loads(content) if len(content) <= ARCHIVE_LIMIT else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.keys() != FIELDS:
        raise ConfigurationError("this is not the file of an exported element")
    if (header["format"], header["version"]) != (ARCHIVE_FORMAT, ARCHIVE_VERSION):
        raise ConfigurationError("the file was exported by another version of iose")
    check_seid(str(header["seid"]))
    return header
