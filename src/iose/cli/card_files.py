# SPDX-License-Identifier: Apache-2.0
"""Files of secrets that ``iose card`` makes before a card gets what is in them.

A file that is there already, of the same card and purpose, is that of a run that was cut: its
secrets are used again, so that nothing a card may hold is ever only known to a dead process.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from iose.cli.card_options import read_small_file
from iose.runtime.elements.ownership import write_new_file
from iose.runtime.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file of secrets and what is or will be in it.

    Attributes:
        path: The file.
        content: Its fields.
        is_written: Whether it is there, of a run that was cut.
    """

    path: Path
    content: Mapping[str, str] = field(repr=False)
    is_written: bool


def secret_file(
    path: Path, purpose: Mapping[str, str], draw: Callable[[], Mapping[str, str]]
) -> SecretFile:
    """Return the file of an earlier run, or one to be written.

    Args:
        path: The file.
        purpose: Fields that say what the secrets are for.
        draw: Makes new secrets.

    Raises:
        ConfigurationError: The file is there and is for something else, or cannot be read.
    """
    path = path.absolute()
    drawn = draw()
    if path.exists():
        found = read_fields(path)
        check_purpose(path, found, purpose, drawn)
        return SecretFile(path, found, is_written=True)
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no folder {path.parent}")
    return SecretFile(path, {**purpose, **drawn}, is_written=False)


def read_fields(path: Path) -> dict[str, str]:
    """Return the fields of a file that are text; none when it is no such file.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        found = json.loads(read_small_file(path))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def check_purpose(
    path: Path,
    found: Mapping[str, str],
    purpose: Mapping[str, str],
    needed: Iterable[str] = (),
) -> None:
    """Check that a file is of a cut run of this very command.

    Raises:
        ConfigurationError: It is not.
    """
    is_same = all(found.get(name) == value for name, value in purpose.items())
    if not is_same or not all(name in found for name in needed):
        raise ConfigurationError(
            f"{path} exists already, and is not of a cut run of this command",
            hint="name a new file",
        )


def discard(path: Path) -> None:
    """Remove a file that was written in vain; one that cannot be removed is told as such later."""
    with suppress(OSError):
        path.unlink()


def write_fields(path: Path, content: Mapping[str, str]) -> None:
    """Write a new file of mode 0600, durably.

    Raises:
        ConfigurationError: It is there, or cannot be written; nothing is left behind.
    """
    try:
        write_new_file(path, json.dumps(content, indent=2).encode() + b"\n")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
