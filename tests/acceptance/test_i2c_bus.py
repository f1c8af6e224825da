# SPDX-License-Identifier: Apache-2.0
"""A whole node with two devices on one I2C bus: TLS clients reach both flavours, and both fail.

The bus is a program of its own; the node is ``iose node run``.
"""

from collections.abc import Iterator

import pytest

from tests.acceptance.wire import CHIP, WireClient, chip_version
from tests.support.node import LoggedNode, NodeElement, configured_node, until
from tests.support.twin import Twin, twin
from tests.twins.elements import DEMO_PSK

pytestmark = pytest.mark.timeout(90)

APDU_S = 1.0
BOARD = NodeElement("1004", "key4.com", DEMO_PSK, "Client_identity")
PART = NodeElement("1010", "key10.com", DEMO_PSK, "Client_identity")
ADDRESSES = {BOARD: 4, PART: 10}
BOTH = {BOARD.seid: "ready", PART.seid: "ready"}
VERSION = b"iose keystore 1.3"
ELEMENTS = pytest.mark.parametrize("element", ADDRESSES, ids=["iose", "t1"])


@pytest.fixture(scope="module")
def bus() -> Iterator[Twin]:
    with twin("i2c", "--device", "4=key4.com", "--device", "10=key10.com:t1") as running:
        yield running


@pytest.fixture(scope="module")
def node(bus: Twin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedNode]:
    table = {"type": "i2c", "bus": bus.ready["bus"], "apdu_s": APDU_S}
    readers = [
        {**table, "address": 4, "reset_chip": "twin", "reset_line": 4},
        {**table, "address": 10, "flavour": "t1"},
    ]
    folder = tmp_path_factory.mktemp("bus")
    with configured_node(folder, 0, node={"readers": readers}) as running:
        until(lambda: states(running) == BOTH, "both devices")
        yield running


def states(node: LoggedNode) -> dict[str, str]:
    return {one["seid"]: one["state"] for one in node.ask("reader.list")["readers"]}


@ELEMENTS
def test_a_client_reaches_the_element_by_its_name(node, element):
    assert chip_version(node, element) == VERSION
    assert chip_version(node, element) == VERSION


@pytest.mark.parametrize("kind", ["silence", "crc", "garbage", "partial"])
@ELEMENTS
def test_a_fault_ends_one_session_and_the_next_one_works(node, bus, element, kind):
    other = PART if element is BOARD else BOARD
    mark = node.log_mark()
    bus.fault(kind, address=ADDRESSES[element])
    with WireClient(node, element, **CHIP) as client:
        assert not client.handshake()
    node.wait_logged("session.ended", mark, seid=element.seid, reason="element_failed")
    assert chip_version(node, other) == VERSION
    bus.fault(None)
    until(lambda: states(node) == BOTH, "the device to be in order")
    assert chip_version(node, element) == VERSION


@ELEMENTS
def test_a_device_that_is_gone_is_an_empty_slot_until_it_is_back(node, bus, element):
    other = PART if element is BOARD else BOARD
    bus.fault("gone", address=ADDRESSES[element])
    until(lambda: states(node)[element.seid] == "empty", "the device to be gone")
    assert chip_version(node, other) == VERSION
    bus.fault(None)
    until(lambda: states(node) == BOTH, "the device to be back")
    assert chip_version(node, element) == VERSION
