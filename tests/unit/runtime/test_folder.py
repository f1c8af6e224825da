# SPDX-License-Identifier: Apache-2.0
"""The data folder: its making, its lock, its names."""

import errno
import fcntl
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from iose.runtime.elements.names import check_seid, check_sen, check_unique_sen, free_sens, new_seid
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder, default_folder, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_default_folder_follows_the_environment():
    assert default_folder({"IOSE_DATA": "/a", "XDG_DATA_HOME": "/b"}) == Path("/a")
    assert default_folder({"XDG_DATA_HOME": "/b"}) == Path("/b/iose")
    assert default_folder({"HOME": "/c"}).parts[-3:] == (".local", "share", "iose")


def test_a_user_without_a_home_is_told_to_choose_a_folder(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert default_folder({"XDG_DATA_HOME": "/b"}) == Path("/b/iose")
    with pytest.raises(ConfigurationError, match="no home") as caught:
        default_folder({})
    assert "--data" in caught.value.hint


def test_a_new_folder_is_private(tmp_path: Path):
    folder = DataFolder(tmp_path / "new" / "data")
    folder.hold().release()
    folder.hold().release()
    assert mode(folder.path) == mode(folder.elements) == 0o700
    assert mode(folder.description) == 0o600


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path):
    tmp_path.chmod(0o755)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="not a data folder"):
        DataFolder(tmp_path).hold().release()
    assert mode(tmp_path) == 0o755
    assert [item.name for item in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_open_to_others_is_closed(tmp_path: Path):
    folder = DataFolder(tmp_path / "data")
    folder.hold().release()
    folder.path.chmod(0o755)
    folder.hold().release()
    assert mode(folder.path) == 0o700


@pytest.mark.parametrize("content", ['{"schema": 2}', "[]", "{", ""])
def test_a_folder_of_another_schema_is_refused(tmp_path: Path, content: str):
    folder = DataFolder(tmp_path / "data")
    folder.hold().release()
    folder.description.write_text(content)
    with pytest.raises(ConfigurationError):
        folder.hold().release()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        DataFolder(tmp_path / "file").hold().release()


@pytest.mark.parametrize(("is_node", "step"), [(True, "iose node stop"), (False, "that command")])
def test_a_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path, is_node, step):
    folder = DataFolder(tmp_path)
    lock = folder.hold(is_node=is_node)
    assert folder.is_locked()
    with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}$") as caught:
        folder.hold()
    assert step in caught.value.hint
    lock.release()
    assert not folder.is_locked()
    folder.hold().release()


def test_what_a_dead_holder_left_running_is_waited_for(tmp_path: Path):
    folder = DataFolder(tmp_path)
    inherited = folder.hold()
    (tmp_path / "lock").write_text("999999999\n")
    with pytest.raises(ConfigurationError, match="999999999"):
        folder.hold(wait_s=0.1)
    timer = threading.Timer(0.1, inherited.release)
    timer.start()
    folder.hold(wait_s=10).release()
    timer.join()


def test_the_lock_lasts_until_the_last_descriptor_is_closed(tmp_path: Path):
    folder = DataFolder(tmp_path)
    lock = folder.hold()
    inherited = os.dup(lock.descriptor)
    lock.release()
    assert folder.is_locked()
    os.close(inherited)
    assert not folder.is_locked()


def test_leftovers_of_a_power_cut_go(tmp_path: Path):
    folder = DataFolder(tmp_path / "data")
    folder.hold().release()
    folder.pending_store("se-00000000").write_bytes(b"half")
    for name in ("se-00000001.db", "se-00000001.db-wal", "se-00000002.db-wal"):
        (folder.elements / name).write_bytes(b"keys")
    for name in ("host-7.sock", "control.sock", ".index.json.new"):
        (folder.path / name).write_bytes(b"")
    folder.hold().release()
    kept = {item.name for item in folder.elements.iterdir()}
    assert kept == {"se-00000001.db", "se-00000001.db-wal"}
    assert {item.name for item in folder.path.iterdir()} == {"elements", "folder.json", "lock"}


def test_a_first_start_cut_at_any_step_can_be_made_again(tmp_path: Path):
    for cut, names in enumerate(([], ["lock"], ["lock", ".folder.json.new"])):
        folder = DataFolder(tmp_path / str(cut))
        folder.path.mkdir()
        for name in names:
            (folder.path / name).write_bytes(b"")
        folder.hold().release()
        assert folder.read_description() == {"schema": 1}


