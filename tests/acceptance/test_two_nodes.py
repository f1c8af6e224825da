# SPDX-License-Identifier: Apache-2.0
"""Two nodes: the elements of one are readers of the other, in both planes, through their deaths.

The far node has the elements; the near one has none of its own and reaches them over RACS with a
user's certificate that the far one issued.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from iose.client.racs import BlockingRacsClient
from iose.transport.errors import RacsRefusedError, TransportError
from iose.transport.racs_client import RacsEndpoint
from tests.acceptance.wire import WireClient
from tests.support.node import LoggedNode, NodeElement, configured_node, until
from tests.support.peers import require_peer
from tests.support.running_node import iose

pytestmark = pytest.mark.timeout(120)

USER = "front-node"
EVERYTHING = {"elements": ["*"], "verbs": ["*", "preempt"], "aids": ["*"]}
SELECT = bytes.fromhex("00A4040006010203040500")
APDU_S = 3.0
ENDED_S = 30.0  # bounded; how soon is for the bench


class Nodes:
    """The far node, the near node, and how they are stopped and started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stacks = {"far": ExitStack(), "near": ExitStack()}
        self._ports = {"far": _free_port(), "near": _free_port()}
        self._racs: dict[str, Any] = {}
        self._table: dict[str, Any] = {}
        self.far: LoggedNode
        self.near: LoggedNode

    def start(self, table: dict[str, Any], racs: dict[str, Any]) -> None:
        """Start both for the first time."""
        self._table, self._racs = table, racs
        self.start_far()
        made = iose("pki", "user", USER, "--out", str(self.user), "--data", str(self.far.folder))
        assert made.returncode == 0, made.stderr
        self.start_near()

    def start_far(self) -> None:
        """Start the far node, always at the same port."""
        listen = [f"127.0.0.1:{self._ports['far']}"]
        rules = [{"user": USER, **EVERYTHING}, {"user": "operator", **EVERYTHING}]
        racs = {"listen": listen, "rules": rules, **self._racs}
        self.far = self._stacks["far"].enter_context(
            configured_node(self._folder / "far", 2, racs=racs)
        )

    def start_near(self) -> None:
        """Start the near node."""
        table = {
            "type": "racs",
            "name": "rack",
            "address": f"127.0.0.1:{self._ports['far']}",
            "pki": str(self.user),
            "apdu_s": APDU_S,
            "poll_s": 0.2,
            **self._table,
        }
        racs = {"listen": ["127.0.0.1:0"], "rules": [{"user": "operator", **EVERYTHING}]}
        self.near = self._stacks["near"].enter_context(
            configured_node(self._folder / "near", 0, node={"readers": [table]}, racs=racs)
        )

    @property
    def user(self) -> Path:
        """Folder of the certificate of the near node at the far one."""
        return self._folder / "user"

    def kill(self, name: str) -> None:
        """Kill one of them without warning, every process."""
        node: LoggedNode = getattr(self, name)
        processes = [one["pid"] for one in node.ask("status")["processes"] if one["pid"]]
        node.process.kill()
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._stacks[name].close()

    def stop(self) -> None:
        """Stop both."""
        self._stacks["near"].close()
        self._stacks["far"].close()

    def until_served(self, count: int = 2) -> None:
        """Wait until the near node serves so many of the far one's elements."""

        def served() -> bool:
            told = self.near.ask("status")["elements"]
            return sum(one["is_served"] for one in told) == count

        until(served, f"{count} elements served", ENDED_S)

    def until_probed(self) -> None:
        """Wait until what the near node finds out by itself is known."""
        until(
            lambda: all(one["health"]["sessions"] and one["max_record"] for one in self.readers),
            "what the elements take",
        )

    def until_free(self, sen: str = "key1.com") -> None:
        """Wait until nobody holds an element, at either node."""
        for node in (self.near, self.far):
            until(lambda node=node: node.element_status(sen)["holder"] is None, f"{sen} free")

    @property
    def readers(self) -> list[dict[str, Any]]:
        """What the near node says of its readers."""
        told: list[dict[str, Any]] = self.near.ask("reader.list")["readers"]
        return told

    def session(self, sen: str = "key1.com") -> WireClient:
        """Return a client at the near node of an element of the far one."""
        return WireClient(self.near, self.far[sen])

    def call(self, sen: str = "key1.com") -> None:
        """Run a whole session through both nodes; it must work."""
        with self.session(sen) as client:
            assert client.handshake(), client.ended()
            assert client.call(b"?00").startswith(b"iose keystore")


