# SPDX-License-Identifier: Apache-2.0
"""The credentials file: private, replaced as a whole, and never forgetting a key too early."""

import fcntl
import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from iose.client.credentials import Credential, CredentialsStore, default_path
from iose.client.errors import CredentialsError, ElementUriError
from iose.client.uri import ElementAddress

ADDRESS = ElementAddress("key1.com", "127.0.0.1", 8888)
OLD = bytes(range(32))
NEW = bytes(range(32, 64))


@pytest.fixture
def store(tmp_path):
    return CredentialsStore(tmp_path / "config" / "iose" / "credentials")


def test_an_absent_file_holds_nothing(store):
    assert store.credentials() == []
    assert store.find(ADDRESS) is None
    assert not store.path.exists()


def test_keeps_a_credential_in_a_private_file_and_folder(store):
    store.save(Credential(ADDRESS, OLD))
    assert CredentialsStore(store.path).find(ADDRESS) == Credential(ADDRESS, OLD)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


def test_saving_again_replaces(store):
    store.save(Credential(ADDRESS, OLD))
    store.save(Credential(ADDRESS, NEW))
    assert [kept.psk for kept in store.credentials()] == [NEW]


def test_leaves_no_other_file_than_the_lock(store):
    store.save(Credential(ADDRESS, OLD))
    assert sorted(path.name for path in store.path.parent.iterdir()) == [
        "credentials",
        "credentials.lock",
    ]


def test_a_change_keeps_both_keys_until_one_is_confirmed(store):
    store.save(Credential(ADDRESS, OLD).begin_change(NEW))
    kept = store.find(ADDRESS)
    assert kept.candidates == (NEW, OLD)
    store.save(kept.confirm(OLD))
    assert store.find(ADDRESS).candidates == (OLD,)


def test_identities_of_one_element_are_apart(store):
    guest = Credential(ADDRESS, NEW, identity="guest")
    store.save(guest)
    assert store.find(ADDRESS) == guest
    usual = Credential(ADDRESS, OLD)
    store.save(usual)
    assert store.find(ADDRESS) == usual
    assert store.find(ADDRESS, "guest") == guest
    assert store.find(ADDRESS, "nobody") is None


def test_does_not_guess_between_identities(store):
    for identity in ("one", "two"):
        store.save(Credential(ADDRESS, OLD, identity=identity))
    with pytest.raises(CredentialsError, match="several identities") as caught:
        store.find(ADDRESS)
    assert "--identity" in caught.value.hint


def test_removes_one_identity_or_all(store):
    for identity in ("one", "two", "three"):
        store.save(Credential(ADDRESS, OLD, identity=identity))
    assert store.remove(ADDRESS, "one") == 1
    assert store.remove(ADDRESS, "one") == 0
    assert store.remove(ADDRESS) == 2
    assert store.credentials() == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_refuses_a_file_open_to_others(store, mode):
    store.save(Credential(ADDRESS, OLD))
    store.path.chmod(mode)
    with pytest.raises(CredentialsError, match="expected mode 0600") as caught:
        store.find(ADDRESS)
    assert "chmod 600" in caught.value.hint
    with pytest.raises(CredentialsError):
        store.save(Credential(ADDRESS, NEW))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no json " + OLD.hex(),
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 1, "credentials": [{}]}',
        '{"version": 1, "credentials": [[]]}',
        '{"version": 1, "credentials": 3}',
        json.dumps(
            {
                "version": 1,
                "credentials": [
                    {"sen": "a", "host": "b", "port": 1, "identity": "c", "psk": OLD.hex() + "0"}
                ],
            }
        ),
        json.dumps(
            {
                "version": 1,
                "credentials": [
                    {"sen": "", "host": "b", "port": 1, "identity": "c", "psk": OLD.hex()}
                ],
            }
        ),
        json.dumps(
            {
                "version": 1,
                "credentials": [
                    {"sen": "a", "host": "b", "port": 1, "identity": None, "psk": OLD.hex()}
                ],
            }
        ),
        '{"version": null}',
        "[" * 100_000,
    ],
)
def test_refuses_what_is_not_a_credentials_file_without_repeating_it(store, content):
    store.save(Credential(ADDRESS, NEW))
    store.path.write_text(content)
    with pytest.raises(CredentialsError, match="not a credentials file") as caught:
        store.credentials()
    assert OLD.hex() not in str(caught.value)
    assert caught.value.__context__ is None  # a decoder's error quotes the file
    with pytest.raises(CredentialsError):
        store.save(Credential(ADDRESS, NEW))
    assert store.path.read_text() == content


