# SPDX-License-Identifier: Apache-2.0
"""RACS over HTTP, asked by curl (racs.md §13)."""

import asyncio
import json

import pytest

from iose.servers.racs.http import HttpBinding
from tests.support.peers import require_peer
from tests.support.racs_server import PATIENCE_S, RacsRig, canned, folder_of

JSON = "Accept: application/json"

pytestmark = [pytest.mark.anyio, pytest.mark.interop]


@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}


async def curl(port, *options, user="admin"):
    """Return what curl prints: the body, and after it the status."""
    folder = folder_of(user)
    process = await asyncio.create_subprocess_exec(
        require_peer("curl"),
        *("-sS", "--cacert", folder / "ca.pem", "-w", "|%{http_code}"),
        *("--cert", folder / "user.pem", "--key", folder / "user.key"),
        *(option.replace("URL", f"https://localhost:{port}/RACS") for option in options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()
    body, _, status = output.decode().rpartition("|")
    return status, body


async def test_curl_lists_acts_and_is_refused():
    async with RacsRig(canned("key1"), http_listen=(("127.0.0.1", 0),)) as rig:
        binding = HttpBinding(rig.server)
        await binding.start()
        try:
            port = binding.addresses[0][1]
            status, body = await curl(
                port, "-H", "Accept: application/json", "URL?BEGIN=&LIST=&END="
            )
            assert status == "200"
            assert json.loads(body)["responses"][0]["parameters"] == "key1 "
            acts = "BEGIN=&POWERON=key1&APDU=key1%2000B00000&END="
            status, body = await curl(port, "URL", "--data", acts)
            assert (status, "<parameters>9000</parameters>" in body) == ("200", True)
            assert (await curl(port, f"URL?{acts}"))[0] == "405"
            large = "BEGIN=&" + "ECHO=" + "x" * 100_000 + "&END="
            status, body = await curl(port, "URL", "-H", "Expect: 100-continue", "--data", large)
            assert (status, len(body) > 100_000) == ("200", True)
            assert rig.holders.lock("key1").holder is None
        finally:
            await binding.stop()
