# SPDX-License-Identifier: Apache-2.0
"""An element behind one reader exposed in another: a SIM array's card as a card of PC/SC.

The array is a twin, the driver vsmartcard's, the service pcscd, the program OpenSC's.
"""

from collections.abc import Iterator

import pytest

from tests.interop.pcsc.test_expose import expose, exposures, opensc, send
from tests.support.node import LoggedNode, configured_node, until
from tests.support.twin import Twin, twin
from tests.support.virtual_card import VirtualService, has_card, virtual_reader

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

RESET_TLS = "00D8000000"
WITH_DATA = "00A4040008A00000015100000000"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualService]:
    with virtual_reader(tmp_path_factory.mktemp("pcsc")) as running:
        yield running


@pytest.fixture(scope="module")
def array() -> Iterator[Twin]:
    with twin("sim_array", "--slots", "701") as running:
        yield running


@pytest.fixture(scope="module")
def node(
    service: VirtualService, array: Twin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoggedNode]:
    address = "{}:{}".format(*array.address)
    table = {"type": "sim-array", "name": "array", "address": address, "poll_s": 0.1}
    with configured_node(
        tmp_path_factory.mktemp("node"), elements=0, node={"readers": [table]}
    ) as running:
        until(lambda: states(running) == ["ready"])
        yield running


def states(node: LoggedNode) -> list[str]:
    return [one["state"] for one in node.ask("reader.list")["readers"]]


@pytest.mark.parametrize("protocol", ["T=0", "T=1"])
def test_a_card_of_an_array_is_a_card_of_pcsc(node: LoggedNode, protocol: str):
    expose(node, "key701.com", protocol)
    assert b"key701.com" in bytes.fromhex(opensc("--atr").replace(":", ""))
    reset, selected = send(RESET_TLS, WITH_DATA)
    assert (reset, selected[-4:]) == ("9000", "9000")
    node.ask("reader.withdraw", {"element": "key701.com"})
    until(lambda: not has_card())


def test_a_card_taken_out_of_the_array_leaves_the_virtual_reader_until_it_is_back(
    node: LoggedNode, array: Twin
):
    expose(node, "key701.com")
    array.order(remove=701)
    until(lambda: not has_card())
    assert exposures(node)[0]["fault"]
    array.order(insert=701)
    until(has_card)
    assert send(RESET_TLS) == ["9000"]
    assert exposures(node)[0]["fault"] == ""
    node.ask("reader.withdraw", {"element": "key701.com"})
    until(lambda: not has_card())
