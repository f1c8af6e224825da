# SPDX-License-Identifier: Apache-2.0
"""The card is lost at every single command of a change, before or after it was carried out.

The same command again then finishes the work, whatever the first run left behind: the card holds
what was asked for, and the file holds the secrets that the card has.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from iose.card.registry import REGISTRY_NAME, Registry
from iose.cli import card_options
from iose.cli.main import run
from tests.support.managed_card import ManagedCard

SECOND = "010203040501"
MODULE = "010203040800"
CUT_STATUS = 1
pytestmark = pytest.mark.timeout(120)


def contents(reader: ManagedCard) -> dict[str, str]:
    """Return states by AID, as the card's own registry says."""
    registry = Registry.decode(reader.store.contents[REGISTRY_NAME])
    return {str(entry.aid): f"{entry.life_cycle:02X}" for entry in registry.entries}


def install_server(file: Path) -> list[str]:
    return ["install", "key1.com", "tls-se", "--aid", SECOND, "--sen", "key2.com",
            "--secrets-out", str(file)]  # fmt: skip


def install_next(file: Path) -> list[str]:
    return ["install", "key1.com", "tls-se", "--sen", "key2.com", "--secrets-out", str(file)]


def install_module(file: Path) -> list[str]:
    return ["install", "key1.com", "tls-im", "--secrets-out", str(file)]


def install_default(file: Path) -> list[str]:
    return [*install_server(file), "--default"]


def delete_package(_file: Path) -> list[str]:
    return ["delete", "key1.com", "tls-se", "--related"]


def lock_server(_file: Path) -> list[str]:
    return ["lock", "key1.com", "tls-se"]


def put_key(file: Path) -> list[str]:
    return ["put-key", "key1.com", "--out", str(file)]


def put_same_version(file: Path) -> list[str]:
    return ["put-key", "key1.com", "--out", str(file), "--new-version", "30"]


def same_secrets(held: Mapping[str, object], file: Path) -> None:
    written = json.loads(file.read_text())
    common = held.keys() & written.keys()
    assert {"user_pin", "admin_pin"} <= common
    assert {name: held[name] for name in common} == {name: written[name] for name in common}


def has_server(reader: ManagedCard, file: Path) -> None:
    assert contents(reader)[SECOND] == "07"
    (held,) = reader.secrets["instances"]
    same_secrets(held, file)


def has_next(reader: ManagedCard, file: Path) -> None:
    instances = [aid for aid in contents(reader) if aid.startswith("010203040500")]
    assert instances == ["010203040500", "0102030405000001"]
    assert contents(reader)["0102030405000001"] == "07"
    (held,) = reader.secrets["instances"]
    same_secrets(held, file)


def has_module(reader: ManagedCard, file: Path) -> None:
    assert contents(reader)[MODULE] == "07"
    (held,) = reader.secrets["instances"]
    same_secrets(held, file)


def has_default(reader: ManagedCard, file: Path) -> None:
    assert contents(reader)[SECOND] == "07"
    same_secrets(reader.secrets, file)  # those of the default-selected instance
    assert reader.secrets["psk"] == json.loads(file.read_text())["psk"]


def has_no_server(reader: ManagedCard, _file: Path) -> None:
    assert list(contents(reader)) == ["A000000151000000"]


def has_locked_server(reader: ManagedCard, _file: Path) -> None:
    assert contents(reader)["010203040500"] == "87"


def has_new_keys(reader: ManagedCard, file: Path) -> None:
    written = json.loads(file.read_text())
    held = reader.secrets
    assert {name: held[name] for name in written if name != "card"} == {
        name: value for name, value in written.items() if name != "card"
    }
    assert run(["card", "list", "key1.com", "--keys", str(file)]) == 0


CHANGES: dict[str, tuple[Callable[[Path], list[str]], Callable[[ManagedCard, Path], None]]] = {
    "a TLS server": (install_server, has_server),
    "a TLS server under the next free AID": (install_next, has_next),
    "an identity module with its package": (install_module, has_module),
    "a server selected by default": (install_default, has_default),
    "a deletion": (delete_package, has_no_server),
    "a lock": (lock_server, has_locked_server),
    "new keys": (put_key, has_new_keys),
    "new keys of the same version": (put_same_version, has_new_keys),
}


class Run:
    """One change of one card, with a place for its files."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, command) -> None:
        folder.mkdir()
        self.reader = ManagedCard()
        self.file = folder / "secrets.json"
        self.arguments = ["card", *command(self.file), "--demo-keys", "--yes"]
        monkeypatch.setenv("IOSE_CARD_STATE", str(folder / "failed"))
        monkeypatch.setattr(card_options, "open_reader", lambda *_, **__: self.reader)
        monkeypatch.setattr(card_options, "served_names", lambda *_: [])

    def __call__(self) -> int:
        return run(self.arguments)


def cuts(total: int) -> Iterator[tuple[int, bool]]:
    for after in range(total):
        yield after, False
        yield after, True


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_cut_anywhere_is_finished_by_the_same_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    command, check = CHANGES[name]
    whole = Run(tmp_path / "whole", monkeypatch, command)
    assert whole() == 0, capsys.readouterr().err
    total = whole.reader.cut.commands
    check(whole.reader, whole.file)
    for after, is_executed in cuts(total):
        cut = Run(tmp_path / f"{after}-{is_executed}", monkeypatch, command)
        cut.reader.cut.after, cut.reader.cut.is_executed = after, is_executed
        capsys.readouterr()
        assert cut() == CUT_STATUS
        assert "the session is over" in capsys.readouterr().err
        cut.reader.cut.after = None
        assert cut() == 0, (after, is_executed, capsys.readouterr().err)
        check(cut.reader, cut.file)


def test_a_change_cut_twice_is_finished_too(tmp_path: Path, monkeypatch, capsys):
    command, check = CHANGES["an identity module with its package"]
    whole = Run(tmp_path / "whole", monkeypatch, command)
    assert whole() == 0
    for after in range(6, whole.reader.cut.commands, 2):
        cut = Run(tmp_path / str(after), monkeypatch, command)
        for limit in (after, after + 3):
            cut.reader.cut.commands = 0
            cut.reader.cut.after, cut.reader.cut.is_executed = limit, True
            cut()
        cut.reader.cut.after = None
        assert cut() == 0, (after, capsys.readouterr().err)
        check(cut.reader, cut.file)


def test_a_cut_change_says_how_to_go_on(tmp_path: Path, monkeypatch, capsys):
    cut = Run(tmp_path / "cut", monkeypatch, install_server)
    cut.reader.cut.after = 10
    assert cut() == CUT_STATUS
    assert "run the same command again" in capsys.readouterr().err


def test_the_file_is_there_before_the_card_gets_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    change = Run(tmp_path / "run", monkeypatch, install_server)
    seen: dict[int, bool] = {}
    transmit = ManagedCard.connect

    async def connect(reader: ManagedCard):
        connection = await transmit(reader)
        inner = connection.transmit_batch

        async def transmit_batch(steps):
            seen.setdefault(steps[0].command.ins, change.file.exists())
            return await inner(steps)

        connection.transmit_batch = transmit_batch
        return connection

    monkeypatch.setattr(ManagedCard, "connect", connect)
    assert change() == 0
    assert (seen[0xF2], seen[0xE6]) == (False, True)  # GET STATUS, then INSTALL
