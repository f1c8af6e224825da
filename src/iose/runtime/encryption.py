# SPDX-License-Identifier: Apache-2.0
"""The encryption of a data folder at rest: a data key, kept under a passphrase.

The data key goes to element hosts over their channels; the passphrase stays in the process that
was given it. Imported only where a folder is encrypted: cryptography takes its time to load.
"""

from collections.abc import Mapping
from contextlib import closing
from typing import Final

from iose.runtime.channel import read_object
from iose.runtime.elements import seal
from iose.runtime.elements.shelf import StoreShelf
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import ENCRYPTION, DataFolder
from iose.runtime.store import SqliteStore

UNFINISHED: Final = "is_unfinished"  # some stores are still in clear


def open_folder(folder: DataFolder, passphrase: str) -> bytes:
    """Return the data key of a folder this process holds.

    A folder without elements is encrypted from now on; an encryption that was cut is finished.

    Raises:
        ConfigurationError: The passphrase is wrong, or the folder is in clear and holds elements.
        StoreError: A store cannot be read or written.
    """
    if not folder.is_encrypted():
        if folder.seids():
            raise ConfigurationError(
                f"the data folder {folder.path} is not encrypted and holds elements",
                hint="encrypt it with 'iose element encrypt', or give no passphrase",
            )
        return encrypt_folder(folder, passphrase)
    description = folder.read_description()
    kept = read_object(description[ENCRYPTION])
    data_key = seal.unwrap_data_key(passphrase, kept)
    if UNFINISHED in description:
        _encrypt_stores(folder, data_key)
        folder.write_description({ENCRYPTION: kept})
    return data_key


def encrypt_folder(folder: DataFolder, passphrase: str) -> bytes:
    """Encrypt a folder in clear that this process holds, and return its new data key.

    Each element is replaced at once, and the folder knows its key before the first one is: after
    a cut, the next holder with the passphrase goes on.

    Raises:
        ConfigurationError: It is encrypted already, an element is damaged, or the passphrase is
            too short; nothing is changed.
        StoreError: The disk is full or broken; the next holder goes on.
    """
    if folder.is_encrypted():
        raise ConfigurationError(f"the data folder {folder.path} is encrypted already")
    for seid in folder.seids():
        _read_store(folder, seid, None)
    data_key, kept = seal.wrap_new_data_key(passphrase, OsRng())
    folder.write_description({ENCRYPTION: kept, UNFINISHED: True})
    _encrypt_stores(folder, data_key)
    folder.write_description({ENCRYPTION: kept})
    return data_key


def _encrypt_stores(folder: DataFolder, data_key: bytes) -> None:
    shelf = StoreShelf(folder, data_key, SqliteStore)
    for seid in folder.seids():
        try:
            objects = _read_store(folder, seid, None)
        except ConfigurationError:
            _read_store(folder, seid, data_key)  # done before the cut
        else:
            shelf.replace(seid, objects)


def _read_store(folder: DataFolder, seid: str, data_key: bytes | None) -> Mapping[str, bytes]:
    with closing(StoreShelf(folder, data_key, SqliteStore).open(seid)) as store:
        return store.load()
