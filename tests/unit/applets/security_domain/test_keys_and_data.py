# SPDX-License-Identifier: Apache-2.0
"""Keys of the domain, what it says of itself, and what it lists."""

from dataclasses import replace

import pytest

from iose.applets.security_domain import read_domain
from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.commands import DeleteKey, GetStatus, Ins, StatusScope, StoreData
from iose.globalplatform.data_objects import (
    CardCapability,
    CardData,
    StatusEntry,
    decode_key_template,
)
from iose.globalplatform.keys import KeySet, KeyType
from iose.globalplatform.life_cycle import Privilege
from iose.globalplatform.put_key import PutKey
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu
from tests.support.domain import (
    CRYPTO,
    DEMO,
    ISD_AID,
    NOTE_MODULE,
    PACKAGES,
    PROBE_PACKAGE,
    SELECT_DOMAIN,
    Issuer,
    ManagedCard,
)
from tests.support.probe import PROBE

NEW = bytes(range(16))
SCP02 = ScpVariant(2, 0x15)
COMPUTED = [ScpVariant(3, 0x70), ScpVariant(3, 0x71), ScpVariant(2, 0x55)]


@pytest.fixture
def card() -> ManagedCard:
    return ManagedCard()


@pytest.fixture
def issuer(card: ManagedCard) -> Issuer:
    return Issuer(card, 0x03).open()


def put_key(issuer: Issuer, version: int, key: bytes = NEW, *, replaces: int = 0) -> PutKey:
    keys = KeySet(version, key, key, key, issuer.card.variant.key_type)
    return PutKey.for_keys(CRYPTO, keys, issuer.host.encrypt_key, replaces=replaces)


@pytest.mark.parametrize("variant", [ScpVariant(3, 0x70), ScpVariant(3, 0x01), SCP02], ids=str)
def test_keys_are_replaced_and_the_old_ones_open_nothing(variant: ScpVariant):
    card = ManagedCard(variant=variant)
    issuer = Issuer(card, 0x03).open()
    request = put_key(issuer, 0x31, replaces=0x30)
    answer = issuer.send(request.to_command())
    assert (answer.data, answer.status) == (request.answer(), 0x9000)
    again = card.again()
    again.send(SELECT_DOMAIN)
    assert again.send("80503000" + "08" + "00" * 8) == "6A88"
    assert Issuer(again, key=NEW, version=0x31).open()
    assert read_domain(again.store.contents)[1].enc == NEW


@pytest.mark.parametrize("size", [16, 24, 32])
def test_keys_of_every_size_of_aes_are_taken(card: ManagedCard, issuer: Issuer, size: int):
    key = bytes(range(size))
    assert issuer.status(put_key(issuer, 0x31, key).to_command()) == "9000"
    assert Issuer(card, key=key, version=0x31).open()


def test_a_second_key_set_stands_beside_the_first(card: ManagedCard, issuer: Issuer):
    assert issuer.status(put_key(issuer, 0x31).to_command()) == "9000"
    assert Issuer(card).open()
    assert Issuer(card, key=NEW, version=0x31).open()
    template = bytes.fromhex(card.send("80CA00E000")[:-4])
    assert [(one.version, one.key_id) for one in decode_key_template(template)] == [
        (version, key_id) for version in (0x30, 0x31) for key_id in (1, 2, 3)
    ]


def test_a_domain_holds_a_bounded_number_of_key_sets(issuer: Issuer):
    for version in (0x31, 0x32, 0x33):
        assert issuer.status(put_key(issuer, version).to_command()) == "9000"
    assert issuer.status(put_key(issuer, 0x34).to_command()) == "6A84"


@pytest.mark.parametrize(
    ("version", "replaces", "status"),
    [(0x31, 0x44, "6A88"), (0x30, 0, "6A80"), (0x30, 0x30, "9000")],
)
def test_key_versions_are_kept_apart(issuer: Issuer, version: int, replaces: int, status: str):
    assert issuer.status(put_key(issuer, version, replaces=replaces).to_command()) == status


