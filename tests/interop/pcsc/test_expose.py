# SPDX-License-Identifier: Apache-2.0
"""Programs of others use an element that ``iose reader expose`` has put into a virtual reader.

The driver is vsmartcard's, the service pcscd, the programs OpenSC's and pcsc-tools'.
"""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iose.iso7816.apdu import CommandApdu
from tests.support.node import LoggedNode, configured_node, until
from tests.support.opensc import opensc, send
from tests.support.pcsc import PcscConnection
from tests.support.peers import require_peer
from tests.support.running_node import PROGRAM, iose
from tests.support.virtual_card import VPCD_PORT, VirtualService, has_card, virtual_reader

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

PORT = str(VPCD_PORT)
QUEUE_WAIT_S = 2.0
RESET_TLS = "00D8000000"
SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))
ATRS = {
    "T=0": "3B 08 6B 65 79 31 2E 63 6F 6D",
    "T=1": "3B 88 81 31 FE 45 6B 65 79 31 2E 63 6F 6D 8A",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualService]:
    with virtual_reader(tmp_path_factory.mktemp("pcsc")) as running:
        yield running


@pytest.fixture(scope="module")
def node(service: VirtualService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedNode]:
    folder = tmp_path_factory.mktemp("node")
    with configured_node(folder, 2, front={"queue_wait_s": QUEUE_WAIT_S}) as running:
        yield running


