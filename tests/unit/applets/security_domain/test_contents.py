# SPDX-License-Identifier: Apache-2.0
"""Load files and instances: how they come, what states they take, how they go."""

from dataclasses import replace

import pytest

from iose.card.management import INSTANCE_LIMIT
from iose.card.registry import REGISTRY_NAME, Registry
from iose.globalplatform.commands import (
    Delete,
    GetStatus,
    Ins,
    SetStatus,
    StatusScope,
    StoreData,
    load_blocks,
    store_blocks,
)
from iose.globalplatform.install import (
    InstallForInstall,
    InstallForLoad,
    InstallForPersonalization,
    MakeSelectable,
    RegistryUpdate,
)
from iose.globalplatform.life_cycle import Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.status import StatusWordError
from tests.support.domain import (
    ISD_AID,
    NOTE,
    NOTE_MODULE,
    NOTE_PACKAGE,
    PACKAGES,
    PROBE_MODULE,
    PROBE_PACKAGE,
    Issuer,
    ManagedCard,
    blocks,
)
from tests.support.probe import PROBE

NOTE_FILE = PACKAGES[1]
SECOND = Aid.from_hex("A0000000C20102")
GONE = Aid.from_hex("A000000099")
SELECT_NOTE = f"00A4040007{NOTE}"
READ = "0000000000"
DEFAULT = Privilege.DEFAULT_SELECTED


@pytest.fixture
def card() -> ManagedCard:
    return ManagedCard()


@pytest.fixture
def issuer(card: ManagedCard) -> Issuer:
    return Issuer(card).open()


@pytest.fixture
def loaded(issuer: Issuer) -> Issuer:
    assert set(issuer.load(NOTE_FILE)) == {"9000"}
    return issuer


def registry(card: ManagedCard) -> Registry:
    return Registry.decode(card.store.contents[REGISTRY_NAME])


@pytest.mark.parametrize("size", [1, 50, 200, 247])
def test_a_load_file_of_ours_is_loaded_in_blocks_of_any_size(size: int):
    card = ManagedCard(packages=(PACKAGES[0], replace(NOTE_FILE, data=NOTE_FILE.data[:200])))
    issuer = Issuer(card).open()
    note = card.card._contents.services.packages[1]
    assert set(issuer.load(note, size)) == {"9000"}
    assert registry(card.again()).load_files == (PROBE_PACKAGE, NOTE_PACKAGE)


def test_nothing_is_stored_before_the_last_block(card: ManagedCard, issuer: Issuer):
    issuer.status(InstallForLoad(NOTE_PACKAGE).to_command())
    before = dict(card.store.contents)
    *most, last = blocks(NOTE_FILE)
    for block in most:
        assert issuer.status(block.to_command()) == "9000"
        assert card.store.contents == before
    assert issuer.send(last.to_command()).data == b"\x00"
    assert card.store.contents != before


@pytest.mark.parametrize("hash_name", ["sha256", "sha384", "sha512"])
def test_a_hash_announced_is_that_of_the_load_file(issuer: Issuer, hash_name: str):
    import hashlib  # noqa: PLC0415  # a second opinion

    right = hashlib.new(hash_name, NOTE_FILE.data).digest()
    wrong = bytes((right[0] ^ 1,)) + right[1:]
    assert issuer.load(NOTE_FILE, data_hash=wrong)[:2] == ["6A80", "6985"]
    assert set(issuer.load(NOTE_FILE, data_hash=right)) == {"9000"}


def test_a_hash_of_a_kind_we_do_not_know_is_refused(issuer: Issuer):
    assert issuer.load(NOTE_FILE, data_hash=bytes(20))[0] == "6A80"


def test_a_foreign_package_is_refused_at_its_first_block(card: ManagedCard, issuer: Issuer):
    before = dict(card.store.contents)
    foreign = replace(NOTE_FILE, aid=GONE)
    assert issuer.load(foreign)[:3] == ["9000", "6438", "6985"]
    assert card.store.contents == before