def test_nothing_but_the_lock_is_written_in_a_folder_somebody_holds(tmp_path: Path):
    # else the second of two first starts would overwrite the wrapped key of the first
    holder = DataFolder(tmp_path / "data")
    lock = holder.hold()
    holder.description.unlink()
    holder.elements.rmdir()
    with pytest.raises(ConfigurationError, match="in use"):
        DataFolder(tmp_path / "data").hold()
    assert [item.name for item in holder.path.iterdir()] == ["lock"]
    lock.release()


def test_starts_that_race_on_a_new_folder_give_it_to_one(tmp_path: Path):
    barrier = threading.Barrier(8)
    outcomes = []

    def race() -> None:
        barrier.wait()
        try:
            outcomes.append(DataFolder(tmp_path / "data").hold())
        except ConfigurationError as error:
            outcomes.append("in use" in str(error))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    locks = [outcome for outcome in outcomes if outcome is not True]
    assert len(outcomes) == 8
    assert len(locks) == 1
    locks[0].release()


def test_a_folder_of_another_user_is_refused_and_left_alone(tmp_path: Path, monkeypatch):
    # root, too: what it wrote there, the owner's node could not open
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match="another user"):
        DataFolder(tmp_path).hold()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_or_looked_at_is_explained(tmp_path: Path, monkeypatch):
    folder = DataFolder(tmp_path / "data")
    folder.hold().release()

    def refuse(code: int):
        def fail(*_arguments, **_options):
            raise OSError(code, os.strerror(code))

        return fail

    for call, code, hint in (
        (folder.hold, errno.EROFS, "--data"),
        (folder.hold, errno.EACCES, "user"),
        (folder.hold, errno.ENOSPC, "room"),
        (folder.is_locked, errno.EACCES, "user"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", refuse(code))
            with pytest.raises(ConfigurationError, match=os.strerror(code)) as caught:
                call()
        assert hint in caught.value.hint
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", refuse(errno.EACCES))
        with pytest.raises(ConfigurationError, match="cannot be used"):
            folder.exists()


def test_a_full_disk_takes_only_the_number_from_the_lock(tmp_path: Path, monkeypatch):
    folder = DataFolder(tmp_path / "data")
    folder.hold().release()

    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    lock = folder.hold()
    with pytest.raises(ConfigurationError, match="by process unknown"):
        folder.hold()
    lock.release()


def test_looking_whether_a_folder_is_held_keeps_nobody_from_looking(tmp_path: Path):
    folder = DataFolder(tmp_path)
    folder.hold().release()
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not folder.is_locked()


def test_a_patient_holder_waits_for_a_running_one(tmp_path: Path):
    folder = DataFolder(tmp_path)
    lock = folder.hold()
    timer = threading.Timer(0.1, lock.release)
    timer.start()
    folder.hold(wait_s=10, is_patient=True).release()
    timer.join()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "index.json"
    write_private(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["index.json"]


def test_the_description_keeps_the_schema(tmp_path: Path):
    folder = DataFolder(tmp_path / "data")
    folder.hold().release()
    folder.write_description({"encryption": {"salt": "00"}})
    assert json.loads(folder.description.read_bytes()) == {
        "schema": 1,
        "encryption": {"salt": "00"},
    }


@pytest.mark.parametrize("sen", ["key1.com", "a", "KEY-1.example", "x" * 15, "a_b"])
def test_host_names_up_to_15_characters_are_sens(sen: str):
    check_sen(sen)


@pytest.mark.parametrize(
    "sen",
    ["", "x" * 16, "key 1", "-a.com", "a-.com", "a..b", "a.com.", "clé.fr", "10.0.0.1", "null"],
)
def test_other_names_are_no_sens(sen: str):
    with pytest.raises(ConfigurationError):
        check_sen(sen)


def test_a_sen_in_use_is_refused_whatever_its_case():
    check_unique_sen("key2.com", ["key1.com"])
    with pytest.raises(ConfigurationError, match="already named"):
        check_unique_sen("KEY1.com", ["key1.com"])


def test_default_sens_fill_the_gaps():
    assert free_sens(["key2.com", "KEY1.COM", "other"], 2) == ["key3.com", "key4.com"]


def test_a_seid_is_never_given_twice():
    class Scripted:
        def __init__(self):
            self.values = [b"\0\0\0\1", b"\0\0\0\1", b"\0\0\0\2"]

        def random_bytes(self, count: int) -> bytes:
            return self.values.pop(0)[:count]

    assert new_seid(Scripted(), {"se-00000001"}) == "se-00000002"


@pytest.mark.parametrize(
    "seid", ["se-1", "../../etc", "se-0000000G", "se-000000000", "SE-00000000"]
)
def test_other_strings_are_no_seids(seid: str):
    with pytest.raises(ConfigurationError):
        check_seid(seid)
