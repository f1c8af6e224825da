# SPDX-License-Identifier: Apache-2.0
"""``iose card`` on a software card in this process: what is shown, asked, written and refused."""

import json
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer

from iose.cli import card_options
from iose.cli.card_requests import parse_privileges
from iose.cli.main import run
from iose.client.cap_file import read_cap, write_cap
from iose.globalplatform.commands import Ins
from iose.globalplatform.load_file import Component, ComponentTag, LoadFile
from iose.globalplatform.packages import build_package
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import ResponseApdu
from iose.runtime.packages import shipped_packages
from iose.transport.base import BatchStep
from tests.support.card_terminal import SECOND, Terminal, reader, terminal
from tests.support.managed_card import CutConnection, ManagedCard

__all__ = ["reader", "terminal"]  # fixtures
MODULE = "010203040800"


def foreign_cap(tmp_path: Path, size: int = 3000) -> Path:
    """Return the CAP file of a package that no software element knows."""
    package = build_package(
        package_aid=Aid.from_hex("A000000001"),
        applet_aids=[Aid.from_hex("A00000000101")],
        module="wallet",
        version=(1, 0),
        digest=bytes(32),
    )
    parts = {one.tag: one.body for one in package.components}
    parts[ComponentTag.CONSTANT_POOL] += bytes(size)
    directory = bytearray(parts[ComponentTag.DIRECTORY])
    place = 2 * (ComponentTag.CONSTANT_POOL - 1)
    directory[place : place + 2] = len(parts[ComponentTag.CONSTANT_POOL]).to_bytes(2, "big")
    parts[ComponentTag.DIRECTORY] = bytes(directory)
    grown = LoadFile.of_components(Component(tag, body) for tag, body in parts.items())
    file = tmp_path / "wallet.cap"
    file.write_bytes(write_cap(grown, "com/example/wallet"))
    return file


def test_a_card_is_listed_in_words(terminal: Terminal):
    status, out, err = terminal.demo("list")
    assert status == 0
    assert "anybody may manage a card" in err
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows == [
        ["issuer domain", "A000000151000000", "", "op ready", "", ""],
        ["application", "010203040500", "tls-se", "selectable", "default selected", "0102030405"],
        ["load file", "0102030405", "tls-se", "loaded", "", "010203040500"],
    ]


def test_a_list_in_json_has_stable_names(terminal: Terminal):
    item = terminal.contents()["010203040500"]
    assert item == {
        "kind": "application",
        "aid": "010203040500",
        "name": "tls-se",
        "state": "selectable",
        "privileges": ["default selected"],
        "load_file": "0102030405",
        "modules": [],
        "version": None,
    }


def test_information_needs_no_keys(terminal: Terminal):
    status, out, err = terminal("info", "key1.com")
    assert (status, err) == (0, "")
    rows = dict(line.split("\t") for line in out.splitlines())
    assert rows["issuer domain"] == "A000000151000000"
    assert rows["protocols"] == "SCP03 i=70"
    assert rows["key 30/1"] == "AES 128"
    status, out, _ = terminal("info", "key1.com", "--json")
    document = json.loads(out)
    assert document["keys"][0] == {"version": "30", "id": 1, "type": ["AES"], "bits": [128]}
    assert "published_keys" not in document


def test_published_keys_are_tried_only_when_asked_for(terminal: Terminal, reader: ManagedCard):
    terminal("info", "key1.com")
    assert not [command for command in reader.sent if command.ins in (0x50, 0x82)]
    status, out, _ = terminal("info", "key1.com", "--check-published-keys", "--json")
    assert (status, json.loads(out)["published_keys"]) == (0, True)


def test_without_keys_the_next_step_is_told(terminal: Terminal):
    status, _, err = terminal("list", "key1.com")
    assert status == 1
    assert "iose element secrets" in err


