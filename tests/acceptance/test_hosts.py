# SPDX-License-Identifier: Apache-2.0
"""Element hosts that die, freeze or find the disk full, on a whole node; what peers and log say."""

import errno
import os
import resource
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from iose.tls.constants import AlertDescription
from tests.acceptance.programs import openssl
from tests.acceptance.wire import WireClient, assert_serves
from tests.support.node import ELEMENT_HOST, configured_node, until
from tests.support.running_node import iose

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def own_node(tmp_path):
    """A node that a test may hurt."""
    with configured_node(tmp_path, 4) as running:
        yield running


def serves(node, element) -> bool:
    with WireClient(node, element) as client:
        return client.handshake() and client.call(b"?00").startswith(b"iose keystore")


# --- death ----------------------------------------------------------------------------------


def test_a_killed_host_ends_its_sessions_and_no_others(own_node):
    node = own_node
    with ExitStack() as stack:
        clients = {}
        for sen, element in node.elements.items():
            clients[sen] = stack.enter_context(WireClient(node, element))
            assert clients[sen].handshake()
            assert clients[sen].call(b"Z00" + sen.encode()) == b"OK"
        victim, *others = node.pids(ELEMENT_HOST)
        if not others:
            pytest.skip("one core, hence one element host: nobody is left to notice nothing")
        os.kill(victim, signal.SIGKILL)
        alive = [sen for sen, client in clients.items() if client.call(b"I00") == sen.encode()]
        dead = clients.keys() - alive
        assert len(alive) == len(dead) == 2
        for sen in dead:
            assert clients[sen].rest() == b"", "no alert: only the element could make one"
            line = clients[sen].ended()
            assert (line["reason"], line["sen"]) == ("element_failed", sen)
        assert node.wait_logged("element.failed")["error"].endswith("the element host went away")
        assert node.wait_logged("process", what="ended")["number"] == -signal.SIGKILL
        node.wait_logged("process", what="restarted")
        for sen in dead:
            until(lambda sen=sen: serves(node, node[sen]), f"{sen} to be back")
        for sen in alive:
            assert clients[sen].call(b"I00") == sen.encode(), "the others never noticed"
    for element in node.elements.values():
        with WireClient(node, element) as client:
            assert client.handshake()
            assert client.call(b"I00") == element.sen.encode(), "what was answered, was stored"


def test_openssl_sees_its_session_end_and_can_come_back_at_once(own_node):
    element = own_node["key1.com"]
    with openssl(own_node.front, element) as client:
        assert client.ask("?00").startswith("iose keystore")
        for pid in own_node.pids(ELEMENT_HOST):
            os.kill(pid, signal.SIGKILL)
        client.send("?00")
        outcome = client.finish()
    assert "unexpected eof" in outcome.errors, "nothing but the element can end TLS in order"
    assert own_node.wait_logged("session.ended")["reason"] == "element_failed"
    # the one who comes first waits for the host: nobody is sent away
    with openssl(own_node.front, element) as client:
        assert client.ask("?00").startswith("iose keystore")


def test_a_killed_node_process_ends_sessions_but_no_key(own_node):
    element = own_node["key1.com"]
    with WireClient(own_node, element) as client:
        assert client.handshake()
        assert client.call(b"c00") == b"OK"
        assert client.call(b"g00") == b"OK"
        public = client.call(b"p00")
        os.kill(own_node.pids("node")[0], signal.SIGKILL)
        assert client.call(b"?00") == b""
    with WireClient(own_node, element) as again:
        assert again.handshake(), "the listening socket outlives the process: clients wait"
        assert again.call(b"p00") == public


def test_a_frozen_host_is_waited_for_within_limits(tmp_path):
    front = {"handshake_s": 0.5, "queue_wait_s": 0.3, "drain_s": 0.1}
    with configured_node(tmp_path, 1, front=front, node={"hosts": 1}) as node:
        element = node["key1.com"]
        assert_serves(node, element)
        (host,) = node.pids(ELEMENT_HOST)
        os.kill(host, signal.SIGSTOP)
        try:
            with WireClient(node, element) as client:
                assert not client.handshake()
                assert client.received == bytes.fromhex("15030300020250")
                assert client.ended()["reason"] == "element_failed"
            assert node.element_status("key1.com")["is_served"], "the node itself answers"
        finally:
            os.kill(host, signal.SIGCONT)
        until(lambda: serves(node, element), "the element to serve again")


# --- full disks -----------------------------------------------------------------------------

