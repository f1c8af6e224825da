# SPDX-License-Identifier: Apache-2.0
"""Store files: what a removed element left behind is no part of a new one."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from iose.runtime.elements.shelf import StoreShelf
from iose.runtime.folder import DataFolder
from iose.runtime.store import SqliteStore
from iose.wire.errors import StoreError

OLD, NEW = "se-00000001", "se-00000002"


def test_a_log_of_a_removed_element_does_not_come_back_in_a_new_one(tmp_path: Path):
    folder = DataFolder(tmp_path)
    folder.hold().release()
    shelf = StoreShelf(folder, None, SqliteStore)
    with shelf.create(OLD) as store:
        store.write({"name": b"old"})
    with closing(shelf.open(OLD)) as store:
        store.write({"psk": b"old"})
        log = folder.store(OLD).with_name(f"{OLD}.db-wal")
        shutil.copy(log, folder.store(NEW).with_name(f"{NEW}.db-wal"))
    with shelf.create(NEW) as store:
        store.write({"name": b"new"})
    with closing(shelf.open(NEW)) as store:
        assert store.load() == {"name": b"new"}


def test_a_store_whose_log_was_not_folded_in_is_not_replaced(tmp_path: Path):
    folder = DataFolder(tmp_path)
    folder.hold().release()
    shelf = StoreShelf(folder, None, SqliteStore)
    with shelf.create(OLD) as store:
        store.write({"name": b"old"})
    log = folder.store(OLD).with_name(f"{OLD}.db-wal")
    log.write_bytes(b"what a full disk left")
    with pytest.raises(StoreError, match="full"):
        shelf.replace(OLD, {"name": b"new"})
    assert log.exists()