@pytest.mark.parametrize("place", [0, 3, 4, 199, 200, 450, 703])
def test_a_package_that_differs_anywhere_is_refused_at_that_block(issuer: Issuer, place: int):
    stream = bytearray(b"".join(block.data for block in blocks(NOTE_FILE)))
    stream[place] ^= 1
    assert issuer.status(InstallForLoad(NOTE_PACKAGE).to_command()) == "9000"
    statuses = [issuer.status(block.to_command()) for block in load_blocks(bytes(stream), 200)]
    index = place // 200
    assert statuses[: index + 1] == ["9000"] * index + ["6438"]
    assert set(statuses[index + 1 :]) <= {"6985"}
    assert issuer.install() == "6A88"


@pytest.mark.parametrize("change", ["too short", "too long", "not last"])
def test_a_load_file_ends_where_it_has_to(issuer: Issuer, change: str):
    issuer.status(InstallForLoad(NOTE_PACKAGE).to_command())
    stream = b"".join(block.data for block in blocks(NOTE_FILE))
    stream = {"too short": stream[:-1], "too long": stream + b"x"}.get(change, stream)
    *most, last = load_blocks(stream, 200)
    assert {issuer.status(block.to_command()) for block in most} == {"9000"}
    if change == "not last":
        last = replace(last, is_last=False)
    assert issuer.status(last.to_command()) == "6438"


def test_load_blocks_come_in_order(issuer: Issuer):
    first, second, *_ = blocks(NOTE_FILE)
    assert issuer.status(first.to_command()) == "6985"
    issuer.status(InstallForLoad(NOTE_PACKAGE).to_command())
    assert issuer.status(second.to_command()) == "6A86"
    assert issuer.status(first.to_command()) == "6985"


def test_another_command_ends_loading(issuer: Issuer):
    first, second, *_ = blocks(NOTE_FILE)
    issuer.status(InstallForLoad(NOTE_PACKAGE).to_command())
    issuer.status(first.to_command())
    assert issuer.raw("80F28002024F0000").endswith("9000")
    assert issuer.status(second.to_command()) == "6985"


@pytest.mark.parametrize(
    "between",
    [
        Delete(SECOND),
        Delete(NOTE),
        SetStatus(StatusScope.APPLICATIONS, 0x80, SECOND),
        GetStatus(StatusScope.APPLICATIONS),
        MakeSelectable(SECOND),
    ],
    ids=lambda request: type(request).__name__,
)
def test_another_command_ends_personalisation(card: ManagedCard, loaded: Issuer, between):
    loaded.install()
    loaded.install(SECOND)
    loaded.status(InstallForPersonalization(NOTE).to_command())
    assert loaded.status(StoreData(0, b"a", is_last=False).to_command()) == "9000"
    loaded.status(between.to_command())
    before = dict(card.store.contents)
    assert loaded.status(StoreData(1, b"b", is_last=True).to_command()) == "6A86"
    assert card.store.contents == before


def test_a_load_file_that_is_there_is_not_loaded_again(loaded: Issuer):
    assert loaded.status(InstallForLoad(NOTE_PACKAGE).to_command()) == "6985"
    assert loaded.status(InstallForLoad(PROBE).to_command()) == "6985"


def test_an_instance_is_made_with_its_parameters_and_outlives_the_power(
    card: ManagedCard, loaded: Issuer
):
    assert loaded.install(parameters=b"hello") == "9000"
    again = card.again()
    again.send(SELECT_NOTE)
    assert again.send(READ) == b"hello".hex().upper() + "9000"


def test_an_instance_may_wait_before_it_is_selectable(card: ManagedCard, loaded: Issuer):
    assert loaded.install(is_selectable=False) == "9000"
    card.send("0070000001")
    assert card.send("01" + SELECT_NOTE[2:]) == "6A82"
    assert loaded.status(MakeSelectable(NOTE).to_command()) == "9000"
    assert card.send("01" + SELECT_NOTE[2:]) == "9000"
    assert loaded.status(MakeSelectable(NOTE).to_command()) == "6985"
    assert loaded.status(MakeSelectable(GONE).to_command()) == "6A88"


