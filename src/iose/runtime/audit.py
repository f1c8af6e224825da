# SPDX-License-Identifier: Apache-2.0
"""The audit log of a node: every intent is on disk before it is carried out (docs/audit.md).

One thread writes for all sessions: what comes while the disk is busy shares the next wait for it.
A log that cannot be written stops the administration plane, and nothing else.
"""

import asyncio
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from iose.runtime.audit_chain import (
    LOCK_NAME,
    TORN_PREFIX,
    Head,
    file_name,
    log_files,
    next_line,
    whole_part,
)
from iose.runtime.folder import PRIVATE_FILE, PRIVATE_FOLDER, sync_folder
from iose.runtime.pki import wall_clock
from iose.servers.racs.audit import AuditError, AuditEvent, AuditOutcome

FILE_LIMIT: Final = 8 * 1024 * 1024  # read whole at a start
TEXT_LIMIT: Final = 256  # of what a client says, as the name of an element that is not there
FLUSH_S: Final = 0.2  # longest time an outcome waits for an intent to go to disk with
RETRY_S: Final = 1.0  # outcomes that wait for room on the disk
LOCK_WAIT_S: Final = 10.0  # a node process that is just ending
LOCK_POLL_S: Final = 0.05
SPACE_HINT: Final = "see docs/audit.md: make room, or move older files away"

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.audit")


@dataclass(slots=True, eq=False)
class _Entry:
    """One line to come; with a future, somebody waits until it is on disk."""

    content: Mapping[str, object]
    written: asyncio.Future[int] | None = None


class FileAuditLog:
    """``AuditLog`` in the files of one folder.

    Args:
        folder: Where; it is made if it is missing.
        file_limit: Size after which a new file is begun.
        now: The time of day.
    """

    def __init__(
        self,
        folder: Path,
        *,
        file_limit: int = FILE_LIMIT,
        now: Callable[[], datetime] = wall_clock,
    ) -> None:
        self._now = now
        self._files = _LogFiles(folder, file_limit, self._time)
        self._queue: deque[_Entry] = deque()
        self._wake = threading.Condition()
        self._waiting = 0
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fault = ""

    async def open(self) -> None:
        """Start writing, with a line that says so.

        Raises:
            AuditError: It cannot be written now; each intent tries again.
        """
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()
        await self._append({"kind": "start", "pid": os.getpid()})

    async def close(self) -> None:
        """Write what waits and a line that says so, and let the folder go."""
        thread = self._thread
        if thread is None:
            return
        with suppress(AuditError):
            await self._append({"kind": "stop"})
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        await asyncio.to_thread(thread.join)
        if self._thread is not None:  # another call may have been quicker
            self._thread = None
            self._files.close()

    @property
    def head(self) -> Head:
        """The last line on disk."""
        return self._files.head

    @property
    def fault(self) -> str:
        """Why the log cannot be written at the moment; "" while it can."""
        return self._fault

    async def intend(self, event: AuditEvent) -> int:
        """Return the number of an entry that is on disk now.

        Raises:
            AuditError: It is not: the disk is full or broken, or the log is closed.
        """
        return await self._append(
            {
                "kind": "intent",
                "user": event.user[:TEXT_LIMIT],
                "fingerprint": event.fingerprint,
                "peer": event.peer,
                "session": event.session,
                "plane": event.plane,
                "verb": event.verb[:TEXT_LIMIT],
                "seid": event.seid[:TEXT_LIMIT],
                "header": event.header.hex().upper(),
                "size": event.size,
                "detail": event.detail[:TEXT_LIMIT],
            }
        )

    async def conclude(self, number: int, event: AuditEvent, outcome: AuditOutcome) -> None:
        """Write how an intent ended; it is on disk before the next intent is.

        Nobody waits for it: a disk that is full keeps it waiting, and no intent passes it.

        Raises:
            AuditError: The log is closed.
        """
        status = "" if outcome.status is None else f"{outcome.status:04X}"
        content = {
            "kind": "outcome",
            "of": number,
            "verb": event.verb[:TEXT_LIMIT],
            "outcome": outcome.outcome,
            "code": outcome.code,
            "status": status,
            "size": outcome.size,
            "duration_s": round(outcome.duration_s, 6),
            "preempted": outcome.preempted,
        }
        self._enqueue(_Entry({"time": self._time(), **content}))

    async def _append(self, content: Mapping[str, object]) -> int:
        written: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._enqueue(_Entry({"time": self._time(), **content}, written))
        return await written

    def _time(self) -> str:
        return self._now().isoformat(timespec="microseconds").replace("+00:00", "Z")

    def _enqueue(self, entry: _Entry) -> None:
        if self._thread is None or self._is_closing:
            raise AuditError("the audit log is closed")
        with self._wake:
            is_first = not self._queue
            self._queue.append(entry)
            self._waiting += entry.written is not None
            if is_first or entry.written is not None:
                self._wake.notify()

    # --- in the thread --------------------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: bool(self._queue) or self._is_closing)
                patience_s = RETRY_S if self._fault else FLUSH_S
                self._wake.wait_for(lambda: self._waiting or self._is_closing, patience_s)
                batch = list(self._queue)
                self._queue.clear()
                self._waiting = 0
                is_last = self._is_closing
            self._write(batch)
            if is_last:
                return

    def _write(self, batch: list[_Entry]) -> None:
        fault = ""
        try:
            numbers = self._files.append([entry.content for entry in batch])
        except Exception as error:  # noqa: BLE001  # a thread that ended would leave all waiting
            numbers = []
            fault = (error.strerror if isinstance(error, OSError) else None) or str(error)
            kept = [entry for entry in batch if entry.written is None]
            with self._wake:
                self._queue.extendleft(reversed(kept))
        if fault != self._fault:
            log.error("audit.unwritable", reason=fault) if fault else log.info("audit.writable")
            self._fault = fault
        if any(entry.written is not None for entry in batch):
            loop = self._loop
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                if loop is not None:
                    loop.call_soon_threadsafe(_tell, batch, numbers, fault)


