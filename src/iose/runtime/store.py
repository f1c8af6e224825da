# SPDX-License-Identifier: Apache-2.0
"""The persistent memory of one software element: one SQLite file (docs/architecture.md).

Implements the card's ``NonVolatileStore``. A write is on the disk when it returns: WAL with
``synchronous=FULL`` syncs the log at each commit, and a torn tail of the log is ignored at the
next opening. With a key, names and values are sealed with AES-256-GCM; sizes and the number of
objects are not hidden, and what was removed or put back, an object or the whole file, is not seen.
"""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

from iose.crypto.base import AeadAlgorithm, HashAlgorithm
from iose.crypto.errors import InvalidTagError
from iose.crypto.pyca import PycaCrypto
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.wire.errors import StoreError

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12
NAME_PREFIX: Final = 2  # bytes of the length of a sealed name
OWNER_ONLY: Final = 0o600
APPLICATION_ID: Final = 0x496F5345  # "IoSE", so that file(1) and we know our files
SEAL_PURPOSE: Final = b"iose store seal"
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE seal (value BLOB)",
        "CREATE TABLE object (name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    ),
)
"""What leads from each schema version to the next; an empty file has version 0."""
SCHEMA_VERSION: Final = len(MIGRATIONS)
WAL_PAGES: Final = 64  # 256 KiB of log before it is folded in: an element's state is about 10 kB
SETTINGS: Final = f"""
    PRAGMA locking_mode=EXCLUSIVE;
    PRAGMA synchronous=FULL;
    PRAGMA secure_delete=ON;
    PRAGMA wal_autocheckpoint={WAL_PAGES};
"""


