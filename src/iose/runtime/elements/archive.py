# SPDX-License-Identifier: Apache-2.0
"""The clear part of an exported element's file: what it is, before anyone gives a passphrase.

Light on purpose: the command line and the supervisor read it without loading any cryptography.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from iose.runtime.elements.names import check_seid
from iose.runtime.errors import ConfigurationError

ARCHIVE_FORMAT: Final = "iose-element"
ARCHIVE_VERSION: Final = 1
ARCHIVE_LIMIT: Final = 16 * 1024 * 1024  # an element holds some kilobytes
FIELDS: Final = frozenset(
    {"format", "version", "seid", "export_id", "copy", "salt", "cost_log2", "nonce", "sealed"}
)


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