@pytest.mark.parametrize("part", ["check value", "key", "no check value", "type", "P2", "cut"])
def test_keys_that_did_not_arrive_as_they_were_sent_are_refused(
    card: ManagedCard, issuer: Issuer, part: str
):
    before = dict(card.store.contents)
    request = put_key(issuer, 0x31)
    first, *others = request.keys
    match part:
        case "check value":
            first = replace(first, check_value=bytes(3))
        case "key":
            first = replace(first, wrapped=bytes(16))
        case "no check value":
            first = replace(first, check_value=b"")
        case "type":
            first = replace(first, key_type=KeyType.DES3)
    command = replace(request, keys=(first, *others)).to_command()
    if part == "P2":
        command = replace(command, p2=0x01)
    if part == "cut":
        command = replace(command, data=command.data[:-1])
    assert issuer.status(command) == ("6A86" if part == "P2" else "6A80")
    assert card.store.contents == before


def test_keys_of_another_protocol_are_refused(card: ManagedCard, issuer: Issuer):
    keys = KeySet(0x31, NEW, NEW, NEW, KeyType.DES3)
    request = PutKey.for_keys(CRYPTO, keys, issuer.host.encrypt_key)
    assert issuer.status(request.to_command()) == "6A80"


@pytest.mark.parametrize("way", ["changed back", "deleted and put again", "a second version"])
@pytest.mark.parametrize("variant", COMPUTED, ids=str)
def test_keys_that_come_back_repeat_no_recorded_session(variant: ScpVariant, way: str):
    card = ManagedCard(variant=variant)
    issuer = Issuer(card).open()
    assert issuer.status(put_key(issuer, 0x31).to_command()) == "9000"
    victim = Issuer(card, key=NEW, version=0x31).select()
    first = victim.host.initialize_update()
    recorded = victim.host.authenticate(card.transmit(first))
    assert card.transmit(recorded).status == 0x9000
    issuer = Issuer(card).open()
    match way:
        case "changed back":
            issuer = Issuer(card, key=NEW, version=0x31).open()
            issuer.status(put_key(issuer, 0x31, DEMO, replaces=0x31).to_command())
            issuer = Issuer(card, version=0x31).open()
            assert issuer.status(put_key(issuer, 0x31, replaces=0x31).to_command()) == "9000"
        case "deleted and put again":
            assert issuer.status(DeleteKey(0x31).to_command()) == "9000"
            assert issuer.status(put_key(issuer, 0x31).to_command()) == "9000"
        case _:
            assert issuer.status(put_key(issuer, 0x32).to_command()) == "9000"
            first = replace(first, p1=0x32)
    assert card.transmit(first).status == 0x9000
    assert card.transmit(recorded).status == 0x6300
    assert Issuer(card, key=NEW, version=first.p1).open()


def test_the_highest_counter_outlives_its_key_set(card: ManagedCard, issuer: Issuer):
    assert issuer.status(put_key(issuer, 0x31).to_command()) == "9000"
    for _ in range(3):
        Issuer(card, key=NEW, version=0x31).open()
    issuer = Issuer(card).open()
    assert card.send("80CA00C100") == "C1030000029000"
    assert issuer.status(DeleteKey(0x31).to_command()) == "9000"
    assert card.send("80CA00C100") == "C1030000049000"


@pytest.mark.parametrize("variant", [ScpVariant(3, 0x60), SCP02], ids=str)
def test_new_keys_begin_with_a_new_counter_where_challenges_are_random(variant: ScpVariant):
    card = ManagedCard(variant=variant)
    issuer = Issuer(card).open()
    assert issuer.status(put_key(issuer, 0x31, replaces=0x30).to_command()) == "9000"
    size = variant.counter_size
    assert card.send("80CA00C100") == f"C1{size:02X}{bytes(size).hex()}9000"


