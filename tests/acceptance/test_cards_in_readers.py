# SPDX-License-Identifier: Apache-2.0
"""A node and two cards with a chip's limits in PC/SC readers, T=0 and T=1, for openssl s_client.

Nothing is configured but the readers. Cards come and go, and the service dies, while it runs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iose.iso7816.atr import TransmissionProtocol
from tests.acceptance.programs import LineClient, openssl
from tests.support.node import LoggedNode, NodeElement, configured_node, until
from tests.support.pcsc import require_pyscard
from tests.support.virtual_card import T0Card, VirtualCard, VirtualService, virtual_reader
from tests.twins.elements import DEMO_PSK, Cards

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

READERS = 2
NAMES = ("key1.com", "key2.com")
T0, T1 = TransmissionProtocol.T0, TransmissionProtocol.T1
VERSION = "iose keystore 1.3"


class Desk:
    """Two readers on a desk, the cards that belong in them, and the node that serves them."""

    def __init__(self, service: VirtualService, node: LoggedNode) -> None:
        self.service = service
        self.node = node
        self.inserted: dict[str, VirtualCard] = {}
        self.cards = {
            "key1.com": T0Card(Cards(protocol=T0).make("key1.com")),
            "key2.com": Cards(protocol=T1).make("key2.com"),
        }

    def insert(self, *names: str) -> None:
        for name in names:
            self.inserted[name] = self.service.insert(self.cards[name], NAMES.index(name))

    def served(self) -> set[str]:
        return {one["sen"] for one in self.node.ask("status")["elements"] if one["is_served"]}

    def until_served(self, *names: str) -> None:
        until(lambda: self.served() == set(names), f"{names} to be served", 30.0)

    def rows(self) -> dict[str, Any]:
        return {row["sen"]: row for row in self.node.ask("reader.list")["readers"] if row["sen"]}

    def openssl(self, name: str) -> LineClient:
        element = NodeElement("", name, DEMO_PSK, "Client_identity")
        return openssl(self.node.front, element, "-no_ticket")

    def version(self, name: str) -> str:
        with self.openssl(name) as client:
            return client.ask("?00")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    require_pyscard()
    folder: Path = tmp_path_factory.mktemp("desk")
    tables = {"readers": [{"type": "pcsc", "apdu_s": 5.0}]}
    with virtual_reader(folder, READERS) as service:
        with configured_node(folder / "node", 0, node=tables) as node:
            yield Desk(service, node)
        service.remove_all()


@pytest.fixture
def cards(desk: Desk) -> Iterator[Desk]:
    if not desk.service.is_running:
        desk.service.start()
    desk.insert(*NAMES)
    desk.until_served(*NAMES)
    yield desk
    desk.service.remove_all()
    desk.until_served()


def test_cards_of_both_protocols_are_served_with_nothing_said_but_their_readers(cards: Desk):
    for name in NAMES:
        assert cards.version(name) == VERSION
    rows = cards.rows()
    for name in NAMES:
        row = rows[name]
        assert (row["state"], row["fault"]) == ("ready", "")
        assert (row["max_record"], row["chunk_size"]) == (512, 240)
        assert row["health"]["failures"] == 0


def test_a_card_taken_out_in_mid_session_ends_it_alone_and_is_served_when_it_is_back(cards: Desk):
    with cards.openssl("key1.com") as leaving, cards.openssl("key2.com") as staying:
        assert leaving.ask("?00") == staying.ask("?00") == VERSION
        mark = cards.node.log_mark()
        cards.inserted["key1.com"].remove()
        ended = cards.node.wait_logged("session.ended", mark, sen="key1.com")
        assert ended["reason"] in {"element_removed", "element_failed"}
        cards.until_served("key2.com")
        assert staying.ask("?00") == VERSION
    cards.insert("key1.com")
    cards.until_served(*NAMES)
    assert cards.version("key1.com") == VERSION


def test_a_service_killed_in_mid_session_ends_it_and_serves_again_when_it_is_back(cards: Desk):
    with cards.openssl("key2.com") as client:
        assert client.ask("?00") == VERSION
        mark = cards.node.log_mark()
        cards.service.kill()
        cards.node.wait_logged("session.ended", mark, sen="key2.com")
    cards.until_served()
    faults = [row for row in cards.node.ask("reader.list")["readers"] if row["hint"]]
    assert faults
    cards.service.remove_all()
    cards.service.start()
    cards.insert(*NAMES)
    cards.until_served(*NAMES)
    for name in NAMES:
        assert cards.version(name) == VERSION


def test_cards_that_change_places_keep_their_names_of_both_planes(cards: Desk):
    before = {sen: row["seid"] for sen, row in cards.rows().items()}
    assert len(set(before.values())) == READERS
    cards.service.remove_all()
    cards.until_served()
    for number, name in enumerate(reversed(NAMES)):
        cards.service.insert(cards.cards[name], number)
    cards.until_served(*NAMES)
    after = {sen: row["seid"] for sen, row in cards.rows().items()}
    assert after == before  # readers without a serial number: a SEID goes with its card
    for name in NAMES:
        assert cards.version(name) == VERSION
