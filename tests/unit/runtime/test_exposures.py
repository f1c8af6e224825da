# SPDX-License-Identifier: Apache-2.0
"""What a node exposes: held meanwhile, let go at the end, whoever ends it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from iose.runtime import exposures as module
from iose.runtime.compose import make_element
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.exposures import ExposeRequest, Exposures, FoundElement
from iose.servers.holders import Claim, ElementHolders
from iose.transport.errors import NoReaderError, TransportTimeoutError
from iose.transport.software import SoftwareReader
from tests.support.driver import PATIENCE_S, Driver, listening_driver
from tests.support.element import demo
from tests.support.memory_store import MemoryStore
from tests.support.rng import SeededRng

pytestmark = pytest.mark.anyio

NOBODY = 2**22 + 1  # above the highest number of a process


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


class House:
    """Two elements, a driver, and what exposes them."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.holders = ElementHolders()
        self.notes: list[tuple[str, str]] = []
        self.elements = {}
        for number, name in enumerate(("key1.com", "key2.com"), start=1):
            card = make_element(MemoryStore(), demo(name=name.encode()), SeededRng())
            self.elements[f"se-{number}"] = FoundElement(
                f"se-{number}", name, SoftwareReader(name, card)
            )
        self.exposures = Exposures(self.holders, self.find, self.note)

    def find(self, name: str) -> FoundElement | None:
        return next((one for one in self.elements.values() if name in (one.seid, one.sen)), None)

    async def note(self, verb: str, detail: str) -> None:
        self.notes.append((verb, detail))

    async def expose(self, element: str = "key1.com", **more: object):
        given = {"element": element, "port": self.driver.port, **more}
        return await self.exposures.expose(given)

    async def withdraw(self, element: str = "key1.com"):
        return await self.exposures.withdraw({"element": element})

    def holder(self, seid: str = "se-1") -> Claim | None:
        return self.holders.lock(seid).holder

    async def free(self, seid: str = "se-1") -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.holder(seid) is not None:  # noqa: ASYNC110  # as an operator looks
                await asyncio.sleep(0.005)


def watched_processes() -> int:
    """Return how many descriptors of processes this one has."""
    count = 0
    for one in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            count += "\nPid:" in one.read_text()
    return count


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with listening_driver() as driver:
        made = House(driver)
        yield made
        await made.exposures.stop()


@asynccontextmanager
async def process() -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_an_element_is_held_while_it_is_exposed_and_both_ends_are_noted(house: House):
    told = (await house.expose())["exposed"]
    address = f"127.0.0.1:{house.driver.port}"
    assert (told["element"], told["address"], told["protocol"]) == ("se-1", address, "T=0")
    claim = house.holder()
    assert claim is not None
    assert (claim.plane, claim.source) == ("pcsc", address)
    assert house.exposures.snapshot()[0]["connected"] is True
    withdrawn = (await house.withdraw())["withdrawn"]
    assert withdrawn["sen"] == "key1.com"
    assert house.holder() is None
    assert house.exposures.snapshot() == []
    assert house.notes == [("EXPOSE", f"se-1 {address} T=0"), ("WITHDRAW", "se-1")]


async def test_an_element_may_be_meant_by_its_seid(house: House):
    await house.expose("se-2", protocol="T=1")
    assert house.exposures.snapshot()[0]["protocol"] == "T=1"
    assert (await house.withdraw("se-2"))["withdrawn"]["element"] == "se-2"


async def test_an_element_nobody_knows_is_refused(house: House):
    with pytest.raises(ConfigurationError, match="no element 'key9"):
        await house.expose("key9.com")


async def test_an_element_is_exposed_once(house: House):
    await house.expose()
    with pytest.raises(ConfigurationError, match="exposed already"):
        await house.expose("se-1")
    assert house.holder() is not None


async def test_what_is_not_exposed_cannot_be_withdrawn(house: House):
    with pytest.raises(ConfigurationError, match="not exposed"):
        await house.withdraw()


async def test_an_element_in_use_is_not_taken(house: House, monkeypatch):
    monkeypatch.setattr(module, "LOCK_WAIT_S", 0.01)
    other = Claim("tls", 1, "192.0.2.1", 0.0)
    lock = house.holders.lock("se-1")
    assert lock.try_acquire(other, 0.0)
    with pytest.raises(ConfigurationError, match=r"in use by tls 192\.0\.2\.1"):
        await house.expose()
    assert (lock.holder, lock.waiting) == (other, 0)


async def test_a_driver_that_is_not_there_leaves_the_element_free(house: House):
    await house.driver.stop()
    with pytest.raises(NoReaderError):
        await house.expose()
    assert house.holder() is None
    assert house.exposures.snapshot() == []
    assert house.notes == []


async def test_an_element_that_does_not_start_in_time_is_left_free(house: House, monkeypatch):
    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "START_LIMIT_S", 0.01)
    monkeypatch.setattr(house.elements["se-1"].reader, "connect", hang)
    with pytest.raises(TransportTimeoutError, match="in time"):
        await house.expose()
    assert house.holder() is None


