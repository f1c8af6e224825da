# SPDX-License-Identifier: Apache-2.0
"""The data folder of a node: where it is, what is in it, and who holds it.

One running node, or one short administrative command, holds a folder by a lock file. Element
hosts inherit the lock, so a folder stays locked until the last process that writes in it is gone.
"""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iose.runtime.errors import ConfigurationError

SCHEMA: Final = 1
PRIVATE_FOLDER: Final = 0o700
PRIVATE_FILE: Final = 0o600
OTHERS: Final = 0o077
SOCKET_PATH_LIMIT: Final = 107  # sun_path of Linux, less the final zero
LOCK_POLL_S: Final = 0.05
PENDING_PREFIX: Final = ".new-"


def default_folder(environment: Mapping[str, str]) -> Path:
    """Return where data lives when nobody says: $IOSE_DATA, else the user's data folder."""
    if chosen := environment.get("IOSE_DATA"):
        return Path(chosen)
    base = environment.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "iose"


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
        return self.path / "folder.json"

    @property
    def index(self) -> Path:
        """Cache of what element stores say about themselves."""
        return self.path / "index.json"

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

    def prepare(self) -> None:
        """Make the folder if it is missing, and check that it is ours and of a known schema.

        Raises:
            ConfigurationError: It cannot be made, holds something else, or is of a newer iose.
        """
        try:
            self._prepare()
        except OSError as error:
            raise ConfigurationError(
                f"the data folder {self.path} cannot be used: {error.strerror}",
                hint="choose another one with --data DIR",
            ) from error

    def _prepare(self) -> None:
        self.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        if not self.description.exists():
            if any(item.name != "lock" for item in self.path.iterdir()):
                raise ConfigurationError(
                    f"{self.path} holds other files and is not a data folder of iose",
                    hint="choose an empty or a new folder with --data DIR",
                )
            write_private(self.description, json.dumps({"schema": SCHEMA}).encode())
        self.read_description()
        for folder in (self.path, self.elements):
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            if folder.stat().st_mode & OTHERS:
                folder.chmod(PRIVATE_FOLDER)

    def read_description(self) -> dict[str, object]:
        """Return the folder's description.

        Raises:
            ConfigurationError: It is damaged, or of another schema than this program knows.
        """
        try:
            content = json.loads(self.description.read_bytes())
        except (OSError, ValueError) as error:
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

    def lock(self, *, wait_s: float = 0.0) -> FolderLock:
        """Return the hold on this folder, waiting only for what a dead holder left running.

        Raises:
            ConfigurationError: Another process holds it.
        """
        path = self.path / "lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, PRIVATE_FILE)
        deadline = time.monotonic() + wait_s
        while not _try_lock(descriptor):
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            if time.monotonic() >= deadline or _is_running(holder):
                os.close(descriptor)
                raise ConfigurationError(
                    f"the data folder {self.path} is in use by process {holder or 'unknown'}",
                    hint=f"stop it ('iose node stop --data {self.path}'), or use another --data",
                )
            time.sleep(LOCK_POLL_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return FolderLock(descriptor)

    def is_locked(self) -> bool:
        """Return whether a process holds this folder now."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor)
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

    def remove_leftovers(self) -> None:
        """Remove stores whose making was cut short; only the holder of the lock may call it."""
        for item in self.elements.glob(f"{PENDING_PREFIX}*"):
            item.unlink(missing_ok=True)


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

    Raises:
        OSError: The disk is full or broken; the old file is untouched.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make names added to or removed from a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_running(pid: str) -> bool:
    return pid.isdigit() and Path("/proc", pid).exists()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
