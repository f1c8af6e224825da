# SPDX-License-Identifier: Apache-2.0
"""The encryption of a data folder at rest: a data key, kept under a passphrase.

The data key goes to element hosts over their channels; the passphrase stays in the process that
was given it. Cryptography is imported only where a folder is encrypted.
"""

from typing import Final, Protocol

from iose.runtime.channel import read_object
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder

ENCRYPTION: Final = "encryption"


class AskPassphrase(Protocol):
    """Where the passphrase of a data folder comes from."""

    def __call__(self, *, is_new: bool) -> str | None:
        """Return it; None when the user announced none.

        Args:
            is_new: Whether nothing is encrypted with it yet, so that a typing error would stay.

        Raises:
            ConfigurationError: It cannot be had.
        """


def is_encrypted(folder: DataFolder) -> bool:
    """Return whether there is a data folder that needs a passphrase.

    Raises:
        ConfigurationError: It cannot be looked at, or its description is damaged.
    """
    return folder.exists() and ENCRYPTION in folder.read_description()


def open_encryption(folder: DataFolder, passphrase: AskPassphrase) -> bytes | None:
    """Return the data key of a folder this process holds, None for one in clear.

    A folder without elements is encrypted from now on if there is a passphrase.

    Raises:
        ConfigurationError: The passphrase is missing, wrong, or of no use for this folder.
    """
    kept = folder.read_description().get(ENCRYPTION)
    given = passphrase(is_new=kept is None)
    if given is None:
        if kept is not None:
            raise ConfigurationError(
                f"the data folder {folder.path} is encrypted",
                hint="give its passphrase with --passphrase-file or IOSE_PASSPHRASE_FILE",
            )
        return None
    from iose.runtime.elements import seal  # noqa: PLC0415  # cryptography only where it is needed

    if kept is not None:
        return seal.unwrap_data_key(given, read_object(kept))
    if folder.seids():
        raise ConfigurationError(
            f"the data folder {folder.path} is not encrypted and holds elements",
            hint="make a new folder with the passphrase, and move elements by export and import",
        )
    data_key, description = seal.wrap_new_data_key(given, OsRng())
    folder.write_description({ENCRYPTION: description})
    return data_key
