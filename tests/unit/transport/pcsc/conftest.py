# SPDX-License-Identifier: Apache-2.0
"""Readers are tested in both event loops."""

import pytest


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}
