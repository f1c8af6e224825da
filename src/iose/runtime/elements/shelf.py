# SPDX-License-Identifier: Apache-2.0
"""The store files of a data folder: opened, made whole or not at all, removed for good.

Only element hosts use it, and only while the folder is locked.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from iose.runtime.elements.seal import element_key
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder, file_stamp, sync_folder
from iose.wire.errors import StoreError

LOG_SUFFIXES: Final = ("-wal", "-shm", "-journal")


class ElementStore(Protocol):
    """An element's persistent objects: the card's store, and it can be closed."""

    def load(self) -> dict[str, bytes]:
        """Return every object; the caller owns the dictionary."""

    def write(self, changes: Mapping[str, bytes | None]) -> None:
        """Apply all changes or none, durable on return; None removes an object."""

    def close(self) -> None:
        """Let the medium go."""


class OpenStore(Protocol):
    """How a store is opened: the one of ``iose.runtime.store``, or a test's."""

    def __call__(self, path: Path, *, key: bytes | None) -> ElementStore:
        """Return the store in a file, made when absent."""


class StoreShelf:
    """The stores of one folder.

    Args:
        folder: The folder, held by this host's supervisor.
        data_key: Key of an encrypted folder, or None.
        open_store: How a file is opened.
    """

    def __init__(self, folder: DataFolder, data_key: bytes | None, open_store: OpenStore) -> None:
        self._folder = folder
        self._data_key = data_key
        self._open_store = open_store

    def open(self, seid: str) -> ElementStore:
        """Return the store of an element.

        Raises:
            StoreError: It is not there, or cannot be opened.
            ConfigurationError: It is no store, or of another key.
        """
        path = self._folder.store(seid)
        if not path.exists():
            raise StoreError(f"the store of {seid} is gone")
        return self._open_store(path, key=self._key(seid))

    @contextmanager
    def create(self, seid: str) -> Iterator[ElementStore]:
        """Give a fresh store; it becomes the element's when the block ends without an error.

        Raises:
            ConfigurationError: There is such an element already.
            StoreError: The disk is full or broken; nothing is left behind.
        """
        if self._folder.store(seid).exists():
            raise ConfigurationError(f"there is an element {seid} already")
        with self._draft(seid) as store:
            yield store

    def replace(self, seid: str, objects: Mapping[str, bytes]) -> None:
        """Put a fresh store in the place of one that is closed, at once.

        Raises:
            StoreError: The disk is full or broken; the old one is untouched.
        """
        _check_whole(self._folder.store(seid))
        with self._draft(seid) as store:
            store.write(objects)

    @contextmanager
    def _draft(self, seid: str) -> Iterator[ElementStore]:
        path, draft = self._folder.store(seid), self._folder.pending_store(seid)
        try:
            with _closing(self._open_store(draft, key=self._key(seid))) as store:
                yield store
            _check_whole(draft)
            _remove_logs(path)  # of an element that was removed while the power went
            draft.replace(path)
            sync_folder(path.parent)
        except (OSError, StoreError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreError(
                f"{path.name} cannot be made: {reason}",
                hint="see whether the disk of the data folder is full or broken",
            ) from error
        finally:
            with suppress(OSError):  # the next start removes it
                _remove(draft)

    def delete(self, seid: str) -> None:
        """Remove an element's store, durably; an absent one is no error.

        Raises:
            StoreError: The folder cannot be written; the element is still there.
        """
        path = self._folder.store(seid)
        try:
            _remove(path)
            sync_folder(path.parent)
        except OSError as error:
            raise StoreError(f"{path.name} cannot be removed: {error.strerror}") from error

    def stamp(self, seid: str) -> int:
        """Return when an element's file last changed, in ns; 0 if it was not closed well."""
        return file_stamp(self._folder.store(seid))

    def _key(self, seid: str) -> bytes | None:
        return None if self._data_key is None else element_key(self._data_key, seid)


def _check_whole(path: Path) -> None:
    """Check that a closed store is one file: on a full disk, its content stays in the log.

    Raises:
        StoreError: It does.
    """
    if file_stamp(path) == 0:
        raise StoreError("database or disk is full")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)  # first: a log without its file is nothing
    _remove_logs(path)


def _remove_logs(path: Path) -> None:
    for suffix in LOG_SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def _closing(store: ElementStore) -> Iterator[ElementStore]:
    try:
        yield store
    finally:
        store.close()