@pytest.mark.parametrize("is_locked", [False, True])
def test_a_whole_aid_never_selects_a_longer_one_that_came_first(
    card: ManagedCard, loaded: Issuer, *, is_locked: bool
):
    longer = Aid(NOTE.value + b"\x00")
    loaded.install(longer, b"impostor")
    loaded.install(NOTE, b"wanted")
    if is_locked:
        loaded.status(SetStatus(StatusScope.APPLICATIONS, 0x80, NOTE).to_command())
    card.send("0070000001")
    assert card.send("01" + SELECT_NOTE[2:]) == ("6A82" if is_locked else "9000")
    if not is_locked:
        assert card.send("01" + READ[2:]) == b"wanted".hex().upper() + "9000"
    assert card.send(f"01A4040006{NOTE.value[:-1].hex()}") == "9000"
    assert card.send("01" + READ[2:]) == b"impostor".hex().upper() + "9000"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (InstallForInstall(GONE, NOTE_MODULE, NOTE), "6A88"),
        (InstallForInstall(NOTE_PACKAGE, GONE, NOTE), "6A88"),
        (InstallForInstall(NOTE_PACKAGE, PROBE_MODULE, NOTE), "6A88"),
        (InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, PROBE), "6985"),
        (InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, ISD_AID), "6985"),
        (InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, NOTE_PACKAGE), "6985"),
        (InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, NOTE, DEFAULT), "6985"),
        (InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, NOTE, Privilege.SECURITY_DOMAIN), "6A80"),
        (InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, NOTE, Privilege.CARD_LOCK), "6A80"),
        (InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, NOTE, parameters=b"refuse"), "6A80"),
    ],
)
def test_a_refused_installation_stores_nothing(
    card: ManagedCard, loaded: Issuer, request_: InstallForInstall, status: str
):
    before = dict(card.store.contents)
    assert loaded.status(request_.to_command()) == status
    assert card.store.contents == before
    assert loaded.install() == "9000"


def test_a_card_holds_a_bounded_number_of_instances(card: ManagedCard, loaded: Issuer):
    free = INSTANCE_LIMIT - len(registry(card).entries)
    for number in range(free):
        assert loaded.install(Aid(NOTE_MODULE.value + bytes((number,)))) == "9000"
    assert loaded.install(Aid(NOTE_MODULE.value + b"\xff")) == "6A84"


@pytest.mark.parametrize("data", ["", "00", "FF" * 10, "05" + "00" * 4])
@pytest.mark.parametrize("purpose", ["02", "04", "08", "0C", "20", "40"])
def test_malformed_installations_are_refused(issuer: Issuer, purpose: str, data: str):
    command = CommandApdu(0x80, Ins.INSTALL, int(purpose, 16), 0, bytes.fromhex(data), 256)
    assert issuer.status(command) in ("6A80", "6A86")


@pytest.mark.parametrize("purpose", [0x00, 0x01, 0x0E, 0x10, 0x82])
def test_other_purposes_of_install_are_not_spoken(issuer: Issuer, purpose: int):
    assert issuer.status(CommandApdu(0x80, Ins.INSTALL, purpose, 0, bytes(6))) == "6A86"


def test_a_deleted_instance_leaves_no_object(card: ManagedCard, loaded: Issuer):
    before = dict(card.store.contents)
    loaded.install()
    assert loaded.status(Delete(NOTE).to_command()) == "9000"
    assert card.store.contents == before
    assert loaded.status(Delete(NOTE).to_command()) == "6A88"
    assert loaded.install(parameters=b"") == "9000"


def test_a_deleted_instance_is_deselected_wherever_it_was(card: ManagedCard, loaded: Issuer):
    loaded.install()
    card.send("0070000001")
    assert card.send("01" + SELECT_NOTE[2:]) == "9000"
    assert loaded.status(Delete(NOTE).to_command()) == "9000"
    assert card.send("01" + READ[2:]) == "6999"
    assert card.send("01" + SELECT_NOTE[2:]) == "6A82"


def test_the_default_selected_instance_can_be_deleted_and_another_take_its_place(
    card: ManagedCard, loaded: Issuer
):
    assert loaded.status(Delete(PROBE).to_command()) == "9000"
    again = card.again()
    assert again.atr == bytes.fromhex("3B800181")
    assert again.send(READ) == "6999"
    issuer = Issuer(again).open()
    assert issuer.install(parameters=b"new.name", privileges=DEFAULT) == "9000"
    assert again.card.reset()[3:-1] == b"new.name"
    assert again.send(READ) == b"new.name".hex().upper() + "9000"