def reader(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return iose("reader", *arguments, "--data", str(data))


def exposures(node: LoggedNode) -> list[dict[str, Any]]:
    return node.ask("reader.list")["exposed"]


def holder(node: LoggedNode, sen: str = "key1.com") -> dict[str, Any] | None:
    """Return what 'iose node status' says of who holds an element."""
    return node.element_status(sen)["holder"]


def expose(node: LoggedNode, sen: str = "key1.com", protocol: str = "T=0") -> None:
    """Ask the node as the command does, without its start."""
    node.ask("reader.expose", {"element": sen, "port": VPCD_PORT, "protocol": protocol})
    until(has_card)


@contextmanager
def detached(node: LoggedNode, protocol: str = "T=0") -> Iterator[None]:
    expose(node, protocol=protocol)
    try:
        yield
    finally:
        node.request("reader.withdraw", {"element": "key1.com"})  # it may have ended already
        until(lambda: not has_card())


@contextmanager
def in_foreground(data: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [*PROGRAM, "reader", "expose", "key1.com", "--port", PORT, "--data", str(data)]
    with subprocess.Popen([*command, "--json", *options], stdout=subprocess.PIPE, text=True) as one:
        try:
            assert one.stdout is not None
            line = one.stdout.readline()
            assert line, "the command ended"
            assert json.loads(line)["exposed"]["connected"] is True
            until(has_card)
            yield one
        finally:
            one.kill()
    until(lambda: not has_card())


@pytest.mark.parametrize("protocol", ATRS)
def test_opensc_and_pcsc_scan_find_the_name_of_the_element(node: LoggedNode, protocol: str):
    with detached(node, protocol):
        assert opensc("--atr").strip().upper() == ATRS[protocol].replace(" ", ":")
        scanned = subprocess.run(
            [require_peer("pcsc_scan"), "-n", "-t", "2"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    assert "Virtual PCD 00 00" in scanned.stdout
    assert f"ATR: {ATRS[protocol]}" in re.sub(r"\x1b\[[0-9;]*m", "", scanned.stdout)


@pytest.mark.parametrize("protocol", ATRS)
def test_opensc_sends_commands_and_fetches_answers(node: LoggedNode, protocol: str):
    with detached(node, protocol):
        applet, reset, domain, empty = send(
            "00A404000601020304050000",
            RESET_TLS,
            "00A4040008A00000015100000000",
            "00C0000010",
        )
        (exposure,) = exposures(node)
    assert (applet, reset) == ("9000", "9000")
    assert domain == "6F108408A000000151000000A5049F6501FF9000"
    assert len(empty) == 4
    # what a T=0 card announces is fetched by a command of its own
    assert exposure["apdus"] == (5 if protocol == "T=0" else 4)


def test_an_exposed_element_is_held_and_served_again_when_withdrawn(node: LoggedNode):
    uri = f"{node.uri('key1.com')}??00"
    with detached(node):
        held = holder(node)
        assert held is not None
        assert (held["plane"], held["source"]) == ("pcsc", f"127.0.0.1:{PORT}")
        refused = iose("call", uri)
        assert refused.returncode == 1
        assert "is busy" in refused.stderr
        with subprocess.Popen(
            [*PROGRAM, "call", uri], stdout=subprocess.PIPE, text=True
        ) as waiting:
            until(lambda: node.element_status("key1.com")["waiting"])
            done = node.ask("reader.withdraw", {"element": "key1.com"})
            answer, _ = waiting.communicate(timeout=10)
        assert waiting.returncode == 0
        assert "keystore" in answer.lower()
        assert done["withdrawn"]["connected"] is True
    assert holder(node) is None
    assert exposures(node) == []


def test_another_element_is_served_meanwhile(node: LoggedNode):
    with detached(node):
        done = iose("call", f"{node.uri('key2.com')}??00")
    assert done.returncode == 0, done.stderr


def test_a_card_that_is_taken_out_and_put_in_again_has_forgotten_what_was_selected(
    node: LoggedNode,
):
    with detached(node, "T=1"):
        _, recognition = send("00A4040008A00000015100000000", "80CA006600")
    with detached(node, "T=1"):
        (forgotten,) = send("80CA006600")
    assert recognition.endswith("9000")
    assert forgotten in ("6D00", "6E00")


def test_ctrl_c_takes_the_card_out(node: LoggedNode):
    with in_foreground(node.folder) as command:
        assert len(exposures(node)) == 1
        command.send_signal(signal.SIGINT)
        assert command.wait(10) == 0
    assert exposures(node) == []


def test_a_command_that_is_killed_leaves_nothing_exposed(node: LoggedNode):
    with in_foreground(node.folder) as command:
        command.kill()
        until(lambda: not exposures(node))
    assert holder(node) is None


def test_a_command_whose_element_is_withdrawn_elsewhere_says_so(node: LoggedNode):
    with in_foreground(node.folder) as command:
        assert reader(node.folder, "withdraw", "key1.com").returncode == 0
        assert command.wait(10) == 1


def test_an_element_is_exposed_without_a_node(service: VirtualService, tmp_path: Path):
    made = iose("element", "create", "--sen", "key1.com", "--data", str(tmp_path / "data"))
    assert made.returncode == 0, made.stderr
    with in_foreground(tmp_path / "data", "--protocol", "T=1") as command:
        assert opensc("--atr").strip().upper() == ATRS["T=1"].replace(" ", ":")
        assert send(RESET_TLS) == ["9000"]
        command.terminate()
        assert command.wait(10) == 0
    detaching = reader(tmp_path / "data", "expose", "key1.com", "--detach", "--port", PORT)
    assert detaching.returncode == 1
    assert "no node runs" in detaching.stderr


def test_a_service_that_is_killed_and_started_again_finds_the_card_in_its_reader(
    node: LoggedNode, service: VirtualService
):
    with detached(node):
        assert send(RESET_TLS) == ["9000"]
        service.kill()
        until(lambda: not exposures(node)[0]["connected"])
        (exposure,) = exposures(node)
        assert "systemctl start pcscd" in exposure["hint"]
        assert holder(node) is not None
        service.start()
        until(has_card)
        assert send(RESET_TLS) == ["9000"]
        assert exposures(node)[0]["fault"] == ""


@pytest.mark.parametrize("protocol", ATRS)
def test_a_program_whose_service_is_killed_in_mid_session_begins_again(
    node: LoggedNode, service: VirtualService, protocol: str
):
    with detached(node, protocol):
        before = PcscConnection()
        assert asyncio.run(before.transmit(SELECT)).status == 0x9000
        service.kill()
        with pytest.raises(AssertionError, match="PC/SC error"):
            asyncio.run(before.transmit(SELECT))
        service.start()
        until(has_card)
        after = PcscConnection()
        assert asyncio.run(after.transmit(SELECT)).status == 0x9000
        asyncio.run(after.close())
        assert opensc("--atr").strip().upper() == ATRS[protocol].replace(" ", ":")


def test_a_port_without_a_driver_and_a_reader_with_a_card_are_told(node: LoggedNode):
    wrong = reader(node.folder, "expose", "key1.com", "--detach", "--port", "1")
    assert wrong.returncode == 1
    assert "no driver listens" in wrong.stderr
    assert "vsmartcard-vpcd" in wrong.stderr
    with detached(node):
        taken = reader(node.folder, "expose", "key2.com", "--detach", "--port", PORT)
        again = reader(node.folder, "expose", "key1.com", "--detach", "--port", PORT)
    assert taken.returncode == 1
    assert "does not take the card" in taken.stderr
    assert "exposed already" in again.stderr
    assert holder(node, "key2.com") is None


def test_two_elements_are_in_the_two_readers_of_a_driver(node: LoggedNode):
    second = str(VPCD_PORT + 1)
    with detached(node):
        done = reader(node.folder, "expose", "key2.com", "--detach", "--port", second)
        assert done.returncode == 0, done.stderr
        assert holder(node, "key2.com") is not None
        until(lambda: has_card("Virtual PCD 00 01"))
        atr = opensc("--reader", "1", "--atr")
        assert bytes.fromhex(atr.replace(":", ""))[2:] == b"key2.com"
        assert reader(node.folder, "withdraw", "key2.com").returncode == 0
