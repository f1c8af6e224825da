# SPDX-License-Identifier: Apache-2.0
"""Many elements and many sessions at once; how fast and how large, ``iose bench`` measures."""

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from iose.tls.constants import AlertDescription
from tests.acceptance.wire import WireClient, assert_serves
from tests.support.node import ELEMENT_HOST, LoggedNode, configured_node

pytestmark = pytest.mark.timeout(90)

ELEMENTS = 200
AT_ONCE = 64
KEPT_OPEN = 32  # stores that a host may keep open behind idle elements, so that they wake fast
FEW_FILES = 50 + 3 * KEPT_OPEN
FEW_THREADS = 20


def names(count: int) -> set[str]:
    return {f"key{number}.com" for number in range(1, count + 1)}


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder with many elements, made in a first run."""
    path = tmp_path_factory.mktemp("crowd")
    with configured_node(path, ELEMENTS) as node:
        assert node.elements.keys() == names(ELEMENTS)
    return path


@pytest.fixture(scope="module")
def crowd(folder):
    """The same, started again."""
    with configured_node(folder, ELEMENTS) as node:
        yield node


def test_all_are_there_after_a_restart_and_no_two_share_a_key(crowd: LoggedNode):
    assert crowd.elements.keys() == names(ELEMENTS)
    assert len({element.psk for element in crowd.elements.values()}) == ELEMENTS
    states = {one["state"] for one in crowd.ask("status")["elements"]}
    assert states == {"ready"}


def test_idle_elements_cost_neither_threads_nor_files(crowd: LoggedNode):
    for pid in (*crowd.pids(""), crowd.process.pid):
        assert threads(pid) < FEW_THREADS
        assert open_files(pid) < FEW_FILES


def test_64_sessions_at_once_each_answer_for_themselves(crowd: LoggedNode):
    with ExitStack() as stack:
        clients = {}
        for sen in sorted(crowd.elements)[:AT_ONCE]:
            client = stack.enter_context(WireClient(crowd, crowd[sen]))
            clients[sen] = client
            client.start()
        for sen, client in clients.items():
            assert client.finish_handshake(), sen
        for sen, client in clients.items():
            client.say(b"Z00" + sen.encode())
        assert {client.answer() for client in clients.values()} == {b"OK"}
        status = crowd.ask("status")
        assert len(status["sessions"]) == AT_ONCE
        assert {one["state"] for one in status["sessions"]} == {"open"}
        for sen, client in reversed(clients.items()):
            assert client.call(b"I00") == sen.encode(), "every element its own record"
        publics = set()
        for client in clients.values():
            client.say(b"?0A")
        for client in clients.values():
            publics.add(client.answer())
        assert len(publics) == AT_ONCE
        assert {client.goodbye() for client in clients.values()} == {AlertDescription.CLOSE_NOTIFY}
    assert_serves(crowd, crowd["key200.com"])


def test_clients_of_one_element_are_served_in_the_order_they_came(tmp_path):
    with configured_node(tmp_path, 1, front={"queue_wait_s": 60.0}) as node, ExitStack() as stack:
        clients = []
        for _ in range(16):
            client = stack.enter_context(WireClient(node, node["key1.com"]))
            client.start()
            clients.append(client)
        for number, client in enumerate(clients):
            assert client.finish_handshake(), number
            assert not any(later.received for later in clients[number + 1 :])
            assert client.call(b"?01%d" % number) == b"%d" % number
            client.goodbye()


def test_sessions_are_spread_over_the_hosts(crowd: LoggedNode):
    with ExitStack() as stack:
        for sen in sorted(crowd.elements)[:AT_ONCE]:
            client = stack.enter_context(WireClient(crowd, crowd[sen]))
            assert client.handshake()
        stores = [_stores(pid) for pid in crowd.pids(ELEMENT_HOST)]
        assert sum(stores) >= AT_ONCE
        assert min(stores) > 0
    assert max(map(_stores, crowd.pids(ELEMENT_HOST))) <= AT_ONCE + KEPT_OPEN


def _stores(pid: int) -> int:
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            found += str(link.readlink()).endswith(".db")
    return found


def test_the_front_listens_on_ipv6_too(tmp_path):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    with configured_node(tmp_path, 1, front={"listen": ["127.0.0.1:0", "[::1]:0"]}) as node:
        port = int(node.ask("status")["front"][1].rpartition(":")[2])
        assert_serves(node, node["key1.com"])
        node.address = ("::1", port)
        assert_serves(node, node["key1.com"])
        assert node.logged("session.ended")[-1]["peer"].startswith("[::1]:")
