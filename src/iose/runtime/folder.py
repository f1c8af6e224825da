# SPDX-License-Identifier: Apache-2.0
"""The data folder of a node: where it is, what is in it, and who holds it.

One running node, or one short administrative command, holds a folder by a lock file. Element
hosts inherit the lock, so a folder stays locked until the last process that writes in it is gone.
Nothing but the lock file is written before the folder is held.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iose.runtime.elements.names import SEID
from iose.runtime.errors import ConfigurationError

SCHEMA: Final = 1
PRIVATE_FOLDER: Final = 0o700
PRIVATE_FILE: Final = 0o600
OTHERS: Final = 0o077
SOCKET_PATH_LIMIT: Final = 107  # sun_path of Linux, less the final zero
LOCK_POLL_S: Final = 0.05
PENDING_PREFIX: Final = ".new-"
LOCK_NAME: Final = "lock"
NODE: Final = "node"
DESCRIPTION_NAME: Final = "folder.json"
INDEX_NAME: Final = "index.json"
ENCRYPTION: Final = "encryption"
NEXT_STEPS: Final = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room on its disk",
    errno.EACCES: "work as the user it belongs to, or choose another one with --data DIR",
}


def default_folder(environment: Mapping[str, str]) -> Path:
    """Return where data lives when nobody says: $IOSE_DATA, else the user's data folder.

    Raises:
        ConfigurationError: This user has no home.
    """
    if chosen := environment.get("IOSE_DATA"):
        return Path(chosen)
    base = environment.get("XDG_DATA_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local" / "share") / "iose"
    except RuntimeError:  # Path.home says so
        raise ConfigurationError(
            "this user has no home folder to keep data in", hint="choose a folder with --data DIR"
        ) from None


@dataclass(frozen=True, slots=True)
class FolderLock:
    """A held folder; the lock ends when every process with the descriptor has closed it.

    Attributes:
        descriptor: The locked file, handed to element hosts.
    """

    descriptor: int

    def release(self) -> None:
        """Let the folder go, as far as this process is concerned."""
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Names of everything in a data folder, and its making.

    Attributes:
        path: Absolute path of the folder.
    """

    path: Path

    @property
    def elements(self) -> Path:
        """Folder of the elements' stores."""
        return self.path / "elements"

    @property
    def description(self) -> Path:
        """File with the folder's schema and its encryption, if any."""
        return self.path / DESCRIPTION_NAME

    @property
    def index(self) -> Path:
        """Cache of what element stores say about themselves."""
        return self.path / INDEX_NAME

    @property
    def control_socket(self) -> Path:
        """Socket of the running node."""
        return self.path / "control.sock"

    def host_socket(self, number: int) -> Path:
        """Return the APDU socket of one element host."""
        return self.path / f"host-{number}.sock"

    def store(self, seid: str) -> Path:
        """Return the file of one element."""
        return self.elements / f"{seid}.db"

    def pending_store(self, seid: str) -> Path:
        """Return the file of an element that is still being made."""
        return self.elements / f"{PENDING_PREFIX}{seid}.db"

    def exists(self) -> bool:
        """Return whether there is a data folder.

        Raises:
            ConfigurationError: It cannot be looked at.
        """
        with self._explained():
            return self.description.exists()

    def is_encrypted(self) -> bool:
        """Return whether there is a data folder that needs a passphrase.

        Raises:
            ConfigurationError: It cannot be looked at, or its description is damaged.
        """
        return self.exists() and ENCRYPTION in self.read_description()

    def seids(self) -> list[str]:
        """Return the SEIDs of the elements that have a store here, in order."""
        names = (path.name.removesuffix(".db") for path in self.elements.glob("se-*.db"))
        return sorted(name for name in names if SEID.fullmatch(name))

    def hold(
        self, *, wait_s: float = 0.0, is_patient: bool = False, is_node: bool = False
    ) -> FolderLock:
        """Return the hold on this folder, which is made if it is missing.

        Args:
            wait_s: Longest wait for a holder that is about to leave.
            is_patient: Whether to wait for one that still runs, too, and not only for what a
                dead one left running.
            is_node: Whether the holder is a node, for whoever finds the folder held.

        Raises:
            ConfigurationError: It cannot be made or written, holds something else, is of a newer
                iose or of another user, or another process holds it.
        """
        with self._explained():
            self._claim()
            lock = self._lock(time.monotonic() + wait_s, is_patient=is_patient, is_node=is_node)
            try:
                self._complete()
            except BaseException:
                lock.release()
                raise
            return lock

    def _claim(self) -> None:
        """Make the folder.

        Raises:
            ConfigurationError: It is somebody's or something else's.
        """
        self.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        if self.path.stat().st_uid != os.geteuid():
            raise ConfigurationError(
                f"the data folder {self.path} belongs to another user",
                hint=NEXT_STEPS[errno.EACCES],
            )
        draft = _draft(self.description).name  # what a cut first start left behind
        is_foreign = any(item.name not in (LOCK_NAME, draft) for item in self.path.iterdir())
        if is_foreign and not self.description.exists():
            raise ConfigurationError(
                f"{self.path} holds other files and is not a data folder of iose",
                hint="choose an empty or a new folder with --data DIR",
            )
        if self.description.exists():
            self.read_description()

    def _complete(self) -> None:
        """Make what is missing, and remove what is left of another holder's cut work."""
        if not self.description.exists():
            self.write_description({})
        self.read_description()
        for folder in (self.path, self.elements):
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            if folder.stat().st_mode & OTHERS:
                folder.chmod(PRIVATE_FOLDER)
        for item in self._leftovers():
            item.unlink(missing_ok=True)

    def _leftovers(self) -> Iterator[Path]:
        yield from self.path.glob("*.sock")
        yield from map(_draft, (self.description, self.index))
        yield from self.elements.glob(f"{PENDING_PREFIX}*")
        for log in self.elements.glob("se-*.db-*"):  # it may hold keys of a deleted element
            if not log.with_name(log.name.rpartition("-")[0]).exists():
                yield log

    def read_description(self) -> dict[str, object]:
        """Return the folder's description.

        Raises:
            ConfigurationError: It is damaged, or of another schema than this program knows.
        """
        try:
            content = json.loads(self.description.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"{self.description} cannot be read") from error
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema != SCHEMA:
            raise ConfigurationError(
                f"{self.path} has schema {schema}, this program knows schema {SCHEMA}",
                hint="use the version of iose that made it, or a newer one",
            )
        return dict(content)

    def write_description(self, content: Mapping[str, object]) -> None:
        """Replace the folder's description, durably."""
        write_private(self.description, json.dumps({"schema": SCHEMA, **content}).encode())

    def _lock(self, deadline: float, *, is_patient: bool, is_node: bool) -> FolderLock:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path / LOCK_NAME, flags, PRIVATE_FILE)
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            holder, kind = _read_holder(descriptor)
            if time.monotonic() >= deadline or (_is_running(holder) and not is_patient):
                os.close(descriptor)
                is_command = holder and not kind
                stop = f"stop it ('iose node stop --data {self.path}')"
                raise ConfigurationError(
                    f"the data folder {self.path} is in use by process {holder or 'unknown'}",
                    hint=f"{'end that command' if is_command else stop}, or use another --data",
                )
            time.sleep(LOCK_POLL_S)
        with suppress(OSError):  # the number is told to others; a full disk does without
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}{f' {NODE}' if is_node else ''}\n".encode(), 0)
        return FolderLock(descriptor)

    def is_locked(self) -> bool:
        """Return whether a process holds this folder now.

        Raises:
            ConfigurationError: It cannot be looked at.
        """
        return self._look_at_lock() is not None

    def command(self) -> str:
        """Return the number of the process that holds this folder and is no node, "" for none.

        Raises:
            ConfigurationError: It cannot be looked at.
        """
        holder, kind = self._look_at_lock() or ("", "")
        return holder if not kind and _is_running(holder) else ""

    def _look_at_lock(self) -> tuple[str, str] | None:
        """Return who holds the folder, by number and kind; None when nobody does."""
        with self._explained():
            try:
                descriptor = os.open(self.path / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                is_free = _try_lock(descriptor, fcntl.LOCK_SH)
                return None if is_free else _read_holder(descriptor)
            finally:
                os.close(descriptor)

    def wait_unlocked(self, wait_s: float) -> bool:
        """Wait until no process holds this folder; return whether that came true in time."""
        deadline = time.monotonic() + wait_s
        while self.is_locked():
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOCK_POLL_S)
        return True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigurationError(
                f"the data folder {self.path} cannot be used: {error.strerror}",
                hint=NEXT_STEPS.get(error.errno or 0, "choose another one with --data DIR"),
            ) from error


def socket_address(path: Path) -> str:
    """Return an address for a Unix socket at ``path``, whatever the path's length.

    A folder too deep for the kernel's 107 bytes is reached through a descriptor of the folder,
    which stays open for the life of the process.
    """
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return str(path)
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/{path.name}"


def file_stamp(path: Path) -> int:
    """Return when a store's file last changed, in ns; 0 when it is gone or was not closed well."""
    if path.with_name(f"{path.name}-wal").exists():
        return 0
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 so that a power cut leaves the old one or the new one.

    Only the holder of the folder may call it: there is one draft for each file.

    Raises:
        OSError: The disk is full or broken; the old file is untouched.
    """
    draft = _draft(path)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        descriptor = os.open(draft, flags, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make names added to or removed from a folder durable, where its file system can.

    Raises:
        OSError: The disk is broken.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _read_holder(descriptor: int) -> tuple[str, str]:
    """Return the number of the process that wrote itself into a lock, and NODE if it is one."""
    number, _, kind = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip().partition(" ")
    return number, kind


def _is_running(pid: str) -> bool:
    return pid.isdigit() and Path("/proc", pid).exists()


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
