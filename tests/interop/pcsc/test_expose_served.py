# SPDX-License-Identifier: Apache-2.0
"""All the way round: one node exposes an element, another one serves what it finds in PC/SC.

Between the two are vsmartcard's driver and pcscd; TLS ends in the element of the first.
"""

from collections.abc import Iterator

import pytest

from tests.interop.pcsc.test_expose import expose
from tests.support.node import LoggedNode, configured_node, until
from tests.support.pcsc import require_pyscard
from tests.support.running_node import iose
from tests.support.virtual_card import VirtualService, virtual_reader

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualService]:
    require_pyscard()
    with virtual_reader(tmp_path_factory.mktemp("pcsc")) as running:
        yield running


@pytest.fixture(scope="module")
def owner(
    service: VirtualService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoggedNode]:
    with configured_node(tmp_path_factory.mktemp("node"), 2) as running:
        yield running


@pytest.fixture(scope="module")
def user(service: VirtualService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedNode]:
    table = {"type": "pcsc", "name": "pcsc"}
    with configured_node(
        tmp_path_factory.mktemp("user"), elements=0, node={"readers": [table]}
    ) as running:
        yield running


def ready(node: LoggedNode) -> list[str]:
    return [one["sen"] for one in node.ask("reader.list")["readers"] if one["state"] == "ready"]


@pytest.mark.parametrize(("protocol", "sen"), [("T=0", "key1.com"), ("T=1", "key2.com")])
def test_an_exposed_element_is_served_by_another_node(
    owner: LoggedNode, user: LoggedNode, protocol: str, sen: str
):
    expose(owner, sen, protocol)
    try:
        until(lambda: ready(user) == [sen])
        uri = f"keyS://{sen}:{owner[sen].psk.hex()}@{user.front}/"
        for query in ("?00", "g00", "p00"):
            answered = iose("call", f"{uri}?{query}")
            assert answered.returncode == 0, answered.stderr
    finally:
        owner.ask("reader.withdraw", {"element": sen})
    until(lambda: ready(user) == [])