def test_a_load_file_in_use_goes_only_together_with_its_instances(
    card: ManagedCard, loaded: Issuer
):
    loaded.install()
    loaded.install(SECOND)
    assert loaded.status(Delete(NOTE_PACKAGE).to_command()) == "6985"
    assert loaded.status(Delete(NOTE_PACKAGE, and_related=True).to_command()) == "9000"
    assert registry(card).load_files == (PROBE_PACKAGE,)
    assert not [name for name in card.store.contents if name.startswith(str(NOTE_PACKAGE))]
    assert loaded.status(Delete(NOTE_PACKAGE).to_command()) == "6A88"
    assert set(loaded.load(NOTE_FILE)) == {"9000"}


def test_a_load_file_without_instances_goes_by_itself(card: ManagedCard, loaded: Issuer):
    assert loaded.status(Delete(NOTE_PACKAGE).to_command()) == "9000"
    assert loaded.install() == "6A88"


def test_the_domain_itself_stays(issuer: Issuer):
    assert issuer.status(Delete(ISD_AID).to_command()) == "6985"
    assert issuer.status(Delete(ISD_AID, and_related=True).to_command()) == "6985"


@pytest.mark.parametrize("data", ["", "4F00", "4F04A0000000", "4F05A000000099" * 2, "D3020101"])
def test_malformed_deletions_are_refused(issuer: Issuer, data: str):
    assert issuer.status(CommandApdu(0x80, Ins.DELETE, 0, 0, bytes.fromhex(data))) == "6A80"


def test_a_locked_instance_is_deselected_and_cannot_be_selected(card: ManagedCard, loaded: Issuer):
    loaded.install()
    card.send("0070000001")
    card.send("01" + SELECT_NOTE[2:])
    lock = SetStatus(StatusScope.APPLICATIONS, 0x80, NOTE).to_command()
    unlock = SetStatus(StatusScope.APPLICATIONS, 0x07, NOTE).to_command()
    assert loaded.status(unlock) == "6985"
    assert loaded.status(lock) == "9000"
    assert loaded.status(lock) == "6985"
    assert card.send("01" + READ[2:]) == "6999"
    assert card.send("01" + SELECT_NOTE[2:]) == "6A82"
    (entry,) = loaded.listed(StatusScope.APPLICATIONS, NOTE.value)
    assert entry.state == 0x87
    assert loaded.status(InstallForPersonalization(NOTE).to_command()) == "6985"
    assert loaded.status(unlock) == "9000"
    assert card.send("01" + SELECT_NOTE[2:]) == "9000"


def test_a_locked_default_leaves_nothing_selected_and_no_name(card: ManagedCard, issuer: Issuer):
    assert card.atr[3:-1] == b"probe.example"
    issuer.status(SetStatus(StatusScope.APPLICATIONS, 0x80, PROBE).to_command())
    again = card.again()
    assert again.atr[3:-1] == b""
    assert again.send("000D000000") == "6999"
    issuer = Issuer(again).open()
    issuer.status(SetStatus(StatusScope.APPLICATIONS, 0x00, PROBE).to_command())
    assert again.card.reset()[3:-1] == b"probe.example"


@pytest.mark.parametrize(
    ("scope", "aid", "status"),
    [
        (StatusScope.APPLICATIONS, GONE, "6A88"),
        (StatusScope.APPLICATIONS, ISD_AID, "6985"),
        (StatusScope.DOMAIN_AND_APPLICATIONS, ISD_AID, "6985"),
    ],
)
def test_what_cannot_be_locked_is_refused(issuer: Issuer, scope, aid, status: str):
    assert issuer.status(SetStatus(scope, 0x80, aid).to_command()) == status


def state(value: int) -> CommandApdu:
    return SetStatus(StatusScope.ISSUER_DOMAIN, value).to_command()


def test_the_card_goes_through_its_life_one_step_at_a_time(card: ManagedCard, issuer: Issuer):
    for refused in (0x01, 0x0F, 0x7F, 0x00, 0x55):
        assert issuer.status(state(refused)) == "6985"
    assert issuer.status(state(0x07)) == "9000"
    assert issuer.status(state(0x01)) == "6985"
    assert issuer.status(state(0x0F)) == "9000"
    assert issuer.status(state(0x07)) == "6985"
    (entry,) = issuer.listed(StatusScope.ISSUER_DOMAIN)
    assert entry.state == 0x0F
    assert card.again().send("000D000000") == "A000000001019000"


