# SPDX-License-Identifier: Apache-2.0
"""Mutated sessions and keystore lines; bounded here, longer with IOSE_FUZZ_RUNS.

Whole transcripts are the corpus: APDUs are dropped, doubled, exchanged and changed. Nothing but
status words may come out, and a fresh session must work afterwards.
"""

import os
import random

import pytest

from iose.applets.tls_se import CommandSet, Limits, Settings, Wire
from tests.support.element import REFERENCE, Element, demo
from tests.support.mutation import mutate
from tests.support.shared import VECTORS, own_json

RUNS = int(os.environ.get("IOSE_FUZZ_RUNS", "150"))
CHANGES = range(1, 5)
SESSIONS = own_json("tlsse_sessions.json")["apdu_transcripts"]
LINES = [
    text.split("\t")[0].encode() + b"\n"
    for text in (VECTORS / "keystore13_commands.tsv").read_text().splitlines()
]


def mutated(commands: list[bytes], rng: random.Random) -> list[bytes]:
    commands = list(commands)
    for _ in range(rng.randint(1, 3)):
        position = rng.randrange(len(commands))
        match rng.randrange(4):
            case 0:
                commands[position] = mutate(commands[position], rng, CHANGES)
            case 1:
                commands.insert(position, commands[position])
            case 2:
                other = rng.randrange(len(commands))
                commands[position], commands[other] = commands[other], commands[position]
            case _ if len(commands) > 1:
                del commands[position]
    return commands


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", SESSIONS)
def test_mutated_sessions(name: str):
    rng = random.Random(name)  # noqa: S311  # repeatable mutations
    session = [bytes.fromhex(step["command"]) for step in SESSIONS[name]]
    for _ in range(RUNS):
        element = Element(demo(REFERENCE))
        for command in mutated(session, rng):
            assert len(element.raw(command)) >= 2
        assert element.faults == []
        element.reset_session()
        element.verify_user()
        assert element.apdu("0087000004") == "0106F7069000"


@pytest.mark.timeout(0)
@pytest.mark.parametrize("commands", list(CommandSet))
def test_mutated_lines(commands: CommandSet):
    rng = random.Random(commands.value)  # noqa: S311  # repeatable mutations
    element = Element(demo(Settings(Wire.COMPATIBLE, Limits.WIDE, commands)))
    element.verify_admin()
    for _ in range(RUNS * 4):
        line = mutate(rng.choice(LINES), rng, CHANGES)
        element.raw(b"\x00\xda\x00\xff\x00" + len(line).to_bytes(2, "big") + line)
    assert element.faults == []
    assert element.apdu("00DA00FF043F30300A").endswith("9000")
