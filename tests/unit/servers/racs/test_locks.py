# SPDX-License-Identifier: Apache-2.0
"""One element, one session, whichever plane; how it is lost and given back (racs.md §8)."""

import asyncio
from dataclasses import replace

import pytest

from iose.protocols.racs.status import EventClass, StatusLine, Verb
from iose.servers.holders import Claim, ElementHolders
from iose.servers.racs.policy import Rule
from iose.transport.errors import CardBusyError, RacsRefusedError
from tests.support.client_hello import hello_record
from tests.support.front import ALERT_BUSY, Client, FrontRig
from tests.support.racs_server import SELECT, RacsRig, canned, software
from tests.support.scripted_connection import EchoElement, ScriptedReader

pytestmark = pytest.mark.anyio

NO_PREEMPT = [Rule("*", ("*",), ("*",), ("*",))]


async def test_another_session_is_told_at_once():
    async with RacsRig(rules=NO_PREEMPT) as rig:
        first, second = await rig.connect(), await rig.connect()
        await first.ask("POWERON key1")
        for line, code in (
            ("POWERON key1", "-708"),
            ("APDU key1 00B00000", "-706"),
            ("RESET key1", "-705"),
            ("SHUTDOWN key1", "-707"),
        ):
            assert await second.code(line) == code
        assert await first.code("APDU key1 00B00000") == "+006"
        assert await first.code("SHUTDOWN key1") == "+007"
        assert await second.code("POWERON key1") == "+008"


@pytest.mark.parametrize("end", ["abort", "close", "QUIT"])
async def test_what_a_session_held_is_free_after_its_end(end):
    async with RacsRig(canned("key1"), canned("key2")) as rig:
        client = await rig.connect()
        await client.ask("POWERON key1", "POWERON key2")
        if end == "QUIT":
            await client.ask("QUIT")
        else:
            getattr(client, end)()
        await rig.until(lambda: not rig.server.sessions)
        for element in rig.elements:
            assert rig.holders.lock(element.seid).holder is None
            assert element.reader.element.power == ["on", "off"]
        assert await (await rig.connect()).code("POWERON key1") == "+008"


async def test_a_session_that_vanishes_in_the_middle_of_an_apdu_gives_its_element_back():
    async with RacsRig() as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        gate.set()
        client = await rig.connect()
        await client.ask("POWERON key1")
        gate.clear()
        client.send(b"BEGIN\r\nAPDU key1 00B00000\r\nAPDU key1 00B10000\r\nEND\r\n")
        await rig.until(lambda: len(rig.audit.of("APDU")) == 1)
        client.abort()
        await rig.until(lambda: rig.server.snapshot().connections == 0)
        assert rig.holders.lock("key1").holder is not None
        gate.set()
        await rig.until(lambda: not rig.server.sessions)
        assert rig.card.commands == ["00B00000"]
        assert rig.holders.lock("key1").holder is None


async def test_a_session_is_preempted_by_who_may():
    rules = [Rule("admin", ("*",), ("*", "preempt"), ("*",)), Rule("guest", ("*",), ("*",), ("*",))]
    async with RacsRig(rules=rules) as rig:
        guest, admin = await rig.connect("guest"), await rig.connect("admin")
        await guest.ask("POWERON key1")
        assert await admin.code("SHUTDOWN key1") == "+007"
        assert await guest.code("APDU key1 00B00000") == "-306"
        assert await admin.code("POWERON key1") == "+008"
        assert await guest.code("SHUTDOWN key1") == "-707"
        (entry,) = [one for one in rig.audit.of("SHUTDOWN") if one.outcome.preempted]
        assert (entry.event.user, entry.outcome.preempted) == ("admin", "racs 1")


async def test_a_command_that_runs_ends_before_its_element_is_taken_away():
    async with RacsRig() as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        gate.set()
        first, second = await rig.connect(), await rig.connect()
        await first.ask("POWERON key1")
        gate.clear()
        first.send(b"BEGIN\r\nAPDU key1 00B00000\r\nEND\r\n")
        await rig.until(lambda: len(rig.audit.of("APDU")) == 1)
        second.send(b"BEGIN\r\nSHUTDOWN key1\r\nPOWERON key1\r\nEND\r\n")
        await rig.until(lambda: len(rig.audit.of("SHUTDOWN")) == 1)
        assert rig.card.power == ["on"]
        gate.set()
        assert await first.block() == "BEGIN|+006 001 9000|END"
        assert await second.block() == "BEGIN|+008 002 key1 has been powered on|END"
        assert rig.card.power == ["on", "off", "on"]
        assert await first.code("APDU key1 00B00000") == "-306"
        assert await first.code("APDU key1 00B00000") == "-706"