def test_a_plan_is_shown_and_nothing_done_on_a_dry_run(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "secrets.json"
    status, out, err = terminal.install_second(file, "--dry-run", "--json")
    assert status == 0
    document = json.loads(out)
    assert document["applied"] is False
    assert [step["apdus"] for step in document["plan"]["steps"]] == [0, 1, 1, 1, 1]
    assert "make the instance" in err
    assert not file.exists()
    assert SECOND not in terminal.contents()


def test_without_a_terminal_nothing_is_done_unasked(terminal: Terminal, tmp_path: Path):
    status, out, err = terminal.install_second(tmp_path / "secrets.json")
    assert (status, "--yes" in err) == (1, True)
    assert "make the instance" in out
    assert SECOND not in terminal.contents()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_on_a_terminal_the_plan_is_asked_about(
    terminal: Terminal, tmp_path: Path, monkeypatch, answer: str
):
    def confirm(*_: object, **__: object) -> bool:
        if answer == "n":
            raise typer.Abort
        return True

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", confirm)
    status, _, _ = terminal.install_second(tmp_path / "secrets.json")
    assert status == (answer == "n")
    assert (SECOND in terminal.contents()) is (answer == "y")


def test_a_card_that_changes_while_one_thinks_is_not_touched(
    terminal: Terminal, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def confirm(*_: object, **__: object) -> bool:
        assert (
            run(["card", "delete", "key1.com", "tls-se", "--related", "--demo-keys", "--yes"]) == 0
        )
        return True

    monkeypatch.setattr("typer.confirm", confirm)
    status, _, err = terminal.install_second(tmp_path / "secrets.json")
    assert (status, "changed meanwhile" in err) == (1, True)


def test_a_card_that_is_swapped_while_one_thinks_is_not_touched(
    terminal: Terminal, tmp_path: Path, monkeypatch
):
    other = ManagedCard()
    other.store.contents["A000000151000000/object/serial"] = b"8765"
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def confirm(*_: object, **__: object) -> bool:
        monkeypatch.setattr(card_options, "open_reader", lambda *_, **__: other)
        monkeypatch.setattr(terminal.reader, "connect", other.connect)
        return True

    monkeypatch.setattr("typer.confirm", confirm)
    status, _, err = terminal.install_second(tmp_path / "secrets.json")
    assert (status, "another card" in err) == (1, True)
    assert not (tmp_path / "secrets.json").exists()


def test_an_identity_module_is_loaded_installed_locked_and_deleted(terminal, tmp_path: Path):
    file = tmp_path / "module.json"
    status, out, err = terminal.demo("install", "tls-im", "--secrets-out", str(file), "--yes")
    assert status == 0, err
    assert "load the package tls-im" in out
    written = json.loads(file.read_text())
    (held,) = terminal.reader.secrets["instances"]
    assert (held["user_pin"], held["admin_pin"]) == (written["user_pin"], written["admin_pin"])
    assert terminal.demo("lock", "tls-im", "--yes")[0] == 0
    assert terminal.contents()[MODULE]["state"] == "locked selectable"
    assert "nothing to do" in terminal.demo("lock", "tls-im", "--yes")[1]
    assert terminal.demo("unlock", "tls-im", "--yes")[0] == 0
    assert terminal.contents()[MODULE]["state"] == "selectable"
    status, _, err = terminal.demo("delete", "0102030408", "--yes")
    assert (status, "--related" in err) == (1, True)
    assert terminal.demo("delete", "tls-im", "--related", "--yes")[0] == 0
    assert not {MODULE, "0102030408"} & terminal.contents().keys()
    status, out, _ = terminal.demo("delete", "tls-im", "--related", "--yes")
    assert (status, "nothing to do" in out) == (0, True)


def test_a_reset_can_select_another_instance(terminal: Terminal, tmp_path: Path):
    assert terminal.install_second(tmp_path / "secrets.json", "--default", "--yes")[0] == 0
    contents = terminal.contents()
    assert contents[SECOND]["privileges"] == ["default selected"]
    assert contents["010203040500"]["privileges"] == []
    assert terminal.demo("default", "tls-se", "--yes")[0] == 0
    assert terminal.contents()["010203040500"]["privileges"] == ["default selected"]


def test_new_keys_are_written_put_and_proved(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "keys.json"
    status, out, err = terminal.demo("put-key", "--out", str(file), "--yes")
    assert status == 0, err
    written = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (written["isd_key_version"], written["isd_scp"], written["isd_scp_i"]) == (
        "31",
        "03",
        "70",
    )
    assert {name: terminal.reader.secrets[name] for name in written if name != "card"} == {
        name: value for name, value in written.items() if name != "card"
    }
    assert terminal.contents("--keys", str(file))
    assert written["isd_enc"] not in out + err


def test_the_old_keys_fail_once_and_are_not_tried_again(terminal: Terminal, tmp_path: Path):
    keys = str(tmp_path / "keys.json")
    terminal.demo("put-key", "--out", keys, "--yes")
    status, _, err = terminal.demo("list")
    assert (status, "remembered" in err) == (1, True)
    terminal.reader.sent.clear()
    status, _, err = terminal.demo("list")
    assert (status, "--retry-keys" in err) == (1, True)
    assert 0x50 not in [command.ins for command in terminal.reader.sent]
    status, _, err = terminal.demo("list", "--retry-keys")
    assert (status, "cryptogram" in err) == (1, True)
    assert 0x50 in [command.ins for command in terminal.reader.sent]


def test_keys_can_come_from_a_file_and_a_version_be_chosen(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "given.json"
    key = {
        name: (bytes((number,)) * 16).hex()
        for number, name in enumerate(("isd_enc", "isd_mac", "isd_dek"))
    }
    file.write_text(json.dumps(key))
    file.chmod(0o600)
    status, _, err = terminal.demo(
        "put-key", "--new-keys", str(file), "--new-version", "30", "--yes"
    )
    assert status == 0, err
    assert terminal.reader.secrets["isd_key_version"] == "30"
    assert terminal.contents("--keys", str(file), "--key-version", "30")


def test_master_keys_give_each_card_its_own(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "masters.json"
    arguments = ("--out", str(file), "--new-diversify", "kdf3", "--yes")
    assert terminal.demo("put-key", *arguments)[0] == 0
    written = json.loads(file.read_text())
    assert written["isd_diversification"] == "kdf3"
    assert terminal.reader.secrets["isd_enc"] != written["isd_enc"]
    assert terminal.contents("--keys", str(file))


def test_keys_can_come_from_the_environment(terminal: Terminal, monkeypatch):
    for name in card_options.KEY_VARIABLES:
        monkeypatch.setenv(name, bytes(range(0x40, 0x50)).hex())
    status, _, err = terminal("list", "key1.com")
    assert (status, "anybody may manage a card" in err) == (0, True)
    monkeypatch.setenv(card_options.KEY_VARIABLES[0], "secret")
    status, _, err = terminal("list", "key1.com")
    assert (status, "secret" in err) == (1, False)


def test_a_foreign_package_is_refused_in_words_and_leaves_nothing(terminal, tmp_path: Path):
    file = foreign_cap(tmp_path)
    before = terminal.contents()
    terminal.reader.sent.clear()
    status, _, err = terminal.demo("install", str(file), "--yes")
    assert status == 1
    assert "6438" in err
    assert "software elements run the applets shipped with iose only" in err
    loads = [command for command in terminal.reader.sent if command.ins == 0xE8]
    assert len(loads) == 1
    assert terminal.contents() == before


def test_a_file_that_is_no_package_is_refused(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "any.cap"
    file.write_bytes(b"PK nothing")
    status, _, err = terminal.demo("install", str(file), "--yes")
    assert (status, "not a CAP file" in err) == (1, True)
    status, _, err = terminal.demo("install", str(tmp_path / "none.cap"), "--yes")
    assert (status, "tls-se" in err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("install", "tls-se", "--sen", "key2.com"),
        ("install", "tls-se", "--secrets-out", "file"),
        ("install", "tls-im", "--secrets-out", "file", "--sen", "key2.com"),
        ("install", "tls-im", "--params", "no hex"),
        ("install", "tls-im", "--params", "00", "--secrets-out", "file"),
        ("install", "tls-im", "--privileges", "flying"),
        ("delete", "nothing"),
        ("put-key",),
        ("put-key", "--out", "a", "--new-keys", "b"),
        ("put-key", "--out", "a", "--new-version", "300"),
        ("list", "--diversify", "magic"),
    ],
)
def test_a_wrong_command_line_has_status_2(terminal: Terminal, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = terminal.demo(*arguments)
    assert (status, terminal.reader.sent) == (2, []), err


def test_a_package_of_ours_is_exported_as_a_cap_file(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "tls-se.cap"
    status, out, _ = terminal("export-package", "tls-se", str(file))
    assert (status, "0102030405" in out) == (0, True)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
    assert read_cap(file.read_bytes()) == shipped_packages()["tls-se"].load_file
    assert terminal("export-package", "tls-se", str(file))[0] == 1
    assert terminal("export-package", "tls-xx", str(tmp_path / "other.cap"))[0] == 1


def test_an_exported_package_is_installed_as_any_cap_file(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "tls-im.cap"
    terminal("export-package", "tls-im", str(file))
    status, _, err = terminal.demo("install", str(file), "--yes")
    assert status == 0, err
    assert terminal.contents()[MODULE]["name"] == "tls-im"


def test_a_cut_run_is_not_finished_with_another_version(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "keys.json"
    terminal.reader.cut.after = 7
    assert terminal.demo("put-key", "--out", str(file), "--yes")[0] == 1
    terminal.reader.cut.after = None
    assert file.exists()
    status, _, err = terminal.demo("put-key", "--out", str(file), "--new-version", "35", "--yes")
    assert (status, "version 31" in err) == (1, True)


def test_keys_of_one_card_are_not_put_on_another(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "keys.json"
    terminal.demo("put-key", "--out", str(file), "--yes")
    terminal.reader.seid = "se-00000002"
    status, _, err = terminal.demo("put-key", "--out", str(file), "--yes")
    assert (status, "name a new file" in err) == (1, True)


def test_a_file_that_cannot_be_written_leaves_the_card_as_it_was(terminal, tmp_path, monkeypatch):
    before = terminal.contents()
    status, _, err = terminal.install_second(tmp_path / "none" / "secrets.json", "--yes")
    assert (status, "no folder" in err) == (1, True)

    def write(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iose.cli.card_files.write_new_file", write)
    status, _, err = terminal.install_second(tmp_path / "secrets.json", "--yes")
    assert (status, "No space left" in err) == (1, True)
    assert terminal.contents() == before
    assert 0xE2 not in [command.ins for command in terminal.reader.sent]


def test_keys_that_others_can_read_are_warned_of(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "keys.json"
    terminal.demo("put-key", "--out", str(file), "--yes")
    file.chmod(0o644)
    status, _, err = terminal("list", "key1.com", "--keys", str(file))
    assert (status, f"chmod 600 {file}" in err) == (0, True)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{}" * 40_000])
def test_a_key_file_that_is_none_is_explained(terminal: Terminal, tmp_path: Path, content: bytes):
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    status, _, err = terminal("list", "key1.com", "--keys", str(file))
    assert (status, "key" in err) == (1, True)
    status, _, err = terminal("list", "key1.com", "--keys", str(tmp_path / "none"))
    assert (status, "cannot be read" in err) == (1, True)


def test_progress_is_shown_on_a_terminal_only(terminal: Terminal, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    status, _, err = terminal.install_second(tmp_path / "secrets.json", "--yes")
    assert status == 0
    assert "\r\x1b[K3/4 give" in err
    assert err.endswith("\r\x1b[K")
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert "\x1b" not in terminal.demo("delete", SECOND, "--yes")[2]


def test_an_applet_of_a_package_with_several_is_named(terminal: Terminal, tmp_path: Path):
    package = build_package(
        package_aid=Aid.from_hex("A000000001"),
        applet_aids=[Aid.from_hex("A00000000101"), Aid.from_hex("A00000000102")],
        module="wallet",
        version=(1, 0),
        digest=bytes(32),
    )
    file = tmp_path / "two.cap"
    file.write_bytes(write_cap(package, "com/example"))
    status, _, err = terminal.demo("install", str(file), "--dry-run")
    assert (status, "A00000000101, A00000000102" in err) == (1, True)
    status, out, _ = terminal.demo("install", str(file), "--aid", "A00000000102", "--dry-run")
    assert (status, "make the instance A00000000102" in out) == (0, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("  ", 0),
        ("04", 0x040000),
        ("040010", 0x040010),
        ("default_selected", 0x040000),
        ("card lock, default-selected", 0x140000),
    ],
)
def test_privileges_are_names_or_bytes(text: str, expected: int):
    assert parse_privileges(text) == expected


def test_published_keys_that_are_refused_are_told(terminal: Terminal, tmp_path: Path):
    terminal.demo("put-key", "--out", str(tmp_path / "keys.json"), "--yes")
    for _ in range(2):  # the second time the card is not asked
        status, out, _ = terminal("info", "key1.com", "--check-published-keys")
        assert (status, "published keys\trefused" in out) == (0, True)


def test_a_blocked_card_leaves_open_whether_it_takes_the_published_keys(terminal: Terminal):
    terminal.reader.store.contents["A000000151000000/object/failures"] = bytes((10,))
    status, out, _ = terminal("info", "key1.com", "--check-published-keys")
    assert (status, "published keys\tcannot be told: " in out, "blocked" in out) == (0, True, True)
    status, out, _ = terminal("info", "key1.com", "--check-published-keys", "--json")
    assert (status, json.loads(out)["published_keys"]) == (0, None)


def test_an_export_tells_in_json_what_it_wrote(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "tls-im.cap"
    status, out, _ = terminal("export-package", "tls-im", str(file), "--json")
    assert (status, json.loads(out)["aid"]) == (0, "0102030408")
    assert terminal("export-package", "tls-im", str(tmp_path / "none" / "x.cap"))[0] == 1


def test_a_change_that_is_stopped_says_how_to_go_on(terminal: Terminal, tmp_path, monkeypatch):
    transmit = CutConnection.transmit_batch

    async def stop(connection: CutConnection, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        if steps[0].command.ins == Ins.STORE_DATA:
            raise KeyboardInterrupt
        return await transmit(connection, steps)

    with monkeypatch.context() as patched:
        patched.setattr(CutConnection, "transmit_batch", stop)
        status, _, err = terminal.install_second(tmp_path / "secrets.json", "--yes")
    assert (status, "run the same command again" in err) == (1, True)
    assert terminal.contents()[SECOND]["state"] == "installed"
    assert terminal.install_second(tmp_path / "secrets.json", "--yes")[0] == 0
    assert terminal.contents()[SECOND]["state"] == "selectable"
