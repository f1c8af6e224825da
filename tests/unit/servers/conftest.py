# SPDX-License-Identifier: Apache-2.0
"""Servers are tested in both event loops: uvloop where there is a wheel, asyncio's everywhere."""

import pytest


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def path(tmp_path):
    """Where an element host's socket may be."""
    return tmp_path / "host"
