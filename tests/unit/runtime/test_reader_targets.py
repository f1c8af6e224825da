# SPDX-License-Identifier: Apache-2.0
"""A reader of this machine by its name: the one that is meant, or why there is none."""

import asyncio
from dataclasses import replace

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder
from iose.runtime.readers import targets
from iose.runtime.readers.targets import find_reader
from iose.transport.bank import Slot, SlotState
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
)
from tests.support.made_bank import MadeBank, ready_slot

EMPTY = Slot("Acme Two", "", SlotState.EMPTY)
GONE = Slot("PC/SC", "", SlotState.ABSENT, fault="pcscd does not run", hint="start it")
FAULTY = Slot("Acme Bad", "", SlotState.FAULT, fault="garbage", hint="clean its contacts")


@pytest.fixture
def bank(monkeypatch):
    """Give a bank with two readers, in the place of any that is made."""
    bank = MadeBank(ready_slot("Acme One"), ready_slot("Best One"), EMPTY)
    monkeypatch.setattr(targets, "make_bank", bank.make)
    return bank


@pytest.fixture
def config(tmp_path):
    """Give a configuration with a reader whose element has a SEID of the operator's."""
    file = tmp_path / "node.toml"
    file.write_text(
        f'data = "{tmp_path}"\n[[readers]]\ntype = "sim-array"\naddress = "a:1"\n'
        'seids = { "Acme One" = "door-1", 77 = "door-2" }\n'
        "max_record = 700\nchunk_size = 255\nwarm_reset = false\n"
    )
    return file


@pytest.mark.parametrize("target", ["pcsc:acme", "PCSC:Acme One", "pcsc:me O"])
def test_a_part_of_a_name_is_enough(bank, target):
    reader = find_reader(target)
    assert (reader.name, reader.seid) == ("Acme One", "pcsc-Acme One")
    assert bank.running == 0
    assert bank.made_of[0].type == "pcsc"


@pytest.mark.parametrize("target", ["pcsc:1234", "pcsc:pcsc-1234"])
def test_a_serial_number_names_a_reader(bank, target):
    bank.slots = (*bank.slots, ready_slot("Third", seid="pcsc-1234", keys=("1234",)))
    assert find_reader(target).name == "Third"


def test_the_only_card_needs_no_name(bank):
    bank.slots = bank.slots[1:]
    assert find_reader("pcsc:").name == "Best One"


@pytest.mark.parametrize("target", ["pcsc:", "pcsc:one"])
def test_one_of_several_is_not_chosen(bank, target):
    with pytest.raises(ConfigurationError, match="any of Acme One, Best One"):
        find_reader(target)
    assert bank.running == 0


def test_a_whole_name_is_meant_before_a_part_of_another(bank):
    bank.slots = (ready_slot("Acme"), ready_slot("Acme 2"))
    assert find_reader("pcsc:Acme").name == "Acme"


@pytest.mark.parametrize(
    ("slots", "target", "error", "message"),
    [
        ((EMPTY,), "pcsc:two", NoCardError, "no card"),
        ((EMPTY,), "pcsc:other", NoReaderError, "no such reader"),
        ((), "pcsc:", NoReaderError, "no such reader"),
        ((GONE,), "pcsc:acme", NoReaderError, "pcscd does not run"),
        ((FAULTY,), "pcsc:bad", TransportError, "garbage"),
        ((FAULTY, ready_slot("a")), "pcsc:bad", TransportError, "garbage"),
    ],
    ids=["empty", "other", "none", "service", "fault", "other-works"],
)
def test_what_cannot_be_used_says_why(bank, slots, target, error, message):
    bank.slots = slots
    with pytest.raises(error, match=message) as caught:
        find_reader(target)
    assert caught.value.hint
    assert bank.running == 0


def test_an_element_of_a_configuration_is_found_by_its_seid(bank, config):
    bank.slots = (*bank.slots, ready_slot("Third", keys=("5", "77")))
    reader = find_reader("reader:door-1", config)
    assert (reader.name, reader.seid) == ("Acme One", "door-1")
    assert (reader.limits.max_record, reader.limits.chunk_size) == (700, 255)
    assert find_reader("reader:door-2", config).name == "Third"
    with pytest.raises(NoReaderError, match="no such reader"):
        find_reader("reader:door-3", config)


@pytest.mark.parametrize("element", ["door-1", "KEY1.com"])
def test_what_a_table_says_of_one_element_holds_without_a_node_too(bank, config, element):
    with config.open("a") as file:
        file.write(
            f'[element."{element}"]\nmax_record = 1024\nchunk_size = 100\nwarm_reset = true\n'
            'seids = ["vault"]\n'
        )
    bank.slots = bank.slots[:1]
    reader = find_reader("reader:vault", config)
    assert (reader.name, reader.seid) == ("Acme One", "door-1")
    assert (reader.limits.max_record, reader.limits.chunk_size) == (1024, 100)

    async def work() -> None:
        connection = await reader.connect()
        await connection.reset()
        await connection.close()

    asyncio.run(work())
    assert bank.slots[0].reader.element.power == ["on", "reset", "off"]


