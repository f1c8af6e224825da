# SPDX-License-Identifier: Apache-2.0
"""Files of one user that others may not read: where they lie, and how they are made.

The caller says what a failure means; what is raised here is the system's OSError.
"""

import os
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700


def user_folder(variable: str, fallback: str) -> Path | None:
    """Return a folder of this user's, or None when this user has no home.

    Args:
        variable: Variable of the XDG Base Directory Specification 0.8 that names it; a relative
            path in it is ignored, as it says.
        fallback: Where it is below the home folder otherwise.
    """
    folder = os.environ.get(variable, "")
    try:
        return Path(folder) if folder.startswith("/") else Path.home() / fallback
    except RuntimeError:  # Path.home says so
        return None


def create_file(path: str | Path, flags: int) -> int:
    """Return the descriptor of a file of mode 0600, made if it is not there.

    A link that somebody else put there would lead astray, and is not followed.

    Raises:
        OSError: It cannot be made or opened.
    """
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def sync_folder(path: Path) -> None:
    """Make names added to a folder durable.

    Raises:
        OSError: The disk is broken.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