PAGE_SIZE = 4096  # of SQLite: a log of its changes with a page in it is larger
STORED = [b"c00", b"g00", b"C01", b"G01", b"t02", b"Z00after", b"?06somebody", b"?A501"]


@contextmanager
def no_store_may_grow(node):
    """Let every write of a whole page by an element host fail; lines of the log still fit."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in node.pids(ELEMENT_HOST)}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (PAGE_SIZE, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def assert_refuses_writes_only(node, element) -> None:
    mark = node.log_mark()
    with WireClient(node, element) as client:
        assert client.handshake(), client.alert
        public = client.call(b"p03")
        assert len(public) == 130
        for line in STORED:
            assert client.call(line) == b"ERROR", line
            assert client.call(b"?01still here") == b"still here"
        assert client.call(b"I00") == b"before"
        assert client.call(b"p03") == public
        assert len(client.call(b"s03abcd")) >= 130, "a signature stores nothing"
        assert client.goodbye() is AlertDescription.CLOSE_NOTIFY
    assert node.wait_logged("store.refused", mark)["seid"] == element.seid


def prepare(node, element) -> None:
    with WireClient(node, element) as client:
        assert client.handshake()
        for line in (b"Z00before", b"c03", b"g03"):
            assert client.call(line) == b"OK"


def test_a_medium_that_takes_no_more_refuses_writes_and_nothing_else(own_node):
    element = own_node["key1.com"]
    prepare(own_node, element)
    with no_store_may_grow(own_node):
        assert_refuses_writes_only(own_node, element)
    with WireClient(own_node, element) as client:
        assert client.handshake()
        assert [client.call(line) for line in STORED] == [b"OK"] * len(STORED)
        assert client.call(b"I00") == b"after"


def test_a_psk_change_on_a_full_medium_leaves_the_old_key(own_node):
    element = own_node["key2.com"]
    with no_store_may_grow(own_node), WireClient(own_node, element) as client:
        assert client.handshake()
        new = bytes(range(32))
        assert client.call(b"?AA" + element.psk.hex().encode() + new.hex().encode()) != (
            new.hex().upper().encode()
        )
    assert_serves(own_node, element)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system; the limit on files is tried above")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder) -> None:
    """Write until there is no room at all."""
    with (folder / "filler").open("wb", buffering=0) as filler:
        for size in (65_536, 4096, 1):
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                _write_for_ever(filler, bytes(size))


def _write_for_ever(file, data: bytes) -> None:
    while True:
        file.write(data)


def test_a_full_disk_refuses_writes_and_nothing_else(small_disk):
    log = {"file": str(small_disk.parent / "node.log")}
    with configured_node(small_disk / "node", 3, log=log) as node:
        element, untouched = node["key1.com"], node["key2.com"]
        prepare(node, element)
        fill(small_disk)
        assert_refuses_writes_only(node, element)
        assert_serves(node, untouched)
        data = str(node.folder)
        made = iose("element", "create", "--sen", "more.com", "--data", data)
        assert made.returncode == 1
        assert "full" in made.stderr
        assert "Traceback" not in made.stderr
        (small_disk / "filler").unlink()
        with WireClient(node, element) as client:
            assert client.handshake()
            assert [client.call(line) for line in STORED] == [b"OK"] * len(STORED)
        made = iose("element", "create", "--sen", "more.com", "--data", data)
        assert made.returncode == 0, made.stderr
    assert node.process.returncode == 0


def test_a_log_that_cannot_be_written_stops_no_session(small_disk):
    log = {"file": str(small_disk / "node.log"), "level": "debug"}
    with configured_node(small_disk.parent / "node", 2, log=log) as node:
        element = node["key1.com"]
        assert_serves(node, element)
        fill(small_disk)
        for _ in range(30):  # more lines than the last page of the log has room for
            assert_serves(node, element)
        with WireClient(node, replace(element, psk=bytes(32))) as client:
            assert not client.handshake()
            assert client.alert is AlertDescription.DECRYPT_ERROR
        (small_disk / "filler").unlink()
        mark = node.log_mark()
        assert_serves(node, element)
        node.wait_logged("session.ended", mark)
    assert node.process.returncode == 0


def test_a_node_that_stops_on_a_full_disk_loses_nothing(small_disk):
    with configured_node(small_disk / "node", 3) as node:
        element = node["key1.com"]
        prepare(node, element)
        fill(small_disk)
    (small_disk / "filler").unlink()
    with configured_node(small_disk / "node", 3) as node:
        assert node["key1.com"] == element
        with WireClient(node, element) as client:
            assert client.handshake()
            assert client.call(b"I00") == b"before"
            assert len(client.call(b"p03")) == 130
