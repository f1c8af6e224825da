# SPDX-License-Identifier: Apache-2.0
"""Power, ATR, installation and hostile bytes."""

import pytest

from iose.card.registry import REGISTRY_NAME, Registry, RegistryEntry
from iose.globalplatform.life_cycle import ApplicationLifeCycle, Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.atr import Atr, TransmissionProtocol
from iose.iso7816.status import StatusWordError
from iose.wire.errors import DecodeError, LocalProtocolError, StoreError
from tests.support.memory_store import MemoryStore
from tests.support.probe import OTHER, PROBE, ProbeCard


def test_the_atr_carries_the_name_the_applet_gave_at_installation():
    atr = Atr.decode(ProbeCard().card.power_on())
    assert atr.se_name == "probe.example"
    assert atr.protocols == (1,)


def test_a_t0_card_answers_with_the_plainest_atr():
    card = ProbeCard(protocol=TransmissionProtocol.T0).card
    assert card.power_on() == b"\x3b\x0dprobe.example"


def test_a_card_with_no_name_has_no_historical_bytes():
    assert ProbeCard(installed=False).card.power_on() == b"\x3b\x80\x01\x81"


def test_a_name_set_by_an_applet_shows_from_the_next_reset_on():
    card = ProbeCard()
    first = card.card.power_on()
    assert card.send("000A0000086B6579312E636F6D") == "9000"
    second = card.card.reset()
    assert Atr.decode(first).se_name == "probe.example"
    assert Atr.decode(second).se_name == "key1.com"
    assert card.again().card.reset() == second


def test_a_name_of_fifteen_bytes_is_taken_and_one_of_sixteen_refused():
    card = ProbeCard().on()
    assert card.send("000A00000F" + "61" * 15) == "9000"
    assert card.send("000A000010" + "62" * 16) == "6A80"
    assert Atr.decode(card.card.reset()).se_name == "a" * 15


@pytest.mark.parametrize(
    "command", ["", "00", "0001", "000100", "000100000211", "00010000021122334455"]
)
def test_a_malformed_command_is_a_wrong_length(command: str):
    assert ProbeCard().on().send(command) == "6700"


def test_a_card_without_power_answers_nothing():
    card = ProbeCard()
    with pytest.raises(LocalProtocolError, match="no power"):
        card.send("0001000000")
    with pytest.raises(LocalProtocolError, match="no power"):
        card.card.reset()
    card.on()
    card.card.power_off()
    with pytest.raises(LocalProtocolError, match="no power"):
        card.send("0001000000")


def test_power_off_forgets_what_was_read_from_the_store():
    card = ProbeCard().on()
    card.card.power_off()
    assert card.card._memory._objects == {}
    assert card.card._channels._instances == {}


def test_installation_writes_the_instance_and_its_state_at_once():
    card = ProbeCard()
    assert card.store.writes == 3
    registry = Registry.decode(card.store.contents[REGISTRY_NAME])
    assert registry.entries[0] == RegistryEntry(
        PROBE, "probe", Privilege.DEFAULT_SELECTED, ApplicationLifeCycle.SELECTABLE
    )
    assert [entry.privileges for entry in registry.entries[1:]] == [0, 0]


@pytest.mark.parametrize(
    ("module", "aid", "parameters", "default", "status"),
    [
        ("gone", "C000000001", b"", "", 0x6A88),
        ("probe", str(PROBE), b"", "", 0x6985),
        ("probe", "C000000001", b"", "default", 0x6985),
        ("probe", "C000000001", b"refuse", "", 0x6A80),
    ],
)
@pytest.mark.parametrize("power", ["off", "on"])
def test_a_refused_installation_stores_nothing(
    module: str, aid: str, parameters: bytes, default: str, status: int, power: str
):
    card = ProbeCard()
    if power == "on":
        card.on()
    before = dict(card.store.contents)
    with pytest.raises(StatusWordError) as caught:
        card.card.install(module, Aid.from_hex(aid), parameters, default_selected=bool(default))
    assert caught.value.status == status
    assert card.store.contents == before
    card.on()
    card.send("0002070001AA")
    assert set(card.store.contents) - set(before) == {f"{PROBE}/object/7"}


def test_a_powered_card_can_select_what_was_just_installed():
    card = ProbeCard().on()
    card.card.install("probe", Aid.from_hex("C000000001"))
    assert card.send("00A4040005C000000001") == "019000"
    assert card.again().send("00A4040005C000000001") == "019000"


def test_installation_on_a_full_disk_stores_nothing():
    store = MemoryStore()
    store.full = True
    with pytest.raises(StoreError):
        ProbeCard(store)
    assert not store.contents


def test_an_instance_whose_module_is_gone_is_not_found():
    card = ProbeCard()
    card.services.applets.clear()
    card.on()
    assert card.send("000D000000") == "6999"
    assert card.send("00A4040006A00000000101") == "6A82"


@pytest.mark.parametrize(
    "life_cycle", [ApplicationLifeCycle.INSTALLED, ApplicationLifeCycle.LOCKED, 0x87, 0x8F]
)
def test_only_selectable_instances_are_selected(life_cycle: int):
    card = ProbeCard()
    entry = RegistryEntry(PROBE, "probe", Privilege.DEFAULT_SELECTED, life_cycle)
    card.store.contents[REGISTRY_NAME] = Registry((entry,)).encode()
    card.on()
    assert card.send("000D000000") == "6999"
    assert card.send("00A4040006A00000000101") == "6A82"


def test_select_without_aid_finds_the_issuer_security_domain():
    card = ProbeCard()
    issuer = RegistryEntry(OTHER, "probe", Privilege.SECURITY_DOMAIN)
    card.store.contents[REGISTRY_NAME] = Registry((issuer,)).encode()
    card.on()
    assert card.send("00A4040000") == "019000"
    assert card.send("000D000000") == "B0000000019000"


@pytest.mark.parametrize(
    "stored",
    [b"", b"\x02", b"\x01\x05", b"\x01\x04abcd\x01m\x04\x07", b"\x01\x05abcde\x01\xff\x04\x07"],
)
def test_a_damaged_registry_stops_the_card(stored: bytes):
    card = ProbeCard(MemoryStore({REGISTRY_NAME: stored}), installed=False)
    with pytest.raises(StoreError, match="damaged"):
        card.card.power_on()
    assert card.card._memory.get(REGISTRY_NAME) is None
    with pytest.raises(DecodeError):
        Registry.decode(stored)


def test_instances_do_not_see_the_objects_of_others():
    card = ProbeCard().on()
    card.send("0002070001AA")
    card.send("00A4040006A00000000102")
    assert card.send("0003070000") == "6A88"


def test_the_applet_gets_the_random_bytes_of_the_card():
    assert ProbeCard().on().send("000C000004") == "000102039000"