@contextmanager
def two_nodes(
    folder: Path, table: dict[str, Any] | None = None, racs: dict[str, Any] | None = None
) -> Iterator[Nodes]:
    nodes = Nodes(folder)
    try:
        nodes.start(table or {}, racs or {})
        nodes.until_served()
        nodes.until_probed()
        yield nodes
    finally:
        nodes.stop()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with two_nodes(tmp_path_factory.mktemp("nodes")) as running:
        yield running


def administrator(node: LoggedNode, folder: Path | None = None) -> BlockingRacsClient:
    host, _, port = node.racs.rpartition(":")
    pki = folder or node.pki
    files = (pki / name for name in ("user.pem", "user.key", "ca.pem"))
    return BlockingRacsClient(RacsEndpoint(host, int(port), *files))


def audited(node: LoggedNode, seid: str) -> list[tuple[str, str]]:
    """Return verbs and details of what befell an element, by user of the near node."""
    with administrator(node) as operator:
        operator.version()
    shown = iose("audit", "show", "--seid", seid, "--json", "--data", str(node.folder))
    entries = json.loads(shown.stdout)["entries"]
    return [(one["verb"], one["detail"]) for one in entries if one["user"] == USER]


def ask_with_openssl(nodes: Nodes, element: NodeElement, *lines: str) -> list[str]:
    command = [
        require_peer("openssl"), "s_client", "-quiet", "-tls1_3",
        "-connect", nodes.near.front, "-servername", element.sen,
        "-groups", "P-256", "-ciphersuites", "TLS_AES_128_CCM_SHA256",
        "-psk_identity", element.identity, "-psk", element.psk.hex(),
    ]  # fmt: skip
    pipe = subprocess.PIPE
    answers = []
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        for line in lines:
            client.stdin.write(line + "\n")
            client.stdin.flush()
            answers.append(client.stdout.readline().strip())
        client.kill()
    return answers


# --- both planes ----------------------------------------------------------------------------------


def test_openssl_has_sessions_with_elements_of_the_other_node(nodes: Nodes):
    for sen in ("key1.com", "key2.com"):
        answers = ask_with_openssl(nodes, nodes.far[sen], "?00", "?01" + "x" * 300)
        assert answers[0].startswith("iose keystore")
        assert answers[1] == "x" * 300


def test_elements_are_called_the_same_on_both_nodes(nodes: Nodes):
    shown = {one["seid"]: (one["sen"], one["state"], one["fault"]) for one in nodes.readers}
    assert shown == {one.seid: (sen, "ready", "") for sen, one in nodes.far.elements.items()}


def test_limits_of_wide_elements_are_found_through_both_nodes(nodes: Nodes):
    assert {one["max_record"] > 16_384 for one in nodes.readers} == {True}


def test_an_administrator_reaches_elements_of_the_other_node(nodes: Nodes):
    seid = nodes.far["key1.com"].seid
    with administrator(nodes.near) as operator:
        assert set(operator.list()) == {one.seid for one in nodes.far.elements.values()}
        assert operator.get_sen(seid).sen == "key1.com"
        operator.power_on(seid)
        assert operator.apdu(seid, SELECT) == b"\x90\x00"
        assert nodes.far.element_status("key1.com")["holder"] is not None
        before = len(audited(nodes.far, seid))
        operator.reset(seid, is_warm=True)
        assert operator.apdu(seid, SELECT) == b"\x90\x00"
        operator.reset(seid)  # a cut of the power, there as here
        assert operator.apdu(seid, SELECT) == b"\x90\x00"
        operator.shutdown(seid)
    verbs = audited(nodes.far, seid)[before:]
    assert verbs == [
        ("RESET", "WARM"),
        ("APDU", ""),
        ("SHUTDOWN", ""),
        ("POWERON", ""),
        ("APDU", ""),
        ("SHUTDOWN", ""),
    ]
    nodes.until_free()


