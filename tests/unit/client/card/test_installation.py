# SPDX-License-Identifier: Apache-2.0
"""Plans from what is on a card to what is asked for; refusals that take back what was begun."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from iose.client.card.changes import plan_default, plan_deletion, plan_lock
from iose.client.card.discovery import is_selected, select
from iose.client.card.errors import CardManagementError
from iose.client.card.installation import (
    PERSONALISED_BEFORE,
    InstallationRequest,
    PersonalisationData,
    plan_installation,
)
from iose.client.card.inventory import CardInventory
from iose.client.card.key_change import draw_keys, plan_key_change
from iose.client.card.key_files import PUBLISHED_KEYS
from iose.client.card.manager import LEFT, TAKEN_BACK, CardManager
from iose.client.card.plan import Plan, Step
from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.commands import Delete, Ins, LoadBlock, store_blocks
from iose.globalplatform.data_objects import StatusEntry
from iose.globalplatform.install import InstallForLoad, InstallForPersonalization
from iose.globalplatform.keys import KeyType
from iose.globalplatform.life_cycle import Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.status import StatusWordError
from iose.runtime.compose import encode_module
from iose.runtime.errors import ConfigurationError
from iose.runtime.packages import shipped_packages
from iose.transport.errors import CardRemovedError
from tests.support.managed_card import CRYPTO, ManagedCard, managed, tools
from tests.support.rng import SeededRng

ISD = Aid.from_hex("A000000151000000")
PACKAGE = Aid.from_hex("0102030408")
MODULE = Aid.from_hex("010203040800")
SERVER = Aid.from_hex("010203040500")
OTHER = Aid.from_hex("A00000000901")
SHIPPED = shipped_packages()["tls-im"]
EMPTY = CardInventory(ISD, 0x0F)
REQUEST = InstallationRequest(SHIPPED.load_file, MODULE, MODULE, "tls-im")
LOADED = replace(EMPTY, load_files=(StatusEntry(PACKAGE, 1, version=b"\x02\x00"),))
BLOCK = 239


def with_instance(state: int, load_file: Aid | None = PACKAGE) -> CardInventory:
    return replace(LOADED, applications=(StatusEntry(MODULE, state, load_file=load_file),))


def words(plan: Plan) -> list[str]:
    return [step.words.split(",")[0] for step in plan.steps]


def test_an_empty_card_gets_package_and_instance():
    plan = plan_installation(EMPTY, REQUEST, BLOCK)
    assert words(plan) == ["load the package tls-im", f"make the instance {MODULE}"]
    assert (plan.apdus, plan.notes) == (3, ())


def test_a_package_that_is_there_is_not_loaded_again():
    plan = plan_installation(LOADED, REQUEST, BLOCK)
    assert words(plan) == [f"make the instance {MODULE}"]
    assert "on the card already" in plan.notes[0]


def test_what_is_installed_makes_an_empty_plan():
    assert plan_installation(with_instance(0x07), REQUEST, BLOCK).steps == ()
    assert plan_installation(with_instance(0x07, None), REQUEST, BLOCK).steps == ()


def test_an_instance_that_was_left_unselectable_is_finished():
    plan = plan_installation(with_instance(0x03), REQUEST, BLOCK)
    assert words(plan) == [f"make {MODULE} selectable"]
    personal = replace(REQUEST, personalisation=PersonalisationData(b"secret", "file"))
    plan = plan_installation(with_instance(0x03), personal, BLOCK)
    assert len(plan.steps) == 3
    assert plan.steps[1].accepted  # a run that was cut may have personalised it
    given = PersonalisationData(b"secret", "file", lambda: None)
    plan = plan_installation(with_instance(0x03), replace(REQUEST, personalisation=given), BLOCK)
    assert words(plan)[0] == "write its secrets to file (mode 0600)"
    assert not plan.steps[2].accepted


def test_a_free_aid_is_nobodys_on_the_card():
    numbered = [Aid(MODULE.value + bytes((0, number))) for number in range(1, 5)]
    assert EMPTY.free_aid(MODULE) == MODULE
    card = CardInventory(
        numbered[0],
        None,
        (StatusEntry(MODULE, 7), StatusEntry(numbered[2], 7)),
        (StatusEntry(numbered[1], 1),),
    )
    assert card.free_aid(MODULE) == numbered[3]


def test_when_no_aid_is_free_that_is_told(monkeypatch):
    monkeypatch.setattr("iose.client.card.inventory.NUMBER_LIMIT", 1)
    with pytest.raises(CardManagementError, match=f"begins with {MODULE}"):
        with_instance(0x07).free_aid(MODULE)


def test_a_finished_instance_that_is_not_the_default_is_told_so():
    wanted = replace(REQUEST, privileges=Privilege.DEFAULT_SELECTED)
    plan = plan_installation(with_instance(0x07), wanted, BLOCK)
    assert plan.steps == ()
    assert "iose card default" in plan.notes[-1]


def test_new_secrets_are_written_before_they_are_sent():
    given = PersonalisationData(b"hidden", "file", lambda: None)
    plan = plan_installation(EMPTY, replace(REQUEST, personalisation=given), BLOCK)
    steps = words(plan)
    assert steps.index("write its secrets to file (mode 0600)") < steps.index(
        f"give {MODULE} the secrets in file"
    )
    assert not plan.steps[-2].accepted
    assert "hidden" not in repr(plan) + repr(given)


def test_the_aid_of_another_package_is_not_taken():
    with pytest.raises(CardManagementError, match="another package") as caught:
        plan_installation(with_instance(0x07, OTHER), REQUEST, BLOCK)
    assert "--aid" in caught.value.hint


def test_another_version_of_the_package_is_in_the_way():
    old = replace(EMPTY, load_files=(StatusEntry(PACKAGE, 1, version=b"\x01\x07"),))
    with pytest.raises(CardManagementError, match=r"version 1\.7 of the package, not 2\.0"):
        plan_installation(old, REQUEST, BLOCK)
    unsaid = replace(EMPTY, load_files=(StatusEntry(PACKAGE, 1),))
    assert len(plan_installation(unsaid, REQUEST, BLOCK).steps) == 1


def test_an_application_may_have_the_aid_of_the_package():
    taken = replace(EMPTY, applications=(StatusEntry(PACKAGE, 7),))
    with pytest.raises(CardManagementError, match="has the AID"):
        plan_installation(taken, REQUEST, BLOCK)


def test_the_default_selection_is_taken_from_who_has_it():
    holder = StatusEntry(OTHER, 7, Privilege.DEFAULT_SELECTED | Privilege.CARD_LOCK)
    card = replace(LOADED, applications=(holder,))
    wanted = replace(REQUEST, privileges=Privilege.DEFAULT_SELECTED)
    plan = plan_installation(card, wanted, BLOCK)
    assert words(plan)[0] == f"no longer have a reset select {OTHER}"
    assert plan.steps[0].commands[0].data.endswith(b"\x01\x10\x00\x00")
    assert plan_default(card, OTHER).steps == ()


def test_a_package_of_more_than_256_blocks_is_refused():
    huge = replace(SHIPPED.load_file, data=bytes(256 * BLOCK))
    with pytest.raises(CardManagementError, match="257 blocks"):
        plan_installation(EMPTY, replace(REQUEST, load_file=huge), BLOCK)
    fits = replace(SHIPPED.load_file, data=bytes(256 * BLOCK - 4))
    plan = plan_installation(EMPTY, replace(REQUEST, load_file=fits), BLOCK)
    last = LoadBlock.from_command(plan.steps[0].commands[-1])
    assert (last.number, last.is_last) == (255, True)


def test_a_deletion_says_what_goes_with_it():
    card = with_instance(0x07)
    with pytest.raises(CardManagementError, match=f"used by {MODULE}"):
        plan_deletion(card, PACKAGE, is_related=False)
    plan = plan_deletion(card, PACKAGE, is_related=True)
    assert str(MODULE) in plan.steps[0].words
    assert plan.steps[0].commands == (Delete(PACKAGE, and_related=True).to_command(),)
    assert plan_deletion(LOADED, PACKAGE, is_related=False).apdus == 1
    assert plan_deletion(EMPTY, PACKAGE, is_related=False).steps == ()
    with pytest.raises(CardManagementError, match="issuer security domain"):
        plan_deletion(card, ISD, is_related=True)


def test_only_applications_are_locked():
    with pytest.raises(CardManagementError, match="no application"):
        plan_lock(LOADED, PACKAGE, is_locked=True)
    assert plan_lock(with_instance(0x0F), MODULE, is_locked=True).steps[0].commands[0].p2 == 0x8F
    assert plan_lock(with_instance(0x8F), MODULE, is_locked=False).steps[0].commands[0].p2 == 0x0F


def run(reader: ManagedCard, folder: Path, plan: Plan, progress=None) -> CardInventory:
    async def work(manager: CardManager) -> CardInventory:
        await manager.apply(plan, progress)
        return await manager.inventory()

    return managed(reader, folder, work)


def inventory(reader: ManagedCard, folder: Path) -> CardInventory:
    return run(reader, folder, Plan("look"))


REFUSED = CommandApdu(0x80, 0xF0, 0x40, 0x80, OTHER.value, 256)


@pytest.mark.parametrize(("held", "replaces"), [(0x30, 0x30), (0x7F, 0x7F), (0xFF, 0)])
def test_new_keys_replace_a_version_that_has_a_number_in_the_command(held: int, replaces: int):
    variant = ScpVariant(3, 0x70)
    card = SimpleNamespace(
        variant=variant,
        key_version=held,
        keys=PUBLISHED_KEYS,
        derive=lambda keys: keys.key_set(KeyType.AES),
    )
    new = draw_keys(SeededRng(), 0x31, variant)
    plan = plan_key_change(card, new, CRYPTO, save=None, file="file")
    assert plan.steps[-1].change.replaces == replaces


@pytest.mark.parametrize("named", [None, OTHER])
def test_a_package_goes_to_the_domain_the_channel_tells_of_unless_one_is_named(
    tmp_path: Path, monkeypatch, named: Aid | None
):
    """What SELECT answers can be anybody's word."""

    async def lie(connection, aid: Aid | None) -> Aid:
        assert is_selected(await select(connection, ISD.value))
        return aid or OTHER

    monkeypatch.setattr("iose.client.card.manager.select_issuer_domain", lie)

    async def work() -> Plan:
        connection = await ManagedCard().connect()
        manager = await CardManager.open(
            connection, [PUBLISHED_KEYS], tools(tmp_path), name="card", issuer_domain=named
        )
        return plan_installation(await manager.inventory(), REQUEST, BLOCK)

    announce = asyncio.run(work()).steps[0].commands[0]
    assert announce == InstallForLoad(PACKAGE, named or ISD).to_command()


