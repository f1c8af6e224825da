# SPDX-License-Identifier: Apache-2.0
"""``iose card`` in this process on a software card: fixtures, to be imported by name."""

import json
from pathlib import Path

import pytest

from iose.cli import card_options
from iose.cli.main import run
from tests.support.managed_card import ManagedCard

SECOND = "010203040501"


class Terminal:
    """Runs commands on one card and keeps what they print."""

    def __init__(self, reader: ManagedCard, capsys: pytest.CaptureFixture[str]) -> None:
        self.reader = reader
        self.capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        status = run(["card", *arguments])
        printed = self.capsys.readouterr()
        return status, printed.out, printed.err

    def demo(self, command: str, *arguments: str) -> tuple[int, str, str]:
        return self(command, "key1.com", *arguments, "--demo-keys")

    def contents(self, *arguments: str) -> dict[str, dict[str, object]]:
        keys = arguments or ("--demo-keys",)
        status, out, err = self("list", "key1.com", *keys, "--json")
        assert status == 0, err
        return {item["aid"]: item for item in json.loads(out)["contents"]}

    def install_second(self, file: Path, *more: str) -> tuple[int, str, str]:
        arguments = ("--aid", SECOND, "--sen", "key2.com", "--secrets-out", str(file), *more)
        return self.demo("install", "tls-se", *arguments)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ManagedCard:
    monkeypatch.setenv("IOSE_CARD_STATE", str(tmp_path / "failed"))
    card = ManagedCard()
    monkeypatch.setattr(card_options, "open_reader", lambda *_, **__: card)
    monkeypatch.setattr(card_options, "served_names", lambda *_: ["key1.com", "key9.com"])
    return card


@pytest.fixture
def terminal(reader: ManagedCard, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(reader, capsys)
