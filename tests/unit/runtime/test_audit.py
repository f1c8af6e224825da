# SPDX-License-Identifier: Apache-2.0
"""The audit log: what it holds, what a full disk and a power cut leave, what tampering shows."""

import asyncio
import errno
import json
import os
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from iose.runtime import audit as audit_module
from iose.runtime.audit import FileAuditLog
from iose.runtime.audit_chain import (
    Head,
    decode_head,
    file_name,
    last_head,
    log_files,
    read_entries,
    verify_log,
)
from iose.runtime.audit_view import Wanted, read_records
from iose.runtime.errors import ConfigurationError
from iose.servers.racs.audit import AuditError, AuditEvent, AuditOutcome

DONE = AuditOutcome("done", "+006", 0x9000, 2, 0.001)


def event(verb: str = "APDU", **fields: Any) -> AuditEvent:
    header = bytes.fromhex("00A40400") if verb == "APDU" else b""
    given = {"seid": "se-1", "header": header, "size": 11, **fields}
    return AuditEvent("alice", "ab" * 32, "127.0.0.1:5", 7, "racs", verb, **given)


def play(folder: Path, scenario: Callable[[FileAuditLog], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        log = FileAuditLog(folder, **options)
        await log.open()
        try:
            return await scenario(log)
        finally:
            await log.close()

    return asyncio.run(main())


async def act(log: FileAuditLog, count: int = 1) -> list[int]:
    numbers = []
    for _ in range(count):
        number = await log.intend(event())
        await log.conclude(number, event(), DONE)
        numbers.append(number)
    return numbers


def kinds(folder: Path) -> list[object]:
    return [entry["kind"] for entry in read_entries(folder)]


def lines(folder: Path) -> list[bytes]:
    return b"".join(path.read_bytes() for path in log_files(folder)).splitlines(keepends=True)


def rewrite(folder: Path, content: list[bytes]) -> None:
    (path,) = log_files(folder)
    path.write_bytes(b"".join(content))


def test_an_act_is_an_intent_and_an_outcome(tmp_path: Path):
    assert play(tmp_path, act) == [2]
    assert kinds(tmp_path) == ["start", "intent", "outcome", "stop"]
    (record,) = [one for one in read_records(tmp_path, Wanted()) if one.kind == "intent"]
    assert (record.user, record.header, record.outcome) == ("alice", "00A40400", "done")
    assert (record.code, record.status, record.answer_size) == ("+006", "9000", 2)
    assert verify_log(tmp_path).problems == ()


def test_an_intent_is_on_disk_when_it_is_answered_and_before_its_outcome(tmp_path: Path):
    async def scenario(log: FileAuditLog) -> None:
        number = await log.intend(event())
        assert json.loads(lines(tmp_path)[-1])["seq"] == number == log.head.sequence
        await log.conclude(number, event(), DONE)
        other = await log.intend(event("POWERON"))
        assert kinds(tmp_path)[-3:] == ["intent", "outcome", "intent"]
        assert other == number + 2

    play(tmp_path, scenario)


def test_many_intents_share_one_wait_for_the_disk(tmp_path: Path, monkeypatch):
    syncs = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda number: (syncs.append(number), sync(number)))

    async def scenario(log: FileAuditLog) -> list[int]:
        syncs.clear()
        return await asyncio.gather(*(log.intend(event()) for _ in range(500)))

    assert play(tmp_path, scenario) == list(range(2, 502))
    assert len(syncs) < 100
    assert verify_log(tmp_path).problems == ()


def test_the_chain_goes_over_the_borders_of_files_and_of_runs(tmp_path: Path):
    for _ in range(3):
        play(tmp_path, lambda log: act(log, 20), file_limit=2000)
    assert len(log_files(tmp_path)) > 5
    assert verify_log(tmp_path).head == last_head(tmp_path) == Head(126, last_head(tmp_path).digest)
    assert verify_log(tmp_path).problems == ()


def test_older_files_may_be_moved_away_with_a_head(tmp_path: Path):
    play(tmp_path, lambda log: act(log, 20), file_limit=2000)
    first, second = log_files(tmp_path)[:2]
    kept = Head(int(second.stem) - 1, json.loads(second.read_bytes().splitlines()[0])["prev"])
    first.unlink()
    assert "give the head" in verify_log(tmp_path).problems[0]
    assert verify_log(tmp_path, kept).problems == ()
    assert verify_log(tmp_path, last_head(tmp_path)).problems == ()
    assert "not here" in verify_log(tmp_path, Head(2, kept.digest)).problems[0]
    other = Head(kept.sequence, "0" * 64)
    assert "not the head given" in verify_log(tmp_path, other).problems[0]
    play(tmp_path, act)
    assert verify_log(tmp_path, kept).problems == ()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    play(tmp_path, lambda log: act(log, 5))
    return tmp_path


def test_an_edited_line_is_found(written: Path):
    content = lines(written)
    content[3] = content[3].replace(b"alice", b"bob__")
    rewrite(written, content)
    assert "changed" in verify_log(written).problems[0]


def test_a_deleted_line_is_found(written: Path):
    content = lines(written)
    del content[4]
    rewrite(written, content)
    assert "expected number 5, found 6" in verify_log(written).problems[0]


def test_exchanged_lines_are_found(written: Path):
    content = lines(written)
    content[4:6] = [content[5], content[4]]
    rewrite(written, content)
    assert verify_log(written).problems


def test_a_cut_tail_is_found_with_a_head_alone(written: Path):
    kept = last_head(written)
    rewrite(written, lines(written)[:-2])
    assert verify_log(written).problems == ()
    assert "cut off" in verify_log(written, kept).problems[0]


def test_a_chain_forged_from_one_line_on_is_found_with_a_head_alone(written: Path):
    kept = last_head(written)
    from iose.runtime.audit_chain import head_of, next_line  # noqa: PLC0415

    content = lines(written)[:4]
    head = head_of(content[-1])
    while head.sequence < kept.sequence:
        line, head = next_line(head, {"kind": "intent"})
        content.append(line)
    rewrite(written, content)
    assert verify_log(written).problems == ()
    assert "not the head given" in verify_log(written, kept).problems[0]


def test_a_line_that_is_none_is_found(written: Path):
    content = lines(written)
    content.insert(2, b"hello\n")
    rewrite(written, content)
    assert "no line of an audit log" in verify_log(written).problems[0]


def test_a_change_is_not_hidden_by_who_writes_on(written: Path):
    content = lines(written)
    content[3] = content[3].replace(b"alice", b"bob__")
    rewrite(written, content)
    play(written, act)
    assert kinds(written)[-4:] == ["start", "intent", "outcome", "stop"]
    assert len(verify_log(written).problems) == 1


def test_a_line_end_that_somebody_put_into_a_line_is_no_tear(written: Path):
    content = lines(written)
    content[3] = content[3].replace(b"alice", b"al\rce")
    rewrite(written, content)
    play(written, act)
    assert not list(written.glob("torn-*"))
    assert len(verify_log(written).problems) == 1


@pytest.mark.parametrize("cut", [1, 2, 40, 100])
def test_a_line_torn_by_a_power_cut_is_cut_off_and_said(written: Path, cut: int):
    (path,) = log_files(written)
    kept = lines(written)
    os.truncate(path, path.stat().st_size - cut)
    play(written, act)
    assert lines(written)[: len(kept) - 1] == kept[:-1]
    assert kinds(written)[len(kept) - 1 :] == ["recovered", "start", "intent", "outcome", "stop"]
    verdict = verify_log(written)
    assert (verdict.problems, len(verdict.notes)) == ((), 1)
    assert not list(written.glob("torn-*"))


def test_whole_lines_behind_a_tear_are_set_aside_and_kept(written: Path):
    content = lines(written)
    tail = content[6:]
    rewrite(written, [*content[:4], bytes(len(content[4])), b"\n", *tail])
    play(written, act)
    (torn,) = written.glob("torn-*")
    assert torn.read_bytes().endswith(b"".join(tail))
    assert verify_log(written).problems == ()
    assert torn.name in verify_log(written).notes[-1]


def test_a_file_just_begun_when_the_power_went_is_gone_on_with(tmp_path: Path):
    play(tmp_path, lambda log: act(log, 20), file_limit=2000)
    head = last_head(tmp_path)
    (tmp_path / file_name(head.sequence + 1)).touch()
    play(tmp_path, act)
    assert verify_log(tmp_path, head).problems == ()


def test_a_log_whose_last_lines_were_moved_away_is_not_begun_anew(tmp_path: Path):
    play(tmp_path, lambda log: act(log, 20), file_limit=2000)
    (tmp_path / file_name(last_head(tmp_path).sequence + 5)).touch()
    with pytest.raises(AuditError, match="not here"):
        play(tmp_path, act)


def test_an_act_cut_by_a_crash_is_unknown(tmp_path: Path):
    def outcomes() -> list[str]:
        return [one.outcome for one in read_records(tmp_path, Wanted()) if one.kind == "intent"]

    async def crash(log: FileAuditLog) -> None:
        await log.intend(event())
        assert outcomes() in (["open"], ["unknown", "open"])

    play(tmp_path, crash)
    rewrite(tmp_path, lines(tmp_path)[:2])  # without the word of an orderly end
    assert outcomes() == ["unknown"]
    play(tmp_path, crash)


def test_records_are_chosen_by_user_element_and_time(written: Path):
    assert len(read_records(written, Wanted(user="alice"))) == 5
    assert read_records(written, Wanted(user="bob")) == []
    assert read_records(written, Wanted(seid="se-2")) == []
    time = read_records(written, Wanted(user="alice"))[3].time
    from datetime import datetime  # noqa: PLC0415

    assert len(read_records(written, Wanted("alice", since=datetime.fromisoformat(time)))) == 2


# --- a disk that is full or broken ----------------------------------------------------------------


class Disk:
    """Lets so many bytes through, then fails in the middle of a write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.sync_fails = False
        self._write, self._sync = os.write, os.fdatasync
        monkeypatch.setattr(audit_module.os, "write", self.write)
        monkeypatch.setattr(audit_module.os, "fdatasync", self.sync)

    def write(self, file: int, data: bytes) -> int:
        if self.room is None:
            return self._write(file, data)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(self.room, len(data))
        self.room -= taken
        return self._write(file, data[:taken])

    def sync(self, file: int) -> None:
        if self.sync_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._sync(file)


@pytest.mark.parametrize("room", [0, 1, 100, 300])
def test_a_full_disk_refuses_intents_and_leaves_nothing_half_written(tmp_path, monkeypatch, room):
    async def scenario(log: FileAuditLog) -> None:
        disk = Disk(monkeypatch)
        number = await log.intend(event())
        await log.conclude(number, event(), DONE)
        await log.intend(event())
        before = lines(tmp_path)
        disk.room = room
        for _ in range(3):
            with pytest.raises(AuditError, match="space") as caught:
                await log.intend(event("SHUTDOWN"))
            assert lines(tmp_path) == before
            assert "room" in caught.value.hint
        assert "space" in log.fault
        disk.room = None
        await log.intend(event("LIST"))
        assert log.fault == ""

    play(tmp_path, scenario)
    assert verify_log(tmp_path).problems == ()
    assert [one.verb for one in read_records(tmp_path, Wanted("alice"))] == ["APDU", "APDU", "LIST"]


def test_an_outcome_waits_for_room_and_no_intent_passes_it(tmp_path: Path, monkeypatch):
    async def scenario(log: FileAuditLog) -> None:
        disk = Disk(monkeypatch)
        number = await log.intend(event())
        disk.room = 0
        await log.conclude(number, event(), DONE)
        with pytest.raises(AuditError):
            await log.intend(event())
        disk.room = None
        await log.intend(event("LIST"))
        assert kinds(tmp_path)[-3:] == ["intent", "outcome", "intent"]

    play(tmp_path, scenario)
    assert verify_log(tmp_path).problems == ()


def test_what_could_not_be_synced_is_taken_back(tmp_path: Path, monkeypatch):
    async def scenario(log: FileAuditLog) -> None:
        disk = Disk(monkeypatch)
        before = lines(tmp_path)
        disk.sync_fails = True
        with pytest.raises(AuditError):
            await log.intend(event())
        assert lines(tmp_path) == before
        disk.sync_fails = False
        await log.intend(event())

    play(tmp_path, scenario)
    assert verify_log(tmp_path).problems == ()


def test_a_limit_of_the_system_is_a_full_disk_too(tmp_path: Path):
    async def scenario(log: FileAuditLog) -> int:
        (path,) = log_files(tmp_path)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 500, hard))
        try:
            with pytest.raises(AuditError):
                await asyncio.gather(*(log.intend(event()) for _ in range(10)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return await log.intend(event())

    assert play(tmp_path, scenario) > 1
    assert verify_log(tmp_path).problems == ()


def test_a_log_that_cannot_be_opened_now_is_opened_later(tmp_path: Path):
    async def scenario() -> None:
        blocked = tmp_path / "audit"
        blocked.write_text("in the way")
        log = FileAuditLog(blocked)
        with pytest.raises(AuditError):
            await log.open()
        with pytest.raises(AuditError):
            await log.intend(event())
        blocked.unlink()
        assert await log.intend(event()) == 1
        await log.close()
        with pytest.raises(AuditError, match="closed"):
            await log.intend(event())

    asyncio.run(scenario())


def test_a_log_that_somebody_else_writes_in_is_left_alone(tmp_path: Path):
    async def scenario(log: FileAuditLog) -> None:
        (path,) = log_files(tmp_path)
        with path.open("ab") as file:
            file.write(b"me too\n")
        with pytest.raises(AuditError, match="changed by somebody else"):
            await log.intend(event())

    play(tmp_path, scenario)


def test_a_file_moved_away_under_the_writer_stops_acts_until_it_is_back(tmp_path: Path):
    async def scenario(log: FileAuditLog) -> None:
        (path,) = log_files(tmp_path)
        path.rename(tmp_path / "away")
        with pytest.raises(AuditError, match="moved away"):
            await log.intend(event())
        (tmp_path / "away").rename(path)
        await act(log)

    play(tmp_path, scenario)
    assert kinds(tmp_path) == ["start", "intent", "outcome", "stop"]
    assert verify_log(tmp_path).problems == ()


def test_a_new_file_counts_when_its_name_is_on_disk(tmp_path: Path, monkeypatch):
    files = FileAuditLog(tmp_path, file_limit=1)._files
    files.append([{"kind": "start"}])
    synced: list[Path] = []

    def broken(folder: Path) -> None:
        if not synced.append(folder) and len(synced) == 1:
            raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(audit_module, "sync_folder", broken)
    with pytest.raises(OSError, match="I/O"):
        files.append([{"kind": "intent"}])
    assert files.append([{"kind": "intent"}]) == [2]
    assert synced == [tmp_path, tmp_path]
    files.close()


def test_a_second_writer_waits_and_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(audit_module, "LOCK_WAIT_S", 0.0)

    async def scenario(_log: FileAuditLog) -> None:
        second = FileAuditLog(tmp_path)
        with pytest.raises(AuditError, match="another process"):
            await second.open()
        await second.close()

    play(tmp_path, scenario)


class PowerCut(BaseException):
    pass


@pytest.mark.parametrize("size", range(0, 900, 37))
def test_after_a_power_cut_every_answered_intent_is_there(tmp_path: Path, size: int):
    """The file as it is after some bytes of the last, unanswered batch came to the disk."""
    answered = play(tmp_path, lambda log: act(log, 3))
    whole = lines(tmp_path)
    more = FileAuditLog(tmp_path)._files
    more.append([{"kind": "intent", "user": str(number)} for number in range(4)])
    more.close()
    (path,) = log_files(tmp_path)
    base = sum(map(len, whole))
    os.truncate(path, min(base + size, path.stat().st_size))
    play(tmp_path, act)
    assert lines(tmp_path)[: len(whole)] == whole
    assert {one.sequence for one in read_records(tmp_path, Wanted("alice"))} >= set(answered)
    assert verify_log(tmp_path).problems == ()


@pytest.mark.parametrize("step", ["fsync", "ftruncate", "write"])
def test_a_power_cut_in_the_middle_of_a_recovery_is_recovered_from(written, monkeypatch, step):
    content = lines(written)
    rewrite(written, [*content[:4], b"\0" * 50, b"\n", *content[6:]])

    def cut(*_arguments: object) -> None:
        raise PowerCut

    monkeypatch.setattr(audit_module.os, step, cut)
    files = FileAuditLog(written)._files
    with pytest.raises(PowerCut):
        files.append([{"kind": "start"}])
    if files._file is not None:
        files.close()
    monkeypatch.undo()
    play(written, act)
    assert lines(written)[:4] == content[:4]
    assert verify_log(written).problems == ()
    assert any(path.read_bytes().endswith(content[-1]) for path in written.glob("torn-*"))


def test_two_ends_at_once_are_one(tmp_path: Path):
    async def scenario(log: FileAuditLog) -> None:
        await asyncio.gather(log.close(), log.close())

    play(tmp_path, scenario)
    assert kinds(tmp_path)[0] == "start"
    assert verify_log(tmp_path).problems == ()


def test_long_texts_of_clients_are_cut(tmp_path: Path):
    play(tmp_path, lambda log: log.intend(event("X" * 9000, seid="é\n" * 9000)))
    entry = next(entry for entry in read_entries(tmp_path) if entry["kind"] == "intent")
    assert (len(entry["verb"]), len(entry["seid"])) == (256, 256)
    assert verify_log(tmp_path).problems == ()


@pytest.mark.parametrize("text", ["", "1", "1:00", f"x:{'0' * 64}", f"1:{'G' * 64}"])
def test_what_is_no_head_is_refused(text: str):
    with pytest.raises(ConfigurationError, match="no head"):
        decode_head(text)
    assert decode_head(f" 7:{'a' * 64}\n") == Head(7, "a" * 64)
