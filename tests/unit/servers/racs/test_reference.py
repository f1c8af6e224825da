# SPDX-License-Identifier: Apache-2.0
"""With ``compat = "reference"`` the server says what the published one was measured to say.

Transcripts are replayed against software elements with the published keys. Free: texts behind
codes that carry no data, and random bytes.
"""

import re

import pytest

from iose.servers.racs.policy import Rule
from tests.support.racs_server import EVERYTHING, SELECT, RacsRig, canned, software
from tests.support.racs_transcripts import NAMES, turns

pytestmark = pytest.mark.anyio

SEEN = ("key1", "tls1", "0", "1")
RULES = [
    Rule("admin", SEEN, (*EVERYTHING[:3], "preempt"), ("*",)),
    Rule("guest", ("tls1",), EVERYTHING, ("*",)),
]
DATA_CODES = ("+002", "+004", "+006", "+009", "+010", "+011")
VERSION_TEXT = "+002 001 Version"
STRAY = "00D8FF0308 0102"  # a blank too many: what the element makes of the first part is its own


def rig():
    elements = [software("key1", aliases=("0",)), software("tls1", aliases=("1",))]
    names = {"key1": ("key1.com", ""), "tls1": ("tls1.com", "")}
    return RacsRig(*elements, rules=RULES, names=names, compat="reference")


def essential(answer, command):
    """Return what must be equal: everything but free texts and random bytes."""
    lines = []
    for line in answer.decode().split("\r\n"):
        code, _, rest = line.partition(" ")
        number, _, text = rest.partition(" ")
        if STRAY in command and number == "003":
            lines.append((code, number))
        elif not re.fullmatch("[+-][0-9]{3}", code):
            lines.append(line)
        elif code not in DATA_CODES or line.startswith(VERSION_TEXT) or "SET-VERSION" in command:
            lines.append((code, number))
        elif code == "+006" and len(text) > 4:
            lines.append((code, number, len(text), text[-4:]))
        else:
            lines.append((code, number, text))
    return lines


@pytest.mark.parametrize("name", NAMES)
async def test_a_transcript_is_replayed(name):
    user = {"racs_user_guest.txt": "guest", "racs_user_nobody.txt": "nobody"}.get(name, "admin")
    async with rig() as server:
        clients = [await server.connect(user)]
        for turn in turns(name):
            if clients[0].reader.at_eof():
                clients[0] = await server.connect(user)  # each of these was a connection of its own
            if turn.client == len(clients):
                clients.append(await server.connect(user))
            client = clients[turn.client]
            client.send(turn.sent)
            answer, ends = b"", turn.received.count(b"END\r\n")
            while answer.count(b"END\r\n") < ends:
                answer += await client.reader.readuntil(b"END\r\n")
            if turn.is_closed:
                answer += await client.rest()
            command = turn.sent.decode()
            assert essential(answer, command) == essential(turn.received, command)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("SET-VERSION", "-502"),
        ("SET-VERSION 0.2", "-402"),
        ("SET-VERSION 0.3", "+002"),
        ("RESET key1", "-705"),
        ("APDU key1 00A40400", "-706"),
        ("GET-SEN nosuch", "-511"),
        ("GET-SEN tls2", "-911"),
        ("POWERON key1 APPEND", "+008"),
    ],
)
async def test_other_codes_are_those_of_the_published_server(line, code):
    async with RacsRig(canned("key1"), canned("tls2"), compat="reference") as server:
        client = await server.connect()
        assert await client.code(line) == code
        assert await client.code("LIST") == "+004"


@pytest.mark.parametrize("line", ["FOO", "APDU key1 00A40400 MORE=61"])
async def test_what_ends_a_session_there_ends_it_here(line):
    answers = {"00A40400": "6100", "00C0000000": "AB" * 100 + "6100"}
    async with RacsRig(canned("key1", answers), compat="reference", response_limit=50) as server:
        client = await server.connect()
        await client.ask("POWERON key1")
        assert await client.code(line) == ("-900" if line == "FOO" else "-706")
        assert await client.rest() == b""


async def test_a_response_that_is_full_is_told_before_anything_is_done():
    async with RacsRig(compat="reference", block_limit=2000) as server:
        client = await server.connect()
        line = "ECHO " + "x" * 700 + " APPEND"
        assert await client.ask(line, line, "POWERON key1") == "-001 002 the response is full"
        assert server.card.power == []


async def test_nothing_goes_to_an_element_before_a_select():
    async with RacsRig(compat="reference") as server:
        client = await server.connect()
        await client.ask("POWERON key1")
        assert await client.code("APDU key1 00B0000000") == "-706"
        assert await client.code(f"APDU key1 {SELECT}", "RESET key1") == "+005"
        assert await client.code("APDU key1 03B0000000") == "+006"
        assert server.card.commands[-1] == "00B0000000"


async def test_anybody_who_may_use_an_element_may_take_it_away():
    rules = [Rule("*", ("key1",), ("*", "SEN"), ("*",))]
    async with RacsRig(rules=rules, compat="reference") as server:
        first, second = await server.connect("guest"), await server.connect("admin")
        await first.ask("POWERON key1")
        assert await second.code("SHUTDOWN key1") == "+007"
        await first.ask("POWERON key1")
        assert await second.code("SEN key1") == "+010"
        assert await first.code("RESET key1") == "-705"
        preempted = [one.outcome.preempted for one in server.audit.entries]
        assert [one for one in preempted if one] == ["racs 1", "racs 1"]
