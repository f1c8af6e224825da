# SPDX-License-Identifier: Apache-2.0
"""Servers are tested in both event loops: uvloop where there is a wheel, asyncio's everywhere."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def path(tmp_path):
    """Where an element host's socket may be."""
    return tmp_path / "host"


def pytest_itemcollected(item):
    """Let uvloop close a loop in which a failed test left something open.

    As an error, the warning keeps uvloop from closing that thing, and it waits for ever.
    """
    if item.path.is_relative_to(HERE):
        item.add_marker(pytest.mark.filterwarnings("default:unclosed resource <:ResourceWarning"))
