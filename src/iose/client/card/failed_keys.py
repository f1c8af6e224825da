# SPDX-License-Identifier: Apache-2.0
"""Which keys have failed on which card, so that they are never tried twice by accident.

A real card blocks for good after some ten wrong authentications. What is kept is one empty file
per failure, named by a digest of card and keys: it gives away neither.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from iose.client.card.errors import CardManagementError
from iose.client.card.key_files import CardKeys
from iose.client.user_files import FOLDER_MODE, create_file, sync_folder, user_folder
from iose.crypto.base import CryptoProvider, HashAlgorithm

FOLDER_VARIABLE: Final = "IOSE_CARD_STATE"
_DOMAIN: Final = b"iose card keys that failed 1"


class FailedKeys:
    """Digests of cards and keys that did not fit, in one folder of this user's.

    Args:
        crypto: Makes the digests.
        folder: Where they are kept; None is this user's place by the XDG rules.
    """

    def __init__(self, crypto: CryptoProvider, folder: Path | None = None) -> None:
        self._crypto = crypto
        self._folder = folder

    def has(self, card: bytes, keys: CardKeys) -> bool:
        """Return whether these keys have failed on this card.

        Raises:
            CardManagementError: The folder cannot be read.
        """
        path = self._path(card, keys)
        with _usable(path), suppress(FileNotFoundError):
            path.lstat()
            return True
        return False

    def note(self, card: bytes, keys: CardKeys) -> None:
        """Remember, durably, that these keys failed on this card.

        Raises:
            CardManagementError: The folder cannot be written.
        """
        path = self._path(card, keys)
        with _usable(path):
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            os.close(create_file(path, os.O_WRONLY))
            sync_folder(path.parent)

    def forget(self, card: bytes, keys: CardKeys) -> None:
        """Forget a failure, if there was one: the keys fit after all.

        Raises:
            CardManagementError: The folder cannot be written.
        """
        path = self._path(card, keys)
        with _usable(path):
            path.unlink(missing_ok=True)

    def _path(self, card: bytes, keys: CardKeys) -> Path:
        content = b"".join(
            len(part).to_bytes(2, "big") + part
            for part in (_DOMAIN, card, keys.diversification.value.encode(), keys.enc, keys.mac)
        )
        digest = self._crypto.hash(HashAlgorithm.SHA256, content)
        return (self._folder or default_folder()) / digest.hex()


def default_folder() -> Path:
    """Return the folder of this user: IOSE_CARD_STATE, or its place by the XDG rules.

    Raises:
        CardManagementError: This user has no home, and the environment names no place.
    """
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen)
    base = user_folder("XDG_STATE_HOME", ".local/state")
    if base is None:
        raise CardManagementError(
            "this user has no home folder to remember failed keys in",
            hint=f"name a folder for that in {FOLDER_VARIABLE}",
        )
    return base / "iose" / "failed-card-keys"


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CardManagementError(
            f"{path.parent}: {error.strerror}",
            hint=f"another folder can be named in {FOLDER_VARIABLE}",
        ) from error