def test_refuses_a_later_version(store):
    store.save(Credential(ADDRESS, OLD))
    store.path.write_text('{"version": 4, "credentials": []}')
    with pytest.raises(CredentialsError, match="expected version 3"):
        store.credentials()


def test_a_failed_write_leaves_the_file_as_it_was(store, monkeypatch):
    store.save(Credential(ADDRESS, OLD))

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CredentialsError, match="No space left"):
        store.save(Credential(ADDRESS, NEW))
    assert store.find(ADDRESS).psk == OLD
    assert len(list(store.path.parent.iterdir())) == 2


def test_the_file_and_its_folder_are_on_the_disk_before_it_is_said(store, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda one: synced.append(os.fstat(one).st_ino) or fsync(one))
    store.save(Credential(ADDRESS, OLD))
    assert synced == [store.path.stat().st_ino, store.path.parent.stat().st_ino]


def test_a_file_of_another_user_is_refused(store, monkeypatch):
    store.save(Credential(ADDRESS, OLD))
    monkeypatch.setattr(os, "geteuid", lambda: store.path.stat().st_uid + 1)
    with pytest.raises(CredentialsError, match="another user"):
        store.credentials()


def test_a_file_larger_than_any_of_ours_is_not_read_whole(store, monkeypatch):
    store.save(Credential(ADDRESS, OLD))
    size = store.path.stat().st_size
    monkeypatch.setattr("iose.client.credentials.MAX_FILE_SIZE", size - 3)
    with pytest.raises(CredentialsError, match="not a credentials file"):
        store.credentials()
    monkeypatch.setattr("iose.client.credentials.MAX_FILE_SIZE", size)
    assert store.find(ADDRESS).psk == OLD


def test_a_folder_that_cannot_be_made_is_a_declared_error(tmp_path):
    (tmp_path / "file").write_text("")
    store = CredentialsStore(tmp_path / "file" / "credentials")
    with pytest.raises(CredentialsError):
        store.save(Credential(ADDRESS, OLD))
    with pytest.raises(CredentialsError):
        store.credentials()


def test_a_link_to_the_file_stays_a_link_and_both_take_the_same_lock(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "credentials")
    CredentialsStore(tmp_path / "link").save(Credential(ADDRESS, OLD))
    assert (tmp_path / "link").is_symlink()
    assert CredentialsStore(tmp_path / "real" / "credentials").find(ADDRESS) is not None
    assert [path.name for path in tmp_path.iterdir() if "lock" in path.name] == []


