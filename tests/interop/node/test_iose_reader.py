# SPDX-License-Identifier: Apache-2.0
"""``iose reader list`` and ``iose card`` as a person types them, over an array of cards."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import LoggedNode, configured_node, until
from tests.support.running_node import iose
from tests.support.twin import Twin, twin

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def array() -> Iterator[Twin]:
    with twin("sim_array", "--slots", "701,702") as running:
        yield running


@pytest.fixture
def node(array: Twin, tmp_path: Path) -> Iterator[LoggedNode]:
    table = {
        "type": "sim-array",
        "name": "array",
        "address": "{}:{}".format(*array.address),
        "apdu_s": 1.0,
        "poll_s": 0.1,
        "seids": {"701": "door"},
    }
    with configured_node(tmp_path, 0, node={"readers": [table]}) as running:
        until(lambda: states(running) == {"door": "ready", "sim-702": "ready"}, "both cards")
        yield running


def states(node: LoggedNode) -> dict[str, str]:
    listed = iose("reader", "list", "--json", "--data", str(node.folder))
    assert listed.returncode == 0, listed.stderr
    return {one["seid"]: one["state"] for one in json.loads(listed.stdout)["readers"]}


def lines(node: LoggedNode, *options: str) -> list[str]:
    listed = iose("reader", "list", "--data", str(node.folder), *options)
    assert (listed.returncode, listed.stderr) == (0, "")
    return listed.stdout.splitlines()


def test_the_readers_of_a_node_are_listed(node):
    first, second = lines(node, "--refresh")
    assert first.split("\t")[:5] == ["array", "array slot 701", "door", "key701.com", "ready"]
    assert second.split("\t")[:5] == ["array", "array slot 702", "sim-702", "key702.com", "ready"]


def test_a_card_that_is_taken_out_leaves_an_empty_slot_and_no_problem(node, array):
    array.order(remove=702)
    until(lambda: states(node).get("sim-702") != "ready", "the card to be gone")
    _, empty = lines(node)
    assert empty.split("\t")[:5] == ["array", "array slot 702", "sim-702", "", "empty"]


def test_an_array_that_is_gone_says_what_to_do_and_is_back_by_itself(node, array):
    array.fault("gone")
    until(lambda: "ready" not in states(node).values(), "the array to be gone")
    *_, problem = lines(node, "--refresh")
    assert problem.startswith("array slot 701 and 1 more: ")
    assert " → is the array on" in problem
    array.fault(None)
    until(lambda: states(node) == {"door": "ready", "sim-702": "ready"}, "both cards")


def test_a_card_is_managed_through_its_reader_without_a_node(array, tmp_path):
    address = "{}:{}".format(*array.address)
    file = tmp_path / "node.toml"
    file.write_text(
        f'data = "{tmp_path / "data"}"\n[[readers]]\ntype = "sim-array"\naddress = "{address}"\n'
    )
    listed = iose("card", "list", "reader:sim-701", "--config", str(file), "--demo-keys", "--json")
    assert listed.returncode == 0, listed.stderr
    contents = {one["aid"]: one["name"] for one in json.loads(listed.stdout)["contents"]}
    assert contents["010203040500"] == "tls-se"
    unknown = iose("card", "info", "reader:sim-709", "--config", str(file))
    assert unknown.returncode == 1
    assert "there is no such reader" in unknown.stderr


@pytest.mark.parametrize("kind", ["silence", "garbage", "partial"])
def test_a_reader_that_fails_ends_a_command_with_what_to_do(array, tmp_path, kind):
    address = "{}:{}".format(*array.address)
    file = tmp_path / "node.toml"
    file.write_text(
        f'data = "{tmp_path / "data"}"\n[[readers]]\ntype = "sim-array"\naddress = "{address}"\n'
        "slots = [701]\napdu_s = 1\n"
    )
    arguments = ("card", "info", "reader:sim-701", "--config", str(file))
    array.fault(kind)
    failed = iose(*arguments)
    assert failed.returncode == 1
    assert "next: " in failed.stderr
    assert "fault of iose" not in failed.stderr
    array.fault(None)
    assert iose(*arguments).returncode == 0