async def test_an_idle_holder_gives_way_to_who_waits_and_is_told():
    holders = ElementHolders()
    async with RacsRig(holders=holders, hold_idle_awaited_s=0.05) as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        lock = holders.lock("key1")
        claim = Claim("tls", 1, "somebody", 0.0)
        async with asyncio.timeout(5):
            await lock.acquire(claim)
        assert rig.card.power == ["on", "off"]
        answer = await client.ask("APDU key1 00B00000")
        assert answer == "-306 001 key1 has been taken away"
        assert await client.code("APDU key1 00B00000") == "-706"
        lock.release(claim, 0.0)
        assert await client.code("APDU key1 00B00000") == "-306"
        (entry,) = rig.audit.of("SHUTDOWN")
        assert entry.event.detail == "idle while others wait"
        assert entry.outcome.preempted == "racs 1"


async def test_an_idle_holder_gives_an_element_up_in_the_end():
    async with RacsRig(hold_idle_s=0.05) as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        await rig.until(lambda: rig.holders.lock("key1").holder is None)
        assert await client.code("APDU key1 00B00000") == "-306"
        assert rig.audit.of("SHUTDOWN")[0].event.detail == "idle"


async def test_who_lets_go_of_what_was_taken_away_takes_it_from_nobody():
    async with RacsRig() as rig:  # whose user may preempt
        first, second = await rig.connect(), await rig.connect()
        await first.ask("POWERON key1")
        (session,) = [one for one in rig.server.sessions.values() if one.holds]
        session.lose(session.holds["key1"], "idle")
        await rig.until(lambda: rig.holders.lock("key1").holder is None)
        assert await second.code("POWERON key1") == "+008"
        assert await first.ask("SHUTDOWN key1") == "+007 001 key1 had been taken away"
        assert await second.code("APDU key1 00B00000") == "+006"
        assert await first.code("SHUTDOWN key1") == "+007"  # now it is meant
        assert await second.code("APDU key1 00B00000") == "-306"


async def test_an_apdu_that_the_elements_own_node_refuses_leaves_the_element_to_its_holder():
    async with RacsRig() as rig:
        client = await rig.connect()
        refusal = StatusLine("-", EventClass.UNAUTHORIZED, Verb.APDU, 1, "refused")
        await client.ask("POWERON key1")
        rig.elements[0].reader.faults.append(RacsRefusedError("key1", refusal))
        answer = await client.ask("APDU key1 00B00000")
        assert answer == "-606 001 refused by a rule of the element's own node"
        assert await client.code("APDU key1 00B00000") == "+006"
        assert rig.audit.of("APDU")[0].outcome.outcome == "refused"
        rig.elements[0].reader.faults.append(
            RacsRefusedError("key1", replace(refusal, event_class=EventClass.SYSTEM))
        )
        assert await client.code("APDU key1 00B00000") == "-806"
        assert rig.card.power == ["on", "off"]


async def test_the_tls_front_and_racs_keep_each_other_out():
    reader = ScriptedReader(EchoElement())
    async with FrontRig(reader, queue_wait_s=0.05) as front:
        element = canned("1")
        async with RacsRig(element, holders=front.front.holders) as rig:
            browser = await front.connect()
            await browser.open()
            admin = await rig.connect()
            assert await admin.code("POWERON 1") == "-708"
            browser.close()
            await front.ended()
            assert await admin.code("POWERON 1") == "+008"
            late = await front.connect()
            await late.send(hello_record(b"key1.com"))
            assert await late.rest() == ALERT_BUSY
            assert await admin.code("SHUTDOWN 1") == "+007"
            await (await front.connect()).open()


async def test_a_tls_session_is_preempted_by_who_may():
    async with FrontRig() as front, RacsRig(canned("1"), holders=front.front.holders) as rig:
        browser: Client = await front.connect()
        await browser.open()
        admin = await rig.connect()
        assert await admin.code("SHUTDOWN 1", "POWERON 1") == "+008"
        assert await browser.rest() == b""
        assert await front.ended() == ["preempted"]
        assert rig.audit.of("SHUTDOWN")[0].outcome.preempted == "tls 1"


