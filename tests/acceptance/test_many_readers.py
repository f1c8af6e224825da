# SPDX-License-Identifier: Apache-2.0
"""32 readers of one node at once, one of which hangs: nobody else waits for it.

The readers are the slots of a SIM array, a program of its own; the node is ``iose node run``. Order
is what is checked, not time: the answers of 31 elements are all there while one is still awaited.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from iose.client.racs import BlockingRacsClient
from iose.iso7816.apdu import CommandApdu
from iose.transport.errors import RacsRefusedError
from iose.transport.racs_client import RacsEndpoint
from iose.transport.racs_link import identity_files
from tests.acceptance.wire import CHIP, WireClient
from tests.support.node import LoggedNode, NodeElement, configured_node, until
from tests.support.twin import Twin, twin
from tests.twins.elements import DEMO_PSK

pytestmark = pytest.mark.timeout(120)

SLOTS = [board * 100 + place for board in range(1, 5) for place in range(1, 9)]
STUCK = 108
OTHERS = [slot for slot in SLOTS if slot != STUCK]
APDU_S = 8.0
START_S = 60.0  # 32 elements are looked into, one after the other in the twin
VERSION = b"iose keystore 1.3"
OPERATOR = {"user": "operator", "elements": ["*"], "verbs": ["*"], "aids": ["*"]}
GET_STATUS = CommandApdu(0, 0x87, 0, 0, le=4).encode()


@pytest.fixture(scope="module")
def array() -> Iterator[Twin]:
    with twin("sim_array", "--slots", ",".join(map(str, SLOTS))) as running:
        yield running


@pytest.fixture(scope="module")
def node(array: Twin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedNode]:
    host, port = array.address
    table = {"type": "sim-array", "address": f"{host}:{port}", "apdu_s": APDU_S, "poll_s": 0.5}
    folder = tmp_path_factory.mktemp("many")
    racs = {"listen": ["127.0.0.1:0"], "rules": [OPERATOR]}
    with configured_node(folder, 0, node={"readers": [table]}, racs=racs) as running:
        until(lambda: states(running) == dict.fromkeys(SLOTS, "ready"), "32 readers", START_S)
        yield running


def readers(node: LoggedNode) -> Mapping[int, Mapping[str, Any]]:
    """Return what the node says of its readers, by slot."""
    return {int(one["seid"].partition("-")[2]): one for one in node.ask("reader.list")["readers"]}


def states(node: LoggedNode) -> dict[int, str]:
    """Return the state of each reader whose element can be called by its name."""
    return {slot: one["state"] for slot, one in readers(node).items() if one["sen"]}


@contextmanager
def session(node: LoggedNode, slot: int) -> Iterator[WireClient]:
    element = NodeElement(f"sim-{slot}", f"key{slot}.com", DEMO_PSK, "Client_identity")
    with WireClient(node, element, **CHIP) as client:
        assert client.handshake()
        yield client


@contextmanager
def administrator(node: LoggedNode) -> Iterator[BlockingRacsClient]:
    host, _, port = node.racs.rpartition(":")
    endpoint = RacsEndpoint(host, int(port), *identity_files(node.pki), answer_s=4 * APDU_S)
    with BlockingRacsClient(endpoint) as client:
        yield client


def talk(node: LoggedNode, slot: int) -> bytes:
    """Return the element's answer to one command of a session of its own."""
    with session(node, slot) as client:
        answer = client.call(b"?00")
        client.close()
        client.rest()
    return answer


def test_thirty_two_readers_serve_at_once(node: LoggedNode):
    with ThreadPoolExecutor(len(SLOTS)) as pool:
        answers = list(pool.map(lambda slot: talk(node, slot), SLOTS))
    assert answers == [VERSION] * len(SLOTS)


def test_a_reader_that_hangs_delays_nobody_and_comes_back(node: LoggedNode, array: Twin):
    mark = node.log_mark()
    with session(node, STUCK) as stuck:
        array.fault("silence", slot=STUCK)
        stuck.say(b"?00")
        until(lambda: readers(node)[STUCK]["health"]["waiting_since_s"], "the wait")
        with ThreadPoolExecutor(len(OTHERS)) as pool:
            for _ in range(2):
                answers = list(pool.map(lambda slot: talk(node, slot), OTHERS))
                assert answers == [VERSION] * len(OTHERS)
        now = readers(node)
        assert not stuck.hears_within(0)  # everyone else has finished, and it still waits
        assert now[STUCK]["health"]["waiting_since_s"] > 0
        assert all(now[slot]["state"] == "ready" for slot in OTHERS)
        assert all(now[slot]["health"]["failures"] == 0 for slot in OTHERS)
        stuck.rest()
        assert stuck.alert is None  # it had spoken: a close, and nothing else
        end = stuck.ended()
    assert end["reason"] == "element_failed"
    assert end["sen"] == f"key{STUCK}.com"
    failed = node.logged("element.failed", mark)
    assert [one["session"] for one in failed] == [end["session"]]
    assert "no answer within 8 s" in failed[0]["error"]
    assert_ended_last(node, mark, end)
    shown = readers(node)[STUCK]
    assert shown["health"]["failures"] == 1
    assert "no answer within 8 s" in shown["health"]["last_fault"]
    array.fault(None)
    until(lambda: readers(node)[STUCK]["state"] == "ready", "the reader that hung")
    assert talk(node, STUCK) == VERSION


def assert_ended_last(node: LoggedNode, mark: int, end: Mapping[str, Any]) -> None:
    """Check by the log that every other session was over before the stuck one."""
    ended = node.logged("session.ended", mark)
    assert ended[-1] == end
    assert len(ended) == 2 * len(OTHERS) + 1


def test_a_reader_that_hangs_under_an_administrator_delays_nobody(node: LoggedNode, array: Twin):
    with administrator(node) as held:
        held.power_on(f"sim-{STUCK}")
        array.fault("silence", slot=STUCK)
        with ThreadPoolExecutor(len(SLOTS)) as pool:
            waiting = pool.submit(held.apdu, f"sim-{STUCK}", GET_STATUS)
            until(lambda: readers(node)[STUCK]["health"]["waiting_since_s"], "the wait")
            answers = list(pool.map(lambda slot: talk(node, slot), OTHERS))
            with administrator(node) as other:
                other.power_on(f"sim-{OTHERS[0]}")
                assert other.apdu(f"sim-{OTHERS[0]}", GET_STATUS)
            assert not waiting.done()
            assert answers == [VERSION] * len(OTHERS)
            with pytest.raises(RacsRefusedError) as refused:
                waiting.result()
        array.fault(None)
    assert refused.value.status.event_class.name == "HARDWARE"
    until(lambda: readers(node)[STUCK]["state"] == "ready", "the reader that hung")
    assert talk(node, STUCK) == VERSION