def test_what_is_locked_is_not_made_the_default():
    with pytest.raises(CardManagementError, match="locked") as caught:
        plan_default(with_instance(0x87), MODULE)
    assert "unlock" in str(caught.value.hint)


def test_what_a_refused_plan_began_is_taken_back(tmp_path: Path):
    reader = ManagedCard()
    before = inventory(reader, tmp_path)
    begun = plan_installation(before, REQUEST, BLOCK)
    plan = replace(begun, steps=(*begun.steps, Step("lock another", commands=(REFUSED,))))
    with pytest.raises(StatusWordError, match="lock another: nothing of this AID"):
        run(reader, tmp_path, plan)
    assert inventory(reader, tmp_path) == before


def test_a_refused_plan_gives_the_default_selection_back(tmp_path: Path):
    reader = ManagedCard()
    before = inventory(reader, tmp_path)
    wanted = replace(REQUEST, privileges=Privilege.DEFAULT_SELECTED)
    begun = plan_installation(before, wanted, BLOCK)
    plan = replace(begun, steps=(*begun.steps, Step("lock another", commands=(REFUSED,))))
    with pytest.raises(StatusWordError) as caught:
        run(reader, tmp_path, plan)
    assert caught.value.hint == TAKEN_BACK
    assert inventory(reader, tmp_path) == before