def test_a_key_set_is_deleted_and_the_last_one_stays(card: ManagedCard, issuer: Issuer):
    assert issuer.status(DeleteKey(version=0x30).to_command()) == "6985"
    issuer.status(put_key(issuer, 0x31).to_command())
    assert issuer.status(DeleteKey(version=0x44).to_command()) == "6A88"
    assert issuer.status(DeleteKey(key_id=1).to_command()) == "6A80"
    assert issuer.status(DeleteKey(version=0x30, key_id=1).to_command()) == "6A80"
    assert issuer.status(DeleteKey(version=0x30).to_command()) == "9000"
    assert Issuer(card, key=NEW).open()
    assert card.send("80503000" + "08" + "00" * 8) == "6A88"


@pytest.mark.parametrize("variant", [ScpVariant(3, 0x61), SCP02], ids=str)
def test_the_card_says_what_channel_it_wants(variant: ScpVariant):
    card = ManagedCard(variant=variant)
    card.send(SELECT_DOMAIN)
    data = CardData.decode(bytes.fromhex(card.send("80CA006600")[:-4]))
    assert data.protocols == (variant,)
    capability = CardCapability.decode(bytes.fromhex(card.send("80CA006700")[:-4]))
    assert capability.protocols == (variant,)
    assert capability.application_privileges == Privilege.DEFAULT_SELECTED


def test_every_card_has_a_serial_number_and_diversification_data_of_its_own(card: ManagedCard):
    card.send(SELECT_DOMAIN)
    production = card.send("80CA9F7F00")
    assert production.startswith("9F7F2A")
    assert len(production) == 2 * (3 + 42 + 2)
    assert production[30:38] == "0A0B0C0D"
    assert card.send("80CA00CF00") == "CF0A" + "00010203040506070809" + "9000"


@pytest.mark.parametrize("tag", ["0042", "0045", "00C2", "2F00", "9F70", "FF21", "0000"])
def test_an_object_that_is_not_there_is_not_found(card: ManagedCard, tag: str):
    card.send(SELECT_DOMAIN)
    assert card.send(f"80CA{tag}00") == "6A88"


def test_the_issuer_numbers_its_card(card: ManagedCard, issuer: Issuer):
    data = bytes.fromhex("4203112233" + "4502AABB")
    assert issuer.status(StoreData(0, data, is_last=True, options=0x10).to_command()) == "9000"
    again = card.again()
    again.send(SELECT_DOMAIN)
    assert again.send("80CA004200") == "42031122339000"
    assert again.send("80CA004500") == "4502AABB9000"


@pytest.mark.parametrize(
    "data", ["42", "4200", "6603112233", "42011145", "4203112233" + "5F5001AA"]
)
def test_other_data_for_the_domain_are_refused_whole(card: ManagedCard, issuer: Issuer, data: str):
    before = dict(card.store.contents)
    block = StoreData(0, bytes.fromhex(data), is_last=True)
    assert issuer.status(block.to_command()) == "6A80"
    assert card.store.contents == before


def test_each_block_for_the_domain_stands_for_itself(card: ManagedCard, issuer: Issuer):
    first = StoreData(0, bytes.fromhex("420111"), is_last=False)
    second = StoreData(1, bytes.fromhex("450122"), is_last=True)
    assert issuer.status(first.to_command()) == "9000"
    assert issuer.status(second.to_command()) == "9000"
    assert card.send("80CA004200") == "4201119000"


def test_a_listing_names_everything_once(card: ManagedCard, issuer: Issuer):
    assert issuer.listed(StatusScope.ISSUER_DOMAIN) == [
        StatusEntry(ISD_AID, 1, Privilege.SECURITY_DOMAIN, domain=ISD_AID)
    ]
    assert issuer.listed(StatusScope.APPLICATIONS) == [
        StatusEntry(PROBE, 7, Privilege.DEFAULT_SELECTED, PROBE_PACKAGE, domain=ISD_AID)
    ]
    version = bytes(PACKAGES[0].version)
    load_file = StatusEntry(PROBE_PACKAGE, 1, version=version, domain=ISD_AID)
    assert issuer.listed(StatusScope.LOAD_FILES) == [load_file]
    modules = (PACKAGES[0].modules[0][0],)
    assert issuer.listed(StatusScope.LOAD_FILES_AND_MODULES) == [
        replace(load_file, modules=modules)
    ]


