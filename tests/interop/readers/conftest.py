# SPDX-License-Identifier: Apache-2.0
"""Readers against their twins, programs of their own, in both event loops."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


def pytest_itemcollected(item):
    """Let uvloop close a loop in which a failed test left something open."""
    if item.path.is_relative_to(HERE):
        item.add_marker(pytest.mark.filterwarnings("default:unclosed resource <:ResourceWarning"))
