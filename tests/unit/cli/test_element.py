# SPDX-License-Identifier: Apache-2.0
"""``iose element`` without a node: what is printed, what is asked, and the exit status."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from iose.applets.tls_se import Personalisation
from iose.cli.main import run
from iose.iso7816.aid import Aid
from iose.runtime.compose import TlsSeMaker
from iose.runtime.folder import DataFolder
from iose.runtime.store import SqliteStore

FIELDS = {
    "seid", "sen", "atr", "wire", "limits", "commands",
    "chunk_size", "max_record", "state", "copy", "instances", "repeated_sens",
}  # fmt: skip


class Terminal:
    """Runs commands on one data folder and keeps what they print."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        status = run(["element", *arguments, "--data", str(self.folder)])
        printed = self.capsys.readouterr()
        return status, printed.out, printed.err

    def json(self, *arguments: str) -> dict[str, object]:
        status, out, err = self(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)


@pytest.fixture
def element(tmp_path: Path, capsys) -> Terminal:
    return Terminal(tmp_path / "data", capsys)


def test_an_element_is_created_listed_and_deleted(element: Terminal):
    made = element.json("create", "--limits", "chip")["element"]
    assert made.keys() == FIELDS
    assert (made["sen"], made["limits"], made["wire"]) == ("key1.com", "chip", "hardened")
    assert element.json("list") == {"elements": [made]}
    status, out, _ = element("list")
    assert (status, out.split("\t")[0]) == (0, "key1.com")
    status, _, err = element("delete", "key1.com")
    assert (status, "for good" in err) == (1, True)
    deleted = element.json("delete", "key1.com", "--yes")
    assert deleted == {"seid": made["seid"], "sen": "key1.com", "deleted": True}
    assert element.json("list") == {"elements": []}


def test_instances_on_an_element_are_listed_and_shown_with_sen_and_aid(element: Terminal):
    seid = element.json("create")["element"]["seid"]
    assert element("show", "key1.com")[1] == f"key1.com\t{seid}\tready\thardened\twide\tiose\t\t\n"
    with closing(SqliteStore(DataFolder(element.folder).store(seid))) as store:
        card = TlsSeMaker().build(store, seid)
        card.install("tls_se", Aid.from_hex("010203040501"), Personalisation(b"more.com").encode())
        card.install("tls_se", Aid.from_hex("010203040502"), Personalisation(b"").encode())
    for command in (("list",), ("show", "key1.com")):
        status, out, _ = element(*command)
        assert (status, out.split("\t")[0]) == (0, "key1.com")
        assert out.endswith("\tmore.com 010203040501, 010203040502\n")


def test_an_instance_that_has_the_name_of_another_element_is_warned_of(element: Terminal):
    element.json("create")
    seid = element.json("create")["element"]["seid"]
    with closing(SqliteStore(DataFolder(element.folder).store(seid))) as store:
        given = Personalisation(b"KEY1.com").encode()
        TlsSeMaker().build(store, seid).install("tls_se", Aid.from_hex("010203040501"), given)
    for command, repeated in (("list", None), ("show", "key2.com")):
        status, _, err = element(*filter(None, (command, repeated)))
        assert status == 0
        assert err.startswith("warning: more than one element or instance is named 'key1.com'")
        assert err.count("warning") == 1
    assert element.json("show", "key2.com")["element"]["repeated_sens"] == ["KEY1.com"]


def test_demo_keys_come_with_a_warning(element: Terminal):
    status, _, err = element("create", "--demo-keys")
    assert status == 0
    assert "published demo keys" in err
    status, _, err = element("create")
    assert (status, err) == (0, "")


def test_secrets_go_to_a_file_and_not_to_the_terminal(element: Terminal, tmp_path: Path):
    element("create")
    file = tmp_path / "secrets.json"
    status, out, err = element("secrets", "key1.com", "--out", str(file))
    assert status == 0
    secrets = json.loads(file.read_text())
    assert secrets.keys() >= {"seid", "sen", "psk", "psk_identity", "user_pin", "admin_pin"}
    assert secrets["psk"] not in out + err
    status, _, err = element("secrets", "key1.com", "--out", str(tmp_path / "second"))
    assert (status, "--again" in err) == (1, True)