def test_a_locked_card_has_its_domain_alone_and_can_be_unlocked(card: ManagedCard, issuer: Issuer):
    card.send("0070000001")
    assert card.send("010D000000") == "A000000001019000"
    for value in (0x07, 0x0F, 0x7F):
        assert issuer.status(state(value)) == "9000"
    assert card.send("010D000000") == "6999"
    assert card.send("01A4040006A00000000101") == "6A82"
    again = card.again()
    assert again.atr[3:-1] == b""
    assert again.send("80CA006600").endswith("9000")
    issuer = Issuer(again).open()
    assert issuer.load(NOTE_FILE)[0] == "6985"
    assert issuer.status(Delete(PROBE).to_command()) == "6985"
    assert issuer.listed(StatusScope.APPLICATIONS)
    assert issuer.status(state(0x0F)) == "9000"
    assert again.again().send("000D000000") == "A000000001019000"


def test_a_terminated_card_tells_what_it_is_and_nothing_else(card: ManagedCard, issuer: Issuer):
    card.send("0070000001")
    assert card.send("010D000000") == "A000000001019000"
    assert issuer.status(state(0xFF)) == "9000"
    assert card.send("010D000000") == "6999"
    assert issuer.status(state(0x0F)) == "6985"
    again = card.again()
    assert again.send("80CA9F7F00").endswith("9000")
    assert again.send("8050000008" + "00" * 8) == "6985"
    assert again.send("00A4040006A00000000101") == "6A82"
    assert again.send("00A40400").endswith("9000")


def test_privileges_can_be_moved_and_the_name_of_the_card_with_them(
    card: ManagedCard, loaded: Issuer
):
    loaded.install(parameters=b"note.example")
    give = RegistryUpdate(NOTE, DEFAULT).to_command()
    assert loaded.status(give) == "6985"
    assert loaded.status(RegistryUpdate(PROBE, Privilege(0)).to_command()) == "9000"
    assert loaded.status(give) == "9000"
    assert card.card.reset()[3:-1] == b"note.example"


@pytest.mark.parametrize(
    ("update", "status"),
    [
        (RegistryUpdate(None, Privilege(0)), "6985"),
        (RegistryUpdate(PROBE, None, GONE), "6985"),
        (RegistryUpdate(GONE, Privilege(0)), "6A88"),
        (RegistryUpdate(PROBE, Privilege.CARD_LOCK), "6A80"),
        (RegistryUpdate(PROBE), "9000"),
    ],
)
def test_other_updates_of_the_registry_change_nothing(
    card: ManagedCard, issuer: Issuer, update: RegistryUpdate, status: str
):
    before = dict(card.store.contents)
    assert issuer.status(update.to_command()) == status
    assert card.store.contents == before


def test_stored_data_reach_the_instance_and_outlive_the_power(card: ManagedCard, loaded: Issuer):
    loaded.install()
    assert loaded.status(InstallForPersonalization(NOTE).to_command()) == "9000"
    before = dict(card.store.contents)
    first, last = store_blocks(b"a longer text", 8)
    assert loaded.status(first.to_command()) == "9000"
    assert card.store.contents == before
    assert loaded.status(last.to_command()) == "9000"
    again = card.again()
    again.send(SELECT_NOTE)
    assert again.send(READ) == b"a longer text".hex().upper() + "9000"
    assert loaded.status(StoreData(0, b"more", is_last=True).to_command()) == "6A80"


def test_blocks_of_a_sequence_that_was_cut_are_no_part_of_the_next_one(
    card: ManagedCard, loaded: Issuer
):
    loaded.install()
    for _ in range(2):
        loaded.status(InstallForPersonalization(NOTE).to_command())
        assert loaded.status(StoreData(0, b"old", is_last=False).to_command()) == "9000"
    loaded.status(InstallForPersonalization(NOTE).to_command())
    assert loaded.status(StoreData(0, b"new", is_last=True).to_command()) == "9000"
    assert card.store.contents[f"{NOTE}/object/note"] == b"new"


def test_an_instance_that_is_personalised_is_deselected_first(card: ManagedCard, loaded: Issuer):
    loaded.install()
    card.send("0070000001")
    assert card.send("01" + SELECT_NOTE[2:]) == "9000"
    assert loaded.status(InstallForPersonalization(NOTE).to_command()) == "9000"
    assert card.send("01" + READ[2:]) == "6999"