def test_a_listing_shows_the_objects_asked_for(issuer: Issuer):
    request = GetStatus(StatusScope.APPLICATIONS, tags=bytes.fromhex("4F9F70"))
    answer = issuer.send(request.to_command())
    assert answer.data == bytes.fromhex("E30C4F06A000000001019F700107")
    cut = GetStatus(StatusScope.APPLICATIONS, tags=bytes.fromhex("9F"))
    assert issuer.status(cut.to_command()) == "6A80"


def test_a_listing_finds_by_the_beginning_of_an_aid(issuer: Issuer):
    assert issuer.listed(StatusScope.APPLICATIONS, PROBE.value[:5])
    request = GetStatus(StatusScope.APPLICATIONS, b"\xa0\x00\x00\x00\x99")
    assert issuer.status(request.to_command()) == "6A88"


@pytest.mark.parametrize("level", [0x01, 0x03, 0x33])
def test_a_long_listing_comes_in_answers_that_fit(card: ManagedCard, level: int):
    issuer = Issuer(card, level).open()
    issuer.load(PACKAGES[1])
    aids = [Aid(NOTE_MODULE.value + bytes((number,)) * 10) for number in range(60)]
    for aid in aids:
        assert issuer.install(aid) == "9000"
    listed = issuer.listed(StatusScope.APPLICATIONS)
    assert [entry.aid for entry in listed] == [PROBE, *aids]
    first = issuer.send(GetStatus(StatusScope.APPLICATIONS).to_command())
    assert first.status == 0x6310
    assert 190 <= len(first.data) <= 256


def test_a_listing_goes_on_only_where_one_was_begun(card: ManagedCard, issuer: Issuer):
    issuer.load(PACKAGES[1])
    for number in range(10):
        issuer.install(Aid(NOTE_MODULE.value + bytes((number,)) * 10))
    following = GetStatus(StatusScope.APPLICATIONS, is_next=True)
    assert issuer.status(following.to_command()) == "6985"
    assert issuer.status(GetStatus(StatusScope.APPLICATIONS).to_command()) == "6310"
    assert issuer.status(replace(following, criterion=b"\xa0").to_command()) == "6985"
    assert issuer.status(following.to_command()) == "6985"
    assert issuer.status(GetStatus(StatusScope.APPLICATIONS).to_command()) == "6310"
    assert issuer.status(replace(following, scope=StatusScope.LOAD_FILES).to_command()) == "6985"
    assert issuer.status(GetStatus(StatusScope.APPLICATIONS).to_command()) == "6310"
    assert issuer.raw("80CA006600").endswith("9000")
    assert issuer.status(following.to_command()) in {"9000", "6310"}


@pytest.mark.parametrize(
    ("p1", "p2", "data", "status"),
    [
        (0x40, 0x00, "4F00", "6A86"),
        (0x40, 0x04, "4F00", "6A86"),
        (0x60, 0x02, "4F00", "6A86"),
        (0x00, 0x02, "4F00", "6A86"),
        (0x40, 0x02, "", "6A80"),
        (0x40, 0x02, "5C00", "6A80"),
        (0x40, 0x02, "4F00" * 2, "6A80"),
        (0x40, 0x02, "4F11" + "00" * 17, "6A80"),
    ],
)
def test_other_forms_of_listing_are_refused(
    issuer: Issuer, p1: int, p2: int, data: str, status: str
):
    command = CommandApdu(0x80, Ins.GET_STATUS, p1, p2, bytes.fromhex(data), 256)
    assert issuer.status(command) == status