def test_an_element_moves_from_one_folder_to_another(element: Terminal, tmp_path: Path, capsys):
    words, file = tmp_path / "words", tmp_path / "key1.iose"
    words.write_text("a long passphrase\n")
    made = element.json("create")["element"]
    moved = element.json("export", "key1.com", str(file), "--passphrase-file", str(words))
    assert moved["element"]["file"] == str(file)
    assert element.json("list") == {"elements": []}
    other = Terminal(tmp_path / "other", capsys)
    imported = other.json("import", str(file), "--passphrase-file", str(words))
    assert imported["element"] == made
    assert not file.exists()


def test_an_export_without_a_terminal_asks_for_a_passphrase_file(element: Terminal, tmp_path: Path):
    element("create")
    status, _, err = element("export", "key1.com", str(tmp_path / "file"))
    assert status == 1
    assert "--passphrase-file" in err
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("arguments", [("export", "key1.com"), ("create", "--wire"), ("nonsense",)])
def test_a_wrong_command_line_has_status_2(element: Terminal, arguments: tuple[str, ...]):
    assert element(*arguments)[0] == 2


def test_a_name_that_is_none_is_explained(element: Terminal):
    status, _, err = element("create", "--sen", "ten.too.many.letters")
    assert status == 1
    assert "15 characters" in err
    assert "next:" in err


def test_a_missing_folder_is_explained(element: Terminal):
    status, _, err = element("list")
    assert status == 1
    assert "iose up" in err


def test_a_passphrase_file_in_the_environment_makes_every_new_folder_encrypted(
    element: Terminal, tmp_path: Path, monkeypatch
):
    words = tmp_path / "words"
    words.write_text("a long passphrase\n")
    monkeypatch.setenv("IOSE_PASSPHRASE_FILE", str(words))
    assert element("create")[0] == 0
    assert "encryption" in json.loads((element.folder / "folder.json").read_bytes())
    assert element("list")[0] == 0
    monkeypatch.delenv("IOSE_PASSPHRASE_FILE")
    status, _, err = element("list")
    assert (status, "terminal" in err) == (1, True)


def test_a_folder_in_clear_is_encrypted_and_needs_its_passphrase_from_then_on(
    element: Terminal, tmp_path: Path, monkeypatch
):
    words = tmp_path / "words"
    words.write_text("a long passphrase\n")
    made = element.json("create")["element"]
    monkeypatch.setenv("IOSE_PASSPHRASE_FILE", str(words))
    status, _, err = element("list")
    assert (status, "iose element encrypt" in err) == (1, True)
    monkeypatch.delenv("IOSE_PASSPHRASE_FILE")
    encrypted = element.json("encrypt", "--passphrase-file", str(words))
    assert encrypted == {"data": str(element.folder), "encrypted": True}
    assert element("list")[0] == 1
    monkeypatch.setenv("IOSE_PASSPHRASE_FILE", str(words))
    assert element.json("list") == {"elements": [made]}
    assert element("encrypt")[0] == 1


def test_no_folder_is_made_to_be_encrypted(element: Terminal):
    status, _, err = element("encrypt")
    assert (status, "no data folder" in err) == (1, True)
    assert not element.folder.exists()


@pytest.mark.parametrize(
    ("options", "scp", "i"),
    [((), "03", "70"), (("--scp", "02"), "02", "15"), (("--scp-i", "61"), "03", "61")],
)
def test_the_secure_channel_of_an_element_is_chosen_when_it_is_created(
    element: Terminal, tmp_path: Path, options: tuple[str, ...], scp: str, i: str
):
    element("create", *options)
    file = tmp_path / "secrets.json"
    element("secrets", "key1.com", "--out", str(file))
    secrets = json.loads(file.read_text())
    assert (secrets["isd_scp"], secrets["isd_scp_i"]) == (scp, i)
    assert len(secrets["isd_mac"]) == 32


def test_a_secure_channel_that_does_not_exist_is_refused(element: Terminal):
    status, _, err = element("create", "--scp", "02", "--scp-i", "70")
    assert status == 1
    assert "SCP02" in err
    assert element("create", "--scp", "xy")[0] == 2
