# SPDX-License-Identifier: Apache-2.0
"""``iose pki`` without a node: what it makes, prints, refuses, and never overwrites."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from iose.cli.main import run
from iose.crypto import x509
from iose.runtime.folder import DataFolder
from tests.support.certificates import request


@pytest.fixture
def data(tmp_path: Path, capsys) -> Path:
    folder = tmp_path / "data"
    assert run(["pki", "init", "--data", str(folder)]) == 0
    capsys.readouterr()
    return folder


def ask(capsys, data: Path, *arguments: str) -> Any:
    assert run(["pki", *arguments, "--json", "--data", str(data)]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refuse(capsys, data: Path, *arguments: str) -> str:
    assert run(["pki", *arguments, "--data", str(data)]) == 1
    return capsys.readouterr().err


def test_init_makes_a_data_folder_and_changes_nothing_the_second_time(data: Path, capsys):
    assert DataFolder(data).exists()
    assert not DataFolder(data).is_locked()
    before = (data / "pki" / "ca.pem").read_bytes()
    assert ask(capsys, data, "init") == {"pki": str(data / "pki"), "changed": False}
    assert ask(capsys, data, "init", "--name", "gose.example")["changed"] is True
    assert (data / "pki" / "ca.pem").read_bytes() == before
    (_, node) = ask(capsys, data, "show")["certificates"][0:2]
    assert "localhost" in node["hosts"]
    shown = ask(capsys, data, "show", "iose node")["certificates"]
    assert any("gose.example" in one["hosts"] for one in shown)


def test_a_user_gets_three_files_that_nobody_else_may_read(data: Path, tmp_path, capsys):
    out = tmp_path / "for" / "alice"
    told = ask(capsys, data, "user", "alice", "--out", str(out), "--days", "7")
    assert {path.name for path in out.iterdir()} == {"user.pem", "user.key", "ca.pem"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (out, *out.iterdir()))
    facts = x509.decode_certificate((out / "user.pem").read_bytes())
    assert (told["name"], told["serial"]) == ("alice", f"{facts.serial:x}")
    assert (facts.not_after - facts.not_before).days == 7
    assert "BEGIN" not in json.dumps(told)


def test_files_in_the_way_are_not_overwritten(data: Path, tmp_path, capsys):
    (tmp_path / "ca.pem").write_text("precious")
    assert "holds a certificate" in refuse(capsys, data, "user", "bob", "--out", str(tmp_path))
    assert (tmp_path / "ca.pem").read_text() == "precious"
    assert [one["name"] for one in ask(capsys, data, "list")["certificates"]].count("bob") == 0


def test_a_user_s_name_names_the_folder_but_no_other_one(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask(capsys, data, "user", "carol")
    assert (tmp_path / "carol" / "user.key").exists()
    for name in ("../evil", ".ssh", "a/b"):
        assert "--out" in refuse(capsys, data, "user", name)
    assert "cannot be a user's name" in refuse(capsys, data, "user", "*")


def test_a_key_that_stays_with_its_user_is_not_made(data: Path, tmp_path, capsys):
    file = tmp_path / "request.pem"
    file.write_bytes(request((data / "pki" / "user.key").read_bytes()))
    out = tmp_path / "dave"
    told = ask(capsys, data, "user", "dave", "--request", str(file), "--out", str(out))
    assert told["name"] == "dave"
    assert {path.name for path in out.iterdir()} == {"user.pem", "ca.pem"}
    file.write_text("hello")
    again = ("user", "eve", "--request", str(file), "--out", str(tmp_path / "eve"))
    assert "no certificate request" in refuse(capsys, data, *again)
    assert not (tmp_path / "eve").exists()
    absent = ("user", "eve", "--request", str(tmp_path / "absent"))
    assert "absent" in refuse(capsys, data, *absent)


def test_renewing_and_revoking_are_listed(data: Path, tmp_path, capsys):
    first = ask(capsys, data, "user", "alice", "--out", str(tmp_path / "a"))
    second = ask(capsys, data, "renew", "alice", "--out", str(tmp_path / "b"))
    assert first["serial"] != second["serial"]
    revoked = ask(capsys, data, "revoke", first["serial"])
    assert [one["serial"] for one in revoked["revoked"]] == [first["serial"]]
    assert revoked["node_told"] is False
    states = {one["serial"]: one["state"] for one in ask(capsys, data, "list")["certificates"]}
    assert (states[first["serial"]], states[second["serial"]]) == ("revoked", "valid")
    assert run(["pki", "revoke", "alice", "--data", str(data)]) == 0
    assert second["serial"] in capsys.readouterr().out
    assert "no certificate in use" in refuse(capsys, data, "revoke", "alice")


def test_the_operator_s_certificate_is_renewed_in_its_place(data: Path, capsys):
    before = (data / "pki" / "user.pem").read_bytes()
    told = ask(capsys, data, "renew", "operator")
    after = (data / "pki" / "user.pem").read_bytes()
    assert before != after
    assert f"{x509.decode_certificate(after).serial:x}" == told["serial"]


def test_what_is_shown_is_readable(data: Path, capsys):
    assert run(["pki", "show", "--data", str(data)]) == 0
    assert "fingerprint  sha256:" in capsys.readouterr().out
    assert run(["pki", "list", "--data", str(data)]) == 0
    assert "operator\tuser\tvalid" in capsys.readouterr().out
    assert "nobody" in refuse(capsys, data, "show", "nobody")


def test_no_folder_and_no_authority_say_what_to_do(tmp_path: Path, capsys):
    assert "iose pki init" in refuse(capsys, tmp_path / "absent", "list")
    DataFolder(tmp_path / "bare").hold().release()
    assert "iose pki init" in refuse(capsys, tmp_path / "bare", "list")
    assert "iose pki init" in refuse(capsys, tmp_path / "bare", "user", "a", "--out", "/nowhere/a")


def test_the_folder_of_another_user_is_left_alone(data: Path, capsys, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert "belongs to another user" in refuse(capsys, data, "list")


def test_a_folder_that_cannot_be_written_names_the_certificate_to_take_back(data, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    said = refuse(capsys, data, "user", "frank", "--out", str(tmp_path / "file" / "frank"))
    assert "iose pki revoke" in said


def test_a_node_that_cannot_be_told_is_a_warning(data: Path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("iose.cli.pki.NODE_WAIT_S", 0.0)
    lock = DataFolder(data).hold()  # a node that does not answer
    try:
        told = json.loads(_revoke(data, capsys))
    finally:
        lock.release()
    assert told["node_told"] is False


def _revoke(data: Path, capsys) -> str:
    assert run(["pki", "revoke", "operator", "--json", "--data", str(data)]) == 0
    out, err = capsys.readouterr()
    assert "iose node reload" in err
    return out
