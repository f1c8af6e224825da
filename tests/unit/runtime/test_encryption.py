# SPDX-License-Identifier: Apache-2.0
"""A folder that was in clear is encrypted: whole, cut at any step, and never with a loss."""

from pathlib import Path

import pytest

from iose.runtime import encryption
from iose.runtime.elements.shelf import StoreShelf
from iose.runtime.encryption import encrypt_folder, open_folder
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder
from tests.unit.runtime.elements.local_node import LocalNode

WORDS = "a long passphrase"
STEPS = 16  # before and after: two descriptions, two stores, and the renaming in each


class PowerCutError(BaseException):
    """The power went away."""


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("iose.crypto.passphrase.ScryptParameters.__init__.__defaults__", (4,))


def make(path: Path, count: int = 3) -> dict[str, object]:
    """Make a folder in clear and return its secrets by name."""
    node = LocalNode(path)
    secrets = {}
    for number in range(count):
        sen = f"key{number}.com"
        node.create(sen)
        secrets[sen] = node.secrets(sen)
    node.depot.save()
    node.power_off()
    return secrets


def secrets_of(path: Path) -> dict[str, object]:
    node = LocalNode(path, data_key=open_folder(DataFolder(path), WORDS))
    secrets = {sen: node.secrets(sen) for sen in node.states()}
    node.power_off()
    return secrets


def content_of(path: Path) -> bytes:
    return b"".join(item.read_bytes() for item in path.rglob("*") if item.is_file())


def test_an_encrypted_folder_keeps_its_elements_and_shows_no_key(tmp_path: Path):
    before = make(tmp_path)
    psk = bytes.fromhex(before["key0.com"]["psk"])
    assert psk in content_of(tmp_path)
    encrypt_folder(DataFolder(tmp_path), WORDS)
    assert secrets_of(tmp_path) == before
    assert psk not in content_of(tmp_path)
    with pytest.raises(ConfigurationError, match="wrong"):
        open_folder(DataFolder(tmp_path), WORDS + "!")
    with pytest.raises(ConfigurationError, match="already"):
        encrypt_folder(DataFolder(tmp_path), WORDS)


@pytest.mark.parametrize("cut", range(STEPS))
def test_an_encryption_cut_at_any_step_is_finished_by_the_next_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
):
    before, steps = make(tmp_path, 2), []

    def cut_around(call):
        def cutting(*arguments, **options):
            for act in (lambda: None, lambda: call(*arguments, **options)):
                act()
                steps.append(cut)
                if len(steps) == cut + 1:
                    raise PowerCutError

        return cutting

    with monkeypatch.context() as patched:
        for owner, name in (
            (DataFolder, "write_description"),
            (StoreShelf, "replace"),
            (Path, "replace"),
        ):
            patched.setattr(owner, name, cut_around(getattr(owner, name)))
        with pytest.raises(PowerCutError):
            encrypt_folder(DataFolder(tmp_path), WORDS)
    folder = DataFolder(tmp_path)
    folder.hold().release()
    if folder.is_encrypted():
        assert secrets_of(tmp_path) == before
        psk = bytes.fromhex(before["key0.com"]["psk"])
        assert psk not in content_of(tmp_path)
        assert encryption.UNFINISHED not in folder.read_description()
    else:
        node = LocalNode(tmp_path)
        assert node.secrets("key0.com") == before["key0.com"]
        node.power_off()


def test_a_damaged_element_or_a_short_passphrase_changes_nothing(tmp_path: Path):
    make(tmp_path)
    before = content_of(tmp_path / "elements")
    with pytest.raises(ConfigurationError, match="at least 8"):
        encrypt_folder(DataFolder(tmp_path), "short")
    damaged = DataFolder(tmp_path).store("se-ffffffff")
    damaged.write_bytes(b"not a database")
    with pytest.raises(ConfigurationError, match="se-ffffffff"):
        encrypt_folder(DataFolder(tmp_path), WORDS)
    damaged.unlink()
    assert content_of(tmp_path / "elements") == before
    assert not DataFolder(tmp_path).is_encrypted()
