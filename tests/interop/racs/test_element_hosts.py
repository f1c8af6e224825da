# SPDX-License-Identifier: Apache-2.0
"""RACS over real elements in a host process: power, raw APDUs, and a host that dies."""

import pytest

from iose.servers.racs.elements import RacsElement
from iose.transport.element_host import ElementHostLink
from tests.support.host_process import HostProcess
from tests.support.racs_server import SELECT, RacsRig

pytestmark = [pytest.mark.anyio, pytest.mark.interop]

START_S = 15.0  # a cold interpreter on a busy machine


@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    process = HostProcess(tmp_path_factory.mktemp("host") / "socket")
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def link(host):
    link = ElementHostLink(host.path, reconnect_wait_s=START_S)
    await link.start()
    yield link
    await link.stop()


def elements(link):
    """Return the host's elements, and one that it has not got."""
    seids = [info.seid for info in link.elements] + ["nosuch"]
    return [RacsElement(seid, link.reader(seid)) for seid in seids]


async def test_elements_are_powered_reset_and_released(link):
    found = elements(link)
    seid = found[0].seid
    async with RacsRig(*found) as rig:
        client, other = await rig.connect(), await rig.connect()
        assert await client.code(f"POWERON {seid}") == "+008"
        assert await client.data(f"APDU {seid} {SELECT}") == "9000"
        assert await client.data(f"APDU {seid} 00FF000000") == "6D00"
        for line in (f"RESET {seid} WARM", f"RESET {seid}"):
            assert await client.code(line) == "+005"
            assert await client.data(f"APDU {seid} {SELECT}") == "9000"
        assert await other.code(f"POWERON {seid}") == "-708"
        assert await client.code(f"SHUTDOWN {seid}") == "+007"
        assert await other.code(f"POWERON {seid}") == "+008"
        assert await client.code("POWERON nosuch") == "-808"
        assert rig.holders.lock("nosuch").holder is None


async def test_a_host_that_dies_costs_what_was_held_and_nothing_else(link, host):
    found = elements(link)
    one, two = found[0].seid, found[1].seid
    async with RacsRig(*found) as rig:
        client = await rig.connect()
        await client.ask(f"POWERON {one}", f"POWERON {two}")
        host.kill()
        assert await client.code(f"APDU {one} {SELECT}") == "-806"
        assert await client.code(f"APDU {one} {SELECT}") == "-306"
        assert await client.code(f"RESET {two} WARM") == "-805"
        host.start()
        for seid in (one, two):
            await client.ask(f"SHUTDOWN {seid}")
            assert await client.code(f"POWERON {seid}", f"APDU {seid} {SELECT}") == "+006"
