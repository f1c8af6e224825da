# SPDX-License-Identifier: Apache-2.0
"""Export moves, copy copies, import moves back; cut at every step, never two usable elements."""

import errno
import os
import stat
from pathlib import Path

import pytest

from iose.runtime.elements.ownership import (
    export_element,
    import_element,
    open_ownership,
    save_secrets,
    write_new_file,
)
from iose.runtime.errors import ConfigurationError, ControlError
from iose.wire.errors import StoreError
from tests.unit.runtime.elements.local_node import LocalNode

WORDS = "a long passphrase"


def given(words: str | None):
    """Return where a folder's passphrase comes from."""
    return lambda *, is_new: words


no_passphrase = given(None)


class PowerCutError(BaseException):
    """The power went away."""


class Cutter:
    """Passes requests on, and cuts the power before or after one of them, or of a file step."""

    def __init__(self, node: LocalNode, cut_at: int | None = None) -> None:
        self.node = node
        self.steps = 0
        self.cut_at = cut_at

    def step(self) -> None:
        if self.steps == self.cut_at:
            raise PowerCutError
        self.steps += 1

    def ask(self, op, arguments):
        self.step()
        answer = self.node.ask(op, arguments)
        self.step()
        return answer


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("iose.crypto.passphrase.ScryptParameters.__init__.__defaults__", (4,))


@pytest.fixture
def node(tmp_path: Path) -> LocalNode:
    node = LocalNode(tmp_path / "data")
    node.create("key1.com")
    node.create("key2.com")
    return node


def passphrase() -> str:
    return WORDS


def move_out(node: LocalNode, file: Path, *, is_copy: bool = False):
    return export_element(node.ask, "key1.com", file, passphrase, is_copy=is_copy)


