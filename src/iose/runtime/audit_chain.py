# SPDX-License-Identifier: Apache-2.0
"""The audit log's files: chained lines, where they are, whether they hold together (docs/audit.md).

Each line names the SHA-256 of the line before it, over all its bytes and over the borders of
files, so that a line cannot be changed, moved or taken out unseen. ``audit`` writes them.
"""

import fcntl
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final

from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.runtime.errors import ConfigurationError

DIGEST_DIGITS: Final = 64
LOCK_NAME: Final = "lock"
SUFFIX: Final = ".jsonl"
NAME_DIGITS: Final = 12  # names sort as their numbers do
TORN_PREFIX: Final = "torn-"
PROBLEM_LIMIT: Final = 20
_LINK: Final = re.compile(rb'\{"seq":([1-9][0-9]{0,17}),"prev":"([0-9a-f]{64})",')
_HEAD: Final = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")
_CRYPTO: Final = PycaCrypto()


@dataclass(frozen=True, slots=True)
class Head:
    """The last line so far.

    Attributes:
        sequence: Its number, from 1 on; 0 before the first.
        digest: SHA-256 of its bytes, in lower-case hex.
    """

    sequence: int = 0
    digest: str = "0" * DIGEST_DIGITS

    def __str__(self) -> str:
        return f"{self.sequence}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at the whole log found.

    Attributes:
        first: Number of the first line that is here; 0 when there is none.
        head: The last line.
        problems: What does not hold together, with the place.
        notes: What a crash or a power cut left, as the log itself says.
    """

    first: int = 0
    head: Head = field(default_factory=Head)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def decode_head(text: str) -> Head:
    """Return a head written as ``NUMBER:HASH``.

    Raises:
        ConfigurationError: It is written in another way.
    """
    match = _HEAD.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(
            f"{text!r} is no head of an audit log", hint="'iose audit head' prints one"
        )
    return Head(int(match[1]), match[2])


def next_line(head: Head, entry: Mapping[str, object]) -> tuple[bytes, Head]:
    """Return the line that holds an entry and follows a head, and the head that it is."""
    content = {"seq": head.sequence + 1, "prev": head.digest, **entry}
    line = json.dumps(content, separators=(",", ":")).encode() + b"\n"
    return line, Head(head.sequence + 1, _digest(line))


def head_of(line: bytes) -> Head | None:
    """Return the head a whole line is; None when it is no line of a log."""
    link = _LINK.match(line)
    return None if link is None else Head(int(link[1]), _digest(line))


def head_before(line: bytes) -> Head | None:
    """Return the head that a line says it follows; None when it is no line of a log."""
    link = _LINK.match(line)
    return None if link is None else Head(int(link[1]) - 1, link[2].decode())


def log_files(folder: Path) -> list[Path]:
    """Return the files of a log, the oldest first."""
    return sorted(folder.glob("[0-9]" * NAME_DIGITS + SUFFIX))


def file_name(sequence: int) -> str:
    """Return the name of the file whose first line has this number."""
    return f"{sequence:0{NAME_DIGITS}}{SUFFIX}"


def whole_part(content: bytes) -> tuple[int, Head | None]:
    """Return how many bytes of a file are whole lines, and the last of them.

    Whether they follow each other is ``verify_log``'s question: who writes on must not hide a
    change by taking it for a crash.
    """
    head, offset = None, 0
    for line in BytesIO(content):  # not ``splitlines``: a CR that somebody put in ends no line
        link = head_of(line) if line.endswith(b"}\n") else None
        if link is None:
            break
        head = link
        offset += len(line)
    return offset, head


def last_head(folder: Path) -> Head:
    """Return the newest line of a log, which may be written to meanwhile."""
    for path in reversed(log_files(folder)):
        head = whole_part(path.read_bytes())[1]
        if head is not None:
            return head
    return Head()


def is_written(folder: Path) -> bool:
    """Return whether a process holds a log for writing now."""
    try:
        with (folder / LOCK_NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_entries(folder: Path) -> Iterator[dict[str, object]]:
    """Give every entry that can be read, in order; a line being written is left out."""
    for path in log_files(folder):
        with path.open("rb") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(entry, dict) and line.endswith(b"\n"):
                    yield entry


def verify_log(folder: Path, since: Head | None = None) -> Verdict:
    """Return whether the lines that are here hold together, and follow a head kept elsewhere.

    Without that head nothing tells that the newest lines, or all of them, were cut off.
    """
    walk = _Walk(since)
    files = log_files(folder)
    for path in files:
        walk.read(path, is_last=path == files[-1])
    for path in sorted(folder.glob(f"{TORN_PREFIX}*")):
        walk.notes.append(f"{path.name}: more than one line stood behind a tear, see what they say")
    return walk.verdict()


class _Walk:
    def __init__(self, since: Head | None) -> None:
        self._since = since
        self._is_since_met = since is None or since == Head()
        self._first = 0
        self._head: Head | None = None
        self._problems: list[str] = []
        self.notes: list[str] = []

    def read(self, path: Path, *, is_last: bool) -> None:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                where = f"{path.name}, line {number}"
                if line.endswith(b"\n"):
                    self._take(line, where)
                elif not is_last:  # the last one may be on its way
                    self._object(f"{where}: the line is cut")
                if number == 1 and not path.name.startswith(file_name(_number(line))):
                    self._object(f"{where}: number {_number(line)} is not that of the file")

    def verdict(self) -> Verdict:
        head = self._head or Head()
        if self._first > 1 and self._since is None:
            self._object(
                f"the log begins with number {self._first}: give the head before it, which was "
                "printed when the older files were moved away"
            )
        if self._since is not None and not self._is_since_met:
            if head.sequence < self._since.sequence:
                self._object(
                    f"the log ends with number {head.sequence}, before the head given, "
                    f"{self._since.sequence}: lines were cut off"
                )
            elif self._first > self._since.sequence + 1:
                self._object(
                    f"numbers {self._since.sequence + 1} to {self._first - 1} are not here"
                )
        problems = self._problems[:PROBLEM_LIMIT]
        return Verdict(self._first, head, tuple(problems), tuple(self.notes))

    def _take(self, line: bytes, where: str) -> None:
        before, head = head_before(line), head_of(line)
        if before is None or head is None:
            self._object(f"{where}: this is no line of an audit log")
            return
        if self._head is None:
            self._first = head.sequence
            self._meet(before, f"{where}, what it follows")
            if before.sequence == 0 and before != Head():
                self._object(f"{where}: the first line follows another one")
        elif before.sequence != self._head.sequence:
            found, expected = head.sequence, self._head.sequence + 1
            self._object(f"{where}: expected number {expected}, found {found}")
        elif before != self._head:
            self._object(f"{where}: it or the line before it was changed")
        self._head = head
        self._meet(head, where)
        if b'"kind":"recovered"' in line:
            self.notes.append(f"{where}: {_cut_of(line)} bytes were cut off after a crash")

    def _meet(self, head: Head, where: str) -> None:
        if self._since is not None and head.sequence == self._since.sequence:
            self._is_since_met = True
            if head != self._since:
                self._object(f"{where}: number {head.sequence} is not the head given")

    def _object(self, problem: str) -> None:
        self._problems.append(problem)


def _number(line: bytes) -> int:
    head = head_of(line)
    return 0 if head is None else head.sequence


def _cut_of(line: bytes) -> object:
    try:
        return json.loads(line).get("cut")
    except (ValueError, RecursionError):
        return "some"


def _digest(line: bytes) -> str:
    return _CRYPTO.hash(HashAlgorithm.SHA256, line).hex()
