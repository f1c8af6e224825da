# SPDX-License-Identifier: Apache-2.0
"""A depot whose hosts live in the test's own process: the real stores, cards and owner."""

import asyncio
from pathlib import Path

from iose.runtime.channel import Arguments, Result
from iose.runtime.compose import TlsSeMaker
from iose.runtime.elements.depot import Depot
from iose.runtime.elements.owner import Owner
from iose.runtime.elements.rack import Rack
from iose.runtime.elements.record import ElementRecord
from iose.runtime.elements.shelf import StoreShelf
from iose.runtime.entropy import OsRng
from iose.runtime.folder import DataFolder
from iose.runtime.store import SqliteStore


class LocalHost:
    """A host without a process; its channel is itself."""

    def __init__(self, folder: DataFolder, data_key: bytes | None) -> None:
        shelf = StoreShelf(folder, data_key, SqliteStore)
        self.told: list[ElementRecord] = []
        self.rack = Rack(shelf, TlsSeMaker(), self.told.append)
        self.owner = Owner(self.rack, shelf, TlsSeMaker(), OsRng())

    @property
    def channel(self) -> "LocalHost":
        return self

    async def request(self, op: str, arguments: Arguments) -> Result:
        return await self.owner.handle(op, arguments)


class LocalNode:
    """Everything of a node that knows elements, over one folder; made anew after a crash."""

    def __init__(self, path: Path, *, hosts: int = 1, data_key: bytes | None = None) -> None:
        self.folder = DataFolder(path)
        self.folder.hold().release()
        self.hosts = [LocalHost(self.folder, data_key) for _ in range(hosts)]
        self.depot = Depot(self.folder, hosts, OsRng())
        self.depot.load()
        for number, host in enumerate(self.hosts):
            share = [ElementRecord.from_json(item) for item in self.depot.share(number)]
            host.rack.adopt(share)
            self.depot.take([record.to_json() for record in host.rack.records.values()])
        self.depot.attach(self.hosts)

    def ask(self, op: str, arguments: Arguments) -> Result:
        return asyncio.run(self.depot.handle(op, arguments))

    def create(self, sen: str, **plan: object) -> str:
        return self.ask("element.create", {"sen": sen, **plan})["element"]["seid"]

    def states(self) -> dict[str, str]:
        elements = self.ask("element.list", {})["elements"]
        return {item["sen"]: item["state"] for item in elements}

    def show(self, element: str) -> Result:
        return self.ask("element.show", {"element": element})["element"]

    def secrets(self, element: str) -> Result:
        return self.ask("element.secrets", {"element": element, "again": True})["secrets"]

    def power_off(self) -> None:
        """Let the stores go, as the kernel does when the process is killed."""
        for host in self.hosts:
            host.rack.close()
