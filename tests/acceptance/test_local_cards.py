# SPDX-License-Identifier: Apache-2.0
"""Cards are managed alike behind a running node and in a folder that no node runs on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from iose.cli.main import run
from tests.support.node import configured_node, until

Manage = Callable[..., tuple[int, str, str]]
MODULE = "010203040800"


@pytest.fixture
def manage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Manage:
    monkeypatch.setenv("IOSE_CARD_STATE", str(tmp_path / "failed"))

    def work(*arguments: str) -> tuple[int, str, str]:
        status = run([*arguments, "--data", str(tmp_path / "data")])
        return status, *capsys.readouterr()

    return work


def test_a_card_without_a_node_is_managed_and_is_the_same_behind_one(
    manage: Manage, tmp_path: Path
):
    keys, module = str(tmp_path / "keys.json"), str(tmp_path / "module.json")
    assert manage("element", "create", "--sen", "alone.com")[0] == 0
    assert manage("element", "secrets", "alone.com", "--out", keys)[0] == 0
    given = ("alone.com", "--keys", keys)
    status, _, err = manage("card", "install", given[0], "tls-se", *given[1:], "--yes",
                            "--sen", "ALONE.com", "--secrets-out", module)  # fmt: skip
    assert (status, "ALONE.com" in err) == (1, True), "another card of the folder has that name"
    status, _, err = manage("card", "install", given[0], "tls-im", *given[1:], "--yes",
                            "--secrets-out", module)  # fmt: skip
    assert status == 0, err
    alone = json.loads(manage("card", "list", *given, "--json")[1])["contents"]
    assert MODULE in [one["aid"] for one in alone]
    assert manage("card", "list", "nobody.com", "--keys", keys)[0] == 1
    operator = {"user": "operator", "elements": ["*"], "verbs": ["*"], "aids": ["*"]}
    racs = {"listen": ["127.0.0.1:0"], "rules": [operator]}
    with configured_node(tmp_path, 1, racs=racs):
        assert json.loads(manage("card", "list", *given, "--json")[1])["contents"] == alone
        assert install(manage, given, "more.com", tmp_path / "more.json")[0] == 0
        until(lambda: "more.com" in manage("element", "list")[1], "the instance's name")
        status, _, err = install(manage, given, "MORE.com", tmp_path / "again.json")
        assert (status, "already named 'MORE.com'" in err) == (1, True), "an instance has that name"
        assert not (tmp_path / "again.json").exists()


def install(manage: Manage, given: tuple[str, ...], sen: str, file: Path) -> tuple[int, str, str]:
    more = ("--yes", "--sen", sen, "--secrets-out", str(file))
    return manage("card", "install", given[0], "tls-se", *given[1:], *more)
