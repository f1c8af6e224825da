# SPDX-License-Identifier: Apache-2.0
"""Card management on a running node, from its command line: an instance installed is then used."""

import json
from pathlib import Path

import pytest

from tests.support.running_node import RunningNode, iose, running_node

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SECOND = "010203040501"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("node") / "data"
    with running_node(folder, "--racs", "127.0.0.1:0", "--elements", "1") as started:
        yield started


def card(node: RunningNode, state: Path, *arguments: str) -> str:
    result = iose(
        "card", *arguments, "--data", str(node.data), IOSE_CARD_STATE=str(state / "failed")
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_an_instance_is_installed_served_and_its_card_given_new_keys(
    node: RunningNode, tmp_path: Path
):
    old, new, secrets = (tmp_path / name for name in ("old.json", "new.json", "secrets.json"))
    owner = ("--data", str(node.data))
    assert iose("element", "secrets", "key1.com", "--out", str(old), *owner).returncode == 0
    card(
        node, tmp_path, "install", "key1.com", "tls-se", "--aid", SECOND, "--sen", "key2.com",
        "--secrets-out", str(secrets), "--keys", str(old), "--yes",
    )  # fmt: skip
    psk = json.loads(secrets.read_text())["psk"]
    host, port = node.address
    called = iose("call", f"keyS://key2.com:{psk}@{host}:{port}/??00")
    assert called.returncode == 0, called.stderr
    card(node, tmp_path, "put-key", "key1.com", "--keys", str(old), "--out", str(new), "--yes")
    listed = card(node, tmp_path, "list", "key1.com", "--keys", str(new), "--json")
    states = {item["aid"]: item["state"] for item in json.loads(listed)["contents"]}
    assert states[SECOND] == "selectable"
    card(node, tmp_path, "delete", "key1.com", SECOND, "--keys", str(new), "--yes")
    called = iose("call", f"keyS://key2.com:{psk}@{host}:{port}/??00")
    assert called.returncode == 1


def test_a_card_is_described_by_the_address_of_its_server(node: RunningNode, tmp_path: Path):
    seid = node.ready["elements"][0]["seid"]
    target = f"racs://{node.ready['racs']}/{seid}"
    described = json.loads(
        card(node, tmp_path, "info", target, "--pki", node.ready["pki"], "--json")
    )
    assert described["issuer_domain"] == "A000000151000000"
    assert described["protocols"] == ["SCP03 i=70"]
