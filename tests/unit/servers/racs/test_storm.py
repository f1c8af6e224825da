# SPDX-License-Identifier: Apache-2.0
"""Many sessions on many elements: nothing mixed, nothing lost, nothing left behind (racs.md §8)."""

import asyncio
import random

import pytest

from iose.servers.racs.elements import RacsElement
from iose.servers.racs.policy import Rule
from tests.support.racs_server import RacsRig
from tests.support.scripted_connection import ATR, ScriptedReader

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

ELEMENTS = 100
SESSIONS = 200
ROUNDS = 6
RULES = [Rule("*", ("*",), ("*",), ("*",))]


class WatchedElement:
    """Echoes a command, and fails the test when another begins before it has ended."""

    def __init__(self):
        self.is_on = False
        self.owner = ""
        self.count = 0
        self.faults = []

    def power_on(self):
        assert not self.is_on, "powered on twice"
        self.is_on = True
        self.owner = ""
        return ATR

    def reset(self):
        return ATR

    def power_off(self):
        self.is_on = False

    def process(self, command):
        assert self.is_on
        owner = command[5:9].hex()
        if self.owner not in {"", owner}:
            self.faults.append((self.owner, owner))
        self.owner = owner
        self.count += 1
        return command + b"\x90\x00"


class SlowReader(ScriptedReader):
    """Gives other tasks a turn inside each exchange, and sees whether two overlap."""

    async def connect(self):
        connection = await super().connect()
        transmit = connection.transmit_raw
        state = {"is_busy": False}

        async def slow(command):
            assert not state["is_busy"], "two commands at once"
            state["is_busy"] = True
            await asyncio.sleep(0)
            answer = await transmit(command)
            await asyncio.sleep(0)
            state["is_busy"] = False
            return answer

        connection.transmit_raw = slow
        return connection


async def work(rig, number, tally):
    """One client: takes elements, uses them, gives them back, or vanishes with them."""
    choice = random.Random(number)  # noqa: S311  # which elements a test uses
    client = await rig.connect("admin" if number % 2 else "guest")
    for turn in range(ROUNDS):
        seid = f"e{choice.randrange(ELEMENTS)}"
        code = await client.code(f"POWERON {seid}")
        if code != "+008":
            assert code == "-708"
            tally["busy"] += 1
            continue
        for step in range(3):
            command = f"00B0000008{number:08X}{turn:04X}{step:04X}"
            assert await client.data(f"APDU {seid} {command}") == command + "9000"
            tally["done"] += 1
        if turn == ROUNDS - 1 and number % 3 == 0:
            client.send(f"BEGIN\r\nAPDU {seid} {command}\r\nEND\r\n".encode())
            client.abort()
            return
        assert await client.code(f"SHUTDOWN {seid}") == "+007"
    client.close()


async def test_200_sessions_on_100_elements():
    elements = [
        RacsElement(f"e{number}", SlowReader(WatchedElement(), name=f"e{number}"))
        for number in range(ELEMENTS)
    ]
    async with RacsRig(*elements, rules=RULES) as rig:
        tally = {"busy": 0, "done": 0}
        await asyncio.gather(*(work(rig, number, tally) for number in range(SESSIONS)))
        await rig.until(lambda: not rig.server.sessions)
        assert tally["done"] > SESSIONS
        cards = [element.reader.element for element in elements]
        assert [card.faults for card in cards if card.faults] == []
        assert not any(card.is_on for card in cards)
        assert all(lock.holder is None for lock in rig.holders.locks.values())
        assert sum(card.count for card in cards) >= tally["done"]
        assert all(entry.outcomes for entry in rig.audit.entries)
        assert rig.audit.verbs().count("CLOSE") == SESSIONS


async def test_different_elements_run_at_the_same_time():
    gate = asyncio.Event()
    elements = [RacsElement(f"e{n}", ScriptedReader(WatchedElement())) for n in range(2)]
    async with RacsRig(*elements) as rig:
        slow, fast = await rig.connect(), await rig.connect()
        await slow.ask("POWERON e0")
        elements[0].reader.gate = gate
        slow.send(b"BEGIN\r\nAPDU e0 00B000000400000001\r\nEND\r\n")
        await rig.until(lambda: len(rig.audit.of("APDU")) == 1)
        assert await fast.code("POWERON e1", "APDU e1 00B000000400000002") == "+006"
        gate.set()
        assert (await slow.block()).endswith("9000|END")
