# SPDX-License-Identifier: Apache-2.0
"""An element of a data folder that no node runs on, as a reader.

A connection holds the folder and runs one element host, for as long as it lasts: keys stay in a
process of their own here, too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from iose.runtime.channel import read_int, read_object, read_text
from iose.runtime.config import LogSettings, NodeConfig
from iose.runtime.crew import AskPassphrase, HostCrew, hold_folder
from iose.runtime.elements.depot import Depot
from iose.runtime.elements.ownership import BUSY_WAIT_S, open_ownership
from iose.runtime.entropy import OsRng
from iose.runtime.folder import DataFolder, socket_address
from iose.transport.base import ApduLimits
from iose.transport.element_host import ElementHostLink, HostConnection


@dataclass(frozen=True, slots=True)
class LocalReader:
    """One element of a folder; ``connect`` is refused while somebody else holds the folder.

    Attributes:
        folder: The data folder.
        seid: The element.
        sens: TLS server names of all elements of the folder.
        passphrase: Asked when the folder is encrypted.
    """

    folder: Path
    seid: str
    sens: tuple[str, ...]
    passphrase: AskPassphrase

    @property
    def name(self) -> str:
        """The element's SEID."""
        return self.seid

    @property
    def limits(self) -> ApduLimits:
        """What any element takes at a time."""
        return ApduLimits()

    async def connect(self) -> "LocalConnection":
        """Start a host and return a connection to the element.

        Raises:
            ConfigurationError: The folder is held by somebody else, or does not open.
            IoseError: The host did not start.
        """
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(self.opened())
            connection = LocalConnection(link, await link.channel(), self.seid)
            connection.keep(stack.pop_all())
            return connection

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ElementHostLink]:
        """Hold the folder and run a host for many connections to the element, one at a time.

        Raises:
            ConfigurationError: The folder is held by somebody else, or does not open.
            IoseError: The host did not start.
        """
        holding = hold_folder(self.folder, self.passphrase, wait_s=BUSY_WAIT_S, is_patient=True)
        async with AsyncExitStack() as stack:
            held = stack.enter_context(holding)
            log = LogSettings(level="warning", format="text")  # for who sits at a terminal
            crew = HostCrew(held, NodeConfig(log=log, hosts=1), is_serving=True)
            stack.push_async_callback(crew.stop)
            await crew.start()
            link = ElementHostLink(Path(socket_address(held.folder.host_socket(0))))
            stack.push_async_callback(link.stop)
            await link.start()
            await link.refresh()
            yield link


class LocalConnection(HostConnection):
    """One element held for one session, and the host it is in."""

    _kept: AsyncExitStack

    def keep(self, kept: AsyncExitStack) -> None:
        """Take what ends with this connection."""
        self._kept = kept

    async def close(self) -> None:
        """Power the element off, end the host and let the folder go."""
        await super().close()
        await self._kept.aclose()


def find_local(path: Path, name: str, passphrase: AskPassphrase) -> LocalReader | None:
    """Return the reader of an element by its SEN or SEID; None where a node runs, or no folder is.

    Raises:
        ConfigurationError: There is no such element, or the folder does not open.
        IoseError: The host did not start.
    """
    folder = DataFolder(path)
    if not folder.exists() or folder.is_locked():
        return None
    depot = _read_depot(path, passphrase)
    if not all(read_int(record, "stamp") for record in depot.share(0)):  # older than an element
        with open_ownership(path, passphrase) as ask:
            ask("element.list", {})
        depot = _read_depot(path, passphrase)
    found = asyncio.run(depot.handle("element.show", {"element": name}))
    sens = tuple(sen for record in depot.sorted_records() for sen in record.sens)
    seid = read_text(read_object(found["element"]), "seid")
    return LocalReader(path, seid, sens, passphrase)


def _read_depot(path: Path, passphrase: AskPassphrase) -> Depot:
    """Return what is known of a folder's elements without opening one."""
    with hold_folder(path, passphrase, wait_s=BUSY_WAIT_S, is_patient=True) as held:
        depot = Depot(held.folder, 1, OsRng())
        depot.load()
        return depot
