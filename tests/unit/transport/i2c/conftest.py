# SPDX-License-Identifier: Apache-2.0
"""Buses are tested in both event loops."""

import pytest

from iose.transport.i2c import bank, bus, device


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def wired(monkeypatch):
    """Put lines where the bus would open a device file, and make waits short."""

    def put(lines):
        monkeypatch.setattr(bus, "open_lines", lines.open)
        return lines

    monkeypatch.setattr(device, "RESET_START_S", 0.001)
    monkeypatch.setattr(bank, "RETRY_S", 0.01)
    monkeypatch.setattr(bank, "LOOK_ANSWER_S", 0.1)
    return put
