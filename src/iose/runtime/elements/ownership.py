# SPDX-License-Identifier: Apache-2.0
"""The owner's side of element administration: through the running node, or without one.

A request means the same in both cases. Files the owner names are read and written here, by the
owner's own process, in an order that a power cut at any step cannot turn into two usable elements.
"""

import asyncio
import base64
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
from iose.runtime.crew import HeldFolder, hold_folder, open_depot
from iose.runtime.elements.archive import ArchiveHeader, read_archive_header
from iose.runtime.elements.record import ElementState
from iose.runtime.encryption import AskPassphrase
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.folder import PRIVATE_FILE, DataFolder, sync_folder

BUSY_WAIT_S: Final = 5.0  # a node that starts or stops, or another short command
BUSY_POLL_S: Final = 0.1
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
    if not (makes_folder or folder.exists()):
        raise ConfigurationError(
            f"there is no data folder at {path}",
            hint="'iose up' makes one; another one is named by --data DIR or IOSE_DATA",
        )
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
            go. The element is then usable as before.
    """
    view = read_object((ask("element.show", {"element": element}))["element"])
    seid = read_text(view, "seid")
    is_resumed = view["state"] == ElementState.EXPORTING.value
    if file.exists() and not (is_resumed and _header(file).seid == seid):
        raise ConfigurationError(f"{file} exists already", hint="name a new file")
    answer = ask(
        "element.export",
        {"element": seid, "passphrase": passphrase(), "file": str(file), "copy": is_copy},
    )
    export_id = read_text(answer, "export_id")
    moving = {"element": seid, "export_id": export_id}
    content = base64.b64decode(read_text(answer, "archive"))
    try:
        if is_resumed:
            file.unlink(missing_ok=True)
        write_new_file(file, content)
    except OSError as error:
        if not (is_copy or is_resumed):
            ask("element.export.cancel", moving)
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error
    if not is_copy:
        ask("element.export.finish", moving)
    return {**view, "file": str(file), "copy": is_copy or view["copy"] is True}


def import_element(ask: Ask, file: Path, passphrase: Passphrase) -> Result:
    """Move an element out of an encrypted file; called again, finish what was cut.

    The file of a moved element is removed before the element becomes usable; that of a copy stays.

    Raises:
        ConfigurationError: The file is none, the passphrase is wrong, or SEID or SEN is taken.
    """
    if not file.exists():
        return _finish_without_file(ask, file)
    header = _header(file)
    if _state_of(ask, header.seid) != ElementState.IMPORTING.value:
        content = base64.b64encode(file.read_bytes()).decode("ascii")
        arguments = {"archive": content, "passphrase": passphrase(), "file": str(file)}
        answer = ask("element.import", arguments)
        view = read_object(answer["element"])
        if view["state"] == ElementState.READY.value:
            return view
    _check_removable(file)
    moving = {"element": header.seid, "export_id": header.export_id}
    ask("element.import.check", moving)
    file.unlink()
    sync_folder(file.parent)
    return read_object((ask("element.import.finish", moving))["element"])


def write_new_file(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, durably and whole, where there is none yet.

    Raises:
        OSError: There is one, or the disk is full or broken; nothing is left behind.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    sync_folder(path.parent)


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


def _check_removable(file: Path) -> None:
    if not os.access(file.parent, os.W_OK):
        raise ConfigurationError(
            f"{file} cannot be removed, and an element moves only once",
            hint="move the file to a folder you may write in",
        )


def _header(file: Path) -> ArchiveHeader:
    try:
        return read_archive_header(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
