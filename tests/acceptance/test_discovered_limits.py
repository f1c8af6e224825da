# SPDX-License-Identifier: Apache-2.0
"""Elements behind a reader whose limits nobody wrote down: found, shown, and kept to."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.wire import chip_version
from tests.support.client_hello import hello_record
from tests.support.node import PATIENCE_S, LoggedNode, NodeElement, configured_node, until
from tests.support.twin import twin
from tests.twins.elements import DEMO_PSK

pytestmark = pytest.mark.timeout(90)

OVERFLOW_ALERT = bytes.fromhex("15030300020216")
LARGEST_RECORD = 16_645
CARD = NodeElement("sim-701", "key701.com", DEMO_PSK, "Client_identity")


@contextmanager
def served(folder: Path, *options: str, **table: object) -> Iterator[LoggedNode]:
    """Give a node with one card in a SIM array, once it is known what the card takes."""
    with twin("sim_array", "--slots", "701", *options) as array:
        host, port = array.address
        reader = {"type": "sim-array", "address": f"{host}:{port}", **table}
        with configured_node(folder, 0, node={"readers": [reader]}) as node:
            until(lambda: element(node)["sen"], "the element's name")
            yield node


def element(node: LoggedNode) -> dict[str, Any]:
    (found,) = node.ask("reader.list")["readers"]
    return found


def answer_to(node: LoggedNode, hello: bytes) -> bytes:
    """Return the first bytes that a ClientHello is answered with."""
    with socket.create_connection(node.address, PATIENCE_S) as client:
        client.sendall(hello)
        return client.recv(65_536)


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        (("--wire", "compatible", "--limits", "chip"), (240, 512)),
        (("--wire", "hardened", "--limits", "chip"), (240, 512)),
        (("--wire", "hardened", "--limits", "wide", "--commands", "iose"), (240, LARGEST_RECORD)),
    ],
    ids=["compatible chip", "hardened chip", "hardened wide"],
)
def test_what_an_element_takes_is_found_and_kept_to(
    tmp_path: Path, options: tuple[str, ...], limits: tuple[int, int]
):
    with served(tmp_path, *options) as node:
        found = element(node)
        assert (found["chunk_size"], found["max_record"]) == limits
        assert found["state"] == "ready"
        before = found["health"]
        hello = hello_record(b"key701.com", padding=600)
        answer = answer_to(node, hello)
        if len(hello) > limits[1]:
            assert answer == OVERFLOW_ALERT
            assert node.wait_logged("session.ended", reason="record_overflow")["apdus"] == 0
            assert element(node)["health"]["sessions"] == before["sessions"]
        else:
            assert answer != OVERFLOW_ALERT
            assert element(node)["health"]["sessions"] == before["sessions"] + 1
        assert b"keystore" in chip_version(node, CARD)


def test_what_is_configured_is_not_looked_for(tmp_path: Path):
    with served(tmp_path, max_record=600, chunk_size=100) as node:
        found = element(node)
        assert (found["chunk_size"], found["max_record"]) == (100, 600)
        assert b"keystore" in chip_version(node, CARD)
