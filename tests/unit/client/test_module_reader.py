# SPDX-License-Identifier: Apache-2.0
"""Modules behind readers of this machine: found at each handshake, let go after it."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from iose.client.access import resolve_access
from iose.client.blocking import Element, _on_loop
from iose.client.credentials import Credential, CredentialsStore
from iose.client.dialogue import Dialogue
from iose.client.errors import CredentialsError, ElementUriError, ModuleError, ModulePinError
from iose.client.module import ModuleSession, decode_module
from iose.client.module_place import ModuleForm, ReaderKind, ReaderModule
from iose.client.module_reader import FoundModule, make_bank
from iose.client.module_se050 import Se050Module
from iose.client.module_session import module_of, provision_module
from iose.client.uri import ElementUri
from iose.transport.bank import Slot, SlotState
from iose.transport.software import SoftwareReader
from tests.support.identity_module import DEMO_PSK, Module
from tests.support.scripted_element import ScriptedElement
from tests.twins.se050 import Se050

TARGET = ElementUri.decode("keyS://key1.com@127.0.0.1:8888/")
TIMEOUT_S = 5.0
CARD = ReaderModule(ReaderKind.PCSC, "pcsc-1", pin=b"0000")
CHIP = ReaderModule(ReaderKind.I2C, "/dev/i2c-1", (("address", 72),), form=ModuleForm.SE050)
NEW_PSK = bytes(range(90, 122))
# tls-im.md §4.1, of the demo PSK
DHE = bytes.fromhex("C17ACEA9DEFFB7E537312678464E7538640B893A4CFBF7807D9DFA96D9180838")
SECRET = bytes.fromhex("206D85B01FCEA8EA0C44FEE20475FB012F9C0AF0C1B29A54CA04B753AEF62F18")
HASH = bytes.fromhex("E479370AF6F743A3C2ABBCBA4B67BD016CD0207D2ADFCC5260EBCBAF0175EDB9")
BINDER = bytes.fromhex("6B1BF24F43B60DE0597561289D840AA15E83ADA24E7E6C04AB3B10BFAE4D4591")


class Chip:
    """An SE050 as a card that a software reader holds; everything it was asked."""

    def __init__(self) -> None:
        self.chip = Se050()
        self.log: list[str] = []
        self.answers: dict[str, str] = {}

    def power_on(self) -> bytes:
        self.chip.restart()
        return b"\x3b\x00"

    def power_off(self) -> None:
        self.chip.restart()

    def process(self, command: bytes) -> bytes:
        self.log.append(command.hex().upper())
        scripted = self.answers.get(command[:2].hex().upper())
        return self.chip.process(command) if scripted is None else bytes.fromhex(scripted)


class Bank:
    """Slots that a test sets.

    Attributes:
        running: How often it was started and not stopped.
    """

    def __init__(self, *slots: Slot) -> None:
        self.slots = slots
        self.running = 0

    async def start(self, changed: Callable[[], None]) -> None:
        del changed
        self.running += 1

    async def refresh(self) -> None:
        pass

    async def stop(self) -> None:
        self.running -= 1


def slot_of(card: object, name: str = "reader 00", **more: object) -> Slot:
    given = {"keys": ("pcsc-1",), "seid": "pcsc-reader", **more}
    return Slot(name, state=SlotState.READY, reader=SoftwareReader(name, card), **given)


@pytest.fixture
def store(tmp_path: Path) -> CredentialsStore:
    return CredentialsStore(tmp_path / "credentials")


@pytest.fixture
def bank(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bank]:
    module = Module()
    module.card.power_off()
    bank = Bank(slot_of(module.card))
    monkeypatch.setattr("iose.client.module_reader.make_bank", lambda *_: bank)
    yield bank
    assert bank.running == 0


def dial(module: ReaderModule | None, store: CredentialsStore, psk: bytes = DEMO_PSK) -> Element:
    scripted = ScriptedElement(psk)
    access = resolve_access(TARGET, module=module, store=store)
    session = module_of(access, scripted.open_link, TIMEOUT_S, _on_loop)
    return Element(Dialogue(access, scripted.open_link, TIMEOUT_S, session))


def use(module: ReaderModule) -> tuple[bytes, bytes]:
    """Return what a module computes of the published values."""

    async def compute() -> tuple[bytes, bytes]:
        found = FoundModule(module, lambda: None, TIMEOUT_S)
        await found.open()
        try:
            return await found.binder(HASH), await found.handshake_secret(DHE)
        finally:
            await found.close()

    return asyncio.run(compute())


def test_a_module_in_any_reader_computes_for_a_session(store: CredentialsStore, bank: Bank):
    store.save(Credential(TARGET.address, module=CARD))
    element = dial(None, store)
    for _ in range(2):
        element.open()
        assert element.version() == "scripted"
        assert bank.running == 0
        element.close()


def test_it_computes_the_published_values(bank: Bank):
    assert use(CARD) == (BINDER, SECRET)


@pytest.mark.parametrize("place", ["pcsc-1", "pcsc-reader", "reader 00", "READER", "der 0"])
def test_a_reader_is_found_by_its_keys_and_by_part_of_its_name(bank: Bank, place: str):
    assert use(replace(CARD, place=place)) == (BINDER, SECRET)


def test_a_key_comes_before_a_part_of_a_name(bank: Bank):
    bank.slots += (slot_of(Chip(), "reader pcsc-1", keys=(), seid="pcsc-2"),)
    assert use(CARD) == (BINDER, SECRET)


def test_a_reader_without_a_card_is_passed_over_where_another_has_one(bank: Bank):
    bank.slots += (Slot("reader 01", "pcsc-2", SlotState.EMPTY),)
    assert use(replace(CARD, place="reader")) == (BINDER, SECRET)


def test_several_readers_that_match_are_named(bank: Bank):
    bank.slots += (slot_of(Chip(), "reader 01", keys=(), seid="pcsc-2"),)
    with pytest.raises(ModuleError, match="2 readers match") as caught:
        use(replace(CARD, place="reader"))
    assert caught.value.hint == "readers: reader 00, reader 01"


def test_a_reader_that_is_not_there_is_missed(bank: Bank):
    with pytest.raises(ModuleError, match="there is no such reader") as caught:
        use(replace(CARD, place="other"))
    assert caught.value.hint == "readers: reader 00"


@pytest.mark.parametrize(
    ("slot", "message", "hint"),
    [
        (
            Slot("pcsc", "", SlotState.FAULT, fault="no service", hint="start pcscd"),
            "no service",
            "start pcscd",
        ),
        (Slot("pcsc-1", "", SlotState.EMPTY), "the reader is empty", None),
    ],
)
def test_what_is_wrong_with_a_reader_is_said(
    bank: Bank, slot: Slot, message: str, hint: str | None
):
    bank.slots = (slot,)
    with pytest.raises(ModuleError, match=message) as caught:
        use(CARD)
    assert caught.value.hint == hint


def test_a_refused_pin_is_forgotten_and_not_tried_again(store: CredentialsStore, bank: Bank):
    store.save(Credential(TARGET.address, module=replace(CARD, pin=b"1111")))
    element = dial(None, store)
    with pytest.raises(ModulePinError, match="2 tries are left"):
        element.open()
    with pytest.raises(ModulePinError, match="refused before"):
        element.open()
    with pytest.raises(CredentialsError, match="no PIN is kept"):
        dial(None, store)


def test_a_module_that_is_not_open_computes_nothing():
    async def attempt() -> None:
        await FoundModule(CARD, lambda: None, TIMEOUT_S).binder(HASH)

    with pytest.raises(ModuleError, match="not open"):
        asyncio.run(attempt())


def test_a_new_psk_is_given_by_the_administrator(store: CredentialsStore, bank: Bank):
    with pytest.raises(ModuleError, match="refuses the PSK"):
        asyncio.run(provision_module(CARD, NEW_PSK, TIMEOUT_S))
    admin = replace(CARD, pin=b"00000000")
    asyncio.run(provision_module(admin, NEW_PSK, TIMEOUT_S))
    element = dial(CARD, store, NEW_PSK)
    element.open()
    element.close()


# --- an SE050


def test_an_se050_gets_a_psk_and_computes_the_published_values(bank: Bank):
    chip = Chip()
    bank.slots = (slot_of(chip),)
    with pytest.raises(ModuleError, match="refuses to compute, 6985") as caught:
        use(CHIP)
    assert "iose credentials provision" in (caught.value.hint or "")
    chip.log.clear()
    asyncio.run(provision_module(CHIP, DEMO_PSK, TIMEOUT_S))
    assert [entry[:26] for entry in chip.log] == [
        "00A4040010A000000396545300",
        "80010500284104000000D04320",
        "80010500284104000000F04320",
    ]
    assert DEMO_PSK.hex().upper() not in "".join(chip.log)
    chip.log.clear()
    assert use(CHIP) == (BINDER, SECRET)
    assert chip.log == [
        "00A4040010A000000396545300000001030000000000",
        "80030D452B4104000000F04201194320" + HASH.hex().upper() + "00",
        "80030D452B4104000000D04201194320" + DHE.hex().upper() + "00",
    ]


def test_a_session_opens_with_the_psk_of_an_se050(store: CredentialsStore, bank: Bank):
    bank.slots = (slot_of(Chip()),)
    asyncio.run(provision_module(CHIP, NEW_PSK, TIMEOUT_S))
    store.save(Credential(TARGET.address, module=CHIP))
    element = dial(None, store, NEW_PSK)
    element.open()
    assert element.version() == "scripted"
    element.close()


@pytest.mark.parametrize(
    ("header", "answer", "message"),
    [
        ("00A4", "6A82", "does not let its applet be selected, 6A82"),
        ("8003", "6985", "refuses to compute, 6985"),
        ("8003", "9000", "expected an object of 32 bytes"),
        ("8003", "4120" + "00" * 31 + "9000", "expected an object of 32 bytes"),
        ("8003", "411F" + "00" * 31 + "9000", "expected an object of 32 bytes"),
        ("8003", "4220" + "00" * 32 + "9000", "expected an object of 32 bytes"),
        ("8003", "4120" + "00" * 33 + "9000", "expected an object of 32 bytes"),
        ("8001", "6A80", "refuses to store a key, 6A80"),
        ("8003", "00", "cannot be reached"),
    ],
)
def test_a_chip_that_answers_nonsense_ends_the_session(
    bank: Bank, header: str, answer: str, message: str
):
    chip = Chip()
    bank.slots = (slot_of(chip),)
    chip.answers[header] = answer

    def provision_and_use() -> None:
        asyncio.run(provision_module(CHIP, DEMO_PSK, TIMEOUT_S))
        use(CHIP)

    with pytest.raises(ModuleError, match=message):
        provision_and_use()


def test_an_answer_with_a_longer_length_field_is_the_same_answer(bank: Bank):
    chip = Chip()
    bank.slots = (slot_of(chip),)
    chip.answers["8003"] = "41820020" + SECRET.hex() + "9000"
    assert use(CHIP) == (SECRET, SECRET)


def test_a_chip_that_is_not_open_computes_nothing():
    async def attempt() -> None:
        await Se050Module(SoftwareReader("chip", Chip())).binder(HASH)

    with pytest.raises(ModuleError, match="not open"):
        asyncio.run(attempt())


# --- what banks are made


@pytest.mark.parametrize(
    ("uri", "made"),
    [
        ("i2c:/dev/i2c-1?address=4", "I2cBank"),
        ("i2c:/dev/i2c-1?address=72&form=se050", "I2cBank"),
        ("sim-array://[::1]:2310/701", "SimArrayBank"),
        ("serial:/dev/ttyACM0", "SerialBank"),
        ("pcsc:reader", "PcscBank"),
    ],
)
def test_each_kind_of_reader_has_its_bank(uri: str, made: str):
    module = decode_module(uri, pki=Path())
    assert type(make_bank(module, TIMEOUT_S)).__name__ == made


def test_a_board_of_text_is_given_its_psk_by_other_means():
    board = decode_module("serial:/dev/ttyACM0?form=text", pki=Path(), pin=b"")
    with pytest.raises(ElementUriError, match="other means"):
        asyncio.run(provision_module(board, DEMO_PSK, TIMEOUT_S))


def test_a_found_module_is_a_module_session():
    session: ModuleSession = FoundModule(CARD, lambda: None, TIMEOUT_S)
    asyncio.run(session.close())
