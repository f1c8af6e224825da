# SPDX-License-Identifier: Apache-2.0
"""A node serves cards in PC/SC readers to ``openssl s_client``; its table says "pcsc", no more.

Cards have compatible settings and the limits of chips: what they take is found out.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iose.iso7816.atr import TransmissionProtocol
from tests.support.node import LoggedNode, configured_node, stop, until
from tests.support.peers import require_peer
from tests.support.virtual_card import T0Card, VirtualCard, VirtualService
from tests.twins.elements import DEMO_PSK, Cards

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

PATIENCE_S = 30.0
APDU_S = 2.0
FIRST, SECOND = "key1.com", "key2.com"
T0, T1 = TransmissionProtocol.T0, TransmissionProtocol.T1
VERSION = "iose keystore"


def insert(service: VirtualService, name: str, protocol: TransmissionProtocol) -> VirtualCard:
    """Put an element into the reader of its protocol."""
    made = Cards(protocol=protocol).make(name)
    return service.insert(T0Card(made) if protocol is T0 else made, int(protocol))


@pytest.fixture
def cards(service: VirtualService) -> tuple[VirtualCard, VirtualCard]:
    return insert(service, FIRST, T0), insert(service, SECOND, T1)


@pytest.fixture(scope="module")
def patient(
    machine: VirtualService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoggedNode]:
    folder = tmp_path_factory.mktemp("node")
    with configured_node(folder, 0, node={"readers": [{"type": "pcsc"}]}) as running:
        yield running


@pytest.fixture
def node(patient: LoggedNode, cards: tuple[VirtualCard, VirtualCard]) -> LoggedNode:
    until_served(patient, FIRST, SECOND)
    return patient


@pytest.fixture
def hasty(cards: tuple[VirtualCard, VirtualCard], tmp_path: Path) -> Iterator[LoggedNode]:
    """A node that waits for no card for long."""
    table = {"type": "pcsc", "apdu_s": APDU_S}
    with configured_node(tmp_path, 0, node={"readers": [table]}) as running:
        until_served(running, FIRST, SECOND)
        yield running


def until_served(node: LoggedNode, *names: str) -> None:
    def served() -> set[str]:
        return {one["sen"] for one in node.ask("status")["elements"] if one["is_served"]}

    until(lambda: served() == set(names), f"{names} to be served", PATIENCE_S)


def row(node: LoggedNode, name: str) -> Any:
    """Return what an operator sees of a reader, once it is there."""

    def found() -> list[Any]:
        listed = node.ask("reader.list")["readers"]
        return [one for one in listed if name in (one["sen"], one["reader"], one["bank"])]

    return until(found, f"reader {name}", PATIENCE_S)[0]


class Client:
    """One ``openssl s_client``."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, line: str) -> str:
        """Return the answer to a command, "" when the session is over."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def ended(self) -> str:
        """Return the trouble that the session ended with."""
        return self._process.communicate(timeout=PATIENCE_S)[1]


@contextmanager
def s_client(node: LoggedNode, name: str) -> Iterator[Client]:
    command = [
        require_peer("openssl"), "s_client", "-quiet", "-tls1_3", "-connect", node.front,
        "-groups", "P-256", "-ciphersuites", "TLS_AES_128_CCM_SHA256", "-servername", name,
        "-psk_identity", "Client_identity", "-psk", DEMO_PSK.hex(),
    ]  # fmt: skip
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield Client(process)
        finally:
            process.kill()


def ask(node: LoggedNode, name: str) -> str:
    with s_client(node, name) as client:
        return client.ask("?00")


def test_cards_of_both_protocols_are_served_with_nothing_said_of_them(node):
    for name, seid in ((FIRST, "pcsc-key1.com"), (SECOND, "pcsc-key2.com")):
        failures = row(node, name)["health"]["failures"]
        assert VERSION in ask(node, name)
        seen = row(node, name)
        assert seen["health"]["failures"] == failures
        assert (seen["seid"], seen["state"], seen["fault"]) == (seid, "ready", "")
        assert (seen["max_record"], seen["chunk_size"]) == (512, 240)
        assert seen["warm_reset"]


def test_two_sessions_at_once_carry_records_longer_than_a_command(node):
    with s_client(node, FIRST) as first, s_client(node, SECOND) as second:
        for line in ("x" * 300, "y" * 400):
            assert first.ask(f"?01{line}") == line
            assert second.ask(f"?01{line}") == line


def test_a_card_taken_out_ends_its_session_alone_and_is_served_when_it_is_back(
    node, cards, service
):
    with s_client(node, FIRST) as leaving, s_client(node, SECOND) as staying:
        assert VERSION in leaving.ask("?00")
        assert VERSION in staying.ask("?00")
        mark = node.log_mark()
        cards[0].pull()
        node.wait_logged("session.ended", mark, reason="element_removed")
        assert VERSION in staying.ask("?00")
        leaving.ended()
    until_served(node, SECOND)
    with s_client(node, FIRST) as late:
        assert "unrecognized name" in late.ended()
    insert(service, FIRST, T0)
    until_served(node, FIRST, SECOND)
    assert VERSION in ask(node, FIRST)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_service_that_ends_cuts_sessions_and_is_used_again_by_itself(node, cards, service, how):
    with s_client(node, FIRST) as client:
        assert VERSION in client.ask("?00")
        getattr(service, how)()
        client.ended()
    until_served(node)
    absent = row(node, "pcsc")
    assert absent["state"] == "absent"
    assert "pcscd" in absent["hint"]
    service.remove_all()
    service.start()
    insert(service, FIRST, T0)
    insert(service, SECOND, T1)
    until_served(node, FIRST, SECOND)
    for name in (FIRST, SECOND):
        assert VERSION in ask(node, name)


def test_a_stuck_card_ends_its_session_in_time_and_is_served_when_it_answers(hasty, cards):
    stuck, _ = cards
    with s_client(hasty, FIRST) as client:
        assert VERSION in client.ask("?00")
        stuck.hold()
        assert client.ask("?00") == ""
    seen = row(hasty, "Virtual PCD 00 00")
    assert seen["state"] == "fault"
    assert "no answer since" in seen["fault"]
    assert seen["hint"]
    assert VERSION in ask(hasty, SECOND)
    stuck.answer()
    until_served(hasty, FIRST, SECOND)
    assert VERSION in ask(hasty, FIRST)


def test_a_reload_cuts_a_session_of_a_table_that_changed_and_serves_its_cards_again(node):
    with s_client(node, FIRST) as client:
        assert VERSION in client.ask("?00")
        node.configure(0, node={"readers": [{"type": "pcsc", "apdu_s": APDU_S}]})
        node.ask("reload")
        client.ended()
    until_served(node, FIRST, SECOND)
    for name in (FIRST, SECOND):
        assert VERSION in ask(node, name)


def test_a_reload_while_a_card_is_stuck_serves_it_when_it_answers(hasty, cards):
    stuck, _ = cards
    with s_client(hasty, FIRST) as client:
        assert VERSION in client.ask("?00")
        stuck.hold()
        assert client.ask("?00") == ""
    hasty.configure(0, node={"readers": [{"type": "pcsc", "apdu_s": 2 * APDU_S}]})
    hasty.ask("reload")
    until_served(hasty, SECOND)
    assert VERSION in ask(hasty, SECOND)
    stuck.answer()
    until_served(hasty, FIRST, SECOND)
    assert VERSION in ask(hasty, FIRST)


def test_a_node_ends_while_a_card_is_stuck_and_the_next_one_serves_it(hasty, cards, tmp_path):
    stuck, _ = cards
    with s_client(hasty, FIRST) as client:
        assert VERSION in client.ask("?00")
        stuck.hold()
        assert client.ask("?00") == ""
    assert stop(hasty.process) == 0
    stuck.answer()
    with configured_node(tmp_path / "next", 0, node={"readers": [{"type": "pcsc"}]}) as after:
        until_served(after, FIRST, SECOND)
        assert VERSION in ask(after, FIRST)


def test_cards_that_change_places_keep_their_names_of_both_planes(node, cards, service):
    service.remove_all()
    until_served(node)
    insert(service, FIRST, T1)
    insert(service, SECOND, T0)
    until_served(node, FIRST, SECOND)
    for name, seid in ((FIRST, "pcsc-key1.com"), (SECOND, "pcsc-key2.com")):
        assert row(node, name)["seid"] == seid  # readers have no serial number: it goes with a card
        assert VERSION in ask(node, name)


def test_a_card_keeps_its_seid_in_another_reader_and_its_double_keeps_both_away(
    node, cards, service
):
    first, second = cards
    first.remove()
    second.remove()
    insert(service, FIRST, T1)
    until_served(node, FIRST)
    assert row(node, FIRST)["seid"] == "pcsc-key1.com"
    double = insert(service, FIRST, T0)
    until_served(node)
    listed = [one for one in node.ask("reader.list")["readers"] if one["sen"] == FIRST]
    assert [one["state"] for one in listed] == ["fault", "fault"]
    assert all("pcsc-key1.com" in one["fault"] and one["hint"] for one in listed)
    double.remove()
    until_served(node, FIRST)
    assert VERSION in ask(node, FIRST)