def test_the_command_line_administers_through_both_nodes(nodes: Nodes):
    seid = nodes.far["key2.com"].seid
    data = ("--data", str(nodes.near.folder))
    listed = iose("racs", "list", *data)
    assert seid in listed.stdout, listed.stderr
    sent = iose("racs", "apdu", seid, SELECT.hex(), *data)
    assert "9000" in sent.stdout, sent.stderr


def test_an_element_is_renamed_and_the_same_twice_is_served_by_neither(
    nodes: Nodes, tmp_path: Path
):
    first, second = (nodes.far[sen].seid for sen in ("key1.com", "key2.com"))
    table = {"type": "racs", "address": nodes.far.racs, "pki": str(nodes.user)}
    renamed = {**table, "name": "a", "elements": [first], "seids": {"key1.com": "front-door"}}
    twice = [{**table, "name": name, "elements": [second]} for name in ("b", "c")]
    with configured_node(tmp_path, 0, node={"readers": [renamed, *twice]}) as node:
        until(lambda: len(node.ask("reader.list")["readers"]) == 3, "the readers")
        told = {one["bank"]: one for one in node.ask("reader.list")["readers"]}
        assert (told["a"]["seid"], told["a"]["fault"]) == ("front-door", "")
        for name in ("b", "c"):
            assert told[name]["seid"] == second
            assert told[name]["fault"]
            assert "seids" in told[name]["hint"]
        served = [one["seid"] for one in node.ask("status")["elements"] if one["is_served"]]
        assert served == ["front-door"]
        with WireClient(node, nodes.far["key1.com"]) as client:
            assert client.handshake()


def test_a_rule_for_one_applet_serves_and_counts_no_failures(tmp_path: Path):
    rule = {"user": USER, **EVERYTHING, "aids": [SELECT[5:].hex()]}
    with two_nodes(tmp_path, racs={"rules": [rule]}) as running:
        running.call()
        assert [one["health"]["failures"] for one in running.readers] == [0, 0]
        seid = running.far["key1.com"].seid
        with administrator(running.near) as operator:
            operator.power_on(seid)
            with pytest.raises(RacsRefusedError, match="-606"):
                operator.apdu(seid, bytes.fromhex("00B0000001"))
            assert operator.apdu(seid, SELECT) == b"\x90\x00"


# --- who has it -----------------------------------------------------------------------------------


def test_a_session_waits_for_a_holder_at_the_other_node_and_administrators_are_told(nodes: Nodes):
    element = nodes.far["key1.com"]
    with administrator(nodes.far) as holder, administrator(nodes.near) as other:
        holder.power_on(element.seid)
        with pytest.raises(RacsRefusedError, match="-708"):
            other.power_on(element.seid)
        with nodes.session() as client:
            client.start()
            time.sleep(0.5)  # it is turned away a few times meanwhile
            holder.shutdown(element.seid)
            assert client.finish_handshake(), client.ended()
            assert client.call(b"?00").startswith(b"iose keystore")


def test_a_session_keeps_others_out_at_both_nodes_until_it_ends(nodes: Nodes):
    element = nodes.far["key1.com"]
    with nodes.session() as client:
        assert client.handshake()
        for node in (nodes.near, nodes.far):
            with administrator(node) as operator, pytest.raises(RacsRefusedError, match="-708"):
                operator.power_on(element.seid)
        nodes.call("key2.com")
    nodes.until_free()
    with administrator(nodes.far) as operator:
        operator.power_on(element.seid)
        operator.shutdown(element.seid)


def test_an_element_taken_away_at_the_other_node_ends_the_session_and_not_the_next(nodes: Nodes):
    with nodes.session() as client:
        assert client.handshake()
        with administrator(nodes.far) as operator:
            operator.shutdown(nodes.far["key1.com"].seid)
        assert client.call(b"?00") == b""
        assert client.ended()["reason"] in {"element_failed", "element_removed"}
    nodes.call()


