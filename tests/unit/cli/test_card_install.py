# SPDX-License-Identifier: Apache-2.0
"""``iose card install`` of an instance of ours: its AID, its name, and the file of its secrets."""

import json
import stat
from pathlib import Path

import pytest

from iose.cli import card_options
from iose.client.card.channel import CardChannel
from iose.globalplatform.commands import Ins
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.status import StatusWord, StatusWordError
from tests.support.card_terminal import SECOND, Terminal, reader, terminal
from tests.support.managed_card import SEID

__all__ = ["reader", "terminal"]  # fixtures
MODULE = "010203040800"


def test_an_instance_is_installed_with_secrets_of_its_own(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "secrets.json"
    status, out, err = terminal.install_second(file, "--yes")
    assert status == 0, err
    assert "4 APDUs" in out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = json.loads(file.read_text())
    assert (written["seid"], written["sen"], written["aid"]) == (SEID, "key2.com", SECOND)
    (held,) = terminal.reader.secrets["instances"]
    assert held["sen"] == "key2.com"
    assert {name: written[name] for name in held if name != "sen"} == {
        name: held[name] for name in held if name != "sen"
    }
    assert terminal.contents()[SECOND]["state"] == "selectable"
    assert written["psk"] not in out + err


def test_secrets_never_go_to_the_card_in_clear(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "secrets.json"
    terminal.install_second(file, "--yes")
    written = json.loads(file.read_text())
    seen = b"".join(command.data for command in terminal.reader.sent)
    for name in ("psk", "guest_psk"):
        assert bytes.fromhex(written[name]) not in seen
    for name in ("user_pin", "admin_pin"):
        assert written[name].encode() not in seen


def test_the_same_command_again_does_nothing(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "secrets.json"
    terminal.install_second(file, "--yes")
    before = dict(terminal.reader.store.contents)
    status, out, _ = terminal.install_second(file, "--yes")
    assert (status, "nothing to do" in out) == (0, True)
    changed = {
        name for name, value in terminal.reader.store.contents.items() if before[name] != value
    }
    assert all("counter" in name for name in changed)


def test_an_instance_whose_secrets_are_not_at_hand_is_not_touched(terminal, tmp_path: Path):
    terminal.install_second(tmp_path / "first.json", "--yes")
    status, _, err = terminal.install_second(tmp_path / "second.json", "--yes")
    assert (status, "not in" in err) == (1, True)
    assert not (tmp_path / "second.json").exists()


def test_a_file_of_something_else_is_never_overwritten(terminal: Terminal, tmp_path: Path):
    file = tmp_path / "notes"
    file.write_text("{}")
    file.chmod(0o600)
    status, _, err = terminal.install_second(file, "--yes")
    assert (status, "name a new file" in err) == (1, True)
    assert file.read_text() == "{}"


def install_next(terminal: Terminal, file: Path, sen: str, *more: str) -> tuple[int, str, str]:
    arguments = ("install", "tls-se", "--sen", sen, "--secrets-out", str(file), *more)
    return terminal.demo(*arguments)


def test_without_an_aid_the_next_free_one_is_taken_and_shown(terminal: Terminal, tmp_path: Path):
    for number, aid in enumerate(("0102030405000001", "0102030405000002"), start=1):
        file = tmp_path / f"{number}.json"
        status, out, err = install_next(terminal, file, f"shop{number}.com", "--yes")
        assert status == 0, err
        assert f"install tls-se as {aid}:" in out
        assert json.loads(file.read_text())["aid"] == aid
        assert terminal.contents()[aid]["state"] == "selectable"
    status, out, _ = install_next(terminal, tmp_path / "1.json", "shop1.com", "--yes")
    assert (status, "nothing to do" in out) == (0, True)
    assert terminal.demo("delete", "0102030405000001", "--yes")[0] == 0
    _, out, _ = install_next(terminal, tmp_path / "3.json", "shop3.com", "--dry-run")
    assert "as 0102030405000001:" in out


def test_without_an_aid_that_of_the_applet_is_taken_where_it_is_free(terminal, tmp_path: Path):
    assert terminal.demo("install", "tls-im", "--secrets-out", str(tmp_path / "a"), "--yes")[0] == 0
    assert terminal.contents()[MODULE]["state"] == "selectable"
    assert terminal.demo("install", "tls-im", "--secrets-out", str(tmp_path / "b"), "--yes")[0] == 0
    assert terminal.contents()["0102030408000001"]["state"] == "selectable"


def test_an_aid_that_is_taken_while_one_thinks_is_not_taken_twice(
    terminal: Terminal, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def confirm(*_: object, **__: object) -> bool:
        return install_next(terminal, tmp_path / "other", "shop2.com", "--yes")[0] == 0

    monkeypatch.setattr("typer.confirm", confirm)
    status, _, err = install_next(terminal, tmp_path / "mine", "shop1.com")
    assert (status, "changed meanwhile" in err) == (1, True)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("aid", ["01", "no hex", "é"])
def test_a_file_that_does_not_say_its_instance_is_not_used(terminal: Terminal, tmp_path, aid: str):
    file = tmp_path / "secrets.json"
    assert install_next(terminal, file, "shop1.com", "--yes")[0] == 0
    damaged = json.loads(file.read_text()) | {"aid": aid}
    file.write_text(json.dumps(damaged))
    status, _, err = install_next(terminal, file, "shop1.com", "--yes")
    assert (status, "does not say which instance" in err) == (1, True)


@pytest.mark.parametrize("psk", ["secret", "é", "\ud800"])
def test_a_damaged_secret_is_explained_without_repeating_it(terminal, tmp_path: Path, psk: str):
    file = tmp_path / "secrets.json"
    assert install_next(terminal, file, "shop1.com", "--yes")[0] == 0
    file.write_text(json.dumps(json.loads(file.read_text()) | {"psk": psk}))
    status, _, err = install_next(terminal, file, "shop1.com", "--yes")
    assert (status, "damaged secret" in err, "secret'" in err) == (1, True, False)


def refusing(monkeypatch: pytest.MonkeyPatch, *refused: int) -> None:
    """Have the card refuse instructions."""
    require = CardChannel.require

    async def refuse(channel: CardChannel, command: CommandApdu, words: str, *more: object):
        if command.ins in refused:
            raise StatusWordError(StatusWord.NOT_ENOUGH_MEMORY, words)
        return await require(channel, command, words, *more)

    monkeypatch.setattr(CardChannel, "require", refuse)


@pytest.mark.parametrize("ins", [Ins.INSTALL, Ins.STORE_DATA])
def test_secrets_of_an_instance_that_the_card_refuses_are_not_left(
    terminal: Terminal, tmp_path: Path, monkeypatch, ins: Ins
):
    before = terminal.contents()
    refusing(monkeypatch, ins)
    status, _, err = install_next(terminal, tmp_path / "secrets.json", "shop1.com", "--yes")
    assert (status, "taken back" in err) == (1, True)
    assert not (tmp_path / "secrets.json").exists()
    assert terminal.contents() == before


def test_secrets_of_an_instance_that_may_be_left_are_kept(terminal, tmp_path: Path, monkeypatch):
    refusing(monkeypatch, Ins.STORE_DATA, Ins.DELETE)
    status, _, err = install_next(terminal, tmp_path / "secrets.json", "shop1.com", "--yes")
    assert (status, "not all" in err) == (1, True)
    assert (tmp_path / "secrets.json").exists()


def test_secrets_of_a_cut_run_are_kept_when_the_card_refuses(terminal, tmp_path, monkeypatch):
    file = tmp_path / "secrets.json"
    terminal.reader.cut.after = 11
    assert install_next(terminal, file, "shop1.com", "--yes")[0] == 1
    assert file.exists()
    terminal.reader.cut.after = None
    refusing(monkeypatch, Ins.STORE_DATA)
    assert install_next(terminal, file, "shop1.com", "--yes")[0] == 1
    assert file.exists()


def test_new_keys_that_the_card_refuses_are_kept(terminal, tmp_path: Path, monkeypatch):
    """The card may have taken them: nothing proves a refusal."""
    refusing(monkeypatch, Ins.PUT_KEY)
    status, _, err = terminal.demo("put-key", "--out", str(tmp_path / "keys.json"), "--yes")
    assert (status, "taken back" in err) == (1, False)
    assert (tmp_path / "keys.json").exists()


def test_a_name_that_another_element_of_the_server_has_is_refused(terminal, tmp_path: Path):
    file = tmp_path / "secrets.json"
    status, _, err = install_next(terminal, file, "KEY9.com", "--yes")
    assert (status, "already named 'KEY9.com'" in err, "iose racs list" in err) == (1, True, True)
    assert (file.exists(), terminal.reader.sent) == (False, [])


def test_a_cut_run_is_finished_though_its_name_is_served(terminal, tmp_path: Path, monkeypatch):
    file = tmp_path / "secrets.json"
    assert install_next(terminal, file, "shop1.com", "--yes")[0] == 0
    monkeypatch.setattr(card_options, "served_names", lambda *_: ["shop1.com"])
    status, out, _ = install_next(terminal, file, "shop1.com", "--yes")
    assert (status, "nothing to do" in out) == (0, True)


def test_a_sen_where_an_aid_is_needed_is_told_where_to_find_it(terminal: Terminal):
    status, _, err = terminal.demo("lock", "key1.com", "--yes")
    assert status == 2
    assert "'iose card list' shows" in err
    assert "secrets" in err
