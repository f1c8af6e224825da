# SPDX-License-Identifier: Apache-2.0
"""Whatever happens in the middle of a command: the element is off and free, and all is written."""

import asyncio

import pytest

from iose.servers.racs.policy import AccessPolicy
from tests.support.racs_server import RacsRig
from tests.support.scripted_connection import removed

pytestmark = pytest.mark.anyio


async def vanish(rig, client, _):
    client.abort()
    await rig.until(lambda: rig.server.snapshot().connections == 1)


async def preempt(rig, _, other):
    other.send(b"BEGIN\r\nSHUTDOWN key1\r\nEND\r\n")
    await rig.until(lambda: rig.audit.of("SHUTDOWN"))


async def lose_the_right(rig, *_):
    rig.server.reload(rig.elements, AccessPolicy([]))


async def lose_the_element(rig, *_):
    rig.server.reload([], AccessPolicy(rig.rules))


async def break_the_card(rig, *_):
    rig.elements[0].reader.faults.append(removed())


async def revoke(rig, *_):
    rig.server.recheck(lambda _: True)


async def stop(rig, *_):
    await rig.server.stop()


@pytest.mark.parametrize(
    "happen", [vanish, preempt, lose_the_right, lose_the_element, break_the_card, revoke, stop]
)
@pytest.mark.parametrize("line", ["POWERON key1", "RESET key1", "APDU key1 00B00000"])
async def test_in_the_middle_of(line, happen):
    verb = line.split()[0]
    async with RacsRig(drain_s=0.1) as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        client, other = await rig.connect(), await rig.connect()
        await other.ask("LIST")
        if verb != "POWERON":
            gate.set()
            await client.ask("POWERON key1")
            gate.clear()
        client.send(f"BEGIN\r\n{line}\r\nAPDU key1 00B10000\r\nEND\r\n".encode())
        await rig.until(lambda: len(rig.audit.of(verb)) == 1)
        await happen(rig, client, other)
        gate.set()
        await rig.until(lambda: rig.holders.lock("key1").holder is None)
        power = rig.card.power
        assert power == ["on", "off"] * (len(power) // 2)
        await rig.until(lambda: all(len(entry.outcomes) == 1 for entry in rig.audit.entries))
        assert "00B10000" not in rig.card.commands