def test_an_idle_holder_loses_the_element_at_the_other_node(tmp_path: Path):
    with two_nodes(tmp_path, racs={"hold_idle_s": 1.0}) as running:
        with running.session() as client:
            assert client.handshake()
            until(lambda: running.far.element_status("key1.com")["holder"] is None)
            assert client.call(b"?00") == b""
        running.call()


# --- who is gone ----------------------------------------------------------------------------------


def test_a_node_that_is_stopped_in_mid_session_ends_it_in_bounded_time(nodes: Nodes):
    (far,) = [one["pid"] for one in nodes.far.ask("status")["processes"] if one["name"] == "node"]
    with nodes.session() as client:
        assert client.handshake()
        os.kill(far, signal.SIGSTOP)
        try:
            assert client.call(b"?00") == b""
            assert client.ended()["reason"] in {"element_failed", "element_removed"}
            until(lambda: {one["state"] for one in nodes.readers} <= {"fault", "absent"}, "", 30)
        finally:
            os.kill(far, signal.SIGCONT)
    nodes.until_served()
    nodes.call()
    nodes.call("key2.com")


def test_the_far_node_is_killed_in_mid_session_and_comes_back_twice(nodes: Nodes):
    for _ in range(2):
        with nodes.session() as client:
            assert client.handshake()
            nodes.kill("far")
            assert client.call(b"?00") == b""
            assert client.ended()["reason"] in {"element_failed", "element_removed"}
        until(lambda: nodes.readers[0]["state"] == "absent", "the readers' absence")
        assert "cannot connect" in nodes.readers[0]["fault"]
        assert nodes.readers[0]["hint"]
        nodes.start_far()
        nodes.until_served()
        nodes.call()
        nodes.call("key2.com")


def test_the_near_node_is_killed_in_mid_session_and_comes_back(nodes: Nodes):
    with nodes.session() as client:
        assert client.handshake()
        assert nodes.far.element_status("key1.com")["holder"] is not None
        nodes.kill("near")
        until(lambda: nodes.far.element_status("key1.com")["holder"] is None, "the far node's hold")
    nodes.start_near()
    nodes.until_served()
    nodes.call()


def test_the_far_node_is_killed_under_an_administrator_and_comes_back(nodes: Nodes):
    seid = nodes.far["key1.com"].seid
    with administrator(nodes.near) as operator:
        operator.power_on(seid)
        assert operator.apdu(seid, SELECT) == b"\x90\x00"
        nodes.kill("far")
        with pytest.raises(RacsRefusedError, match="-806"):
            operator.apdu(seid, SELECT)
        until(lambda: nodes.readers[0]["state"] == "absent", "the readers' absence")
        with pytest.raises(RacsRefusedError, match="-408"):
            operator.power_on(seid)
        nodes.start_far()
        nodes.until_served()
        operator.power_on(seid)  # in the same session
        assert operator.apdu(seid, SELECT) == b"\x90\x00"
        operator.shutdown(seid)
    nodes.until_free()
    nodes.call()


def test_the_near_node_is_killed_under_an_administrator_and_comes_back(nodes: Nodes):
    seid = nodes.far["key1.com"].seid
    with administrator(nodes.near) as operator:
        operator.power_on(seid)
        assert operator.apdu(seid, SELECT) == b"\x90\x00"
        assert nodes.far.element_status("key1.com")["holder"] is not None
        nodes.kill("near")
        with pytest.raises(TransportError):
            operator.apdu(seid, SELECT)
    until(lambda: nodes.far.element_status("key1.com")["holder"] is None, "the far node's hold")
    nodes.start_near()
    nodes.until_served()
    with administrator(nodes.near) as operator:
        operator.power_on(seid)
        assert operator.apdu(seid, SELECT) == b"\x90\x00"
        operator.shutdown(seid)
    nodes.until_free()
    nodes.call()


def test_a_certificate_that_was_revoked_is_a_fault_with_its_remedy(tmp_path: Path):
    with two_nodes(tmp_path) as running:
        done = iose("pki", "revoke", USER, "--data", str(running.far.folder))
        assert done.returncode == 0, done.stderr
        until(lambda: "ends each session" in running.readers[0]["fault"], "the fault")
        (reader,) = running.readers
        assert reader["state"] == "fault"
        assert "revoked" in reader["hint"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
