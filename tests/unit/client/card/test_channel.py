# SPDX-License-Identifier: Apache-2.0
"""Opening secure channels: every protocol variant, and keys that are never tried by accident."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from iose.client.card.errors import CardManagementError, WrongKeysError
from iose.client.card.failed_keys import FOLDER_VARIABLE, FailedKeys, default_folder
from iose.client.card.key_change import draw_keys, next_version, plan_key_change
from iose.client.card.key_files import PUBLISHED_KEYS, CardKeys, key_document, read_key_document
from iose.client.card.manager import CardManager
from iose.globalplatform.channel import ScpVariant, SecureChannelError
from iose.globalplatform.keys import Diversification, KeyType
from tests.support.managed_card import CRYPTO, ManagedCard, managed, tools
from tests.support.rng import SeededRng
from tests.unit.client.card.scripted_card import ScriptedCard

WRONG = CardKeys(bytes(16), bytes(16), bytes(16))
VARIANTS = [
    (ScpVariant(2, 0x15), 0x03),
    (ScpVariant(2, 0x55), 0x03),
    (ScpVariant(3, 0x00), 0x03),
    (ScpVariant(3, 0x10), 0x03),
    (ScpVariant(3, 0x30), 0x13),
    (ScpVariant(3, 0x70), 0x33),
    (ScpVariant(3, 0x71), 0x33),
]
INITIALIZE_UPDATE = 0x50
EXTERNAL_AUTHENTICATE = 0x82


def inventory(reader: ManagedCard, folder: Path, *keys: CardKeys, **options: bool):
    async def work(manager: CardManager):
        return await manager.inventory(), manager.channel.level, manager.channel.keys

    return managed(reader, folder, work, *keys, **options)


def sent(reader: ManagedCard, ins: int) -> int:
    return [command.ins for command in reader.sent].count(ins)


@pytest.mark.parametrize(("variant", "level"), VARIANTS, ids=str)
def test_a_channel_has_the_strongest_level_of_the_variant(tmp_path, variant, level: int):
    found, opened, _ = inventory(ManagedCard(variant), tmp_path)
    assert opened == level
    assert [str(entry.aid) for entry in found.applications] == ["010203040500"]


@pytest.mark.parametrize(("variant", "level"), VARIANTS, ids=str)
def test_keys_are_changed_and_proved_in_every_variant(tmp_path, variant, level: int):
    reader = ManagedCard(variant)
    new = draw_keys(SeededRng(), next_version(0x30, variant), variant)

    async def work(manager: CardManager):
        plan = plan_key_change(manager.channel, new, CRYPTO, save=None, file="file")
        await manager.apply(plan)
        assert manager.channel.keys == new
        return await manager.inventory()

    managed(reader, tmp_path, work)
    assert reader.secrets["isd_enc"] == new.enc.hex()
    assert inventory(reader, tmp_path, new)[1] == level


def test_wrong_keys_are_never_shown_to_the_card(tmp_path: Path):
    reader = ManagedCard()
    with pytest.raises(SecureChannelError, match="cryptogram") as caught:
        inventory(reader, tmp_path, WRONG)
    assert "remembered" in caught.value.hint
    assert (sent(reader, INITIALIZE_UPDATE), sent(reader, EXTERNAL_AUTHENTICATE)) == (1, 0)


def test_keys_that_failed_are_not_tried_again_unless_told(tmp_path: Path):
    reader = ManagedCard()
    with pytest.raises(SecureChannelError):
        inventory(reader, tmp_path, WRONG)
    reader.sent.clear()
    with pytest.raises(WrongKeysError, match="failed on this card before") as caught:
        inventory(reader, tmp_path, WRONG)
    assert "--retry-keys" in caught.value.hint
    assert sent(reader, INITIALIZE_UPDATE) == 0
    with pytest.raises(SecureChannelError):
        inventory(reader, tmp_path, WRONG, retries_failed=True)
    assert sent(reader, INITIALIZE_UPDATE) == 1


def test_all_of_several_keys_that_failed_together_are_remembered(tmp_path: Path):
    reader = ManagedCard()
    wrong = [WRONG, replace(WRONG, enc=bytes(16))]
    with pytest.raises(WrongKeysError, match="cryptogram"):
        inventory(reader, tmp_path, *wrong)
    reader.sent.clear()
    for keys in wrong:
        with pytest.raises(WrongKeysError, match="failed on this card before"):
            inventory(reader, tmp_path, keys)
    assert sent(reader, INITIALIZE_UPDATE) == 0


def test_what_failed_on_one_card_is_tried_on_another(tmp_path: Path):
    failed = FailedKeys(CRYPTO, tmp_path)
    failed.note(b"one card", WRONG)
    assert failed.has(b"one card", WRONG)
    assert not failed.has(b"another", WRONG)
    assert not failed.has(b"one card", PUBLISHED_KEYS)
    assert not failed.has(b"one card", replace(WRONG, diversification=Diversification.KDF3))


def test_a_failure_says_nothing_of_card_and_keys(tmp_path: Path):
    failed = FailedKeys(CRYPTO, tmp_path / "state")
    failed.note(b"one card", PUBLISHED_KEYS)
    (file,) = (tmp_path / "state").iterdir()
    assert (file.read_bytes(), len(file.name)) == (b"", 64)
    assert file.stat().st_mode & 0o777 == 0o600
    failed.forget(b"one card", PUBLISHED_KEYS)
    failed.forget(b"one card", PUBLISHED_KEYS)
    assert not failed.has(b"one card", PUBLISHED_KEYS)


def test_keys_that_fit_after_all_are_forgotten_as_failed(tmp_path: Path):
    reader = ManagedCard()
    with pytest.raises(SecureChannelError):
        inventory(reader, tmp_path, WRONG)
    assert len(list(tmp_path.iterdir())) == 1
    inventory(reader, tmp_path)
    (left,) = tmp_path.iterdir()  # of the wrong ones
    inventory(reader, tmp_path, WRONG, PUBLISHED_KEYS)
    assert list(tmp_path.iterdir()) == [left]


def test_a_folder_that_cannot_be_used_is_explained(tmp_path: Path):
    (tmp_path / "file").write_text("")
    failed = FailedKeys(CRYPTO, tmp_path / "file" / "folder")
    for use in (failed.note, failed.has, failed.forget):
        with pytest.raises(CardManagementError) as caught:
            use(b"card", WRONG)
        assert FOLDER_VARIABLE in caught.value.hint


def test_the_folder_is_this_users_own(monkeypatch, tmp_path: Path):
    monkeypatch.setenv(FOLDER_VARIABLE, "chosen")
    assert default_folder() == Path("chosen")
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "iose" / "failed-card-keys"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".local" / "state" / "iose" / "failed-card-keys"


def test_without_a_home_the_folder_must_be_named(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(CardManagementError):
        default_folder()


@pytest.mark.parametrize("is_first", [True, False])
def test_one_command_finds_out_which_of_two_key_sets_a_card_has(tmp_path: Path, is_first):
    reader = ManagedCard()
    candidates = (PUBLISHED_KEYS, WRONG) if is_first else (WRONG, PUBLISHED_KEYS)
    _, _, keys = inventory(reader, tmp_path, *candidates)
    assert keys == PUBLISHED_KEYS
    assert sent(reader, INITIALIZE_UPDATE) == 1
    assert not list(tmp_path.iterdir())


def test_a_key_version_the_card_does_not_have_costs_no_try(tmp_path: Path):
    reader = ManagedCard()
    new = replace(WRONG, version=0x31)
    _, _, keys = inventory(reader, tmp_path, new, replace(PUBLISHED_KEYS, version=0x30))
    assert keys.version == 0x30
    with pytest.raises(SecureChannelError, match="no keys of this version"):
        inventory(reader, tmp_path, new)
    assert not list(tmp_path.iterdir())


def test_keys_of_another_protocol_are_not_blamed(tmp_path: Path):
    reader = ManagedCard(ScpVariant(2, 0x15))
    with pytest.raises(CardManagementError, match="SCP03"):
        inventory(reader, tmp_path, replace(PUBLISHED_KEYS, variant=ScpVariant(3, 0x70)))
    keys = replace(PUBLISHED_KEYS, variant=ScpVariant(3, 0x60))
    with pytest.raises(CardManagementError, match="i=60"):
        inventory(ManagedCard(), tmp_path, keys)
    assert not list(tmp_path.iterdir())


def test_keys_that_fit_no_cipher_are_refused_before_the_card_is_asked(tmp_path: Path):
    with pytest.raises(CardManagementError, match="16"):
        inventory(ManagedCard(), tmp_path, CardKeys(bytes(7), bytes(7), bytes(7)))


@pytest.mark.parametrize(
    "method", [Diversification.EMV, Diversification.VISA2, Diversification.KDF3]
)
def test_master_keys_open_the_card_whose_keys_follow_from_them(tmp_path: Path, method):
    reader = ManagedCard()
    new = draw_keys(SeededRng(), 0x31, ScpVariant(3, 0x70)).used(diversification=method)

    async def work(manager: CardManager):
        await manager.apply(plan_key_change(manager.channel, new, CRYPTO, save=None, file="f"))

    managed(reader, tmp_path, work)
    assert reader.secrets["isd_enc"] != new.enc.hex()
    inventory(reader, tmp_path, new)
    with pytest.raises(SecureChannelError):
        inventory(reader, tmp_path, replace(new, diversification=Diversification.NONE))


def test_a_blocked_card_is_told_in_words(tmp_path: Path):
    reader = ManagedCard()
    reader.store.contents["A000000151000000/object/failures"] = bytes((10,))
    with pytest.raises(SecureChannelError, match="blocked") as caught:
        inventory(reader, tmp_path)
    assert "iose element unlock" in str(caught.value.hint)


def test_a_refused_authentication_is_remembered(tmp_path: Path, monkeypatch):
    reader = ManagedCard()
    connect = reader.connect

    async def tampered():
        connection = await connect()
        inner = connection.transmit_batch

        async def transmit_batch(steps):
            command = steps[0].command
            if command.ins == EXTERNAL_AUTHENTICATE:
                wrong = replace(command, data=bytes(len(command.data)))
                steps = [replace(steps[0], command=wrong)]
            return await inner(steps)

        connection.transmit_batch = transmit_batch
        return connection

    monkeypatch.setattr(reader, "connect", tampered)
    with pytest.raises(SecureChannelError, match="refuses these keys"):
        inventory(reader, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("current", "variant", "expected"),
    [
        (0x30, ScpVariant(3, 0x70), 0x31),
        (0x3F, ScpVariant(3, 0x70), 0x30),
        (0xFF, ScpVariant(3, 0x70), 0x30),
        (0x20, ScpVariant(2, 0x15), 0x21),
        (0x01, ScpVariant(2, 0x15), 0x20),
    ],
)
def test_new_keys_have_the_next_version_of_their_protocol(current, variant, expected):
    assert next_version(current, variant) == expected


def test_a_key_file_is_read_as_it_was_written():
    keys = draw_keys(SeededRng(), 0x31, ScpVariant(3, 0x70), 32)
    assert read_key_document(_json(key_document(keys, ScpVariant(3, 0x70)))) == keys
    masters = keys.used(diversification=Diversification.KDF3)
    assert read_key_document(_json(key_document(masters, ScpVariant(3, 0x70)))) == masters


@pytest.mark.parametrize(
    "change",
    [
        {"isd_enc": None},
        {"isd_enc": "0x"},
        {"isd_enc": "00"},
        {"isd_dek": "00" * 24},
        {"isd_key_version": "100"},
        {"isd_key_version": 48},
        {"isd_scp": "04"},
        {"isd_scp_i": "zz"},
        {"isd_diversification": "magic"},
    ],
)
def test_a_key_file_that_is_none_is_refused_without_repeating_it(change):
    fields = key_document(PUBLISHED_KEYS, ScpVariant(3, 0x70)) | change
    with pytest.raises(CardManagementError) as caught:
        read_key_document(_json(fields))
    assert "4041" not in str(caught.value)


def test_a_key_file_may_hold_the_keys_alone():
    fields = dict.fromkeys(("isd_enc", "isd_mac", "isd_dek"), "40" * 16)
    keys = read_key_document(_json(fields))
    assert (keys.version, keys.variant) == (0, None)
    assert keys.key_set(KeyType.DES3).enc == b"\x40" * 16
    assert "40" * 16 not in repr(keys)


def _json(fields: dict[str, object]) -> bytes:
    return json.dumps(fields).encode()


def test_master_keys_of_a_size_that_derives_nothing_are_refused(tmp_path: Path):
    masters = CardKeys(bytes(32), bytes(32), bytes(32), diversification=Diversification.EMV)
    with pytest.raises(CardManagementError, match="derive"):
        inventory(ManagedCard(), tmp_path, masters)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("answer", ["9000", "00" * 28 + "9000", "00" * 10 + "3004" + "9000"])
def test_an_answer_that_begins_no_channel_blames_no_keys(tmp_path: Path, answer: str):
    card = ScriptedCard({"80503": answer, "80500": answer, "00A4": "9000"})
    opened = CardManager.open(card, [PUBLISHED_KEYS], tools(tmp_path), name="card")
    with pytest.raises(SecureChannelError, match="INITIALIZE UPDATE"):
        asyncio.run(opened)
    assert not list(tmp_path.iterdir())