class SqliteStore:
    """The objects of one element, held exclusively until ``close``.

    Args:
        path: The file; made with mode 0600 when absent.
        key: 32 bytes that seal names and values, or None for a file in clear.

    Raises:
        ConfigurationError: The file is not a store, has a newer schema, or the key is not its own.
        StoreError: The file is in use, or cannot be read or made.
    """

    __slots__ = ("_box", "_connection", "_path")

    def __init__(self, path: Path, *, key: bytes | None = None) -> None:
        self._path = path
        self._box = _PlainBox() if key is None else _SealedBox(key)
        _make_file(path)
        try:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"{path.name}: {error}") from error
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise

    def load(self) -> dict[str, bytes]:
        """Return every object.

        Raises:
            StoreError: The medium cannot be read, or an object was tampered with.
        """
        try:
            rows = self._connection.execute("SELECT name, value FROM object").fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self._path.name}: {error}") from error
        try:
            return dict(self._box.open(_blob(name), _blob(value)) for name, value in rows)
        except (InvalidTagError, UnicodeDecodeError) as error:
            raise StoreError(f"{self._path.name}: an object is damaged") from error

    def write(self, changes: Mapping[str, bytes | None]) -> None:
        """Apply all changes or none, durable on return; None removes an object, traces included.

        Raises:
            StoreError: The medium is full or broken; nothing was written.
        """
        written, removed = [], []
        for name, value in changes.items():
            if value is None:
                removed.append((self._box.row_name(name),))
            else:
                written.append(self._box.seal(name, value))
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO object VALUES (?, ?)", written)
            connection.executemany("DELETE FROM object WHERE name = ?", removed)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # most failures have ended the transaction already
                connection.execute("ROLLBACK")
            raise StoreError(f"{self._path.name}: {error}") from error
        if removed:
            self._fold()

    def _fold(self) -> None:
        """Fold the log into the file and empty it: both still hold what was removed.

        A store may stay open for days. On a full disk that waits for the next time.
        """
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Fold the log into the file and let it go; the store is of no more use."""
        self._connection.close()

    def _open(self) -> None:
        name = self._path.name
        try:
            self._connection.executescript(SETTINGS)
            version = self._pragma("user_version")
            owner = self._pragma("application_id")
            if not 0 <= version <= SCHEMA_VERSION:
                raise ConfigurationError(
                    f"{name}: expected schema version {SCHEMA_VERSION}, found {version}",
                    hint="use the version of iose that wrote it, or a newer one",
                )
            if owner != APPLICATION_ID and (owner or version or not self._is_empty()):
                raise ConfigurationError(f"{name}: a database of another program")
            self._migrate(version)
            seals = self._connection.execute("SELECT value FROM seal").fetchall()
        except sqlite3.OperationalError as error:
            raise StoreError(f"{name}: {error}") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name}: not the store of an element: {error}") from error
        if not self._is_own(seals):
            raise ConfigurationError(
                f"{name}: the key does not open it",
                hint="give the passphrase it was made with; none, if it was made without",
            )

    def _is_own(self, seals: list[tuple[object, ...]]) -> bool:
        match seals:
            case [(None | bytes() as seal,)]:
                return self._box.is_own(seal)
            case _:
                return False

    def _pragma(self, name: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def _is_empty(self) -> bool:
        return self._connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None

    def _migrate(self, version: int) -> None:
        if version == SCHEMA_VERSION:
            return
        connection = self._connection
        if version == 0:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in chain.from_iterable(MIGRATIONS[version:]):
            connection.execute(statement)
        if version == 0:
            connection.execute("INSERT INTO seal VALUES (?)", (self._box.new_seal(),))
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")


class _PlainBox:
    """Objects as they are."""

    def row_name(self, name: str) -> bytes:
        return name.encode()

    def seal(self, name: str, value: bytes) -> tuple[bytes, bytes]:
        return name.encode(), value

    def open(self, row_name: bytes, value: bytes) -> tuple[str, bytes]:
        return row_name.decode(), value

    def new_seal(self) -> bytes | None:
        return None

    def is_own(self, seal: bytes | None) -> bool:
        return seal is None


class _SealedBox:
    """Objects under a key: rows are named by a MAC, which is bound to what they hold."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise ConfigurationError(f"expected a key of {KEY_SIZE} bytes, found {len(key)}")
        self._crypto = PycaCrypto()
        self._rng = OsRng()
        self._name_key = self._derive(key, b"iose store names")
        self._aead = self._crypto.aead(
            AeadAlgorithm.AES_256_GCM, self._derive(key, b"iose store values")
        )

    def row_name(self, name: str) -> bytes:
        return self._derive(self._name_key, name.encode())

    def seal(self, name: str, value: bytes) -> tuple[bytes, bytes]:
        row_name = self.row_name(name)
        encoded = name.encode()
        return row_name, self._encrypt(
            len(encoded).to_bytes(NAME_PREFIX, "big") + encoded + value, row_name
        )

    def open(self, row_name: bytes, value: bytes) -> tuple[str, bytes]:
        content = self._decrypt(value, row_name)
        start = NAME_PREFIX + int.from_bytes(content[:NAME_PREFIX], "big")
        return content[NAME_PREFIX:start].decode(), content[start:]

    def new_seal(self) -> bytes | None:
        return self._encrypt(b"", SEAL_PURPOSE)

    def is_own(self, seal: bytes | None) -> bool:
        try:
            return seal is not None and not self._decrypt(seal, SEAL_PURPOSE)
        except InvalidTagError:
            return False

    def _derive(self, key: bytes, purpose: bytes) -> bytes:
        return self._crypto.hmac(HashAlgorithm.SHA256, key, purpose)

    def _encrypt(self, plaintext: bytes, purpose: bytes) -> bytes:
        nonce = self._rng.random_bytes(NONCE_SIZE)
        return nonce + self._aead.encrypt(nonce, plaintext, purpose)

    def _decrypt(self, sealed: bytes, purpose: bytes) -> bytes:
        if len(sealed) < NONCE_SIZE:
            raise InvalidTagError("a sealed object is too short")
        return self._aead.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], purpose)


def _blob(field: object) -> bytes:
    """Return a field of a row: only a damaged file holds another type there.

    Raises:
        InvalidTagError: It does.
    """
    if not isinstance(field, bytes):
        raise InvalidTagError("not the field of an object")
    return field


def _make_file(path: Path) -> None:
    """Make an absent file private before SQLite opens it; its log gets the same mode.

    Raises:
        StoreError: The folder is not there, or does not let us.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY)
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(f"{path.name}: {error.strerror}") from error
    os.close(descriptor)
    try:
        _sync(path.parent)  # a power cut must not lose the name of a file that holds state
    except OSError as error:
        raise StoreError(f"{path.name}: {error.strerror}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
