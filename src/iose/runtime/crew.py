# SPDX-License-Identifier: Apache-2.0
"""The element hosts of a data folder this process holds, and the depot over them.

A running node has a crew for its life; administrative work without a node has one of a single
host for as long as it takes (``open_depot``). The data key goes to hosts over their channels.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from iose.runtime.channel import Arguments, JsonChannel, read_list
from iose.runtime.children import (
    START_TIMEOUT_S,
    Child,
    Report,
    ignore_report,
    python_module,
    run_together,
)
from iose.runtime.config import LogSettings, NodeConfig
from iose.runtime.elements.depot import Depot, change_nothing
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.folder import DataFolder, FolderLock
from iose.runtime.process import hide_memory

CLOSE_TIMEOUT_S: Final = 10.0


class AskPassphrase(Protocol):
    """Where the passphrase of a data folder comes from."""

    def __call__(self, *, is_new: bool) -> str | None:
        """Return it; None when the user announced none.

        Args:
            is_new: Whether nothing is encrypted with it yet, so that a typing error would stay.

        Raises:
            ConfigurationError: It cannot be had.
        """


@dataclass(frozen=True, slots=True)
class HeldFolder:
    """A data folder this process holds, and what opens it.

    Attributes:
        folder: The folder.
        lock: The hold on it.
        data_key: Key of an encrypted folder, or None.
    """

    folder: DataFolder
    lock: FolderLock
    data_key: bytes | None


@contextmanager
def hold_folder(
    path: Path,
    passphrase: AskPassphrase,
    *,
    wait_s: float = 0.0,
    is_patient: bool = False,
    is_node: bool = False,
) -> Iterator[HeldFolder]:
    """Give a data folder, made if it is missing and locked while the block runs.

    Args:
        path: The folder.
        passphrase: Asked once; a passphrase makes a new folder an encrypted one.
        wait_s: Longest wait for another holder that is about to leave.
        is_patient: Whether to wait for one that still runs, too.
        is_node: Whether the holder is a node.

    Raises:
        ConfigurationError: The folder is held, unfit, or the passphrase does not fit it.
    """
    folder = DataFolder(path)
    lock = folder.hold(wait_s=wait_s, is_patient=is_patient, is_node=is_node)
    try:
        data_key = _open_encryption(folder, passphrase)
        yield HeldFolder(folder, lock, data_key)
    finally:
        lock.release()


def _open_encryption(folder: DataFolder, passphrase: AskPassphrase) -> bytes | None:
    given = passphrase(is_new=not folder.is_encrypted())
    if given is not None:
        from iose.runtime import encryption  # noqa: PLC0415  # slow, and only where it is wanted

        hide_memory()
        return encryption.open_folder(folder, given)
    if folder.is_encrypted():
        raise ConfigurationError(
            f"the data folder {folder.path} is encrypted",
            hint="give its passphrase with --passphrase-file or IOSE_PASSPHRASE_FILE",
        )
    return None


class HostCrew:
    """Element hosts, started together, each again when it dies.

    Args:
        held: The folder.
        config: Number of hosts, logs.
        is_serving: Whether a node connects to them; one that does not serve is alone.
        on_change: Awaited after each change of an element.
        report: Told of ends and starts.
    """

    def __init__(
        self,
        held: HeldFolder,
        config: NodeConfig,
        *,
        is_serving: bool,
        on_change: Callable[[], Awaitable[None]] = change_nothing,
        report: Report = ignore_report,
    ) -> None:
        self._held = held
        self._log = config.to_json()["log"]
        self._is_serving = is_serving
        self._on_change = on_change
        self._tasks: set[asyncio.Task[None]] = set()
        count = config.host_count if is_serving else 1
        self.depot = Depot(held.folder, count, OsRng(), on_change=on_change)
        self.children = [
            Child(
                f"element host {number}",
                python_module("iose.runtime.host"),
                on_start=partial(self._open, number),
                inherited=(held.lock.descriptor,),
                sink=self._take_event,
                report=report,
            )
            for number in range(count)
        ]
        self.depot.attach(self.children)

    async def start(self) -> None:
        """Share the elements out and start the hosts; ``stop`` must follow, whatever happens.

        Raises:
            IoseError: One did not start.
        """
        self.depot.load()
        await run_together(*(child.start() for child in self.children))

    async def stop(self) -> None:
        """Close every store, write the index, end the hosts."""
        await asyncio.gather(*(self._close(child) for child in self.children))
        for number in range(len(self.children)):
            with suppress(OSError):
                self._held.folder.host_socket(number).unlink()
        self.depot.save()

    async def _close(self, child: Child) -> None:
        with suppress(ControlError):  # it is down: its stores are as the last command left them
            answer = await child.channel.request("close", timeout_s=CLOSE_TIMEOUT_S)
            self.depot.take(read_list(answer, "elements"))
        await child.stop()

    async def _open(self, number: int, channel: JsonChannel) -> None:
        arguments: dict[str, object] = {
            "folder": str(self._held.folder.path),
            "elements": self.depot.share(number),
            "log": self._log,
        }
        if self._held.data_key is not None:
            arguments["key"] = self._held.data_key.hex()
        if self._is_serving:
            arguments["number"] = number
        answer = await channel.request("open", arguments, timeout_s=START_TIMEOUT_S)
        self.depot.take(read_list(answer, "elements"))
        self._tell_soon()  # although nothing changed: a node may have started without this host

    def _take_event(self, event: str, arguments: Arguments) -> None:
        if event == "record" and self.depot.take([arguments.get("element")]):
            self._tell_soon()

    def _tell_soon(self) -> None:
        task = asyncio.create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        await self._on_change()


@asynccontextmanager
async def open_depot(held: HeldFolder) -> AsyncIterator[Depot]:
    """Give the depot of a folder that no node runs on, with one host for the time being.

    Raises:
        IoseError: The host did not start.
    """
    log = LogSettings(level="warning", format="text")  # for who sits at a terminal
    crew = HostCrew(held, NodeConfig(log=log), is_serving=False)
    try:
        await crew.start()
        yield crew.depot
    finally:
        await crew.stop()
