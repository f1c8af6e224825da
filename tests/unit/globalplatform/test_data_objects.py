# SPDX-License-Identifier: Apache-2.0
"""What cards say of themselves, as bytes both ways; foreign objects are passed over."""

import pytest

from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.data_objects import (
    CardCapability,
    CardData,
    KeyInformation,
    StatusEntry,
    decode_key_template,
    encode_key_template,
)
from iose.globalplatform.keys import KeyType
from iose.globalplatform.life_cycle import (
    ApplicationLifeCycle,
    CardLifeCycle,
    LoadFileLifeCycle,
    Privilege,
)
from iose.iso7816.aid import Aid
from iose.wire.errors import DecodeError
from tests.support.channel_pair import key_set

DOMAIN = Aid.from_hex("A000000151000000")
PACKAGE = Aid.from_hex("0102030405")
APPLET = Aid.from_hex("010203040500")
ENTRIES = [
    (StatusEntry(DOMAIN, 0x0F), "E30E4F08A0000001510000009F70010F"),
    (
        StatusEntry(APPLET, 0x07, Privilege.DEFAULT_SELECTED, PACKAGE, domain=DOMAIN),
        "E3224F060102030405009F700107C503040000C4050102030405CC08A000000151000000",
    ),
    (
        StatusEntry(PACKAGE, 0x01, modules=(APPLET, DOMAIN), version=b"\x01\x03"),
        "E3214F0501020304059F700101CE020103840601020304050084" + "08A000000151000000",
    ),
]


@pytest.mark.parametrize(("entry", "wire"), ENTRIES)
def test_entries_of_the_registry_are_these_bytes(entry, wire):
    assert entry.encode().hex().upper() == wire
    assert StatusEntry.decode(bytes.fromhex(wire)) == entry


def test_many_entries_make_one_answer():
    data = b"".join(entry.encode() for entry, _ in ENTRIES)
    assert StatusEntry.decode_all(data) == tuple(entry for entry, _ in ENTRIES)
    assert StatusEntry.decode_all(b"") == ()


def test_a_foreign_entry_is_read():
    # two state bytes, privileges of one byte, an object of the maker's
    data = bytes.fromhex("E3164F060102030405009F70020701C50104DF200101C600")
    entry = StatusEntry.decode(data)
    assert (entry.aid, entry.state, entry.privileges) == (
        APPLET,
        ApplicationLifeCycle.SELECTABLE,
        Privilege.DEFAULT_SELECTED,
    )


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("E2064F0401020304", "expected an entry"),
        ("E3074F050102030405", "one object 9F70, found 0"),
        ("E3049F700107", "one object 4F, found 0"),
        ("E3129F7001074F0501020304054F050102030405", "one object 4F, found 2"),
        ("E30A4F0501020304059F7000", "state of 0 bytes"),
        ("E30D4F0501020304059F7003070707", "state of 3 bytes"),
        ("E30F4F0501020304059F700107C5020000", "1 or 3 bytes"),
        ("E30F4F0501020304059F700107C4020000", "5 to 16"),
        ("E30F4F0501020304059F70010784020000", "5 to 16"),
        ("E30F4F0501020304059F700107CC020000", "5 to 16"),
    ],
)
def test_malformed_entries_are_refused(wire, reason):
    data = bytes.fromhex(wire)
    data = data[:1] + bytes((len(data) - 2,)) + data[2:]
    for decode in (StatusEntry.decode, StatusEntry.decode_all):
        with pytest.raises(DecodeError, match=reason):
            decode(data)


@pytest.mark.parametrize(
    ("key_type", "wire"),
    [
        (KeyType.AES, "E012C00401308810C00402308810C00403308810"),
        (KeyType.DES3, "E012C00401308010C00402308010C00403308010"),
    ],
)
def test_the_key_template_is_these_bytes(key_type, wire):
    keys = KeyInformation.of_set(key_set(key_type))
    assert encode_key_template(keys).hex().upper() == wire
    assert decode_key_template(bytes.fromhex(wire)) == keys


@pytest.mark.parametrize(
    ("wire", "components"),
    [
        ("C0020130", ()),
        ("C00601308810B904", ((0x88, 0x10), (0xB9, 0x04))),
        ("C0060130FF880010", ((0x88, 0x10),)),
        ("C00A0130FF88001001180114", ((0x88, 0x10),)),
        ("C00A0130FFA00100FFA10003", ((0xA0, 0x100), (0xA1, 0x03))),
    ],
)
def test_foreign_keys_are_read(wire, components):
    data = bytes.fromhex(wire)
    template = b"\xe0" + bytes((len(data) + 3,)) + b"\xc1\x01\x00" + data
    assert decode_key_template(template) == (KeyInformation(1, 0x30, components),)


