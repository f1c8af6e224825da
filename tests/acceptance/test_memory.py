# SPDX-License-Identifier: Apache-2.0
"""The node process is searched for secrets while sessions run: it holds none, its hosts hold all.

Sessions of openssl and of our client go on while memory is read, so that what is there for a
moment only has its chance to be seen: keys that are made, read, changed and used.
"""

import os
import threading
import time
from contextlib import contextmanager

import pytest

from tests.acceptance.memory import found_in, psk_secrets
from tests.acceptance.programs import openssl
from tests.acceptance.wire import WireClient
from tests.support.node import ELEMENT_HOST, configured_node
from tests.support.running_node import running_node

pytestmark = pytest.mark.timeout(90)

SCANS = 4


@pytest.fixture
def own_node(tmp_path):
    with configured_node(tmp_path, 2) as running:
        yield running


def made_secrets(client) -> dict[str, bytes]:
    """Make secrets in an open session, read them over TLS, and leave them in the element."""
    ask = client.call
    assert ask(b"c00") == ask(b"g00") == b"OK"
    assert ask(b"C01") == ask(b"G01") == b"OK"
    assert ask(b"c02") == ask(b"t02") == b"OK"
    brought = os.urandom(32)
    assert ask(b"c03") == ask(b"X03" + brought.hex().encode()) == b"OK"
    read = {
        "secp256k1 key": ask(b"r00"),
        "P-256 key": ask(b"r01"),
        "seed": ask(b"v02"),
    }
    assert len(ask(b"s00" + b"5A" * 32)) > 100
    assert len(ask(b"s01" + b"5A" * 32)) > 100
    assert len(ask(b"h02" + b"5A" * 32)) == 64
    return {"key brought along": brought, **{k: bytes.fromhex(v.decode()) for k, v in read.items()}}


def session_secrets(client) -> dict[str, bytes]:
    """Return what only the two ends of a session may know."""
    secrets = {label.lower(): value for label, value in client.secrets.items()}
    return {**secrets, "handshake secret": client.engine.handshake_secret}


@contextmanager
def traffic(node, element):
    """Open, use and close sessions with one element until the block ends."""
    over = threading.Event()
    faults: list[BaseException] = []
    served = []

    def work() -> None:
        try:
            while not over.is_set():
                with WireClient(node, element) as client:
                    assert client.handshake()
                    assert len(client.call(b"r00")) == 64
                    assert len(client.call(b"s00abcd")) > 100
                    client.goodbye()
                served.append(1)
        except BaseException as fault:  # noqa: BLE001  # told in the test's own thread
            faults.append(fault)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield served
    finally:
        over.set()
        thread.join()
    assert not faults, faults
    assert served, "nothing happened while memory was read"


def test_no_secret_is_in_the_node_process_and_all_are_in_the_hosts(own_node):
    node = own_node
    busy, quiet = node["key1.com"], node["key2.com"]
    wanted = {f"busy {name}": value for name, value in psk_secrets(busy.psk).items()}
    wanted |= {f"quiet {name}": value for name, value in psk_secrets(quiet.psk).items()}
    with WireClient(node, busy) as client:
        assert client.handshake()
        kept = made_secrets(client)
        client.goodbye()
    with WireClient(node, quiet) as open_session, openssl(node.front, busy) as others:
        assert open_session.handshake()
        made = made_secrets(open_session)
        of_session = session_secrets(open_session)
        assert len(of_session) >= 5
        assert others.ask("r00")
        others.send("?02")
        others.finish()
        everything = {**wanted, **kept, **{f"open {k}": v for k, v in made.items()}, **of_session}
        (pid,) = node.pids("node")
        with traffic(node, busy) as served:
            for _ in range(SCANS):
                before = len(served)
                assert found_in(pid, everything) == set()
                deadline = time.monotonic() + 10
                while len(served) == before and time.monotonic() < deadline:
                    time.sleep(0.01)
        in_hosts: set[str] = set()
        for host in node.pids(ELEMENT_HOST):
            in_hosts |= found_in(host, everything)
        assert open_session.call(b"?00"), "the session was open all the time"
    held = {name.partition(", ")[0] for name in in_hosts}
    for name in ("PSK", "derived secret", "binder finished key"):
        assert {f"busy {name}", f"quiet {name}"} <= held
    assert {"open secp256k1 key", "open P-256 key", "open seed", "open key brought along"} <= held
    assert "handshake secret" in held, "attestation signs it"


def test_a_changed_key_never_passes_through_the_node(own_node):
    node, element = own_node, own_node["key1.com"]
    new = os.urandom(32)
    (pid,) = node.pids("node")
    with WireClient(node, element) as client:
        assert client.handshake()
        assert client.call(b"?AA" + element.psk.hex().encode() + new.hex().encode()) == (
            new.hex().upper().encode()
        )
        wanted = psk_secrets(element.psk) | {f"new {k}": v for k, v in psk_secrets(new).items()}
        assert found_in(pid, wanted) == set()


def test_the_search_finds_what_is_there(tmp_path):
    # the twin of the first test: this process has the key, so the same search must find it
    secret = os.urandom(32)
    assert "planted, raw" in found_in(os.getpid(), {"planted": secret})
    text = secret.hex().upper()
    assert "planted, HEX" in found_in(os.getpid(), {"planted": bytes.fromhex(text)})


def test_no_process_on_the_network_has_a_secret_however_the_node_is_started(tmp_path):
    # iose up prints URIs with keys: the supervisor has them for its owner, the node has not
    with running_node(tmp_path / "data", "--elements", "2") as node:
        processes = {one["name"]: one["pid"] for one in node.status()["processes"]}
        wanted = psk_secrets(bytes.fromhex(node.psk(0))) | {"other": bytes.fromhex(node.psk(1))}
        assert found_in(processes["node"], wanted) == set()


def test_no_secret_of_an_element_is_in_arguments_environment_or_log(own_node):
    node = own_node
    element = node["key1.com"]
    with WireClient(node, element) as client:
        assert client.handshake()
        secrets = {**psk_secrets(element.psk), **made_secrets(client), **session_secrets(client)}
        client.goodbye()
    needles = [value.hex() for value in secrets.values()]
    needles += [text.upper() for text in needles]
    seen = node.log_text()
    for pid in [node.process.pid, *node.pids("")]:
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                seen += file.read().decode(errors="replace")
    assert not [needle for needle in needles if needle in seen]
