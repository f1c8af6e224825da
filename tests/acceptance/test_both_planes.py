# SPDX-License-Identifier: Apache-2.0
"""An element wanted by an administrator and by TLS clients, on a node with its usual limits."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from iose.client.racs import BlockingRacsClient
from iose.transport.errors import RacsRefusedError
from iose.transport.racs_client import RacsEndpoint
from tests.acceptance.wire import WireClient
from tests.support.node import LoggedNode, configured_node, until
from tests.support.running_node import iose

OPERATOR = {"user": "operator", "elements": ["*"], "verbs": ["*", "preempt"], "aids": ["*"]}
SELECT = bytes.fromhex("00A4040006010203040500")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedNode]:
    racs = {"listen": ["127.0.0.1:0"], "rules": [OPERATOR]}
    with configured_node(tmp_path_factory.mktemp("planes"), 2, racs=racs) as running:
        yield running


@pytest.fixture
def operator(node: LoggedNode) -> Iterator[BlockingRacsClient]:
    host, _, port = node.racs.rpartition(":")
    files = (node.pki / name for name in ("user.pem", "user.key", "ca.pem"))
    with BlockingRacsClient(RacsEndpoint(host, int(port), *files)) as client:
        yield client


def test_who_holds_an_element_and_does_nothing_gives_it_to_a_tls_client_that_waits(
    node: LoggedNode, operator: BlockingRacsClient
):
    element = node["key1.com"]
    operator.power_on(element.seid)
    called: subprocess.CompletedProcess[str] = iose("call", f"{node.uri('key1.com')}??00")
    assert called.returncode == 0, called.stderr
    assert "keystore" in called.stdout
    with pytest.raises(RacsRefusedError) as refused:
        operator.apdu(element.seid, SELECT)
    assert str(refused.value.status).startswith("-306")
    shown = iose("audit", "show", "--seid", element.seid, "--json", "--data", str(node.folder))
    (taken,) = (one for one in json.loads(shown.stdout)["entries"] if one["verb"] == "SHUTDOWN")
    assert taken["detail"] == "idle while others wait"


def test_a_tls_session_keeps_administrators_out_until_one_who_may_ends_it(
    node: LoggedNode, operator: BlockingRacsClient
):
    element = node["key2.com"]
    with WireClient(node, element) as client:
        assert client.handshake()
        with pytest.raises(RacsRefusedError) as refused:
            operator.power_on(element.seid)
        assert str(refused.value.status).startswith("-708")
        assert client.call(b"?00").startswith(b"iose keystore")
        operator.shutdown(element.seid)
        assert client.ended()["reason"] == "preempted"
    operator.power_on(element.seid)
    assert operator.apdu(element.seid, SELECT) == b"\x90\x00"
    operator.shutdown(element.seid)
    until(lambda: node.element_status("key2.com")["holder"] is None)