@pytest.mark.parametrize(
    "wire",
    ["E1", "E103C00101", "E003C00101", "E005C003013088", "E009C0070130FF88001001", "E200"],
)
def test_malformed_key_templates_are_refused(wire):
    with pytest.raises(DecodeError):
        decode_key_template(bytes.fromhex(wire))


# the recognition data of a card of SCP02 i=15, as GPCS 2.3.1 §H.2 lays them out
SCP02_CARD = (
    "664C734A06072A864886FC6B01600C060A2A864886FC6B0202020163" + "0906072A864886FC6B03"
    "640B06092A864886FC6B040215650B06092B8510864864020103660C060A2B060104012A026E0102"
)


def test_the_recognition_data_of_a_foreign_card_are_read():
    found = CardData.decode(bytes.fromhex(SCP02_CARD))
    assert found == CardData((ScpVariant(2, 0x15),), (2, 2, 1))


def test_recognition_data_are_these_bytes():
    data = CardData((ScpVariant(3, 0x70), ScpVariant(2, 0x55)))
    assert data.encode().hex().upper() == (
        "663E733C06072A864886FC6B01600C060A2A864886FC6B02020301630906072A864886FC6B03"
        "640B06092A864886FC6B040370640B06092A864886FC6B040255"
    )
    assert CardData.decode(data.encode()) == data


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("6700", "expected card data"),
        ("6600", "one object 73, found 0"),
        ("66027300", "one object 06, found 0"),
        ("660773050603550403", "not GlobalPlatform's"),
        ("6611730F06072A864886FC6B0160040602" + "5504", "of another branch"),
        ("660D730B06072A864886FC6B016400", "one object 06, found 0"),
    ],
)
def test_malformed_recognition_data_are_refused(wire, reason):
    with pytest.raises(DecodeError, match=reason):
        CardData.decode(bytes.fromhex(wire))


def test_an_option_of_two_bytes_is_passed_over():
    wire = "661873" + "16" + "06072A864886FC6B01" + "640C060A2A864886FC6B04038100"
    data = bytearray.fromhex(wire)
    data[1], data[3] = len(data) - 2, len(data) - 4
    assert CardData.decode(bytes(data)).protocols == ()


def test_capabilities_are_these_bytes():
    capability = CardCapability(
        (ScpVariant(3, 0x70), ScpVariant(3, 0x60), ScpVariant(2, 0x15)),
        Privilege.SECURITY_DOMAIN | Privilege.CARD_LOCK,
        Privilege.DEFAULT_SELECTED,
    )
    assert capability.encode().hex().upper() == (
        "6721" + "A00A80010381027060820107" + "A00680010281" + "0115"
        "8103900000" + "8203040000" + "830102"
    )
    assert CardCapability.decode(capability.encode()) == capability


def test_the_capabilities_of_a_foreign_card_are_read():
    data = bytes.fromhex("6710" + "A003800102" + "A0058001038100" + "850100")
    data = data[:1] + bytes((len(data) - 2,)) + data[2:]
    found = CardCapability.decode(data)
    assert found.protocols == (ScpVariant(2, 0),)
    assert found.hashes == ()


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("6600", "expected card capabilities"),
        ("6702A000", "one object 80, found 0"),
        ("6706A00480020303", "number of 2 bytes"),
        ("670481020000", "1 or 3 bytes"),
    ],
)
def test_malformed_capabilities_are_refused(wire, reason):
    with pytest.raises(DecodeError, match=reason):
        CardCapability.decode(bytes.fromhex(wire))


def test_privileges_have_names():
    held = Privilege.DAP_VERIFICATION | Privilege.GLOBAL_LOCK
    assert held.names == ("security_domain", "dap_verification", "global_lock")
    assert Privilege.decode(b"\x04") == Privilege.DEFAULT_SELECTED
    assert Privilege.decode(b"\x9e\xff\xf0").encode() == b"\x9e\xff\xf0"
    assert Privilege.decode(b"\x00").names == ()


def test_states_of_other_makers_survive():
    assert ApplicationLifeCycle(0x17) == 0x17
    assert ApplicationLifeCycle(0x17).name == "STATE_17"
    assert ApplicationLifeCycle(0x97).is_locked
    assert not ApplicationLifeCycle.SELECTABLE.is_locked
    assert CardLifeCycle(0x7F) is CardLifeCycle.CARD_LOCKED
    assert LoadFileLifeCycle(1) is LoadFileLifeCycle.LOADED
    for value in (-1, 256, "7"):
        with pytest.raises(ValueError, match="is not a valid"):
            CardLifeCycle(value)