def test_an_element_of_a_node_that_runs_is_left_to_the_node(bank, config, tmp_path):
    held = DataFolder(tmp_path / "node").hold()
    config.write_text(config.read_text().replace(f'"{tmp_path}"', f'"{tmp_path / "node"}"'))
    with pytest.raises(CardBusyError, match="a node runs") as caught:
        find_reader("reader:door-1", config)
    held.release()
    assert "iose node stop" in caught.value.hint
    assert bank.made_of == []
    assert find_reader("reader:door-1", config).name == "Acme One"


def test_two_elements_of_one_seid_are_told_how_to_get_others(bank, config):
    bank.slots = (ready_slot("Acme One"), ready_slot("Acme Two", keys=("Acme One",)))
    with pytest.raises(ConfigurationError, match="any of Acme One, Acme Two") as caught:
        find_reader("reader:door-1", config)
    assert "'seids' of table [[readers]]" in caught.value.hint


@pytest.mark.parametrize("target", ["reader:", "reader:door-1", "pcsc", "racs:x"])
def test_a_target_that_names_no_reader_is_refused(target):
    with pytest.raises(ConfigurationError, match="names no reader"):
        find_reader(target)


def test_a_configuration_is_for_its_own_readers(bank, config):
    with pytest.raises(ConfigurationError):
        find_reader("pcsc:acme", config)
    assert bank.made_of == []


def test_the_bank_runs_as_long_as_the_connection(bank):
    reader = find_reader("pcsc:acme")
    element = bank.slots[0].reader.element

    async def work() -> None:
        connection = await reader.connect()
        assert bank.running == 1
        answer = await connection.transmit(CommandApdu.decode(bytes.fromhex("00D8000000")))
        assert answer.status == 0x9000
        await connection.reset()
        await connection.close()
        assert bank.running == 0

    asyncio.run(work())
    assert element.power == ["on", "reset", "off"]


def test_power_is_cut_where_a_warm_reset_is_not_wanted(bank, config):
    reader = find_reader("reader:door-1", config)

    async def work() -> None:
        connection = await reader.connect()
        await connection.reset()
        await connection.close()

    asyncio.run(work())
    assert bank.slots[0].reader.element.power == ["on", "off", "on", "off"]


@pytest.mark.parametrize("state", [SlotState.EMPTY, SlotState.ABSENT, None])
def test_a_card_that_went_away_meanwhile_is_not_there(bank, state):
    reader = find_reader("pcsc:acme")
    bank.slots = () if state is None else (replace(bank.slots[0], state=state, reader=None),)
    with pytest.raises(NoCardError if state is SlotState.EMPTY else NoReaderError):
        asyncio.run(reader.connect())
    assert bank.running == 0


def test_a_card_that_was_changed_meanwhile_is_not_touched(bank):
    reader = find_reader("pcsc:acme")
    other = ready_slot("Acme One")
    bank.slots = (replace(other, atr=b"\x3b\x01\x00"),)
    with pytest.raises(CardRemovedError, match="another card"):
        asyncio.run(reader.connect())
    assert other.reader.element.power == []
    assert bank.running == 0


def test_a_fault_of_one_reader_is_not_told_of_a_name_that_is_none(bank, config):
    bank.slots = (Slot("Best", "pcsc-2", SlotState.FAULT, fault="garbage"),)
    with pytest.raises(NoReaderError, match="no such reader"):
        find_reader("reader:dor-1", config)


def test_a_card_in_use_says_whose_it_may_be(bank):
    reader = find_reader("pcsc:acme")
    bank.slots[0].reader.element.faults = [CardBusyError("Acme One", "sharing violation")]
    with pytest.raises(CardBusyError, match="another program") as caught:
        asyncio.run(reader.connect())
    assert "iose node stop" in caught.value.hint
    assert bank.running == 0


def test_a_card_that_was_in_use_before_says_so_too(bank):
    bank.slots = (replace(bank.slots[0], state=SlotState.BUSY, reader=None),)
    with pytest.raises(CardBusyError, match="another program"):
        asyncio.run(find_reader("pcsc:").connect())


def test_another_system_that_holds_an_element_is_told_as_it_is(bank, config):
    reader = find_reader("reader:door-1", config)
    bank.slots[0].reader.element.faults = [CardBusyError("Acme One", "held by racs")]
    with pytest.raises(CardBusyError, match="held by racs"):
        asyncio.run(reader.connect())
