# SPDX-License-Identifier: Apache-2.0
"""One SQLite file per element: durable, private, atomic, sealed on request, honest when refused."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from iose.runtime import store as store_module
from iose.runtime.errors import ConfigurationError
from iose.runtime.store import SCHEMA_VERSION, SqliteStore
from iose.wire.errors import StoreError
from tests.support.rng import SeededRng

KEYS = [None, bytes(range(32))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "element.db"


def contents(path: Path, key: bytes | None = None) -> dict[str, bytes]:
    store = SqliteStore(path, key=key)
    try:
        return store.load()
    finally:
        store.close()


def fill(path: Path, changes: dict[str, bytes | None], key: bytes | None = None) -> None:
    store = SqliteStore(path, key=key)
    store.write(changes)
    store.close()


@pytest.mark.parametrize("key", KEYS, ids=["clear", "sealed"])
def test_what_is_written_is_there_at_the_next_opening(path: Path, key: bytes | None):
    assert contents(path, key) == {}
    fill(path, {"a": b"1", "b/é": b"", "c": bytes(10_000)}, key)
    fill(path, {"a": b"2", "c": None, "absent": None}, key)
    assert contents(path, key) == {"a": b"2", "b/é": b""}


@pytest.mark.parametrize("key", KEYS, ids=["clear", "sealed"])
def test_what_is_written_is_loaded_by_the_same_store(path: Path, key: bytes | None):
    store = SqliteStore(path, key=key)
    store.write({"a": b"1"})
    assert store.load() == {"a": b"1"}
    store.close()


def test_files_are_for_their_owner_only_and_closing_leaves_one(path: Path):
    previous = os.umask(0)
    try:
        store = SqliteStore(path)
        store.write({"a": b"1"})
    finally:
        os.umask(previous)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"element.db": 0o600, "element.db-wal": 0o600}
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["element.db"]


def test_every_write_is_synced(path: Path):
    store = SqliteStore(path)
    settings = [
        store._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "locking_mode")
    ]
    assert settings == ["wal", 2, "exclusive"]
    store.close()


def test_a_store_in_use_is_refused(path: Path):
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="locked"):
        SqliteStore(path)
    store.close()
    assert contents(path) == {}


def test_a_newer_schema_is_refused_and_left_alone(path: Path):
    fill(path, {"a": b"1"})
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=f"found {SCHEMA_VERSION + 1}") as caught:
        SqliteStore(path)
    assert "newer" in caught.value.hint
    assert path.read_bytes() == before


def test_an_older_schema_is_migrated_with_its_objects(path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(path, {"a": b"1"})
    step = ("ALTER TABLE object ADD COLUMN note BLOB", "ALTER TABLE object DROP COLUMN note")
    monkeypatch.setattr(store_module, "MIGRATIONS", (*store_module.MIGRATIONS, step))
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    assert contents(path) == {"a": b"1"}
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    raw.close()


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(path, {"a": b"1"})
    with monkeypatch.context() as patch:
        step = ("CREATE TABLE extra (a)", "CREATE TABLE extra (a)")
        patch.setattr(store_module, "MIGRATIONS", (*store_module.MIGRATIONS, step))
        patch.setattr(store_module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        with pytest.raises(StoreError, match="already exists"):
            SqliteStore(path)
    assert contents(path) == {"a": b"1"}


def test_an_empty_file_becomes_a_store(path: Path):
    path.touch(0o600)
    fill(path, {"a": b"1"})
    assert contents(path) == {"a": b"1"}


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be one" * 100])
def test_a_file_of_another_kind_is_refused_and_left_alone(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not the store"):
        SqliteStore(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "script",
    ["CREATE TABLE t (a)", "PRAGMA application_id=7", "CREATE TABLE t (a); PRAGMA user_version=1"],
)
def test_a_database_of_another_program_is_refused(path: Path, script: str):
    raw = sqlite3.connect(path)
    raw.executescript(script)
    raw.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(StoreError, match="No such file"):
        SqliteStore(tmp_path / "gone" / "element.db")


def test_a_folder_in_place_of_the_file_is_refused(path: Path):
    path.mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        SqliteStore(path)


def test_a_broken_medium_is_told(path: Path):
    store = SqliteStore(path)
    store.close()
    with pytest.raises(StoreError):
        store.load()
    with pytest.raises(StoreError):
        store.write({"a": b"1"})


# --- a full disk ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS, ids=["clear", "sealed"])
def test_a_full_medium_refuses_the_write_and_the_next_one_after_it_works(
    path: Path, key: bytes | None
):
    store = SqliteStore(path, key=key)
    store.write({"a": b"1", "b": b"1"})
    store._connection.execute("PRAGMA max_page_count=4")
    with pytest.raises(StoreError, match="full"):
        store.write({"a": b"2", "b": None, "c": bytes(100_000)})
    assert store.load() == {"a": b"1", "b": b"1"}
    store._connection.execute("PRAGMA max_page_count=1000")
    store.write({"a": b"2", "c": bytes(100_000)})
    store.close()
    assert contents(path, key) == {"a": b"2", "b": b"1", "c": bytes(100_000)}


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from iose.runtime.store import SqliteStore
from iose.wire.errors import StoreError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(Path(sys.argv[1]))
store.write({"a": b"1"})
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limit[1]))
refused = 0
for number in range(100):
    try:
        store.write({"a": b"2", f"b{number}": bytes(4_000)})
    except StoreError:
        refused += 1
assert refused > 50, refused
before = store.load()
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
store.write({"c": b"3"})
assert store.load() == {**before, "c": b"3"}
store.close()
print(len(before))
"""