def test_links_that_go_round_are_a_declared_error(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(CredentialsError):
        CredentialsStore(tmp_path / "one").credentials()
    with pytest.raises(CredentialsError):
        CredentialsStore(tmp_path / "one").save(Credential(ADDRESS, OLD))


@pytest.mark.parametrize("name", ["credentials.lock", ".credentials.new"])
def test_a_planted_link_leads_nowhere(tmp_path, name):
    victim = tmp_path / "victim"
    (tmp_path / name).symlink_to(victim)
    store = CredentialsStore(tmp_path / "credentials")
    if name.endswith("lock"):
        with pytest.raises(CredentialsError):
            store.save(Credential(ADDRESS, OLD))
    else:
        store.save(Credential(ADDRESS, OLD))
        assert store.find(ADDRESS).psk == OLD
    assert not victim.exists()


def test_what_a_killed_program_left_is_cleared_away(store):
    store.save(Credential(ADDRESS, OLD))
    draft = store.path.with_name(".credentials.new")
    draft.write_text("half a file")
    store.save(Credential(ADDRESS, NEW))
    assert store.find(ADDRESS).psk == NEW
    assert not draft.exists()


def test_the_umask_does_not_open_the_file_to_others(store):
    before = os.umask(0)
    try:
        store.save(Credential(ADDRESS, OLD))
    finally:
        os.umask(before)
    for path in (store.path, store.path.with_name("credentials.lock")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_a_lock_that_is_never_given_back_is_told(store, monkeypatch, kind):
    monkeypatch.setattr("iose.client.credentials.LOCK_TIMEOUT_S", 0.05)
    store.save(Credential(ADDRESS, OLD))
    with store.path.with_name("credentials.lock").open() as other:
        fcntl.flock(other, kind)
        with pytest.raises(CredentialsError, match="locked for") as caught:
            store.save(Credential(ADDRESS, NEW))
        assert caught.value.hint
        assert store.find(ADDRESS).psk == OLD
    store.save(Credential(ADDRESS, NEW))


def test_replaces_only_what_the_caller_knows_of(store):
    old, new = Credential(ADDRESS, OLD), Credential(ADDRESS, NEW)
    assert not store.replace(old, new)
    assert store.credentials() == []
    assert store.replace(None, old)
    assert not store.replace(None, new)
    assert not store.replace(new, new)
    assert store.find(ADDRESS) == old
    guest = Credential(ADDRESS, NEW, identity="guest")
    assert store.replace(None, guest)
    assert store.replace(old, old.begin_change(NEW))
    assert not store.replace(old, old)
    assert store.find(ADDRESS, old.identity).candidates == (NEW, OLD)
    assert store.find(ADDRESS, "guest") == guest


def test_what_changes_nothing_writes_nothing(store):
    assert store.remove(ADDRESS) == 0
    assert not store.path.exists()
    store.save(Credential(ADDRESS, OLD))
    inode = store.path.stat().st_ino
    store.save(Credential(ADDRESS, OLD))
    store.replace(None, Credential(ADDRESS, NEW))
    assert store.path.stat().st_ino == inode


def _save_many(path: Path, sen: str) -> None:
    store = CredentialsStore(path)
    for number in range(10):
        store.save(Credential(ElementAddress(f"{sen}{number}", "h", 1), OLD))


def test_writers_at_once_lose_nothing(store):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_save_many, args=(store.path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(store.credentials()) == 30


def test_keys_are_never_printed():
    shown = repr(Credential(ADDRESS, OLD, pending_psk=NEW))
    assert OLD.hex() not in shown
    assert repr(OLD) not in shown
    assert repr(NEW) not in shown


@pytest.mark.parametrize("psk", [b"", bytes(31), bytes(33)])
def test_a_key_is_32_bytes(psk):
    with pytest.raises(ElementUriError):
        Credential(ADDRESS, psk)


def test_the_place_of_the_file_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("IOSE_CREDENTIALS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert default_path() == tmp_path / ".config" / "iose" / "credentials"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert default_path() == tmp_path / ".config" / "iose" / "credentials"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/elsewhere")
    assert default_path() == Path("/elsewhere/iose/credentials")
    monkeypatch.setenv("IOSE_CREDENTIALS", "/chosen")
    assert default_path() == Path("/chosen")
    assert CredentialsStore().path == Path("/chosen")


def test_a_user_without_a_home_is_told_when_the_file_is_needed(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("IOSE_CREDENTIALS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    store = CredentialsStore()
    for use in (store.credentials, lambda: store.save(Credential(ADDRESS, OLD))):
        with pytest.raises(CredentialsError, match="no home") as caught:
            use()
        assert "IOSE_CREDENTIALS" in caught.value.hint
