# SPDX-License-Identifier: Apache-2.0
"""A SIM array and its cards, over TCP: contents, sessions, and each fault of the wire (§8.3)."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.transport.bank import SlotState
from iose.transport.errors import (
    CardRemovedError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.sim_array import SimArrayBank
from tests.support.started_bank import check_fault, started
from tests.support.tls_session import SELECT, TlsSession, check_session
from tests.support.twin import twin

pytestmark = [pytest.mark.anyio, pytest.mark.interop]

VERSION = "iose keystore 1.3"
FAULTS = [
    ("silence", {}, TransportTimeoutError, "no answer"),
    ("partial", {}, TransportTimeoutError, "no answer"),
    ("partial", {"close": True}, CardRemovedError, "closed the connection"),
    ("garbage", {}, TransportError, "printable"),
    ("crc", {}, TransportError, "refused a command"),
    ("refuse", {}, TransportError, "refused a command: the card does not answer"),
    ("bomb", {}, TransportError, "longer than"),
    ("long", {}, TransportError, "longer than"),
    ("twice", {}, TransportError, "not asked"),
    ("half", {}, TransportError, "not asked"),
    ("slow", {"delay_s": 60}, TransportTimeoutError, "no answer"),
]
NAMES = [kind + "".join(f" {name}" for name in more) for kind, more, *_ in FAULTS]


@pytest.fixture(scope="module")
def running():
    with twin("sim_array") as array:
        yield array


@pytest.fixture
def array(running):
    yield running
    running.fault(None)
    running.order(insert=701)
    running.order(insert=702)
    running.order(said=True)


def bank_of(array, **given):
    host, port = array.address
    settings = {"apdu_s": 1.0, "poll_s": 0.1, **given}
    return SimArrayBank("array", host=host, port=port, **settings)


@asynccontextmanager
async def bank_with_both_cards(array, **given):
    async with started(bank_of(array, **given)) as bank:
        for seid in ("sim-701", "sim-702"):
            await bank.becomes(seid, SlotState.READY)
        yield bank


async def test_contents_are_listed_with_names_and_atrs(array):
    async with bank_with_both_cards(array, poll_s=60.0) as bank:
        slot = bank.slot("sim-701")
        assert slot.atr == bytes.fromhex("3B0A") + b"key701.com"
        assert slot.keys == ("701",)
        assert not slot.has_warm_reset
    said = array.order(said=True)["said"]
    assert said[:3] == ["RESET", "CONTENT", "QUIT"]
    assert sorted(said[3:]) == sorted(
        ["FREE 701", "USE 701", "FREE 701", "FREE 702", "USE 702", "FREE 702"]
    )


async def test_a_tls_session_goes_through(array):
    async with bank_with_both_cards(array, poll_s=60.0) as bank:
        array.order(said=True)
        connection = await bank.connect("sim-701")
        assert await check_session(connection) == VERSION
        assert await connection.reset() == connection.atr
        await connection.close()
    said = array.order(said=True)["said"]
    assert said[:4] == [
        "FREE 701",
        "USE 701",
        "apdu 701 00A4040006010203040500",
        "tpdu 701 w 00D8000000",
    ]
    assert any(line.startswith("tpdu 701 r 00C00000") for line in said)
    assert said[-3:] == ["FREE 701", "USE 701", "FREE 701"]


async def test_both_cards_work_at_the_same_time_and_contents_do_not_disturb_them(array):
    async with bank_with_both_cards(array, poll_s=0.01) as bank:
        connections = [await bank.connect(seid) for seid in ("sim-701", "sim-702")]
        sessions = [await TlsSession(connection).open() for connection in connections]
        await bank.bank.refresh()
        versions = await asyncio.gather(*(session.command("?00") for session in sessions))
        assert versions == [VERSION, VERSION]
        for connection in connections:
            await connection.close()


async def test_a_card_that_is_stuck_does_not_delay_another(array):
    async with bank_with_both_cards(array, apdu_s=60.0) as bank:
        array.fault("silence", slot=701)
        stuck, other = [await bank.connect(seid) for seid in ("sim-701", "sim-702")]
        waiting = asyncio.create_task(stuck.transmit(SELECT))
        assert await check_session(other) == VERSION
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await other.close()
        await stuck.close()


async def test_what_t0_has_no_form_for_is_answered_without_the_card(array):
    async with bank_with_both_cards(array, poll_s=60.0) as bank:
        connection = await bank.connect("sim-701")
        array.order(said=True)
        assert await connection.transmit_raw(bytes(7)) == b"\x67\x00"
        long = CommandApdu(0, 0xD8, 0, 3, bytes(300))
        assert (await connection.transmit(long)).status == 0x6700
        assert array.order(said=True)["said"] == []
        await connection.close()


async def test_a_slot_has_one_session(array):
    async with bank_with_both_cards(array) as bank:
        connection = await bank.connect("sim-701")
        with pytest.raises(TransportError, match="another connection"):
            await bank.connect("sim-701")
        assert (await connection.transmit(SELECT)).status == 0x9000
        await connection.close()


@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
async def test_a_fault_ends_the_session_and_the_card_works_again(array, fault):
    async with bank_with_both_cards(array) as bank:
        await check_fault(bank, "sim-701", array, fault)
        assert SlotState.FAULT in [states["sim-701"] for states in bank.states]


async def test_slow_bytes_are_waited_for(array):
    async with bank_with_both_cards(array, apdu_s=10.0) as bank:
        array.fault("slow", delay_s=0.0001)
        await bank.check_element("sim-701")


@pytest.mark.parametrize("kind", ["silence", "garbage", "crc", "refuse", "partial"])
async def test_a_card_that_does_not_start_is_a_fault_until_it_does(array, kind):
    array.fault(kind, verb="USE", slot=701)
    async with started(bank_of(array, apdu_s=0.2)) as bank:
        slot = await bank.becomes("sim-701", SlotState.FAULT)
        assert slot.reader is None
        assert slot.fault
        assert slot.hint
        await bank.becomes("sim-702", SlotState.READY)
        array.fault(None)
        await bank.becomes("sim-701", SlotState.READY)


@pytest.mark.parametrize("kind", ["silence", "garbage", "crc", "long", "partial"])
async def test_contents_that_do_not_come_are_a_fault_of_the_array(array, kind, monkeypatch):
    monkeypatch.setattr("iose.transport.sim_array.bank.OPEN_S", 0.2)
    array.fault(kind, verb="CONTENT")
    async with started(bank_of(array)) as bank:
        (slot,) = bank.bank.slots
        assert (slot.name, slot.seid, slot.state) == ("array", "", SlotState.FAULT)
        array.fault(None)
        await bank.becomes("sim-701", SlotState.READY)


async def test_a_session_goes_on_while_contents_do_not_come(array):
    async with bank_with_both_cards(array) as bank:
        connection = await bank.connect("sim-701")
        array.fault("garbage", verb="CONTENT")
        await bank.becomes("sim-702", SlotState.FAULT)
        assert bank.slot("sim-701").state is SlotState.READY
        assert (await connection.transmit(SELECT)).status == 0x9000
        await connection.close()
        await bank.becomes("sim-701", SlotState.FAULT)
        array.fault(None)
        await bank.becomes("sim-701", SlotState.READY)


async def test_contents_are_believed_whatever_becomes_of_the_goodbye(array, monkeypatch):
    monkeypatch.setattr("iose.transport.sim_array.bank.CLOSE_S", 0.05)
    array.fault("silence", verb="QUIT")
    async with started(bank_of(array, poll_s=60.0)) as bank:
        assert await bank.becomes("sim-701", SlotState.READY)


async def test_more_cards_than_any_array_has_are_a_fault(array, monkeypatch):
    monkeypatch.setattr("iose.transport.sim_array.bank.CARDS_AT_MOST", 1)
    async with started(bank_of(array)) as bank:
        (slot,) = bank.bank.slots
        assert slot.state is SlotState.FAULT
        assert "more than 1 cards" in slot.fault
        array.order(remove=702)
        await bank.becomes("sim-701", SlotState.READY)


async def test_a_card_taken_out_ends_its_session_and_comes_back(array):
    async with bank_with_both_cards(array) as bank:
        connection = await bank.connect("sim-701")
        array.order(remove=701)
        slot = await bank.becomes("sim-701", SlotState.EMPTY)
        assert slot.reader is None
        with pytest.raises(CardRemovedError, match="taken out"):
            await connection.transmit(SELECT)
        await connection.close()
        array.order(insert=701)
        await bank.check_element("sim-701")


async def test_a_card_taken_out_in_mid_command_is_known_at_once(array):
    async with bank_with_both_cards(array, apdu_s=60.0) as bank:
        connection = await bank.connect("sim-701")
        array.fault("silence")
        waiting = asyncio.create_task(connection.transmit(SELECT))
        while not any(line.startswith("apdu") for line in array.order(said=True)["said"]):  # noqa: ASYNC110
            await asyncio.sleep(0)
        array.order(remove=701)
        with pytest.raises(CardRemovedError, match="taken out"):
            await waiting
        await connection.close()


async def test_a_card_put_in_shows_up(array):
    array.order(remove=702)
    async with started(bank_of(array)) as bank:
        await bank.becomes("sim-701", SlotState.READY)
        assert [slot.seid for slot in bank.bank.slots] == ["sim-701"]
        array.order(insert=702)
        await bank.becomes("sim-702", SlotState.READY)


async def test_an_array_that_goes_away_is_absent_until_it_is_back(array):
    async with bank_with_both_cards(array) as bank:
        connection = await bank.connect("sim-701")
        array.fault("gone")
        with pytest.raises(CardRemovedError, match="closed the connection"):
            await connection.transmit(SELECT)
        await connection.close()
        for seid in ("sim-701", "sim-702"):
            slot = await bank.becomes(seid, SlotState.ABSENT)
            assert "cannot connect" in slot.fault
            assert "is the array on" in slot.hint
        array.fault(None)
        await bank.check_element("sim-701")


async def test_an_array_that_is_not_there_has_one_slot_that_says_so(array):
    array.fault("gone")
    async with started(bank_of(array)) as bank:
        (slot,) = bank.bank.slots
        assert (slot.name, slot.state) == ("array", SlotState.ABSENT)
        array.fault(None)
        await bank.becomes("sim-702", SlotState.READY)
        assert [slot.seid for slot in bank.bank.slots] == ["sim-701", "sim-702"]


async def test_a_neighbour_that_moves_does_not_disturb(array):
    async with bank_with_both_cards(array) as bank:
        before = len(bank.states)
        for _ in range(3):
            array.order(remove=702)
            await bank.becomes("sim-702", SlotState.EMPTY)
            array.order(insert=702)
            await bank.becomes("sim-702", SlotState.READY)
        assert {states["sim-701"] for states in bank.states[before:]} == {SlotState.READY}


@pytest.mark.parametrize("host", ["two..dots", "a" * 70 + ".com"])
async def test_a_host_that_is_none_is_absent(host):
    bank = SimArrayBank("array", host=host, port=1, apdu_s=1.0, poll_s=0.1)
    async with started(bank) as watched:
        (slot,) = watched.bank.slots
        assert slot.state is SlotState.ABSENT
        assert "cannot connect" in slot.fault


async def test_slots_are_chosen_and_one_that_is_not_there_is_told(array):
    async with started(bank_of(array, slots=(702, 999))) as bank:
        await bank.becomes("sim-702", SlotState.READY)
        slot = await bank.becomes("sim-999", SlotState.ABSENT)
        assert "no such slot" in slot.fault
        assert [slot.seid for slot in bank.bank.slots] == ["sim-702", "sim-999"]


async def test_a_bank_that_stops_ends_its_sessions(array):
    async with bank_with_both_cards(array) as bank:
        connection = await bank.connect("sim-701")
    with pytest.raises(NoReaderError, match="no longer used"):
        await connection.transmit(SELECT)
    await connection.close()


async def test_hardened_and_wide_cards_work_too():
    settings = ("--wire", "hardened", "--limits", "wide", "--commands", "iose")
    with twin("sim_array", "--slots", "101", *settings) as array:
        async with started(bank_of(array)) as bank:
            await bank.check_element("sim-101", version="iose keystore/1")
