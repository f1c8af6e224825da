# SPDX-License-Identifier: Apache-2.0
"""The operator's side of exposing: by a node's control socket, or alone; both say the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from iose.runtime.compose import make_element
from iose.runtime.control import ControlServer
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.exposing import (
    ask_to_expose,
    ask_to_withdraw,
    exposed_alone,
    exposed_by_node,
)
from iose.runtime.exposures import ExposeRequest, Exposures, FoundElement
from iose.runtime.folder import DataFolder
from iose.servers.holders import ElementHolders
from iose.transport.errors import NoReaderError
from iose.transport.software import SoftwareReader
from tests.support.driver import Driver, listening_driver
from tests.support.element import demo
from tests.support.memory_store import MemoryStore
from tests.support.rng import SeededRng

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def software_reader() -> SoftwareReader:
    card = make_element(MemoryStore(), demo(name=b"key1.com"), SeededRng())
    return SoftwareReader("key1.com", card)


class Node:
    """A control socket whose node exposes one element."""

    def __init__(self, folder: Path) -> None:
        self.folder = DataFolder(folder)
        element = FoundElement("se-1", "key1.com", software_reader())
        self.exposures = Exposures(
            ElementHolders(),
            lambda name: element if name in ("se-1", "key1.com") else None,
            self.note,
        )
        self.control = ControlServer(
            lambda op, arguments: self.exposures.operations[op](arguments), uid_of=lambda _: 0
        )

    async def note(self, _verb: str, _detail: str) -> None:
        return

    async def stop(self) -> None:
        await self.control.stop()
        await self.exposures.stop()


@asynccontextmanager
async def node_and_driver(folder: Path) -> AsyncIterator[tuple[Node, Driver]]:
    async with listening_driver() as driver:
        node = Node(folder)
        await node.control.start(node.folder.control_socket)
        try:
            yield node, driver
        finally:
            await node.stop()


def request_of(driver: Driver, element: str = "key1.com") -> ExposeRequest:
    return ExposeRequest.from_arguments({"element": element, "port": driver.port})


async def test_what_is_left_to_the_node_stays_until_it_is_withdrawn(tmp_path: Path):
    async with node_and_driver(tmp_path) as (node, driver):
        status = await ask_to_expose(node.folder, request_of(driver))
        assert (status["element"], status["connected"]) == ("se-1", True)
        assert len(node.exposures.snapshot()) == 1
        withdrawn = await ask_to_withdraw(node.folder, "key1.com")
        assert withdrawn["address"] == status["address"]
        assert node.exposures.snapshot() == []
        with pytest.raises(ConfigurationError, match="not exposed"):
            await ask_to_withdraw(node.folder, "key1.com")


async def test_an_element_is_exposed_while_the_block_runs(tmp_path: Path):
    async with node_and_driver(tmp_path) as (node, driver):
        async with exposed_by_node(node.folder, request_of(driver)) as tell:
            assert (await tell())["connected"] is True
        assert node.exposures.snapshot() == []


async def test_an_exposure_that_somebody_ends_is_told(tmp_path: Path):
    async with (
        node_and_driver(tmp_path) as (node, driver),
        exposed_by_node(node.folder, request_of(driver)) as tell,
    ):
        await ask_to_withdraw(node.folder, "se-1")
        with pytest.raises(ControlError, match="not exposed any more"):
            await tell()


async def test_a_node_that_stops_is_told(tmp_path: Path):
    async with (
        node_and_driver(tmp_path) as (node, driver),
        exposed_by_node(node.folder, request_of(driver)) as tell,
    ):
        await node.control.stop()
        with pytest.raises(ControlError, match="the node has stopped"):
            await tell()


async def test_without_a_node_there_is_nobody_to_ask(tmp_path: Path):
    request = ExposeRequest.from_arguments({"element": "key1.com"})
    with pytest.raises(ControlError, match="no node runs"):
        await ask_to_expose(DataFolder(tmp_path), request)


class Local:
    """An element of a folder without a node, as ``LocalReader`` gives it."""

    def __init__(self) -> None:
        self.seid = "se-1"
        self.sens = ("key1.com",)
        self.is_open = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SimpleNamespace]:
        self.is_open = True
        reader = software_reader()
        try:
            yield SimpleNamespace(reader=lambda _seid: reader)
        finally:
            self.is_open = False


@pytest.mark.parametrize(("name", "sen"), [("key1.com", "key1.com"), ("se-1", "")])
async def test_alone_an_element_is_exposed_in_the_same_words(name: str, sen: str):
    local = Local()
    async with listening_driver() as driver:
        async with exposed_alone(local, request_of(driver, name)) as tell:
            card = await driver.card()
            status = await tell()
            assert (status["element"], status["sen"], status["connected"]) == ("se-1", sen, True)
            assert await card.power_on() == b"\x3b\x08key1.com"
            assert local.is_open
        await card.ended()
    assert not local.is_open


async def test_alone_a_driver_that_is_not_there_leaves_nothing_open():
    local = Local()
    async with listening_driver() as driver:
        await driver.stop()
        with pytest.raises(NoReaderError):
            async with exposed_alone(local, request_of(driver)):
                await asyncio.Event().wait()
    assert not local.is_open
