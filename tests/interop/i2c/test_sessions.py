# SPDX-License-Identifier: Apache-2.0
"""TLS into elements on a bus: openssl through the front, and a module that is an SE050."""

import asyncio

import pytest

from iose.client.module_se050 import Se050Module
from iose.servers.discovery import discover
from iose.servers.routes import ElementRoute
from tests.interop.i2c.conftest import Watched
from tests.support.front import FrontRig
from tests.support.peers import require_peer
from tests.twins.elements import DEMO_PSK

pytestmark = [pytest.mark.anyio, pytest.mark.interop]

PATIENCE_S = 15.0
HASH = bytes.fromhex("E479370AF6F743A3C2ABBCBA4B67BD016CD0207D2ADFCC5260EBCBAF0175EDB9")
SHARED = bytes.fromhex("C17ACEA9DEFFB7E537312678464E7538640B893A4CFBF7807D9DFA96D9180838")


async def s_client(rig, name, line):
    """Return what openssl printed of a session in which it sent one line."""
    host, port = rig.front.addresses[0]
    process = await asyncio.create_subprocess_exec(
        *(require_peer("openssl"), "s_client", "-quiet", "-tls1_3", "-psk", DEMO_PSK.hex()),
        *("-connect", f"{host}:{port}", "-servername", name),
        *("-groups", "P-256", "-ciphersuites", "TLS_AES_128_CCM_SHA256"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    process.stdin.write(line)
    output = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
    process.stdin.write(b"?02\n")
    await asyncio.wait_for(process.communicate(), PATIENCE_S)  # published applets say no goodbye
    return output


@pytest.mark.parametrize("pin", [{}, {"reset_chip": "twin"}], ids=["soft", "line"])
@pytest.mark.parametrize("address", [4, 10], ids=["iose", "t1"])
async def test_openssl_has_a_session_with_an_element_on_a_bus(program, address, pin):
    name = f"key{address}.com"
    line = {"reset_line": address} if pin else {}
    async with Watched(program.ready["bus"], address, **pin, **line) as device:
        await device.connect_and_close()
        route = ElementRoute(device.slot.seid, name, device.slot.reader)
        async with FrontRig(routes=[route]) as rig:
            for _ in range(2):
                assert b"over the bus" in await s_client(rig, name, b"?01over the bus\n")


@pytest.mark.parametrize("address", [4, 10], ids=["iose", "t1"])
async def test_an_element_on_a_bus_is_found_out(program, address):
    async with Watched(program.ready["bus"], address) as device:
        connection = await device.connect()
        found = await discover(connection)
        await connection.close()
        assert found.speaks_tls_se
        assert (found.limits.chunk_size, found.limits.max_record) == (240, 512)


async def test_an_se050_is_an_identity_module(program):
    async with Watched(program.ready["bus"], 72, reset_chip="twin", reset_line=72) as device:
        await device.connect_and_close()
        module = Se050Module(device.slot.reader)
        await module.open()
        await module.provision(DEMO_PSK)
        assert (await module.binder(HASH)).hex().upper().startswith("6B1BF24F43B60DE0")
        assert (await module.handshake_secret(SHARED)).hex().upper().startswith("206D85B01FCEA8EA")
        await module.close()