def test_a_file_that_cannot_grow_refuses_writes_and_stays_whole(path: Path):
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(contents(path)) == int(result.stdout) + 1


# --- power ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS, ids=["clear", "sealed"])
def test_a_log_torn_at_any_place_leaves_a_state_that_was(path: Path, key: bytes | None):
    store = SqliteStore(path, key=key)
    states = [{}]
    for number in range(5):
        store.write({"a": bytes((number,)), f"b{number}": b"x", f"b{number - 2}": b"y"})
        states.append(store.load())
    log = path.with_name("element.db-wal").read_bytes()
    torn = path.with_name("torn.db")
    found = []
    for size in range(0, len(log), 509):
        shutil.copy(path, torn)
        torn.with_name("torn.db-wal").write_bytes(log[:size])
        found.append(states.index(contents(torn, key)))
        for file in path.parent.glob("torn.db*"):
            file.unlink()
    store.close()
    assert found == sorted(found)
    assert found[-1] >= len(states) - 2


WRITER = """
import sys
from contextlib import suppress
from pathlib import Path
from iose.runtime.store import SqliteStore

store = SqliteStore(Path(sys.argv[1]))
number = int.from_bytes(store.load().get("a", b""), "big")
while True:
    number += 1
    value = number.to_bytes(4, "big")
    store.write({"a": value, "b": value * 500})
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_all_it_told_and_at_most_one_write_more(path: Path):
    for round_number in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True
        )
        with process, process.stdout as output:
            told = [next(output) for _ in range(5 + 7 * round_number)]
            process.send_signal(signal.SIGKILL)
            told += list(output)
        found = contents(path)
        number = int.from_bytes(found["a"], "big")
        assert number - int(told[-1]) in (0, 1)
        assert found["b"] == found["a"] * 500


# --- at rest -------------------------------------------------------------------------------


def test_sealed_names_and_values_are_not_in_the_file(path: Path):
    for key, expected in ((None, True), (KEYS[1], False)):
        path.unlink(missing_ok=True)
        fill(path, {"a name to look for": b"a value to look for"}, key)
        data = path.read_bytes()
        assert (b"a name to look for" in data, b"a value to look for" in data) == (
            expected,
            expected,
        )


def test_removed_values_do_not_stay_in_the_file(path: Path):
    fill(path, {"a": b"a value to look for"})
    fill(path, {"a": None})
    assert b"a value to look for" not in path.read_bytes()


def test_removed_values_are_in_no_file_of_a_store_that_stays_open(path: Path):
    with closing(SqliteStore(path)) as store:
        store.write({"secret": b"a removed secret", "more": b"kept"})
        store.write({"secret": None, "more": b"changed"})
        for file in path.parent.iterdir():
            assert b"a removed secret" not in file.read_bytes(), file
        assert store.load() == {"more": b"changed"}


@pytest.mark.parametrize(
    ("made_with", "opened_with"),
    [(KEYS[1], bytes(32)), (KEYS[1], None), (None, KEYS[1])],
)
def test_another_key_than_the_own_one_is_refused(
    path: Path, made_with: bytes | None, opened_with: bytes | None
):
    fill(path, {"a": b"1"}, made_with)
    with pytest.raises(ConfigurationError, match="the key does not open it") as caught:
        SqliteStore(path, key=opened_with)
    assert "passphrase" in caught.value.hint
    assert contents(path, made_with) == {"a": b"1"}


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(path: Path, size: int):
    with pytest.raises(ConfigurationError, match="32 bytes"):
        SqliteStore(path, key=bytes(size))
    assert not path.exists()


def test_the_same_value_is_sealed_differently_each_time(path: Path):
    store = SqliteStore(path, key=KEYS[1])
    sealed = set()
    for _ in range(3):
        store.write({"a": b"1"})
        sealed |= set(store._connection.execute("SELECT value FROM object").fetchall())
    store.close()
    assert len(sealed) == 3


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE object SET value = (SELECT max(value) FROM object)",  # a value under another name
        "UPDATE object SET value = substr(value, 1, 20)",
        "UPDATE object SET value = x'0011'",
        "UPDATE object SET name = substr(name, 1, 8)",
    ],
)
def test_a_sealed_object_that_was_tampered_with_is_refused(path: Path, change: str):
    fill(path, {"a": b"1", "b": b"2"}, KEYS[1])
    raw = sqlite3.connect(path)
    raw.execute(change)
    raw.commit()
    raw.close()
    with pytest.raises(StoreError, match="damaged"):
        contents(path, KEYS[1])


def test_a_name_in_clear_that_is_no_text_is_refused(path: Path):
    fill(path, {"a": b"1"})
    raw = sqlite3.connect(path)
    raw.execute("UPDATE object SET name = x'FF'")
    raw.commit()
    raw.close()
    with pytest.raises(StoreError, match="damaged"):
        contents(path)


@pytest.mark.parametrize("key", KEYS, ids=["clear", "sealed"])
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM seal",
        "INSERT INTO seal VALUES (NULL)",
        "UPDATE seal SET value = 'text'",
        "UPDATE object SET name = 'text'",
        "UPDATE object SET value = 'text'",
        "UPDATE object SET value = 7",
        "DROP TABLE seal",
        "DROP TABLE object",
        "PRAGMA user_version = -1",
    ],
)
def test_a_file_with_something_else_in_its_fields_is_refused(
    path: Path, change: str, key: bytes | None
):
    fill(path, {"a": b"1"}, key)
    raw = sqlite3.connect(path)
    raw.execute(change)
    raw.commit()
    raw.close()
    with pytest.raises((StoreError, ConfigurationError)):
        contents(path, key)


@pytest.mark.parametrize("key", KEYS, ids=["clear", "sealed"])
def test_a_damaged_file_is_read_or_refused(path: Path, key: bytes | None):
    fill(path, {f"object {number}": bytes(100) for number in range(20)}, key)
    whole = path.read_bytes()
    damage = SeededRng(b"damage")
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(4):
            *place, value = damage.random_bytes(5)
            data[int.from_bytes(bytes(place), "big") % len(data)] = value
        path.write_bytes(data)
        with suppress(StoreError, ConfigurationError):
            contents(path, key)


def test_a_value_the_medium_refuses_leaves_room_for_the_next(path: Path):
    store = SqliteStore(path)
    store._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
    with pytest.raises(StoreError, match="too big"):
        store.write({"a": b"1", "b": bytes(2000)})
    store.write({"c": b"3"})
    assert store.load() == {"c": b"3"}
    store.close()


def test_a_folder_that_cannot_be_synced_is_told(path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        SqliteStore(path)
