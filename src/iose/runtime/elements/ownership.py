# SPDX-License-Identifier: Apache-2.0
"""The owner's side of element administration: through the running node, or without one.

A request means the same in both cases. Files the owner names are read and written here, by the
owner's own process, in an order that a power cut at any step cannot turn into two usable elements.
"""

import asyncio
import base64
import errno
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Final, Protocol

from iose.runtime.channel import Arguments, Result, read_list, read_object, read_text
from iose.runtime.control import connect_control
from iose.runtime.crew import AskPassphrase, HeldFolder, hold_folder, open_depot
from iose.runtime.elements.archive import (
    ARCHIVE_LIMIT,
    new_passphrase_key,
    passphrase_key,
    read_archive_fields,
    read_archive_header,
)
from iose.runtime.elements.record import ElementState
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.folder import PRIVATE_FILE, DataFolder, sync_folder
from iose.wire.errors import IoseError

BUSY_WAIT_S: Final = 5.0  # a node that starts or stops, or another short command
BUSY_POLL_S: Final = 0.1
NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)  # vfat and some network mounts
FINISH_HINT: Final = (
    "the element is on its way out: run the same command again when the file can be written, or "
    "'iose element export NAME --abandon' to keep it, marked as a copy"
)
Ask = Callable[[str, Arguments], Result]
AsyncAsk = Callable[[str, Arguments], Coroutine[None, None, Result]]


class Passphrase(Protocol):
    """Where a passphrase comes from when it turns out to be needed."""

    def __call__(self) -> str:
        """Return it.

        Raises:
            ConfigurationError: There is none.
        """


@contextmanager
def open_ownership(
    path: Path, folder_passphrase: AskPassphrase, *, makes_folder: bool = False
) -> Iterator[Ask]:
    """Give a blocking function that carries out operations on the elements of a data folder.

    Args:
        path: The folder.
        folder_passphrase: Asked when no node runs there; the answer opens an encrypted folder.
        makes_folder: Whether a missing folder is made.

    Raises:
        ConfigurationError: There is no such folder, it is held by something else, or encrypted.
        IoseError: A host did not start.
    """
    folder = DataFolder(path)
    if not makes_folder:
        check_there_is(folder)
    with asyncio.Runner() as runner, ExitStack() as stack:
        opened: AbstractAsyncContextManager[AsyncAsk]
        if _finds_node(runner, folder):
            opened = _use_node(folder)
        else:
            holding = hold_folder(path, folder_passphrase, wait_s=BUSY_WAIT_S, is_patient=True)
            opened = _use_depot(stack.enter_context(holding))
        stack.callback(lambda: runner.run(_leave(opened)))
        request = runner.run(_enter(opened))
        yield lambda op, arguments: runner.run(request(op, arguments))


def check_there_is(folder: DataFolder) -> None:
    """Check that there is a data folder.

    Raises:
        ConfigurationError: There is none.
    """
    if not folder.exists():
        raise ConfigurationError(
            f"there is no data folder at {folder.path}",
            hint="'iose up' makes one; another one is named by --data DIR or IOSE_DATA",
        )


def _finds_node(runner: asyncio.Runner, folder: DataFolder) -> bool:
    """Return whether a node answers; wait for one that starts, or a command about to end."""
    deadline = time.monotonic() + BUSY_WAIT_S
    while not (found := runner.run(_has_node(folder))) and folder.is_locked():
        if time.monotonic() > deadline:
            break
        time.sleep(BUSY_POLL_S)
    return found


async def _has_node(folder: DataFolder) -> bool:
    try:
        async with connect_control(folder):
            return True
    except ControlError:
        return False


@asynccontextmanager
async def _use_node(folder: DataFolder) -> AsyncIterator[AsyncAsk]:
    async with connect_control(folder) as channel:
        yield channel.request


@asynccontextmanager
async def _use_depot(held: HeldFolder) -> AsyncIterator[AsyncAsk]:
    async with open_depot(held) as depot:
        yield depot.handle


async def _enter(opened: AbstractAsyncContextManager[AsyncAsk]) -> AsyncAsk:
    return await opened.__aenter__()


async def _leave(opened: AbstractAsyncContextManager[AsyncAsk]) -> None:
    await opened.__aexit__(None, None, None)


def save_secrets(ask: Ask, element: str, file: Path, *, again: bool) -> Result:
    """Write an element's keys and PINs to a new file of mode 0600, and note that it was done.

    Raises:
        ConfigurationError: They were handed out before, or the file exists or cannot be written.
    """
    if file.exists():
        raise ConfigurationError(f"{file} exists already", hint="name a new file")
    answer = ask("element.secrets", {"element": element, "again": again})
    view = read_object(answer["element"])
    document = {"seid": view["seid"], "sen": view["sen"], **read_object(answer["secrets"])}
    try:
        write_new_file(file, json.dumps(document, indent=2).encode() + b"\n")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error
    ask("element.secrets.given", {"element": read_text(view, "seid")})
    return view


