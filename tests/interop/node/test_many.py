# SPDX-License-Identifier: Apache-2.0
"""A thousand software elements: known again at once, cheap while idle, many sessions together."""

import subprocess
from pathlib import Path

import pytest

from tests.interop.node.test_up import openssl_command
from tests.support.running_node import RunningNode, running_node

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

ELEMENTS = 1000
SESSIONS = 64
IDLE_LIMIT_KB = 100


def proportional_set_size_kb(node: RunningNode) -> int:
    """Return the memory of all processes of a node, shared pages counted once."""
    pids = [node.process.pid, *(item["pid"] for item in node.status()["processes"])]
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return total


def test_a_thousand_elements_cost_little_and_serve_many_at_once(tmp_path: Path):
    many = tmp_path / "many"
    with running_node(many, "--elements", str(ELEMENTS)) as node:
        keys = [node.psk(index) for index in range(ELEMENTS)]
    assert len(set(keys)) == ELEMENTS
    with running_node(tmp_path / "one", "--elements", "1") as node:
        alone = proportional_set_size_kb(node)
    with running_node(many, "--elements", str(ELEMENTS)) as node:
        idle = proportional_set_size_kb(node)
        assert (idle - alone) / (ELEMENTS - 1) < IDLE_LIMIT_KB
        assert [node.psk(index) for index in range(ELEMENTS)] == keys
        clients = [
            subprocess.Popen(
                openssl_command(node, index),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for index in range(0, SESSIONS * 10, 10)
        ]
        try:
            for client in clients:
                client.stdin.write("?00\n")
                client.stdin.flush()
            answers = [client.stdout.readline() for client in clients]
            held = [item for item in node.status()["elements"] if item["holder"]]
        finally:
            for client in clients:
                client.kill()
                client.communicate()
        assert all("keystore" in answer for answer in answers)
        assert len(held) == SESSIONS
