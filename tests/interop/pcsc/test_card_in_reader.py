# SPDX-License-Identifier: Apache-2.0
"""A card in a PC/SC reader, without a node: looked at, managed, and refused while it is in use."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from iose.iso7816.atr import TransmissionProtocol
from tests.support.pcsc import PcscConnection, require_pyscard
from tests.support.running_node import iose
from tests.support.virtual_card import T0Card, VirtualService, virtual_reader
from tests.twins.elements import Cards

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualService]:
    require_pyscard()
    with virtual_reader(tmp_path_factory.mktemp("pcsc")) as running:
        yield running


@pytest.fixture(params=["T=0", "T=1"])
def card(request: pytest.FixtureRequest, service: VirtualService) -> Iterator[None]:
    is_t0 = request.param == "T=0"
    made = Cards(protocol=TransmissionProtocol(0 if is_t0 else 1)).make("key1.com")
    inserted = service.insert(T0Card(made) if is_t0 else made)
    try:
        yield
    finally:
        inserted.remove()


def test_a_card_is_looked_at_and_managed(card: None, tmp_path: Path):
    listed = iose("reader", "list", "--json", "--data", str(tmp_path / "none"))
    assert listed.returncode == 0, listed.stderr
    readers = {one["reader"]: one for one in json.loads(listed.stdout)["readers"]}
    one = readers["Virtual PCD 00 00"]
    assert (one["state"], one["sen"], one["max_record"]) == ("ready", "key1.com", 512)
    managed = iose("card", "list", "pcsc:virtual", "--demo-keys", "--json")
    assert managed.returncode == 0, managed.stderr
    assert "010203040500" in {one["aid"] for one in json.loads(managed.stdout)["contents"]}
    assert iose("card", "info", "pcsc:").returncode == 0


def test_a_card_in_use_says_what_to_do_and_can_be_used_afterwards(card: None):
    other = PcscConnection()
    try:
        refused = iose("card", "info", "pcsc:")
    finally:
        asyncio.run(other.close())
    assert refused.returncode == 1
    assert "another program uses the card" in refused.stderr
    assert "iose node stop" in refused.stderr
    assert iose("card", "info", "pcsc:").returncode == 0


def test_a_reader_without_a_card_says_to_put_one_in(service: VirtualService, tmp_path: Path):
    told = iose("card", "info", "pcsc:virtual pcd 00 00")
    assert told.returncode == 1
    assert "card" in told.stderr
    assert "next: " in told.stderr
    unknown = iose("card", "info", "pcsc:acme")
    assert (unknown.returncode, "no such reader" in unknown.stderr) == (1, True)
    listed = iose("reader", "list", "--data", str(tmp_path / "none"))
    assert listed.returncode == 0
    assert "\tempty\t" in listed.stdout