async def test_who_may_take_an_element_away_ends_its_exposure(house: House):
    await house.expose()
    claim = house.holder()
    assert claim is not None
    assert claim.evict is not None
    claim.evict()
    claim.evict()
    await house.holders.lock("se-1").released(claim)
    await house.free()
    assert house.exposures.snapshot() == []


async def test_an_element_taken_away_while_it_starts_is_not_exposed(house: House, monkeypatch):
    reader = house.elements["se-1"].reader
    connect = reader.connect

    async def taken():
        claim = house.holder()
        assert claim is not None
        assert claim.evict is not None
        claim.evict()
        await asyncio.sleep(0)
        return await connect()

    monkeypatch.setattr(reader, "connect", taken)
    with pytest.raises(ConfigurationError, match="taken away"):
        await house.expose()
    assert house.holder() is None


async def test_an_exposure_ends_with_the_process_that_wants_it(house: House):
    async with process() as owner:
        await house.expose(owner=owner.pid)
        assert house.holder() is not None
        owner.kill()
        await house.free()
    assert house.exposures.snapshot() == []
    assert house.notes[-1] == ("WITHDRAW", "se-1")


async def test_a_process_is_watched_no_longer_than_its_exposure_lasts(house: House):
    before = watched_processes()
    await house.expose(owner=os.getpid())
    assert watched_processes() == before + 1
    await house.withdraw()
    assert watched_processes() == before


async def test_an_exposure_withdrawn_does_not_mind_its_owner_any_more(house: House):
    async with process() as owner:
        await house.expose(owner=owner.pid)
        await house.withdraw()
        await house.expose()
        owner.kill()
        await owner.wait()
    assert house.holder() is not None


@pytest.mark.parametrize("owner", [NOBODY, -1, 2**64], ids=["unused", "negative", "too long"])
async def test_an_owner_nobody_can_see_is_refused(house: House, owner: int):
    with pytest.raises(ConfigurationError, match="cannot be seen") as caught:
        await house.expose(owner=owner)
    assert "--detach" in (caught.value.hint or "")
    assert house.holder() is None


async def test_an_element_that_is_gone_is_withdrawn_by_the_name_it_had(house: House):
    await house.expose()
    card = await house.driver.card()
    del house.elements["se-1"]
    house.exposures.look()
    card.writer.write(b"\x00\x01\x04")
    await card.ended()
    async with asyncio.timeout(PATIENCE_S):
        while "reader withdraw" not in house.exposures.snapshot()[0]["hint"]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert (await house.withdraw("KEY1.com"))["withdrawn"]["connected"] is False


async def test_an_exposure_has_the_name_of_its_element_now_and_no_other_leads_to_it(house: House):
    await house.expose()
    renamed = house.elements["se-1"] = replace(house.elements["se-1"], sen="new.com")
    with pytest.raises(ConfigurationError, match="not exposed"):
        await house.withdraw("key1.com")
    assert house.exposures.snapshot()[0]["sen"] == "new.com"
    house.elements["se-2"] = replace(house.elements["se-2"], sen="key1.com")
    with pytest.raises(ConfigurationError, match="not exposed"):
        await house.withdraw("key1.com")
    house.exposures.look()
    del house.elements["se-1"]
    with pytest.raises(ConfigurationError, match="not exposed"):
        await house.withdraw("key1.com")
    assert house.holder() is not None
    assert (await house.withdraw(renamed.sen))["withdrawn"]["sen"] == renamed.sen


async def test_ending_twice_at_once_lets_go_once(house: House):
    await house.expose()
    await asyncio.gather(house.exposures.stop(), house.exposures.stop())
    assert house.holder() is None


async def test_what_is_exposed_is_listed(house: House):
    await house.expose()
    listed = await house.exposures.operations["reader.exposed"]({})
    assert [one["element"] for one in listed["exposed"]] == ["se-1"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"port": 65_536},
        {"port": -1},
        {"host": ""},
        {"host": "h" * 256},
        {"protocol": "T=2"},
    ],
    ids=["port 0", "port 65536", "negative", "no host", "long host", "T=2"],
)
async def test_a_request_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        ExposeRequest.from_arguments({"element": "key1.com", **wrong})


@pytest.mark.parametrize("wrong", [{"port": "35963"}, {"host": 7}, {"protocol": 0}, {"owner": "1"}])
async def test_an_argument_of_another_kind_is_refused(wrong):
    with pytest.raises(ControlError):
        ExposeRequest.from_arguments({"element": "key1.com", **wrong})


async def test_a_request_survives_the_way_to_the_node():
    request = ExposeRequest.from_arguments({"element": "key1.com", "owner": os.getpid()})
    assert str(request.address) == "127.0.0.1:35963"
    assert ExposeRequest.from_arguments(request.to_arguments()) == request
