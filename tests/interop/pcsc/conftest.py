# SPDX-License-Identifier: Apache-2.0
"""A PC/SC service with two virtual readers, for the tests of one file at a time."""

import pytest

from tests.support.pcsc import require_pyscard
from tests.support.virtual_card import VirtualService, virtual_reader

READERS = 2


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory):
    require_pyscard()
    with virtual_reader(tmp_path_factory.mktemp("pcsc"), READERS) as service:
        yield service


@pytest.fixture
def service(machine: VirtualService):
    """The service, running; cards that a test has put in are taken out after it."""
    if not machine.is_running:
        machine.start()
    yield machine
    machine.remove_all()
