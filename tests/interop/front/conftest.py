# SPDX-License-Identifier: Apache-2.0
"""A front over real elements in a host process."""

import pytest

from iose.servers.routes import ElementRoute
from iose.transport.element_host import ElementHostLink
from tests.support.front import FrontRig
from tests.support.host_process import HostProcess

START_S = 15.0  # a cold interpreter on a busy machine


@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """One host for all tests of a module; a test that kills it starts it again."""
    process = HostProcess(tmp_path_factory.mktemp("host") / "socket")
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def rig(host):
    link = ElementHostLink(host.path, reconnect_wait_s=START_S)
    await link.start()
    routes = [ElementRoute(info.seid, info.sen, link.reader(info.seid)) for info in link.elements]
    async with FrontRig(routes=routes) as front_rig:
        yield front_rig
    await link.stop()