def test_data_that_the_instance_refuses_are_forgotten(card: ManagedCard, loaded: Issuer):
    loaded.install()
    loaded.status(InstallForPersonalization(NOTE).to_command())
    before = dict(card.store.contents)
    assert loaded.status(StoreData(0, b"a", is_last=False).to_command()) == "9000"
    assert loaded.status(StoreData(1, b"!", is_last=True).to_command()) == "6A80"
    assert loaded.status(StoreData(2, b"b", is_last=True).to_command()) == "6A86"
    assert card.store.contents == before


@pytest.mark.parametrize(
    "block",
    [
        StoreData(1, b"a", is_last=True),
        StoreData(0, b"a", is_last=True, options=0x60),
        StoreData(0, b"a", is_last=True, options=0x08),
    ],
)
def test_blocks_out_of_order_or_encrypted_are_refused(loaded: Issuer, block: StoreData):
    loaded.install()
    loaded.status(InstallForPersonalization(NOTE).to_command())
    assert loaded.status(block.to_command()) == "6A86"


@pytest.mark.parametrize(("aid", "status"), [(PROBE, "6985"), (GONE, "6A88"), (ISD_AID, "6985")])
def test_what_takes_no_data_cannot_be_personalised(issuer: Issuer, aid: Aid, status: str):
    assert issuer.status(InstallForPersonalization(aid).to_command()) == status


def test_an_instance_learns_from_the_card_what_it_is(card: ManagedCard, loaded: Issuer):
    loaded.install()
    card.store.contents["card/copy"] = b"\x01"
    again = card.again()
    again.send(SELECT_NOTE)
    facts = again.card.process(bytes.fromhex("0001000000")).decode("latin-1")
    assert "module='note', version='1.2'" in facts
    assert repr(NOTE_FILE.digest) in facts
    assert "life_cycle=7, is_copy=True" in facts
    del again.store.contents["card/copy"]
    again = again.again()
    again.send(SELECT_NOTE)
    assert b"is_copy=False" in again.card.process(bytes.fromhex("0001000000"))


def test_an_instance_finds_the_module_of_another_one(card: ManagedCard, loaded: Issuer):
    loaded.install()
    loaded.install(SECOND)
    ask = f"0102000007{SECOND}00"
    card.send("0070000001")
    card.send("01" + SELECT_NOTE[2:])
    assert card.send(ask) == f"{NOTE}{b'hash'.hex().upper()}9000"
    assert card.send(f"0102000006{PROBE}00") == b"none".hex().upper() + "9000"
    assert card.send(f"0102000005{GONE}00") == b"none".hex().upper() + "9000"
    loaded.status(SetStatus(StatusScope.APPLICATIONS, 0x80, SECOND).to_command())
    assert card.send(ask) == b"none".hex().upper() + "9000"


def test_an_instance_whose_load_file_this_software_does_not_know_is_still_listed_and_deleted(
    card: ManagedCard, loaded: Issuer
):
    loaded.install()
    other = ManagedCard(card.store.contents, packages=PACKAGES[:1])
    issuer = Issuer(other).open()
    entry = issuer.listed(StatusScope.LOAD_FILES_AND_MODULES, NOTE_PACKAGE.value)[0]
    assert (entry.version, entry.modules) == (b"", ())
    assert issuer.install(SECOND) == "6A88"
    assert issuer.status(Delete(NOTE_PACKAGE, and_related=True).to_command()) == "9000"


def test_a_full_medium_refuses_management_and_changes_nothing(card: ManagedCard, loaded: Issuer):
    before = dict(card.store.contents)
    card.store.full = True
    assert loaded.install() == "6581"
    assert loaded.status(Delete(PROBE).to_command()) == "6581"
    card.store.full = False
    assert card.store.contents == before
    assert loaded.install() == "9000"


def test_an_instance_that_is_gone_has_no_facts(card: ManagedCard, loaded: Issuer):
    loaded.install()
    note = card.card._contents.instance(NOTE).applet
    assert note.context.facts().module == "note"
    loaded.status(Delete(NOTE).to_command())
    with pytest.raises(StatusWordError) as caught:
        note.context.facts()
    assert caught.value.status == 0x6A88
