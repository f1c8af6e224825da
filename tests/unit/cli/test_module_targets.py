# SPDX-License-Identifier: Apache-2.0
"""Modules in readers as a person types them, and giving them their PSK."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from iose.cli.main import run
from iose.cli.output import ExitStatus
from iose.client.credentials import Credential, CredentialsStore
from iose.client.module import decode_module
from iose.client.module_place import ReaderModule
from iose.client.uri import ElementUri
from iose.runtime.readers.settings import (
    I2cSettings,
    PcscSettings,
    RacslReaderSettings,
    RacsReaderSettings,
    ReaderSettings,
    SerialSettings,
    SimArraySettings,
)
from iose.runtime.readers.targets import OpenedReader
from iose.transport.bank import Slot, SlotState

URI = "keyS://key1.com@127.0.0.1:8888/"
ADDRESS = ElementUri.decode(URI).address
PSK = bytes(range(1, 33))
CHIP = "i2c:/dev/i2c-1?address=72&form=se050"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CredentialsStore:
    monkeypatch.setenv("IOSE_CREDENTIALS", str(tmp_path / "credentials"))
    return CredentialsStore()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, bytes]]:
    """Return what modules were given, in the place of giving it."""
    told: list[tuple[object, bytes]] = []

    async def provision(module: object, psk: bytes, _timeout_s: float) -> None:
        told.append((module, psk))

    monkeypatch.setattr("iose.cli.credentials.provision_module", provision)
    return told


def keep(module: str, *options: str) -> int:
    return run(["credentials", "set", URI, "--module", module, *options])


def test_a_module_in_a_reader_is_kept_with_its_pin(store, pipe, capfd):
    pipe("4711\n")
    assert keep("pcsc:reader") == 0
    assert store.find(ADDRESS).module == ReaderModule.decode("pcsc:reader", pin=b"4711")
    assert "pcsc:reader?aid=010203040800" in capfd.readouterr().out


def test_a_chip_is_kept_and_asked_for_no_pin(store, pipe):
    pipe("")
    assert keep(CHIP) == 0
    assert store.find(ADDRESS).module == ReaderModule.decode(CHIP)


def test_a_board_may_be_kept_without_a_pin(store, pipe):
    pipe("\n")
    assert keep("serial:/dev/ttyACM0?form=text") == 0
    assert store.find(ADDRESS).module.pin == b""


@pytest.mark.parametrize(
    ("settings", "seid", "place"),
    [
        (PcscSettings("pcsc"), "pcsc-1234", "pcsc:pcsc-1234?aid=010203040500"),
        (
            I2cSettings("i2c", address=4, flavour="t1", reset_chip="/dev/gpiochip0", reset_line=17),
            "1004",
            "i2c:/dev/i2c-1?address=4&reset_line=17&transfer_size=128&reset_chip=/dev/gpiochip0"
            "&flavour=t1&aid=010203040500",
        ),
        (
            SerialSettings("serial", device="/dev/ttyACM0", baud=9600),
            "serial-ttyACM0",
            "serial:/dev/ttyACM0?baud=9600&aid=010203040500",
        ),
        (
            SimArraySettings("sim-array", address="[::1]:2310"),
            "sim-701",
            "sim-array://[::1]:2310/701?aid=010203040500",
        ),
    ],
)
def test_a_configured_reader_is_kept_as_what_needs_no_configuration(  # fixtures
    store, pipe, monkeypatch, settings: ReaderSettings, seid: str, place: str
):
    slot = Slot("reader", seid, SlotState.READY)
    asked = []

    def find(target: str, config: Path | None) -> OpenedReader:
        asked.append((target, config))
        return OpenedReader(settings, Path(), slot)

    monkeypatch.setattr("iose.cli.module_targets.find_reader", find)
    pipe("0000\n")
    assert keep("reader:vault?aid=010203040500", "--config", "node.toml") == 0
    assert asked == [("reader:vault", Path("node.toml"))]
    module = store.find(ADDRESS).module
    assert str(module) == place
    assert decode_module(place, pki=Path(), pin=b"0000") == module


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RacsReaderSettings("racs", address="host:7777"), "racs://host:7777/se-1"),
        (RacslReaderSettings("racsl", address="host:444"), "let a node serve it"),
    ],
)
def test_a_reader_that_only_a_node_opens_is_said_to_be_one(
    store, monkeypatch, capfd, settings: ReaderSettings, message: str
):
    del store
    found = OpenedReader(settings, Path(), Slot("reader", "se-1", SlotState.READY))
    monkeypatch.setattr("iose.cli.module_targets.find_reader", lambda *_: found)
    assert keep("reader:se-1", "--config", "node.toml") == 1
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (CHIP, ("--pin-file", "pin"), "has no PIN"),
        (CHIP, ("--button",), "--button is for"),
        (CHIP, ("--config", "node.toml"), "--config is for"),
        ("pcsc:reader?baud=1", (), "'baud'"),
        ("i2c:/dev/i2c-1", (), "has no address"),
    ],
)
def test_what_does_not_go_with_a_reader_is_refused(store, pipe, capfd, module, options, message):
    pipe("0000\n")
    assert keep(module, *options) == ExitStatus.USAGE
    assert message in capfd.readouterr().err
    assert store.find(ADDRESS) is None


def test_a_configuration_without_a_module_is_refused(store, pipe, capfd):
    del store
    pipe(PSK.hex())
    assert run(["credentials", "set", URI, "--config", "node.toml"]) == ExitStatus.USAGE
    assert "are for --module" in capfd.readouterr().err


def test_a_refused_pin_shows_in_the_list_but_an_se050_has_none(store, capfd):
    store.save(Credential(ADDRESS, module=ReaderModule.decode("pcsc:reader")))
    chip = ElementUri.decode("keyS://key2.com@127.0.0.1:8888/").address
    store.save(Credential(chip, module=ReaderModule.decode(CHIP)))
    assert run(["credentials", "list"]) == 0
    assert capfd.readouterr().out.count("its PIN was refused") == 1


# --- provision


def test_a_psk_is_read_before_the_pin_and_printed_nowhere(given, pipe, capfd):
    pipe(f"{PSK.hex()}\n00000000\n")
    assert run(["credentials", "provision", "pcsc:reader"]) == 0
    assert given == [(ReaderModule.decode("pcsc:reader", pin=b"00000000"), PSK)]
    printed = "".join(capfd.readouterr())
    assert PSK.hex() not in printed
    assert "00000000" not in printed


def test_a_psk_comes_from_the_file_that_iose_wrote(given, pipe, tmp_path):
    secrets, pin = tmp_path / "secrets.json", tmp_path / "pin"
    secrets.write_text(f'{{"psk": "{PSK.hex()}", "psk_identity": "Client_identity"}}')
    pin.write_text("12345678\n")
    pipe("")
    options = ["--psk-file", str(secrets), "--pin-file", str(pin)]
    assert run(["credentials", "provision", "pcsc:reader", *options]) == 0
    assert given == [(ReaderModule.decode("pcsc:reader", pin=b"12345678"), PSK)]


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        ("keyS://hop@host:1/", PSK.hex(), "?A2"),
        ("pcsc:reader", "00", "64"),
        ("pcsc:reader", PSK.hex() + "\n123", "4 or 8 characters"),
    ],
)
def test_what_cannot_be_given_is_refused(given, pipe, capfd, module, text, message):
    pipe(text + "\n")
    assert run(["credentials", "provision", module]) == ExitStatus.USAGE
    assert message in capfd.readouterr().err
    assert given == []


def test_a_board_of_text_takes_no_psk(pipe, capfd):
    pipe(f"{PSK.hex()}\n0000\n")
    assert run(["credentials", "provision", "serial:/dev/ttyACM0?form=text"]) == ExitStatus.USAGE
    assert "other means" in capfd.readouterr().err
