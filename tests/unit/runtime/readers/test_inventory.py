# SPDX-License-Identifier: Apache-2.0
"""Elements behind readers, as they come, go, clash, hang and are called otherwise."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from iose.runtime.config import ElementSettings
from iose.runtime.errors import ConfigurationError
from iose.runtime.readers import inventory as module
from iose.runtime.readers.inventory import ReaderInventory
from iose.runtime.readers.place import LINES
from iose.runtime.readers.settings import PcscSettings, ReaderSettings
from iose.servers.holders import Claim, ElementHolders
from iose.transport.bank import Slot, SlotState
from iose.transport.base import ApduLimits
from iose.transport.errors import CardBusyError, NoCardError, TransportError
from tests.support.scripted_bank import ScriptedBank, empty, filled

pytestmark = pytest.mark.anyio

PATIENCE_S = 5.0


def table(name: str = "bank", **given: Any) -> ReaderSettings:
    return PcscSettings("pcsc", name, **given)


class Rig(AbstractAsyncContextManager["Rig"]):
    """An inventory over scripted banks, and what it told the node."""

    def __init__(self, *banks: ScriptedBank, **given: Any) -> None:
        self.banks = {f"bank{number}": bank for number, bank in enumerate(banks, 1)}
        self.settings: dict[str, ElementSettings] = given.pop("element", {})
        self.tables = [table(name, **given) for name in self.banks]
        self.foreign: dict[str, str] = {}
        self.holders = ElementHolders()
        self.gone: list[dict[str, SlotState]] = []
        self.inventory = ReaderInventory(
            lambda one: self.banks[one.name],
            self.holders,
            overrides=self._overrides,
            foreign=lambda: self.foreign,
            changed=lambda gone: self.gone.append(dict(gone)),
        )
        self._capture = capture_logs()
        self.events: list[Any] = []

    async def __aenter__(self) -> "Rig":
        self.events = self._capture.__enter__()
        await self.inventory.start(self.tables)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.inventory.stop()
        self._capture.__exit__(None, None, None)

    @property
    def seids(self) -> list[str]:
        return [info.seid for info in self.inventory.elements]

    @property
    def sens(self) -> list[str]:
        return [info.sen for info in self.inventory.elements]

    def row(self, reader: str) -> dict[str, Any]:
        (row,) = [one for one in self.inventory.view() if one["reader"] == reader]
        return row

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # any condition, without an event of its own
                await asyncio.sleep(0.001)

    def logged(self, event: str) -> list[Any]:
        return [line for line in self.events if line["event"] == event]

    def _overrides(self, seid: str, sen: str) -> ElementSettings:
        return self.settings.get(seid) or self.settings.get(sen) or ElementSettings()


# --- coming and going --------------------------------------------------------------------


async def test_elements_are_there_with_their_names_when_the_start_is_over():
    bank = ScriptedBank(filled("1", "key1.com"), filled("2"), empty("3"))
    async with Rig(bank) as rig:
        first, second = rig.inventory.elements
        assert (first.seid, first.sen) == ("sim-1", "key1.com")
        assert (second.seid, second.sen) == ("sim-2", "")
        assert [row["state"] for row in rig.inventory.view()] == ["ready", "ready", "empty"]
        connection = await rig.inventory.reader("sim-1").connect()
        assert connection.atr == bank.element("1").atr
        await connection.close()


async def test_an_element_appears_and_goes_while_the_node_runs():
    bank = ScriptedBank(empty("1"))
    async with Rig(bank) as rig:
        assert rig.seids == []
        bank.put(filled("1", "key1.com"))
        await rig.until(lambda: rig.sens == ["key1.com"])
        bank.put(empty("1"))
        await rig.until(lambda: not rig.seids)
        assert rig.gone[-1] == {"sim-1": SlotState.EMPTY}
        with pytest.raises(NoCardError):
            await rig.inventory.reader("sim-1").connect()


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_card_in_anothers_place_is_another_even_if_nobody_saw_the_slot_empty(is_known):
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank) as rig:
        first, second = bank.slots[0], filled("1", "key2.com")
        if is_known:
            for slot in (second, first):
                bank.put(slot)
                await rig.until(lambda slot=slot: rig.row("1")["atr"] == slot.atr.hex().upper())
                await rig.until(lambda: rig.seids)
        rig.gone.clear()
        second.reader.element.power.clear()
        bank.put(empty("1"))
        bank.put(second)
        await rig.until(lambda: rig.sens == ["key2.com"])
        assert rig.gone[0] == {"sim-1": SlotState.READY}
        assert second.reader.element.power == ([] if is_known else ["on", "off"])


async def test_a_card_without_a_name_in_anothers_place_is_looked_into():
    bank = ScriptedBank(filled("1", "", atr=b"\x3b\x00"))
    async with Rig(bank) as rig:
        bank.put(filled("1", "", atr=b"\x3b\x01\x00"))
        await rig.until(lambda: bank.element("1").power == ["on", "off"])
        assert rig.seids == ["sim-1"]


async def test_an_element_in_use_keeps_its_name_where_its_bank_forgets_the_atr():
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank) as rig:
        told = len(rig.gone)
        bank.put(filled("1", "key1.com", atr=b"", state=SlotState.BUSY))
        await rig.until(lambda: rig.row("1")["state"] == "busy")
        assert rig.sens == ["key1.com"]
        assert len(rig.gone) == told


async def test_a_slot_that_is_no_more_takes_its_element_along():
    bank = ScriptedBank(filled("1", "key1.com"), filled("2", "key2.com"))
    async with Rig(bank) as rig:
        bank.set(bank.slots[1])
        await rig.until(lambda: rig.seids == ["sim-2"])
        assert rig.gone[-1] == {"sim-1": SlotState.ABSENT}
        assert [row["reader"] for row in rig.inventory.view()] == ["2"]


async def test_a_fault_of_a_slot_is_told_apart_from_an_empty_one_and_shown():
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank) as rig:
        bank.put(empty("1", SlotState.FAULT, fault="no answer", hint="plug it in again"))
        await rig.until(lambda: not rig.seids)
        assert rig.gone[-1] == {"sim-1": SlotState.FAULT}
        row = rig.row("1")
        assert (row["state"], row["fault"]) == ("fault", "no answer")
        assert row["hint"] == "plug it in again"


async def test_an_element_that_another_program_holds_is_there_but_not_looked_into():
    bank = ScriptedBank(filled("1", "key1.com", state=SlotState.BUSY))
    async with Rig(bank) as rig:
        assert rig.sens == ["key1.com"]
        assert bank.element("1").power == []
        bank.put(filled("1", "key1.com"))
        await rig.until(lambda: bank.element("1").power == ["on", "off"])
        assert rig.sens == ["key1.com"]
        assert all(not gone for gone in rig.gone)


async def test_nothing_new_is_nothing_told():
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank) as rig:
        told = len(rig.gone)
        bank.put(*bank.slots)
        await rig.inventory.refresh()
        assert len(rig.gone) == told


async def test_a_bank_that_cannot_be_used_is_logged_once_until_that_changes():
    def broken(fault: str) -> Slot:
        return Slot("bank1", "", SlotState.FAULT, fault=fault)

    def told() -> list[tuple[str, str]]:
        events = ("reader.unusable", "reader.usable")
        return [(e["event"], e.get("error", "")) for e in rig.events if e["event"] in events]

    bank = ScriptedBank(broken("no extra"))
    async with Rig(bank) as rig:
        await rig.inventory.refresh()
        assert told() == [("reader.unusable", "no extra")]
        bank.set(broken("no service"))
        await rig.until(lambda: len(told()) == 2)
        bank.set(filled("1", "key1.com"), empty("2", SlotState.FAULT, fault="stuck"))
        await rig.until(lambda: len(told()) == 3)
        bank.set(empty("1"))
        await rig.inventory.refresh()
        assert told()[1:] == [("reader.unusable", "no service"), ("reader.usable", "")]
        for fault in range(2 * LINES):
            bank.set(broken(str(fault)))
            await rig.until(lambda fault=fault: rig.inventory.view()[0]["fault"] == str(fault))
        assert len(told()) == LINES


async def test_what_is_not_looked_at_yet_is_nothing_to_complain_of():
    bank = ScriptedBank(empty("1", SlotState.ABSENT, fault="not looked at yet"))
    bank.gate.clear()
    async with Rig(
        bank,
    ) as rig:
        assert not rig.logged("reader.unusable")
        bank.put(filled("1", "key1.com"))
        bank.gate.set()
        await rig.until(lambda: rig.seids)
        assert not rig.logged("reader.unusable") + rig.logged("reader.usable")


async def test_a_reader_that_flaps_does_not_fill_the_log_and_others_are_still_told_of():
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank) as rig:
        slot = bank.slots[0]
        for _ in range(LINES):
            bank.put(empty("1"))
            await rig.until(lambda: not rig.seids)
            bank.put(slot)
            await rig.until(lambda: rig.seids)
        assert len(rig.logged("element.found")) + len(rig.logged("element.gone")) == LINES
        bank.put(filled("2", "key2.com"))
        await rig.until(lambda: len(rig.seids) > 1)
        assert rig.logged("element.found")[-1]["seid"] == "sim-2"


# --- banks that hang or fail -----------------------------------------------------------------


async def test_a_bank_that_does_not_come_up_delays_nobody_and_appears_later(monkeypatch):
    monkeypatch.setattr(module, "START_WAIT_S", 0.05)
    stuck, well = ScriptedBank(), ScriptedBank(filled("1", "key1.com"))
    stuck.gate.clear()
    async with Rig(stuck, well) as rig:
        assert rig.seids == ["sim-1"]
        row = rig.row("bank1")
        assert (row["state"], row["fault"]) == ("absent", "it has not answered yet")
        stuck.slots = (filled("2", "key2.com"),)
        stuck.gate.set()
        await rig.until(lambda: rig.seids == ["sim-2", "sim-1"])


async def test_a_bank_that_breaks_the_contract_takes_nobody_along():
    broken, well = ScriptedBank(), ScriptedBank(filled("1", "key1.com"))
    broken.fault = ValueError("a bug")
    async with Rig(broken, well) as rig:
        assert rig.seids == ["sim-1"]
        assert rig.row("bank1")["fault"] == "it has a bug: a bug"
        assert rig.logged("reader.fault")


async def test_every_bank_is_stopped_those_that_still_start_included(monkeypatch):
    monkeypatch.setattr(module, "START_WAIT_S", 0.05)
    stuck, well = ScriptedBank(), ScriptedBank()
    stuck.gate.clear()
    async with Rig(stuck, well):
        pass
    assert stuck.events == well.events == ["start", "stop"]


# --- looking into elements -------------------------------------------------------------------


async def test_an_element_is_looked_into_once_and_known_again_by_its_atr():
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank) as rig:
        first = bank.element("1")
        assert first.power == ["on", "off"]
        slot = bank.slots[0]
        for state in (empty("1"), slot):
            bank.put(state)
            await rig.until(lambda state=state: bool(rig.seids) == (state is slot))
        assert first.power == ["on", "off"]
        bank.put(filled("1", "key2.com"))
        await rig.until(lambda: rig.sens == ["key2.com"])
        await rig.until(lambda: bank.element("1").power == ["on", "off"])


async def test_what_the_operator_says_in_full_is_not_looked_for():
    said = {"sim-1": ElementSettings(aid="010203040500", max_record=512, chunk_size=240)}
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank, element=said) as rig:
        assert rig.sens == ["key1.com"]
        assert bank.element("1").power == []
        assert rig.row("1")["aid"] == "010203040500"


async def test_an_element_without_an_applet_is_on_the_administration_plane_alone():
    bank = ScriptedBank(filled("1", "key1.com", has_applet=False))
    async with Rig(bank) as rig:
        assert (rig.seids, rig.sens) == (["sim-1"], [""])
        assert rig.row("1")["fault"] == "no TLS-SE applet answers"
        bank.element("1").has_applet = True
        await rig.inventory.refresh()
        await rig.until(lambda: rig.sens == ["key1.com"])
        assert rig.row("1")["fault"] == ""


async def test_a_card_without_an_applet_gets_no_name_while_it_is_looked_into_again():
    bank = ScriptedBank(filled("1", "key1.com", has_applet=False))
    async with Rig(bank) as rig:
        told = len(rig.gone)
        await rig.inventory.refresh()
        assert bank.element("1").power == ["on", "off"] * 2
        assert len(rig.gone) == told


async def test_a_card_without_an_applet_is_looked_into_each_time_it_is_put_in():
    bank = ScriptedBank(filled("1", "key1.com", has_applet=False))
    async with Rig(bank) as rig:
        slot = bank.slots[0]
        bank.put(empty("1"))
        await rig.until(lambda: not rig.seids)
        slot.reader.element.has_applet = True
        bank.put(slot)
        await rig.until(lambda: rig.sens == ["key1.com"])


async def test_an_element_that_is_looked_into_is_powered_off_before_somebody_else_has_it():
    bank = ScriptedBank(filled("1", "key1.com"))
    closing = bank.reader("1").closing
    closing.clear()
    async with Rig(bank) as rig:
        lock = rig.holders.lock("sim-1")
        health = rig.inventory._banks[0].places[0].reader.health
        await rig.until(lambda: health.sessions and not health.connections)
        lock.holder.evict()
        waiting = asyncio.create_task(lock.acquire(Claim("tls", 1, "here", 0.0)))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        closing.set()
        await waiting
        assert bank.element("1").power == ["on", "off"]


async def test_a_look_that_lasts_is_not_begun_again(monkeypatch):
    monkeypatch.setattr(module, "START_WAIT_S", 0.01)
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    bank = ScriptedBank(filled("1", "key1.com"))
    bank.gate.clear()
    async with Rig(bank) as rig:
        await rig.inventory.refresh()
        assert bank.events == ["start"]
        bank.gate.set()
        await rig.until(lambda: rig.inventory._banks[0].looking is None)
        await rig.inventory.refresh()
        assert bank.events == ["start", "refresh"]


async def test_an_operator_who_names_an_element_is_believed():
    said = {"sim-1": ElementSettings(sen="key9.com")}
    async with Rig(ScriptedBank(filled("1", "key1.com", has_applet=False)), element=said) as rig:
        assert rig.sens == ["key9.com"]


async def test_an_element_that_hangs_when_it_is_looked_into_delays_no_other(monkeypatch):
    monkeypatch.setattr(module, "START_WAIT_S", 0.05)
    bank = ScriptedBank(filled("1", "key1.com"), filled("2", "key2.com"))
    bank.reader("1").gate = gate = asyncio.Event()
    async with Rig(bank) as rig:
        assert rig.sens == ["key2.com"]
        row = rig.row("1")
        assert (row["state"], row["fault"]) == ("busy", "what it can do is being found out")
        assert row["health"]["waiting_since_s"] >= 0
        gate.set()
        await rig.until(lambda: rig.sens == ["key1.com", "key2.com"])


async def test_an_element_that_never_answers_is_given_up_and_served_as_published():
    bank = ScriptedBank(filled("1", "key1.com"))
    bank.reader("1").gate = asyncio.Event()
    async with Rig(bank, apdu_s=0.05) as rig:
        await rig.until(lambda: rig.sens == ["key1.com"])
        assert rig.inventory.reader("sim-1").limits == ApduLimits()
        assert rig.logged("reader.probe_failed")
        assert rig.holders.lock("sim-1").holder is None


@pytest.mark.parametrize("error", [CardBusyError, TransportError])
async def test_an_element_that_refuses_to_be_looked_into_is_served_all_the_same(error):
    bank = ScriptedBank(filled("1", "key1.com"))
    bank.reader("1").faults.append(error("1", "not now"))
    async with Rig(bank) as rig:
        assert rig.sens == ["key1.com"]
        assert rig.row("1")["health"]["failures"] == (error is TransportError)
        await rig.inventory.refresh()
        assert bank.element("1").power == ["on", "off"]


async def test_an_element_held_elsewhere_is_looked_into_when_it_is_free(monkeypatch):
    monkeypatch.setattr(module, "BUSY_S", 0.01)
    bank = ScriptedBank(filled("1", "key1.com"))
    busy = [CardBusyError("1", "in use over there") for _ in range(3)]
    bank.reader("1").faults.extend(busy)
    async with Rig(bank) as rig:
        assert rig.sens == ["key1.com"]
        await rig.until(lambda: bank.element("1").power == ["on", "off"])
        assert len(rig.logged("reader.probe_failed")) == 1
        assert rig.row("1")["health"]["failures"] == 0


async def test_a_reader_with_a_bug_is_served_all_the_same_and_the_log_says_so():
    bank = ScriptedBank(filled("1", "key1.com"))
    bank.reader("1").faults.append(ValueError("a bug"))
    async with Rig(bank) as rig:
        assert rig.sens == ["key1.com"]
        assert rig.logged("reader.fault")
        assert rig.holders.lock("sim-1").holder is None


async def test_an_element_that_does_not_let_itself_be_powered_off_holds_up_no_end(monkeypatch):
    monkeypatch.setattr(module, "START_WAIT_S", 0.01)
    monkeypatch.setattr(module, "STOP_S", 0.05)
    bank = ScriptedBank(filled("1", "key1.com"))
    reader, gate, stuck = bank.reader("1"), asyncio.Event(), asyncio.Event()
    connect = reader.connect

    async def connect_to_stuck():
        connection = await connect()

        async def close():
            stuck.set()
            while not gate.is_set():
                with suppress(asyncio.CancelledError):
                    await gate.wait()

        connection.close = close
        return connection

    reader.connect = connect_to_stuck
    async with Rig(bank) as rig:
        await asyncio.wait_for(stuck.wait(), PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            await rig.inventory.stop()
        assert bank.events == ["start", "stop"]
        gate.set()


async def test_an_element_in_use_is_not_looked_into():
    bank = ScriptedBank(filled("1", "key1.com", state=SlotState.BUSY))
    async with Rig(bank) as rig:
        lock, claim = rig.holders.lock("sim-1"), Claim("tls", 1, "a", 0.0)
        assert lock.try_acquire(claim, 0.0)
        bank.put(filled("1", "key1.com"))
        await rig.until(lambda: lock.waiting)
        assert [one.plane for one in lock.waiters()] == ["probe"]
        assert (bank.element("1").power, rig.sens) == ([], ["key1.com"])
        lock.release(claim, 0.0)
        await rig.until(lambda: bank.element("1").power == ["on", "off"])


async def test_who_may_preempt_need_not_wait_for_a_look():
    bank = ScriptedBank(filled("1", "key1.com", state=SlotState.BUSY))
    async with Rig(bank) as rig:
        slot = filled("1", "key1.com")
        slot.reader.gate = asyncio.Event()
        bank.put(slot)
        lock = rig.holders.lock("sim-1")
        await rig.until(lambda: lock.holder is not None)
        assert lock.holder.plane == "probe"
        lock.holder.evict()
        await rig.until(lambda: lock.holder is None)
        assert rig.sens == ["key1.com"]


async def test_an_element_taken_out_while_it_is_looked_into_is_looked_into_when_it_is_back(
    monkeypatch,
):
    monkeypatch.setattr(module, "START_WAIT_S", 0.05)
    bank = ScriptedBank(filled("1", "key1.com"))
    bank.reader("1").gate = asyncio.Event()
    async with Rig(bank) as rig:
        first = bank.element("1")
        bank.put(empty("1"))
        bank.put(filled("1", "key2.com"))
        bank.put(empty("1"))
        await rig.until(lambda: first.power == ["on", "off"])
        bank.put(filled("1", "key2.com"))
        await rig.until(lambda: rig.sens == ["key2.com"])
        assert bank.element("1").power == ["on", "off"]


async def test_what_is_found_in_an_element_too_late_is_not_said_of_the_next_one(monkeypatch):
    monkeypatch.setattr(module, "START_WAIT_S", 0.01)
    bank = ScriptedBank(filled("1", "key1.com", atr=b""))
    reader, gate = bank.reader("1"), asyncio.Event()
    connect = reader.connect

    async def connect_late():
        while not gate.is_set():  # what is under way in a driver goes on
            with suppress(asyncio.CancelledError):
                await gate.wait()
        return await connect()

    reader.connect = connect_late
    async with Rig(bank) as rig:
        bank.put(empty("1"))
        await rig.until(lambda: rig.row("1")["state"] == "empty")
        bank.put(filled("1", "key2.com", atr=b""))
        await rig.until(lambda: rig.row("1")["state"] == "busy")
        gate.set()
        await rig.until(lambda: rig.sens == ["key2.com"])
        assert bank.element("1").power == ["on", "off"]


# --- names -----------------------------------------------------------------------------------


async def test_two_elements_of_one_seid_are_both_kept_away_and_named_until_one_goes():
    bank, other = ScriptedBank(filled("1", "key1.com")), ScriptedBank()
    async with Rig(bank, other) as rig:
        other.put(filled("twin", "key2.com", seid="sim-1"))
        await rig.until(lambda: not rig.seids)
        assert rig.gone[-1] == {"sim-1": SlotState.READY}
        for reader, rival in (("1", "twin"), ("twin", "1")):
            row = rig.row(reader)
            assert row["state"] == "fault"
            assert row["fault"] == f"{rival} has the SEID sim-1, too"
            assert "seids" in row["hint"]
        rig.inventory.look()
        (line,) = rig.logged("reader.repeated_seid")
        assert (line["seid"], line["readers"]) == ("sim-1", ["1", "twin"])
        other.put(empty("twin"))
        await rig.until(lambda: rig.sens == ["key1.com"])
        assert rig.row("1")["fault"] == ""


async def test_a_software_element_keeps_its_seid():
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank) as rig:
        rig.foreign["sim-1"] = "a software element"
        rig.inventory.look()
        assert rig.seids == []
        assert rig.row("1")["fault"] == "a software element has the SEID sim-1, too"


@pytest.mark.parametrize("key", ["1", "serial-5", "sim-1"])
async def test_an_operator_renames_an_element_by_any_of_its_keys(key):
    bank = ScriptedBank(filled("1", "key1.com", keys=("serial-5",)))
    async with Rig(bank, seids={key: "vault"}) as rig:
        assert rig.seids == ["vault"]


@pytest.mark.parametrize("seid", ["", "a b", "é", "x" * 64])
async def test_what_has_no_seid_is_shown_and_not_served(seid):
    async with Rig(ScriptedBank(filled("1", "key1.com", seid=seid))) as rig:
        assert rig.seids == []
        assert "is no SEID" in rig.row("1")["fault"]
        assert rig.row("1")["state"] == "fault"


@pytest.mark.parametrize(
    ("given", "sen"),
    [
        ({"sen": "told.com"}, "told.com"),
        ({"sen": "no name"}, ""),
        ({"atr": b""}, "key1.com"),  # the ATR is seen when the element is looked into
        ({"atr": b"\x3b"}, ""),
    ],
)
async def test_a_name_comes_from_the_wire_or_the_atr(given, sen):
    async with Rig(ScriptedBank(filled("1", "key1.com", **given))) as rig:
        assert rig.sens == [sen]


# --- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("element", "bank", "slot", "expected"),
    [
        ({}, {}, ApduLimits(200, 400), (200, 400)),
        ({}, {"chunk_size": 100}, ApduLimits(200, 400), (100, 400)),
        ({"chunk_size": 50}, {"chunk_size": 100}, ApduLimits(200, 400), (50, 400)),
        ({"max_record": 0}, {"max_record": 512}, ApduLimits(200, 400), (200, 0)),
        ({"max_record": 600}, {"chunk_size": 100}, None, (100, 600)),
        ({}, {}, None, (240, 16645)),  # what the scripted element takes
    ],
)
async def test_limits_come_from_the_operator_the_wire_or_the_element(element, bank, slot, expected):
    said = {"key1.com": ElementSettings(**element)}
    async with Rig(ScriptedBank(filled("1", "key1.com", limits=slot)), element=said, **bank) as rig:
        limits = rig.inventory.reader("sim-1").limits
        assert (limits.chunk_size, limits.max_record) == expected
        (info,) = rig.inventory.elements
        assert (info.chunk_size, info.max_record) == expected
        row = rig.row("1")
        assert (row["chunk_size"], row["max_record"]) == expected


@pytest.mark.parametrize(
    ("element", "bank", "is_warm"),
    [(None, None, True), (None, False, False), (True, False, True), (False, None, False)],
)
async def test_a_reset_is_warm_unless_the_operator_says_otherwise(element, bank, is_warm):
    said = {"sim-1": ElementSettings(warm_reset=element)}
    rack = ScriptedBank(filled("1", "key1.com"))
    async with Rig(rack, element=said, warm_reset=bank) as rig:
        rack.element("1").power.clear()
        connection = await rig.inventory.reader("sim-1").connect()
        assert await connection.reset() == rack.element("1").atr
        await connection.close()
        expected = ["on", "reset", "off"] if is_warm else ["on", "off", "on", "off"]
        assert rack.element("1").power == expected
        assert rig.row("1")["warm_reset"] is is_warm


# --- reload ----------------------------------------------------------------------------------


async def test_a_reload_starts_and_stops_only_the_banks_that_changed():
    one, two, three = ScriptedBank(filled("1", "a.com")), ScriptedBank(filled("2", "b.com")), None
    async with Rig(one, two) as rig:
        three = rig.banks["bank3"] = ScriptedBank(filled("3", "c.com"))
        tables = [table("bank3"), table("bank1", seids={"1": "first"}, max_record=100)]
        await rig.inventory.take(rig.inventory.prepare(tables))
        await rig.until(lambda: rig.seids == ["sim-3", "first"])
        assert (one.events, two.events) == (["start"], ["start", "stop"])
        assert three.events == ["start"]
        assert rig.inventory.reader("first").limits.max_record == 100
        gone = {seid for step in rig.gone for seid in step}
        assert gone == {"sim-1", "sim-2"}


async def test_a_changed_table_starts_its_bank_anew():
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank) as rig:
        await rig.inventory.take(rig.inventory.prepare([table("bank1", apdu_s=1.0)]))
        await rig.until(lambda: bank.events == ["start", "stop", "start"])
        await rig.until(lambda: rig.seids == ["sim-1"])


async def test_a_refused_reload_changes_nothing():
    bank = ScriptedBank(filled("1", "key1.com"))
    async with Rig(bank) as rig:
        made = rig.inventory._make_bank

        def refuse(one):
            if one.name == "wrong":
                raise ConfigurationError("no key")
            return made(one)

        rig.inventory._make_bank = refuse
        with pytest.raises(ConfigurationError):
            rig.inventory.prepare([table("bank1", seids={"1": "first"}), table("wrong")])
        rig.inventory.look()
        assert (rig.seids, bank.events) == (["sim-1"], ["start"])


# --- what the operator sees ------------------------------------------------------------------


async def test_a_row_holds_what_is_known_of_a_slot():
    slot = filled("1", "key1.com", keys=("serial-5",), has_warm_reset=False)
    bank = ScriptedBank(slot)
    async with Rig(bank) as rig:
        reader = rig.inventory.reader("sim-1")
        connection = await reader.connect()
        bank.reader("1").faults.append(TransportError("1", "gone"))
        with pytest.raises(TransportError):
            await connection.transmit_batch(())
        await connection.close()
        row = rig.row("1")
        health = row.pop("health")
        assert row == {
            "bank": "bank1",
            "type": "pcsc",
            "reader": "1",
            "seid": "sim-1",
            "sen": "key1.com",
            "state": "ready",
            "atr": slot.atr.hex().upper(),
            "fault": "",
            "hint": "",
            "keys": ["serial-5"],
            "max_record": 16645,
            "chunk_size": 240,
            "warm_reset": False,
            "aid": "",
        }
        assert (health["sessions"], health["failures"]) == (2, 1)
        assert health["last_fault"] == "1: gone"
        assert health["last_fault_ago_s"] >= 0
        assert health["waiting_since_s"] is None
        assert health["apdus"] == len(bank.element("1").commands)
