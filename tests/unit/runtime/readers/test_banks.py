# SPDX-License-Identifier: Apache-2.0
"""From a table to its bank: every type, the files it names, and what is loaded for it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from iose.runtime.config import read_config
from iose.runtime.errors import ConfigurationError
from iose.runtime.readers import banks
from iose.runtime.readers.settings import READER_TYPES, ReaderSettings

TABLES: list[dict[str, Any]] = [
    {"type": "pcsc"},
    {"type": "racs", "address": "127.0.0.1:7777"},
    {"type": "racsl", "address": "127.0.0.1:1", "sen": "a.com", "psk_file": "board.psk"},
    {"type": "sim-array", "address": "127.0.0.1:2310", "slots": [701]},
    {"type": "i2c", "address": 72},
    {"type": "serial", "device": "/dev/ttyACM0"},
]


def settings(table: dict[str, Any]) -> ReaderSettings:
    return read_config({"readers": [table]}).readers[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    key = tmp_path / "board.psk"
    key.write_text("00" * 32)
    key.chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("table", TABLES, ids=[table["type"] for table in TABLES])
def test_every_table_becomes_a_bank_that_touches_nothing_before_it_starts(folder, table):
    bank = banks.make_bank(settings(table), folder)
    assert isinstance(bank.slots, tuple)


def test_every_type_has_a_case_here():
    assert {table["type"] for table in TABLES} == set(READER_TYPES)


@pytest.mark.parametrize(("pki", "leads_to"), [("", "pki"), ("cellar", "cellar"), ("/a", "/a")])
def test_certificates_are_those_of_the_data_folder_unless_it_says_otherwise(
    folder, monkeypatch, pki, leads_to
):
    made: dict[str, Any] = {}
    monkeypatch.setattr("iose.transport.racs_bank.RacsBank", lambda _, **given: made.update(given))
    banks.make_bank(settings({**TABLES[1], "pki": pki, "server_name": "a.com"}), folder)
    endpoint = made["endpoint"]
    assert endpoint.certificate == folder / leads_to / "user.pem"
    assert endpoint.key == folder / leads_to / "user.key"
    assert endpoint.ca == folder / leads_to / "ca.pem"
    assert (endpoint.server_name, endpoint.is_legacy) == ("a.com", False)


def test_a_key_that_others_may_read_is_refused(folder):
    (folder / "board.psk").chmod(0o640)
    with pytest.raises(ConfigurationError, match="may be read by others") as caught:
        banks.make_bank(settings(TABLES[2]), folder)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("content", ["", "zz", "00" * 15])
def test_a_key_that_is_none_is_refused(folder, content):
    path = folder / "board.psk"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds no key"):
        banks.make_bank(settings(TABLES[2]), folder)
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read: No such file") as caught:
        banks.make_bank(settings(TABLES[2]), folder)
    assert "openssl rand" in caught.value.hint


def test_a_transport_that_cannot_be_loaded_is_told(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "iose.transport.serial_line", None)
    with pytest.raises(ConfigurationError, match="'serial' cannot be used") as caught:
        banks.make_bank(settings(TABLES[5]), folder)
    assert caught.value.hint


def test_a_node_loads_only_the_transports_it_has_tables_of():
    program = "import sys, iose.runtime.node; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "iose.runtime.readers.inventory" in loaded
    heavy = {"smartcard", "serial", "smbus2", "gpiod"}
    kinds = {"pcsc", "sim_array", "i2c", "serial_line", "racs_bank", "racsl_bank"}
    assert not {name for name in loaded if name.partition(".")[0] in heavy}
    assert not {kind for kind in kinds if f"iose.transport.{kind}" in loaded}
