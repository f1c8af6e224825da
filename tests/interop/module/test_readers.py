# SPDX-License-Identifier: Apache-2.0
"""Modules behind readers: a chip on I2C, boards on serial lines, cards; openssl at the far end.

Each reader's twin is a program of its own, and so is the client where the command line is meant.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import iose
from tests.support.openssl_server import openssl_servers
from tests.support.twin import Twin, twin
from tests.twins.elements import DEMO_PSK

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]

OTHER = bytes(range(101, 133))
LINES = ("module_board", "serial_line")
TLS_SE = "aid=010203040500"  # a compatible element computes for its host, too


@pytest.fixture
def openssl_server(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Start ``openssl s_server -rev``, which answers a line with its reverse; gives its port."""
    with openssl_servers(tmp_path, DEMO_PSK) as start:
        yield start


@pytest.fixture
def start() -> Iterator[Callable[..., Twin]]:
    with ExitStack() as running:

        def start(name: str, *options: str) -> Twin:
            if name in LINES:
                pytest.importorskip("serial", reason="pyserial is an extra")
            return running.enter_context(twin(name, *options))

        yield start


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return what runs ``iose`` with its credentials in a file of the test."""

    def run(*words: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", "from iose.cli.main import main; main()", *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": "/usr/bin:/bin", "IOSE_CREDENTIALS": str(tmp_path / "credentials")},
        )

    return run


def se050(chip: Twin) -> str:
    return f"i2c:{chip.ready['bus']}?address=72&form=se050"


def ask(port: int, module: str, folder: Path, pin: bytes | None = b"0000") -> bytes:
    """Return openssl's answer to "abc" in a session whose PSK a module has."""
    store = iose.CredentialsStore(folder / "credentials")
    found = iose.ReaderModule.decode(module, pin=pin)
    uri = f"keyS://key1.com@127.0.0.1:{port}"
    with iose.connect(uri, module=found, credentials=store, timeout_s=20) as element:
        return element.command("abc")


def test_an_se050_gets_its_psk_and_serves_the_command_line(openssl_server, start, run):
    chip = start("i2c", "--device", "72=:se050")
    port = openssl_server()
    uri = f"keyS://key1.com@127.0.0.1:{port}/"
    made = run("credentials", "provision", se050(chip), text=DEMO_PSK.hex() + "\n")
    assert (made.returncode, made.stderr) == (0, "")
    assert DEMO_PSK.hex() not in made.stdout
    kept = run("credentials", "set", uri, "--module", se050(chip))
    assert (kept.returncode, kept.stderr) == (0, "")
    for _ in range(2):
        called = run("call", uri + "?abc")
        assert (called.stdout, called.stderr) == ("cba\n", "")
    listed = json.loads(run("credentials", "list", "--json").stdout)
    assert listed["credentials"][0]["module"] == se050(chip)


def test_an_se050_without_a_psk_says_what_to_do(openssl_server, start, run):
    chip = start("i2c", "--device", "72=:se050")
    uri = f"keyS://key1.com@127.0.0.1:{openssl_server()}/"
    run("credentials", "set", uri, "--module", se050(chip))
    called = run("call", uri + "?abc")
    assert called.returncode == 1
    assert "refuses to compute, 6985" in called.stderr
    assert "iose credentials provision" in called.stderr


def test_another_psk_in_the_chip_opens_nothing(openssl_server, start, run, tmp_path):
    chip = start("i2c", "--device", "72=:se050")
    run("credentials", "provision", se050(chip), text=OTHER.hex() + "\n")
    port = openssl_server()
    with pytest.raises(iose.AuthenticationError):
        ask(port, se050(chip), tmp_path, None)


def test_a_board_of_text_computes_for_openssl(openssl_server, start, tmp_path):
    board = start("module_board")
    port = openssl_server()
    for _ in range(2):
        assert ask(port, f"serial:{board.device}?form=text", tmp_path) == b"cba"


def test_a_board_takes_a_wrong_pin_once(openssl_server, start, run):
    board = start("module_board")
    uri = f"keyS://key1.com@127.0.0.1:{openssl_server()}/"
    module = f"serial:{board.device}?form=text"
    run("credentials", "set", uri, "--module", module, text="1111\n")
    assert "the PIN was refused" in run("call", uri + "?abc").stderr
    assert "no PIN is kept" in run("call", uri + "?abc").stderr
    heard = board.order(said=True)["said"]
    assert heard.count("user 1111") == 1
    again = run("credentials", "set", uri, "--module", module, "--replace", text="0000\n")
    assert again.returncode == 0
    assert run("call", uri + "?abc").stdout == "cba\n"


def test_a_card_behind_a_serial_line_computes_for_openssl(openssl_server, start, tmp_path):
    board = start("serial_line")
    assert ask(openssl_server(), f"serial:{board.device}?{TLS_SE}", tmp_path) == b"cba"


@pytest.mark.parametrize("flavour", ["iose", "t1"])
def test_a_card_on_i2c_computes_for_openssl(openssl_server, start, tmp_path, flavour):
    bus = start("i2c", "--device", f"4=key4.com:{flavour}").ready["bus"]
    module = f"i2c:{bus}?address=4&flavour={flavour}&{TLS_SE}"
    assert ask(openssl_server(), module, tmp_path) == b"cba"


def test_a_card_in_a_sim_array_computes_for_openssl(openssl_server, start, tmp_path):
    host, port = start("sim_array", "--slots", "701,702").address
    module = f"sim-array://{host}:{port}/702?{TLS_SE}"
    assert ask(openssl_server(), module, tmp_path) == b"cba"


@pytest.mark.parametrize("fault", ["silence", "garbage", "partial"])
def test_a_board_that_fails_is_named_and_serves_again(openssl_server, start, tmp_path, fault):
    board = start("module_board")
    port = openssl_server()
    module = f"serial:{board.device}?form=text"
    board.fault(fault, count=1)
    store = iose.CredentialsStore(tmp_path / "credentials")
    found = iose.ReaderModule.decode(module, pin=b"0000")
    uri = f"keyS://key1.com@127.0.0.1:{port}"
    with pytest.raises(iose.ModuleError, match="ttyTWIN0"):
        iose.connect(uri, module=found, credentials=store, timeout_s=2)
    board.fault(None)
    assert ask(port, module, tmp_path) == b"cba"
