# SPDX-License-Identifier: Apache-2.0
"""Who gets what: two users, every command, two elements; and rules that change (racs.md §9)."""

import pytest

from iose.servers.racs.policy import AccessPolicy, Rule
from tests.support.racs_server import RacsRig, canned

pytestmark = pytest.mark.anyio

COMMANDS = {
    "POWERON": ("POWERON {}", "08"),
    "RESET": ("RESET {}", "05"),
    "APDU": ("APDU {} 00B00000", "06"),
    "SHUTDOWN": ("SHUTDOWN {}", "07"),
    "SEN": ("SEN {} a.b", "10"),
    "GET-SEN": ("GET-SEN {}", "11"),
}
SELDOM = {"one": {"POWERON", "APDU"}, "two": {"GET-SEN"}}  # what guest may do
NAMES = {"one": ("one.com", ""), "two": ("two.com", "")}


def rules():
    return [
        Rule("admin", ("*",), ("*", "SEN"), ("*",)),
        *(Rule("guest", (seid,), tuple(verbs), ("*",)) for seid, verbs in SELDOM.items()),
    ]


def state(rig):
    """Return everything a command may change."""
    cards = [element.reader.element for element in rig.elements]
    done = [(tuple(card.commands), tuple(card.power)) for card in cards]
    holders = [rig.holders.lock(seid).holder for seid in NAMES]
    return done, holders, dict(rig.names.names)


@pytest.mark.parametrize("seid", ["one", "two", "three"])
@pytest.mark.parametrize("verb", COMMANDS)
@pytest.mark.parametrize("user", ["admin", "guest", "nobody"])
async def test_each_user_each_command_each_element(user, verb, seid):
    line, number = COMMANDS[verb]
    elements = [canned("one"), canned("two")]
    async with RacsRig(*elements, rules=rules(), names=NAMES) as rig:
        client = await rig.connect(user)
        is_powered = await client.code(f"POWERON {seid}") == "+008"
        before = state(rig)
        code = await client.code(line.format(seid))
        if code[0] == "-":
            assert state(rig) == before
            if verb != "GET-SEN":  # which touches no element
                last = rig.audit.entries[-1]
                assert (last.event.verb, last.event.seid) == (verb, seid)
                assert (last.outcome.outcome, last.outcome.code) == ("refused", code)
                assert last.event.user == user
        if seid == "three" or user == "nobody":
            assert code == f"-4{number}"
        elif user == "guest" and verb not in SELDOM[seid]:
            assert code == f"-6{number}"
        else:
            assert code == f"+0{number}"
        assert is_powered == (
            seid != "three" and (user == "admin" or (user, seid) == ("guest", "one"))
        )


async def test_the_list_shows_what_may_be_seen():
    async with RacsRig(canned("one"), canned("two"), rules=rules()) as rig:
        answers = [
            await (await rig.connect(user)).ask("LIST") for user in ("admin", "guest", "nobody")
        ]
        assert answers == ["+004 001 one two ", "+004 001 one two ", "+004 001 "]


async def test_an_element_that_is_not_there_looks_like_one_that_must_not_be_seen():
    given = [Rule("guest", ("one",), ("*",), ("*",))]
    async with RacsRig(canned("one"), canned("two"), rules=given) as rig:
        client = await rig.connect("guest")
        for line, _ in COMMANDS.values():
            hidden, absent = (
                await client.ask(line.format("two")),
                await client.ask(line.format("xyz")),
            )
            assert hidden.replace("two", "xyz") == absent


async def test_the_order_of_checks_is_syntax_element_right_lock_filter():
    given = [
        Rule("admin", ("*",), ("*",), ("*",)),
        Rule("guest", ("one", "two"), ("POWERON", "APDU"), ()),
        Rule("guest", ("two",), ("GET-SEN",)),
    ]
    async with RacsRig(canned("one"), canned("two"), rules=given) as rig:
        holder, client = await rig.connect(), await rig.connect("guest")
        await holder.ask("POWERON one")
        assert await client.code("RESET xyz HOT") == "-405"
        assert await client.code("APDU xyz 0") == "-506"
        assert await client.code("RESET one") == "-605"
        assert await client.code("APDU one 00B00000") == "-706"
        assert await client.code("APDU two 00B00000") == "-306"
        assert await client.code("POWERON two", "APDU two 00B00000") == "-606"


async def test_a_fingerprint_is_a_name():
    async with RacsRig(rules=[]) as rig:
        client = await rig.connect()
        assert await client.ask("LIST") == "+004 001 "
        (session,) = rig.server.sessions.values()
        user = "sha256:" + session.identity.fingerprint
        rig.server.reload(rig.elements, AccessPolicy([Rule(user, ("*",), ("LIST",))]))
        assert await client.ask("LIST") == "+004 001 key1 "


async def test_new_rules_hold_from_the_next_command_on():
    async with RacsRig(canned("one"), canned("two")) as rig:
        client = await rig.connect()
        await client.ask("POWERON one", "POWERON two")
        new = [Rule("admin", ("one",), ("POWERON", "APDU"), ("default",))]
        rig.server.reload(rig.elements, AccessPolicy(new))
        assert await client.ask("LIST") == "+004 001 one "
        assert await client.code("APDU one 00A40400") == "-606"
        assert await client.code("APDU one 00B00000") == "+006"
        assert await client.code("APDU two 00B00000") == "-406"
        await rig.until(lambda: rig.holders.lock("two").holder is None)
        assert rig.elements[1].reader.element.power == ["on", "off"]
        (entry,) = rig.audit.of("SHUTDOWN")
        assert (entry.event.seid, entry.event.detail) == ("two", "right lost")
        assert entry.outcome.preempted == "racs 1"


async def test_an_element_that_goes_is_taken_away():
    async with RacsRig(canned("one"), canned("two")) as rig:
        client = await rig.connect()
        await client.ask("POWERON one", "POWERON two")
        rig.server.reload(rig.elements[:1], AccessPolicy(rig.rules))
        await rig.until(lambda: rig.holders.lock("two").holder is None)
        assert await client.code("SHUTDOWN two") == "-407"
        assert await client.code("APDU one 00B00000") == "+006"