@pytest.mark.parametrize(("undo", "hint"), [(Delete(OTHER), TAKEN_BACK), (Delete(ISD), LEFT)])
def test_what_could_not_be_taken_back_is_told(tmp_path: Path, undo: Delete, hint: str):
    begun = plan_lock(inventory(ManagedCard(), tmp_path), SERVER, is_locked=True).steps[0]
    steps = (replace(begun, undo=(undo.to_command(),)), Step("lock another", commands=(REFUSED,)))
    with pytest.raises(StatusWordError) as caught:
        run(ManagedCard(), tmp_path, Plan("two", steps))
    assert caught.value.hint == hint


def test_what_this_side_cannot_do_is_taken_back_too(tmp_path: Path):
    reader = ManagedCard()
    before = inventory(reader, tmp_path)

    def fail() -> None:
        raise ConfigurationError("the disk is full")

    given = PersonalisationData(b"never sent", "file", fail)
    plan = plan_installation(before, replace(REQUEST, personalisation=given), BLOCK)
    with pytest.raises(ConfigurationError):
        run(reader, tmp_path, plan)
    assert inventory(reader, tmp_path) == before


def test_nothing_is_taken_back_that_was_there_before(tmp_path: Path):
    reader = ManagedCard()
    run(reader, tmp_path, plan_installation(inventory(reader, tmp_path), REQUEST, BLOCK))
    before = inventory(reader, tmp_path)
    with pytest.raises(StatusWordError):  # as if the card had not listed what it holds
        run(reader, tmp_path, plan_installation(EMPTY, REQUEST, BLOCK))
    assert inventory(reader, tmp_path) == before