async def test_an_answer_that_goes_on_for_ever_holds_nobody_up():
    async with RacsRig(canned("key1", {"00B00000": "6101", "00C0000001": "AA6101"})) as rig:
        gate = rig.elements[0].reader.gate = asyncio.Event()
        gate.set()
        first, second = await rig.connect(), await rig.connect()
        await first.ask("POWERON key1")
        gate.clear()
        first.send(b"BEGIN\r\nAPDU key1 00B00000 MORE=61\r\nEND\r\n")
        await rig.until(lambda: len(rig.audit.of("APDU")) == 1)
        second.send(b"BEGIN\r\nSHUTDOWN key1\r\nEND\r\n")
        await rig.until(lambda: len(rig.audit.of("SHUTDOWN")) == 1)
        gate.set()
        assert (await first.block()).startswith("BEGIN|-306 001 ")
        assert (await second.block()).startswith("BEGIN|+007 001 ")
        assert rig.card.commands == ["00B00000"]
        assert rig.card.power == ["on", "off"]


@pytest.mark.parametrize("how", ["preempted", "gone", "idle", "reset"])
async def test_nothing_of_one_holder_is_left_for_the_next(how):
    random_number, pin = "008B000008", "002000000430303030"
    async with RacsRig(software("key1")) as rig:
        first, second = await rig.connect(), await rig.connect()
        await first.ask("POWERON key1", f"APDU key1 {SELECT}")
        refused = await first.data(f"APDU key1 {random_number}")
        assert len(refused) == 4
        assert await first.data(f"APDU key1 {pin}") == "9000"
        assert (await first.data(f"APDU key1 {random_number}")).endswith("9000")
        if how == "preempted":
            await second.ask("SHUTDOWN key1")
        elif how == "gone":
            first.abort()
        elif how == "reset":
            await first.ask("RESET key1 WARM", f"APDU key1 {SELECT}")
            assert await first.data(f"APDU key1 {random_number}") == refused
            await first.ask("SHUTDOWN key1")
        else:
            (session, _) = rig.server.sessions.values()
            session.lose(session.holds["key1"], "idle")
        await rig.until(lambda: rig.holders.lock("key1").holder is None)
        await second.ask("POWERON key1", f"APDU key1 {SELECT}")
        assert await second.data(f"APDU key1 {random_number}") == refused


@pytest.mark.parametrize("line", ["POWERON key1", "APDU key1 00B00000", "RESET key1"])
async def test_a_card_that_another_program_holds_is_in_use_and_not_broken(line):
    async with RacsRig() as rig:
        client = await rig.connect()
        if not line.startswith("POWERON"):
            assert await client.code("POWERON key1") == "+008"
        rig.elements[0].reader.faults.append(CardBusyError("key1", "another program holds it"))
        verb = {"POWERON": "08", "APDU": "06", "RESET": "05"}[line.split()[0]]
        assert await client.code(line) == f"-7{verb}"
        assert rig.holders.lock("key1").holder is None
        assert await client.code("POWERON key1") == "+008"


async def test_a_removed_element_is_powered_off_and_on_no_list():
    async with RacsRig(canned("key1"), canned("key2")) as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        rig.server.reload(rig.elements[1:], rig.server.policy)
        assert await client.data("LIST") == "key2 "
        assert await client.code("APDU key1 00B00000") == "-406"
        assert rig.elements[0].reader.element.power == ["on", "off"]
        assert [one.event.detail for one in rig.audit.of("SHUTDOWN")] == ["element removed"]
        rig.server.reload(rig.elements, rig.server.policy)
        assert await client.code("APDU key1 00B00000") == "-306"
        assert await client.code("POWERON key1") == "+008"


async def test_a_warm_reset_leaves_the_power_on():
    async with RacsRig() as rig:
        client = await rig.connect()
        await client.ask("POWERON key1")
        assert await client.code("RESET key1 WARM") == "+005"
        assert rig.card.power == ["on", "reset"]
        assert await client.code("RESET key1") == "+005"
        assert rig.card.power == ["on", "reset", "off", "on"]
