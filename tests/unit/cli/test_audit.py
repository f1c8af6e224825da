# SPDX-License-Identifier: Apache-2.0
"""``iose audit``: what it shows, what it says of a log that was changed."""

import asyncio
import json
from pathlib import Path

import pytest

from iose.cli.main import run
from iose.runtime.audit import FileAuditLog
from iose.runtime.audit_chain import last_head, log_files, next_line
from iose.servers.racs.audit import AuditEvent, AuditOutcome


@pytest.fixture
def data(tmp_path: Path) -> Path:
    async def main() -> None:
        log = FileAuditLog(tmp_path / "audit")
        await log.open()
        for user in ("alice", "bob\x1b[2J"):
            event = AuditEvent(user, "", "h:1", 1, "racs", "APDU", "se-1", bytes(4), 5)
            number = await log.intend(event)
            await log.conclude(number, event, AuditOutcome("done", "+006", 0x6A82))
        await log.close()

    asyncio.run(main())
    return tmp_path


def ask(capsys, data: Path, *arguments: str, status: int = 0) -> str:
    assert run(["audit", *arguments, "--data", str(data)]) == status
    return capsys.readouterr().out


def test_acts_are_shown_with_their_outcomes(data: Path, capsys):
    entries = json.loads(ask(capsys, data, "show", "--json"))["entries"]
    assert [entry["verb"] for entry in entries] == ["START", "APDU", "APDU", "STOP"]
    assert (entries[1]["user"], entries[1]["status"], entries[1]["outcome"]) == (
        "alice",
        "6A82",
        "done",
    )
    only = json.loads(ask(capsys, data, "show", "--user", "alice", "--json"))["entries"]
    assert [entry["user"] for entry in only] == ["alice"]
    assert "alice" in ask(capsys, data, "show", "--seid", "se-1")
    assert "alice" not in ask(capsys, data, "show", "--seid", "se-2")
    assert "alice" in ask(capsys, data, "show", "--since", "2020-01-31")
    assert "alice" not in ask(capsys, data, "show", "--since", "2999-01-31T00:00:00Z")


def test_a_whole_log_is_said_to_be_whole(data: Path, capsys):
    head = ask(capsys, data, "head").strip()
    assert json.loads(ask(capsys, data, "head", "--json"))["head"] == head
    assert f"whole from number 1 to {head}" in ask(capsys, data, "verify", "--since", head)
    document = json.loads(ask(capsys, data, "verify", "--json"))
    assert document == {"whole": True, "first": 1, "head": head, "problems": [], "notes": []}


def test_a_changed_log_fails(data: Path, capsys):
    (path,) = log_files(data / "audit")
    path.write_bytes(path.read_bytes().replace(b"alice", b"carol"))
    assert "problem: " in ask(capsys, data, "verify", status=1)
    assert json.loads(ask(capsys, data, "verify", "--json", status=1))["whole"] is False


def test_what_a_user_is_called_reaches_no_terminal_through_a_pipe(data: Path, capsys):
    shown = ask(capsys, data, "show")
    assert "bob\\x1b[2J" in shown
    assert all(char.isprintable() or char in "\t\n" for char in shown)
    assert len(shown.splitlines()) == 4


def test_a_forged_note_reaches_no_terminal(data: Path, capsys):
    (path,) = log_files(data / "audit")
    head = last_head(data / "audit")
    line, _ = next_line(head, {"kind": "recovered", "cut": "\x1b[2J"})
    path.write_bytes(path.read_bytes() + line)
    shown = ask(capsys, data, "verify")
    assert "note: " in shown
    assert "\x1b" not in shown


def test_a_head_and_a_time_that_are_none_are_refused(data: Path, capsys):
    ask(capsys, data, "verify", "--since", "yesterday", status=1)
    ask(capsys, data, "show", "--since", "yesterday", status=1)


def test_a_folder_without_a_log_says_so(tmp_path: Path, capsys):
    assert run(["audit", "show", "--data", str(tmp_path)]) == 1
    assert "no audit log" in capsys.readouterr().err