def test_an_export_moves_the_element_with_its_keys(node: LocalNode, tmp_path: Path):
    before = node.secrets("key1.com")
    file = tmp_path / "key1.iose"
    view = move_out(node, file)
    assert (view["file"], view["copy"]) == (str(file), False)
    assert node.states() == {"key2.com": "ready"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert bytes.fromhex(before["psk"]) not in file.read_bytes()
    other = LocalNode(tmp_path / "other")
    assert import_element(other.ask, file, passphrase)["state"] == "ready"
    assert not file.exists()
    assert other.secrets("key1.com") == before
    assert other.show("key1.com")["copy"] is False


def test_a_copy_stays_and_both_are_marked(node: LocalNode, tmp_path: Path):
    file = tmp_path / "key1.iose"
    move_out(node, file, is_copy=True)
    assert node.show("key1.com")["copy"] is True
    assert node.states()["key1.com"] == "ready"
    other = LocalNode(tmp_path / "other")
    assert import_element(other.ask, file, passphrase)["copy"] is True
    assert file.exists()
    assert other.secrets("key1.com") == node.secrets("key1.com")


def test_a_copy_that_moves_stays_a_copy(node: LocalNode, tmp_path: Path):
    move_out(node, tmp_path / "copy", is_copy=True)
    view = move_out(node, tmp_path / "moved")
    assert view["copy"] is True
    other = LocalNode(tmp_path / "other")
    assert import_element(other.ask, tmp_path / "moved", passphrase)["copy"] is True


def test_an_import_refuses_what_is_there_already(node: LocalNode, tmp_path: Path):
    file = tmp_path / "key1.iose"
    move_out(node, file, is_copy=True)
    before = node.ask("element.list", {})
    with pytest.raises(ConfigurationError, match="already"):
        import_element(node.ask, file, passphrase)
    assert node.ask("element.list", {}) == before
    other = LocalNode(tmp_path / "other")
    other.create("KEY1.com")
    with pytest.raises(ConfigurationError, match="already named"):
        import_element(other.ask, file, passphrase)
    assert other.states() == {"KEY1.com": "ready"}
    assert len(list(other.folder.elements.glob("*.db"))) == 1


def test_a_wrong_passphrase_imports_nothing(node: LocalNode, tmp_path: Path):
    file = tmp_path / "key1.iose"
    move_out(node, file)
    other = LocalNode(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="passphrase is wrong"):
        import_element(other.ask, file, lambda: WORDS + "!")
    assert other.states() == {}
    assert file.exists()


def test_a_short_passphrase_exports_nothing(node: LocalNode, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="at least 8"):
        export_element(node.ask, "key1.com", tmp_path / "f", lambda: "short", is_copy=False)
    assert node.states()["key1.com"] == "ready"


def test_an_existing_file_is_never_overwritten(node: LocalNode, tmp_path: Path):
    file = tmp_path / "letter"
    file.write_text("dear")
    with pytest.raises(ConfigurationError, match="exists already"):
        move_out(node, file)
    with pytest.raises(ConfigurationError, match="exists already"):
        save_secrets(node.ask, "key1.com", file, again=False)
    assert file.read_text() == "dear"
    assert node.states()["key1.com"] == "ready"


def test_a_file_that_cannot_be_written_leaves_the_element_usable(node: LocalNode, tmp_path: Path):
    before = node.secrets("key1.com")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        move_out(node, tmp_path / "absent" / "file")
    assert node.show("key1.com")["copy"] is False
    assert node.states()["key1.com"] == "ready"
    assert node.secrets("key1.com") == before


def failing(code: int, allowed: int = 0):
    """Return a call that does nothing ``allowed`` times and then fails."""
    calls = iter(range(allowed))

    def fail(*_arguments, **_options) -> None:
        if next(calls, None) is None:
            raise OSError(code, os.strerror(code))

    return fail


def test_a_file_that_cannot_be_made_durable_is_taken_back(node, tmp_path: Path, monkeypatch):
    file = tmp_path / "key1.iose"
    monkeypatch.setattr("iose.runtime.elements.ownership.sync_folder", failing(errno.EIO))
    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        move_out(node, file)
    assert caught.value.hint is None
    assert not file.exists()
    assert node.states()["key1.com"] == "ready"


@pytest.mark.parametrize("synced", [0, 1])
def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch, synced: int):
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC, allowed=synced))
    with pytest.raises(OSError, match="No space"):
        write_new_file(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_links_takes_a_file_and_replaces_none(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    write_new_file(tmp_path / "file", b"x")
    with pytest.raises(OSError, match="not permitted"):
        write_new_file(tmp_path / "file", b"y")
    assert [item.read_bytes() for item in tmp_path.iterdir()] == [b"x"]


def test_a_draft_of_a_cut_run_is_in_nobodys_way(tmp_path: Path):
    (tmp_path / ".file.part").write_bytes(b"half")
    write_new_file(tmp_path / "file", b"x")
    assert [item.read_bytes() for item in tmp_path.iterdir()] == [b"x"]


def test_a_link_is_not_followed_to_write_a_secret(tmp_path: Path):
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="exists"):
        write_new_file(tmp_path / "file", b"x")
    assert not (tmp_path / "elsewhere").exists()


def test_an_element_stays_away_while_its_file_may_exist(node, tmp_path: Path, monkeypatch):
    # the file has its name, its folder cannot be synced, and it cannot be removed either
    file = tmp_path / "key1.iose"
    unlink = Path.unlink
    with monkeypatch.context() as patched:
        patched.setattr("iose.runtime.elements.ownership.sync_folder", failing(errno.EIO))
        patched.setattr(
            Path, "unlink", lambda path, **options: path == file or unlink(path, **options)
        )
        with pytest.raises(ConfigurationError, match="cannot be written") as caught:
            move_out(node, file)
    assert "again" in caught.value.hint
    assert node.states()["key1.com"] == "exporting"
    move_out(node, file)
    assert "key1.com" not in node.states()


def test_an_element_that_cannot_be_made_usable_again_says_how_to_finish(node, tmp_path: Path):
    def ask(op: str, arguments):
        if op == "element.export.cancel":
            raise StoreError("database or disk is full")
        return node.ask(op, arguments)

    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        export_element(ask, "key1.com", tmp_path / "absent" / "f", passphrase, is_copy=False)
    assert "--abandon" in caught.value.hint
    assert node.states()["key1.com"] == "exporting"


def test_a_file_that_cannot_be_removed_keeps_its_element_unusable(node, tmp_path, monkeypatch):
    file = tmp_path / "key1.iose"
    move_out(node, file)
    unlink = Path.unlink

    def keep_the_file(path: Path, **options) -> None:
        if path == file:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", keep_the_file)
        with pytest.raises(ConfigurationError, match="cannot be removed") as caught:
            import_element(node.ask, file, passphrase)
    assert caught.value.hint
    assert node.states()["key1.com"] == "importing"
    moved = file.rename(tmp_path / "moved.iose")
    assert import_element(node.ask, moved, passphrase)["state"] == "ready"


def test_a_passphrase_never_leaves_the_owners_process(node: LocalNode, tmp_path: Path):
    asked = []

    def ask(op: str, arguments):
        asked.append(str(arguments))
        return node.ask(op, arguments)

    export_element(ask, "key1.com", tmp_path / "file", passphrase, is_copy=False)
    import_element(ask, tmp_path / "file", passphrase)
    assert WORDS not in "".join(asked)
    assert WORDS.encode().hex() not in "".join(asked)


def test_what_is_no_file_to_import_is_explained(node: LocalNode, tmp_path: Path):
    for content in (tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigurationError):
            import_element(node.ask, content, passphrase)


def usable(node: LocalNode) -> bool:
    return node.states().get("key1.com") == "ready"


def importable(file: Path, folder: Path) -> bool:
    """Return whether a copy of the file, moved in elsewhere, gives an element."""
    if not file.exists():
        return False
    content = file.read_bytes()
    trial = folder / "trial.iose"
    trial.write_bytes(content)
    other = LocalNode(folder / f"trial-{len(list(folder.iterdir()))}")
    import_element(other.ask, trial, passphrase)
    return usable(other)


def cut_file_steps(monkeypatch: pytest.MonkeyPatch, cutter: Cutter) -> None:
    link, unlink = os.link, Path.unlink

    def cut_link(source, target) -> None:
        cutter.step()
        link(source, target)
        cutter.step()

    def cut_unlink(path, **options) -> None:
        is_watched = path.suffix == ".iose" and "trial" not in path.name
        if is_watched:
            cutter.step()
        unlink(path, **options)
        if is_watched:
            cutter.step()

    monkeypatch.setattr(os, "link", cut_link)
    monkeypatch.setattr(Path, "unlink", cut_unlink)


def test_an_export_cut_at_any_step_never_leaves_two_and_can_be_finished(
    node: LocalNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "key1.iose"
    keys = node.secrets("key1.com")
    cuts = 0
    while True:
        cutter = Cutter(node, cut_at=cuts)
        with monkeypatch.context() as patched:
            cut_file_steps(patched, cutter)
            try:
                export_element(cutter.ask, "key1.com", file, passphrase, is_copy=False)
                break
            except PowerCutError:
                pass
        node.power_off()
        node = LocalNode(node.folder.path)
        in_node, in_file = usable(node), importable(file, tmp_path)
        assert not (in_node and in_file)
        assert in_node or in_file or node.states()["key1.com"] == "exporting"
        if "key1.com" in node.states():
            move_out(node, file)
        assert not usable(node)
        import_element(node.ask, file, passphrase)
        assert node.secrets("key1.com") == keys
        assert node.show("key1.com")["copy"] is False
        cuts += 1
    assert cuts >= 8


def test_an_import_cut_at_any_step_never_leaves_two_and_can_be_finished(
    node: LocalNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "key1.iose"
    keys = node.secrets("key1.com")
    cuts = 0
    while True:
        move_out(node, file)
        cutter = Cutter(node, cut_at=cuts)
        with monkeypatch.context() as patched:
            cut_file_steps(patched, cutter)
            try:
                import_element(cutter.ask, file, passphrase)
                break
            except PowerCutError:
                pass
        node.power_off()
        node = LocalNode(node.folder.path)
        in_node, in_file = usable(node), importable(file, tmp_path)
        assert not (in_node and in_file)
        assert in_node or in_file or node.states()["key1.com"] == "importing"
        if not in_node:
            import_element(node.ask, file, passphrase)
        assert usable(node)
        assert not file.exists()
        assert node.secrets("key1.com") == keys
        cuts += 1
    assert cuts >= 8


def start_export(node: LocalNode, file: Path) -> None:
    key = {"key": bytes(32).hex(), "salt": bytes(16).hex(), "cost_log2": 1}
    node.ask("element.export", {"element": "key1.com", "file": str(file), "copy": False, **key})


def test_an_element_on_its_way_out_serves_nobody(node: LocalNode, tmp_path: Path):
    seid = node.show("key1.com")["seid"]
    start_export(node, tmp_path / "f")
    rack = node.hosts[0].rack
    assert rack.open(seid) is None
    assert [info.sen for info in rack.list_elements()] == ["key2.com"]
    for op in ("secrets", "rename", "unlock"):
        with pytest.raises(ConfigurationError, match="exporting"):
            node.ask(f"element.{op}", {"element": seid, "sen": "x.com"})


def test_a_cut_export_goes_on_to_the_same_file_only(node: LocalNode, tmp_path: Path):
    start_export(node, tmp_path / "one")
    with pytest.raises(ConfigurationError, match="on its way to"):
        move_out(node, tmp_path / "two")
    with pytest.raises(ConfigurationError, match="on its way to"):
        move_out(node, tmp_path / "one", is_copy=True)
    move_out(node, tmp_path / "one")


def test_an_abandoned_export_stays_and_is_marked_as_a_copy(node: LocalNode, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="not being exported"):
        node.ask("element.export.abandon", {"element": "key1.com"})
    start_export(node, tmp_path / "one")
    view = node.ask("element.export.abandon", {"element": "key1.com"})["element"]
    assert (view["state"], view["copy"]) == ("ready", True)


def test_a_move_is_finished_under_its_own_number_only(node: LocalNode, tmp_path: Path):
    start_export(node, tmp_path / "one")
    for op in ("export.finish", "export.cancel", "import.finish"):
        with pytest.raises(ConfigurationError):
            node.ask(f"element.{op}", {"element": "key1.com", "export_id": "00"})
    assert node.states()["key1.com"] == "exporting"


def test_a_missing_file_imports_nothing(node: LocalNode, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no file"):
        import_element(node.ask, tmp_path / "absent", passphrase)


def test_secrets_go_into_a_private_file_once(node: LocalNode, tmp_path: Path):
    file = tmp_path / "secrets.json"
    save_secrets(node.ask, "key1.com", file, again=False)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert node.secrets("key1.com")["psk"] in file.read_text()
    with pytest.raises(ConfigurationError, match="handed out before"):
        save_secrets(node.ask, "key1.com", tmp_path / "second", again=False)
    assert not (tmp_path / "second").exists()


def test_without_a_node_a_host_of_its_own_does_the_work(tmp_path: Path):
    with open_ownership(tmp_path / "data", no_passphrase, makes_folder=True) as ask:
        view = ask("element.create", {})["element"]
        with pytest.raises(ConfigurationError, match="already named"):
            ask("element.create", {"sen": "KEY1.com"})
    assert view["sen"] == "key1.com"
    with open_ownership(tmp_path / "data", no_passphrase) as ask:
        assert ask("element.list", {})["elements"] == [view]


def test_a_folder_that_is_not_there_is_not_made_by_looking(tmp_path: Path):
    opening = open_ownership(tmp_path / "data", no_passphrase)
    with pytest.raises(ConfigurationError, match="no data folder"):
        opening.__enter__()
    assert not (tmp_path / "data").exists()


def test_a_passphrase_makes_a_new_folder_encrypted_and_is_needed_then(tmp_path: Path):
    path = tmp_path / "data"
    with open_ownership(path, given(WORDS), makes_folder=True) as ask:
        ask("element.create", {})
    for wrong, message in ((None, "is encrypted"), ("another one", "passphrase")):
        opening = open_ownership(path, given(wrong))
        with pytest.raises((ConfigurationError, ControlError), match=message):
            opening.__enter__()
    with open_ownership(path, given(WORDS)) as ask:
        assert ask("element.list", {})["elements"][0]["state"] == "ready"


def test_a_new_passphrase_is_asked_for_as_new_and_a_known_one_is_not(tmp_path: Path):
    asked = []

    def ask_words(*, is_new: bool) -> str:
        asked.append(is_new)
        return WORDS

    for _ in range(2):
        with open_ownership(tmp_path / "data", ask_words, makes_folder=True):
            pass
    assert asked == [True, False]


def test_a_folder_in_clear_is_not_encrypted_behind_its_elements_back(tmp_path: Path):
    with open_ownership(tmp_path / "data", no_passphrase, makes_folder=True) as ask:
        ask("element.create", {})
    opening = open_ownership(tmp_path / "data", given(WORDS))
    with pytest.raises(ConfigurationError, match="not encrypted"):
        opening.__enter__()
