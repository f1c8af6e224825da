# SPDX-License-Identifier: Apache-2.0
"""A whole node over readers that other programs simulate: both planes, coming and going, faults."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from iose.client.racs import BlockingRacsClient
from iose.tls.constants import AlertDescription
from iose.transport.racs_client import RacsEndpoint
from tests.acceptance.wire import CHIP, WireClient, chip_version
from tests.support.node import LoggedNode, NodeElement, configured_node, until
from tests.support.twin import Twin, twin
from tests.twins.elements import DEMO_PSK

pytestmark = pytest.mark.timeout(90)

SLOTS = range(701, 705)
APDU_S = 1.0
RULE = {"user": "operator", "elements": ["*"], "verbs": ["*"], "aids": ["*"]}
RACS = {"listen": ["127.0.0.1:0"], "rules": [RULE]}
SELECT = bytes.fromhex("00A4040006010203040500")


def table(array: Twin, **given: Any) -> dict[str, Any]:
    address = "{}:{}".format(*array.address)
    return {"type": "sim-array", "address": address, "apdu_s": APDU_S, "poll_s": 0.1, **given}


@pytest.fixture(scope="module")
def array() -> Iterator[Twin]:
    with twin("sim_array", "--slots", ",".join(map(str, SLOTS))) as running:
        yield running


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedNode]:
    """A node without readers."""
    with configured_node(tmp_path_factory.mktemp("node"), 1, racs=RACS) as running:
        yield running


@pytest.fixture
def node(bare: LoggedNode, array: Twin) -> Iterator[LoggedNode]:
    """The node with the array, of which it knows nothing from the test before."""
    bare.configure(1, node={"readers": [table(array)]}, racs=RACS)
    bare.ask("reload")
    until_served(bare, *(f"sim-{slot}" for slot in SLOTS))
    yield bare
    array.fault(None)
    array.order(insert=SLOTS[0])
    bare.configure(1, racs=RACS)
    bare.ask("reload")


def element(slot: int) -> NodeElement:
    return NodeElement(f"sim-{slot}", f"key{slot}.com", DEMO_PSK, "Client_identity")


def until_served(node: LoggedNode, *seids: str) -> None:
    """Wait until these and no others are served from behind readers."""
    until(lambda: served(node) == set(seids), f"{seids} to be served")


def served(node: LoggedNode) -> set[str]:
    told = [one for one in node.ask("status")["elements"] if one["is_served"]]
    return {one["seid"] for one in told if not one["seid"].startswith("se-")}


def call(node: LoggedNode, slot: int) -> bytes:
    """Open a session with a card, and return what it says of itself."""
    return chip_version(node, element(slot))


def rows(node: LoggedNode) -> dict[str, Any]:
    return {row["seid"]: row for row in node.ask("reader.list")["readers"]}


def test_cards_behind_a_reader_are_served_on_both_planes_with_nothing_said_of_them(node):
    for slot in SLOTS:
        assert call(node, slot).startswith(b"iose keystore")
    row = rows(node)["sim-701"]
    assert (row["max_record"], row["chunk_size"]) == (512, 240)  # found out
    assert (row["sen"], row["aid"], row["state"]) == ("key701.com", "", "ready")
    assert row["health"]["failures"] == 0
    assert row["health"]["sessions"] >= 2
    host, _, port = node.racs.rpartition(":")
    files = (node.pki / name for name in ("user.pem", "user.key", "ca.pem"))
    with BlockingRacsClient(RacsEndpoint(host, int(port), *files)) as operator:
        assert {f"sim-{slot}" for slot in SLOTS} < set(operator.list())
        operator.power_on("sim-701")
        assert operator.apdu("sim-701", SELECT) == b"\x90\x00"
        operator.shutdown("sim-701")
    with WireClient(node, element(701), **CHIP) as client:
        assert client.handshake()
        holder = node.element_status("key701.com")["holder"]
        assert holder["plane"] == "tls"


def test_a_card_taken_out_ends_its_session_and_is_served_again_when_it_is_back(node, array):
    with (
        WireClient(node, element(701), **CHIP) as leaving,
        WireClient(node, element(702), **CHIP) as staying,
    ):
        assert leaving.handshake()
        assert staying.handshake()
        array.order(remove=701)
        assert leaving.ended()["reason"] == "element_removed"
        until_served(node, "sim-702", "sim-703", "sim-704")
        assert staying.call(b"?00")
    assert rows(node)["sim-701"]["state"] == "empty"
    with WireClient(node, element(701), **CHIP) as late:
        assert not late.handshake()
        assert late.alert is AlertDescription.UNRECOGNIZED_NAME
    array.order(insert=701)
    until_served(node, *(f"sim-{slot}" for slot in SLOTS))
    assert call(node, 701)


@pytest.mark.parametrize("kind", ["silence", "garbage", "partial", "crc", "refuse"])
def test_a_fault_ends_its_session_in_time_and_the_card_works_again(node, array, kind):
    with WireClient(node, element(701), **CHIP) as client:
        assert client.handshake()
        array.fault(kind, 1, slot=701)
        assert not client.call(b"?00")
        assert client.ended()["reason"] == "element_failed"
    until(lambda: "sim-701" in served(node), "the element to be back")
    assert call(node, 701)
    health = rows(node)["sim-701"]["health"]
    assert health["failures"] >= 1
    assert health["last_fault"]


def test_an_array_that_goes_and_comes_back_takes_only_its_own_elements_along(node, array):
    array.fault("gone")
    until_served(node)
    (software,) = node.elements.values()
    with WireClient(node, software) as client:
        assert client.handshake()
    assert all(row["state"] in {"absent", "fault"} for row in rows(node).values())
    assert all(row["hint"] for row in rows(node).values())
    array.fault(None)
    until_served(node, *(f"sim-{slot}" for slot in SLOTS))
    assert call(node, 704)


def test_a_stuck_card_keeps_no_other_waiting(node, array):
    with WireClient(node, element(701), **CHIP) as stuck:
        assert stuck.handshake()
        array.fault("silence", slot=701)
        asking = threading.Thread(target=stuck.call, args=(b"?00",))
        asking.start()
        until(lambda: rows(node)["sim-701"]["health"]["waiting_since_s"] is not None)
        for slot in SLOTS[1:]:
            assert call(node, slot)
        asking.join()
    array.fault(None)
    until_served(node, *(f"sim-{slot}" for slot in SLOTS))


def test_a_reload_starts_stops_and_renames_readers(node, array):
    with (
        twin("sim_array", "--slots", "801") as second,
        WireClient(node, element(702), **CHIP) as client,
    ):
        assert client.handshake()
        readers = [table(array, seids={"701": "vault"}), table(second, name="second")]
        node.configure(1, node={"readers": readers}, racs={"listen": ["127.0.0.1:0"]})
        assert node.ask("reload")["restart_needed_for"] == []
        until_served(node, "vault", "sim-702", "sim-703", "sim-704", "sim-801")
        assert client.call(b"?00")  # what did not change goes on
        assert call(node, 801)
    node.configure(1, racs={"listen": ["127.0.0.1:0"]})
    node.ask("reload")
    assert served(node) == set()
    assert node.ask("reader.list")["readers"] == []


def test_two_cards_of_one_seid_are_both_refused_with_what_to_do(node, array):
    readers = [table(array, seids={"701": "vault", "sim-702": "vault2"})]
    node.configure(1, node={"readers": readers}, racs={"listen": ["127.0.0.1:0"]})
    node.ask("reload")
    until_served(node, "vault", "vault2", "sim-703", "sim-704")
    readers = [table(array, seids={"701": "sim-702"})]
    node.configure(1, node={"readers": readers}, racs={"listen": ["127.0.0.1:0"]})
    node.ask("reload")
    until_served(node, "sim-703", "sim-704")
    told = [row for row in node.ask("reader.list")["readers"] if row["seid"] == "sim-702"]
    assert len(told) == 2
    assert all("has the SEID sim-702, too" in row["fault"] for row in told)
    assert all("seids" in row["hint"] for row in told)
    assert node.logged("reader.repeated_seid", seid="sim-702")
