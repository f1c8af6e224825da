# SPDX-License-Identifier: Apache-2.0
"""Where a passphrase comes from: a file, or the terminal; never an argument."""

import os
import sys
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import Final

from iose.cli.output import warn
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder

OTHERS_MAY_READ: Final = 0o044


@dataclass(frozen=True, slots=True)
class PassphraseOptions:
    """What the user said of a passphrase.

    Attributes:
        file: File that holds it, or None.
        is_asked: Whether to ask for it on the terminal.
    """

    file: Path | None = None
    is_asked: bool = False

    def read(self, *, is_new: bool) -> str | None:
        """Return the passphrase, or None when none was announced.

        Args:
            is_new: Whether it is to encrypt something: it is then asked for twice.

        Raises:
            ConfigurationError: The file cannot be read, or there is no terminal to ask on.
        """
        if self.file is not None:
            return read_passphrase_file(self.file)
        if not self.is_asked:
            return None
        return ask_passphrase("Passphrase of the data folder: ", is_new=is_new)


def folder_passphrase(path: Path) -> PassphraseOptions:
    """Return where the passphrase of a data folder comes from, for commands without an option."""
    file = os.environ.get("IOSE_PASSPHRASE_FILE")
    return PassphraseOptions(
        Path(file) if file else None, is_asked=not file and DataFolder(path).is_encrypted()
    )


def read_passphrase_file(path: Path) -> str:
    """Return the first line of a file; one that others can read is warned of.

    Raises:
        ConfigurationError: It cannot be read, or is empty.
    """
    try:
        if path.stat().st_mode & OTHERS_MAY_READ:
            warn(f"the passphrase file {path} can be read by others", f"chmod 600 {path}")
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the passphrase file {path} cannot be read") from error
    if not lines or not lines[0]:
        raise ConfigurationError(f"the passphrase file {path} is empty")
    return lines[0]


def ask_passphrase(prompt: str, *, is_new: bool = False) -> str:
    """Return a passphrase typed on the terminal, twice when it is a new one.

    Raises:
        ConfigurationError: There is no terminal, or the two differ.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "a passphrase is needed and there is no terminal to ask on",
            hint="give it in a file with --passphrase-file",
        )
    passphrase = getpass(prompt)
    if is_new and getpass("The same again: ") != passphrase:
        raise ConfigurationError("the two passphrases differ")
    return passphrase