def test_progress_counts_every_command(tmp_path: Path):
    reader = ManagedCard()
    plan = plan_installation(inventory(reader, tmp_path), REQUEST, BLOCK)
    seen: list[tuple[int, str]] = []
    run(reader, tmp_path, plan, lambda done, step: seen.append((done, step)))
    assert [done for done, _ in seen] == [0, 1, 2, 2, 3, 3]
    assert seen[-1] == (plan.apdus, "")


def test_a_plan_of_keys_counts_their_bytes_and_shows_none(tmp_path: Path):
    reader = ManagedCard()
    new = draw_keys(SeededRng(), 0x31, ScpVariant(3, 0x70))

    async def work(manager: CardManager) -> Plan:
        return plan_key_change(manager.channel, new, CRYPTO, save=None, file="file")

    plan = managed(reader, tmp_path, work)
    assert plan.apdus == 1
    assert plan.size > 3 * 16
    assert new.enc.hex() not in repr(plan)
    assert repr(new.enc) not in repr(plan)


@pytest.mark.parametrize("version", [0x00, 0x80])
def test_a_key_version_no_card_can_have_is_refused(tmp_path: Path, version: int):
    new = draw_keys(SeededRng(), version, ScpVariant(3, 0x70))

    async def work(manager: CardManager) -> Plan:
        return plan_key_change(manager.channel, new, CRYPTO, save=None, file="file")

    with pytest.raises(CardManagementError, match="key version"):
        managed(ManagedCard(), tmp_path, work)


def in_small_blocks(reader: ManagedCard, folder: Path, saved: list[bytes]) -> CardInventory:
    """Install a personalised module in blocks of 20 bytes, as one run of a command does."""
    parameters, data = encode_module({"user_pin": "USERUSER", "admin_pin": "ADMINADM"})
    save = None if saved else lambda: saved.append(data)
    given = PersonalisationData(data, "file", save)
    request = replace(REQUEST, parameters=parameters, personalisation=given)

    async def work(manager: CardManager) -> CardInventory:
        await manager.apply(plan_installation(await manager.inventory(), request, 20))
        return await manager.inventory()

    return managed(reader, folder, work)


def test_a_package_is_loaded_and_personalised_in_many_blocks(tmp_path: Path):
    reader = ManagedCard()
    found = in_small_blocks(reader, tmp_path, [])
    sent = [command.ins for command in reader.sent]
    assert (sent.count(Ins.LOAD), sent.count(Ins.STORE_DATA)) == (10, 3)
    assert found.application(MODULE).state == 0x07
    (held,) = reader.secrets["instances"]
    assert (held["user_pin"], held["admin_pin"]) == ("USERUSER", "ADMINADM")


@pytest.mark.parametrize("is_executed", [True, False])
def test_an_installation_in_many_blocks_cut_anywhere_is_finished(tmp_path: Path, is_executed):
    whole = ManagedCard()
    in_small_blocks(whole, tmp_path, [])
    for after in range(whole.cut.commands - 3):  # the list at the end is not part of it
        reader, saved = ManagedCard(), []
        reader.cut.after, reader.cut.is_executed = after, bool(is_executed)
        with pytest.raises(CardRemovedError):
            in_small_blocks(reader, tmp_path, saved)
        reader.cut.after = None
        assert in_small_blocks(reader, tmp_path, saved).application(MODULE).state == 0x07
        (held,) = reader.secrets["instances"]
        assert (held["user_pin"], held["admin_pin"]) == ("USERUSER", "ADMINADM")


def test_a_second_personalisation_stops_at_its_first_refused_block(tmp_path: Path):
    reader = ManagedCard()
    in_small_blocks(reader, tmp_path, [])
    reader.sent.clear()
    blocks = tuple(block.to_command() for block in store_blocks(bytes(60), 20))
    open_it = InstallForPersonalization(MODULE).to_command()
    plan = Plan(
        "again",
        (
            Step("open it", commands=(open_it,)),
            Step("give it", commands=blocks, accepted=PERSONALISED_BEFORE),
        ),
    )
    run(reader, tmp_path, plan)
    assert [command.ins for command in reader.sent].count(Ins.STORE_DATA) == 1


def test_a_lost_channel_is_of_no_more_use(tmp_path: Path):
    reader = ManagedCard()
    new = replace(draw_keys(SeededRng(), 0x31, ScpVariant(3, 0x70)), version=0x31)

    async def work(manager: CardManager) -> None:
        plan = plan_key_change(manager.channel, new, CRYPTO, save=None, file="file")
        reader.cut.after = reader.cut.commands + 2  # PUT KEY and SELECT
        with pytest.raises(CardRemovedError) as caught:
            await manager.apply(plan)
        assert "again" in caught.value.hint
        with pytest.raises(CardManagementError, match="closed"):
            await manager.inventory()

    managed(reader, tmp_path, work)