def _tell(batch: list[_Entry], numbers: list[int], fault: str) -> None:
    for index, entry in enumerate(batch):
        if entry.written is None or entry.written.done():
            continue
        if fault:
            message = f"the audit log cannot be written: {fault}"
            entry.written.set_exception(AuditError(message, hint=SPACE_HINT))
        else:
            entry.written.set_result(numbers[index])


class _LogFiles:
    """The files, opened when they are first written; used by one thread."""

    def __init__(self, folder: Path, file_limit: int, time_text: Callable[[], str]) -> None:
        self.head = Head()
        self._folder = folder
        self._file_limit = file_limit
        self._time_text = time_text
        self._lock: int | None = None
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._is_torn = False
        self._recovered: list[Mapping[str, object]] = []

    def append(self, contents: list[Mapping[str, object]]) -> list[int]:
        """Put lines on disk, all or none, and return their numbers.

        Raises:
            OSError: The disk is full or broken.
            AuditError: The folder cannot be taken, or its files are not as they were left.
        """
        if not contents:
            return []
        recovered = self._open()
        file = self._usable_file()
        head, lines, numbers = self.head, [], []
        for content in (*recovered, *contents):
            line, head = next_line(head, content)
            lines.append(line)
            numbers.append(head.sequence)
        data = b"".join(lines)
        try:
            _write_whole(file, data)
            os.fdatasync(file)
        except OSError:
            self._is_torn = True
            with suppress(OSError):
                self._mend(file)
            raise
        self._size += len(data)
        self.head = head
        self._recovered = []
        return numbers[len(recovered) :]

    def close(self) -> None:
        """Let the folder go."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    # --- underneath -----------------------------------------------------------------------------

    def _usable_file(self) -> int:
        """Return the file to write to: whole, as we left it, and not too large.

        Raises:
            AuditError: Somebody else wrote in it, or moved it away.
            OSError: A new one cannot be begun.
        """
        if self._file is not None:
            if self._is_torn:
                self._mend(self._file)
            self._check_in_place(self._file)
            if self._size < self._file_limit:
                return self._file
            os.close(self._file)
            self._file = None
        self._path = self._folder / file_name(self.head.sequence + 1)
        file = _open_file(self._path)
        try:
            self._size = os.fstat(file).st_size
            sync_folder(self._folder)
        except OSError:
            os.close(file)
            raise
        self._file = file
        return file

    def _check_in_place(self, file: int) -> None:
        """Check that what is written now will be found where a reader looks.

        Raises:
            AuditError: Somebody wrote in the file, or moved it away.
        """
        ours = os.fstat(file)
        if ours.st_size != self._size:
            raise AuditError("the audit log was changed by somebody else")
        with suppress(FileNotFoundError):
            if os.path.samestat(ours, self._path.stat()):
                return
        raise AuditError(f"{self._path} was moved away: put it back, or start the node again")

    def _mend(self, file: int) -> None:
        os.ftruncate(file, self._size)
        os.fsync(file)
        self._is_torn = False

    def _open(self) -> list[Mapping[str, object]]:
        """Take the folder, find the head, and return what must be said of the last end.

        Raises:
            AuditError: Another process has the folder, or a file is missing.
            OSError: The disk is full or broken.
        """
        if self._lock is not None:
            return self._recovered
        self._folder.mkdir(PRIVATE_FOLDER, exist_ok=True)
        lock = _open_file(self._folder / LOCK_NAME)
        try:
            _wait_lock(lock)
            for folder in (self._folder, self._folder.parent):  # as a killed process left them
                sync_folder(folder)
            self._recovered = self._recover()
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        return self._recovered

    def _recover(self) -> list[Mapping[str, object]]:  # told of in ``append``
        files = log_files(self._folder)
        self.head, self._size = Head(), 0
        if not files:
            return []
        content = files[-1].read_bytes()
        size, head = whole_part(content)
        if head is None and len(files) > 1:  # a file that was only just begun
            head = whole_part(files[-2].read_bytes())[1]
        self.head, self._size = head or Head(), size
        if not size and files[-1].name != file_name(self.head.sequence + 1):
            raise AuditError(f"the file before {files[-1]} is not here: put it back")
        file = _open_file(files[-1])
        torn = content[size:]
        try:
            if torn:
                self._set_aside(torn)
                os.ftruncate(file, size)
                os.fsync(file)
        except BaseException:
            os.close(file)
            raise
        self._file, self._path = file, files[-1]
        if not torn:
            return []
        log.warning("audit.recovered", cut=len(torn), after=self.head.sequence)
        return [{"time": self._time_text(), "kind": "recovered", "cut": len(torn)}]

    def _set_aside(self, torn: bytes) -> None:
        """Keep what is cut, if there is more of it than one line that was being written."""
        if b"\n" not in torn.rstrip(b"\n\0"):
            return
        path = self._folder / f"{TORN_PREFIX}{self.head.sequence + 1}-{time.time_ns()}"
        file = _open_file(path)
        try:
            _write_whole(file, torn)
            os.fsync(file)
        finally:
            os.close(file)
        sync_folder(self._folder)


def _open_file(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, PRIVATE_FILE)


def _write_whole(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _wait_lock(descriptor: int) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise AuditError("another process writes this audit log") from None
            time.sleep(LOCK_POLL_S)
        else:
            return