def export_element(
    ask: Ask, element: str, file: Path, passphrase: Passphrase, *, is_copy: bool
) -> Result:
    """Move an element into an encrypted file, or copy it; called again, finish what was cut.

    Raises:
        ConfigurationError: The file exists or cannot be written, or the element is not free to
            go. The element is then usable as before, unless the hint says how to finish.
    """
    view = read_object((ask("element.show", {"element": element}))["element"])
    seid = read_text(view, "seid")
    is_resumed = view["state"] == ElementState.EXPORTING.value
    if os.path.lexists(file) and not (is_resumed and read_archive_header(_read(file)).seid == seid):
        raise ConfigurationError(f"{file} exists already", hint="name a new file")
    made = new_passphrase_key(passphrase(), OsRng())
    answer = ask(
        "element.export",
        {
            "element": seid,
            "file": str(file),
            "copy": is_copy,
            "key": made.key.hex(),
            "salt": made.parameters.salt.hex(),
            "cost_log2": made.parameters.cost_log2,
        },
    )
    moving = {"element": seid, "export_id": read_text(answer, "export_id")}
    try:
        if is_resumed:
            file.unlink(missing_ok=True)
        write_new_file(file, base64.b64decode(read_text(answer, "archive")))
    except OSError as error:
        is_free = is_copy or (not is_resumed and _is_cancelled(ask, moving, file))
        raise ConfigurationError(
            f"{file} cannot be written: {error.strerror}", hint=None if is_free else FINISH_HINT
        ) from error
    if not is_copy:
        ask("element.export.finish", moving)
    return {**view, "file": str(file), "copy": is_copy or view["copy"] is True}


def import_element(ask: Ask, file: Path, passphrase: Passphrase) -> Result:
    """Move an element out of an encrypted file; called again, finish what was cut.

    The file of a moved element is removed before the element becomes usable; that of a copy stays.

    Raises:
        ConfigurationError: The file is none or cannot be removed, the passphrase is wrong, or SEID
            or SEN is taken.
    """
    if not file.exists():
        return _finish_without_file(ask, file)
    content = _read(file)
    header = read_archive_header(content)
    if _state_of(ask, header.seid) != ElementState.IMPORTING.value:
        key = passphrase_key(passphrase(), read_archive_fields(content))
        archive = base64.b64encode(content).decode("ascii")
        answer = ask("element.import", {"archive": archive, "key": key.hex(), "file": str(file)})
        view = read_object(answer["element"])
        if view["state"] == ElementState.READY.value:
            return view
    moving = {"element": header.seid, "export_id": header.export_id}
    ask("element.import.check", moving)
    try:
        file.unlink(missing_ok=True)
        sync_folder(file.parent)
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be removed ({error.strerror}), and an element moves only once",
            hint="move the file to where it can be removed, and import it from there",
        ) from error
    return read_object((ask("element.import.finish", moving))["element"])


def write_new_file(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, durably and whole, where there is none yet.

    Raises:
        OSError: There is one, or the disk is full or broken; nothing is left behind, unless the
            disk does not even let go of what it took.
    """
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)  # of a run that was cut
    is_named = False
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _give_name(draft, path)
        is_named = True
        sync_folder(path.parent)
    except OSError:
        if is_named:
            path.unlink(missing_ok=True)
        raise
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _give_name(draft: Path, path: Path) -> None:
    """Name a file that is whole; never replace another one.

    Raises:
        OSError: There is one, or the folder cannot be written.
    """
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in NO_LINKS or os.path.lexists(path):
            raise
        draft.replace(path)


def _is_cancelled(ask: Ask, moving: Arguments, file: Path) -> bool:
    """Make an element usable again whose file surely does not exist; return whether it is."""
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        with suppress(IoseError):  # the disk is full on this side, too
            ask("element.export.cancel", moving)
            return True
    except OSError:
        pass
    return False


def _finish_without_file(ask: Ask, file: Path) -> Result:
    for item in read_list(ask("element.list", {}), "elements"):
        view = read_object(item)
        if view["state"] != ElementState.IMPORTING.value:
            continue
        with suppress(ConfigurationError):  # it comes from another file
            arguments = {"element": view["seid"], "file": str(file)}
            return read_object((ask("element.import.finish", arguments))["element"])
    raise ConfigurationError(f"there is no file {file}")


def _state_of(ask: Ask, seid: str) -> object:
    try:
        return read_object((ask("element.show", {"element": seid}))["element"])["state"]
    except ConfigurationError:
        return None


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(ARCHIVE_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
