# SPDX-License-Identifier: Apache-2.0
"""All the way round: one node exposes an element, another one serves what it finds in PC/SC.

Between the two are vsmartcard's driver and pcscd; TLS ends in the element of the first.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.pcsc.test_expose import PORT, reader
from tests.support.node import LoggedNode, configured_node
from tests.support.pcsc import require_pyscard
from tests.support.running_node import RunningNode, iose, running_node, until
from tests.support.virtual_card import VirtualService, virtual_reader

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(300),
]  # the machine has one service: files take turns


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualService]:
    require_pyscard()
    with virtual_reader(tmp_path_factory.mktemp("pcsc")) as running:
        yield running


@pytest.fixture(scope="module")
def owner(
    service: VirtualService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("node") / "data") as running:
        yield running


@pytest.fixture
def user(service: VirtualService, tmp_path: Path) -> Iterator[LoggedNode]:
    table = {"type": "pcsc", "name": "pcsc"}
    with configured_node(tmp_path, elements=0, node={"readers": [table]}) as running:
        yield running


def ready(node: LoggedNode) -> list[str]:
    listed = json.loads(reader(node.folder, "list", "--json").stdout)["readers"]
    return [one["sen"] for one in listed if one["state"] == "ready"]


@pytest.mark.parametrize(("protocol", "index"), [("T=0", 0), ("T=1", 1)])
def test_an_exposed_element_is_served_by_another_node(
    owner: RunningNode, user: LoggedNode, protocol: str, index: int
):
    sen = owner.ready["elements"][index]["sen"]
    options = ("--detach", "--port", PORT, "--protocol", protocol)
    done = reader(owner.data, "expose", sen, *options)
    assert done.returncode == 0, done.stderr
    try:
        until(lambda: ready(user) == [sen])
        uri = f"keyS://{sen}:{owner.psk(index)}@{user.front}/"
        for query in ("?00", "g00", "p00"):
            answered = iose("call", f"{uri}?{query}")
            assert answered.returncode == 0, answered.stderr
    finally:
        reader(owner.data, "withdraw", sen)
    until(lambda: ready(user) == [])
