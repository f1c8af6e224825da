# SPDX-License-Identifier: Apache-2.0
"""Element hosts killed by SIGKILL at random instants while clients write: before or after.

Fifty kills here; as many as wanted by

    IOSE_KILLS=1000 make test TESTS=tests/acceptance/test_power.py

Each kill cuts every element of one host in the middle of what it does. What an element answered is
stored; what it did not answer has happened wholly or not at all. IOSE_SEED repeats a run's commands
and instants, as far as the machine repeats itself.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from iose.tls.constants import AlertDescription
from tests.acceptance.element_model import READINGS, Change, View, next_change
from tests.acceptance.wire import WireClient
from tests.support.node import ELEMENT_HOST, PATIENCE_S, LoggedNode, configured_node, until

KILLS = int(os.environ.get("IOSE_KILLS", "50"))
SEED = int(os.environ.get("IOSE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
HOSTS = 5
ELEMENTS = 2 * HOSTS
ROUNDS = 5  # a supervisor waits longer after each death, so a node gets no more than these
LONGEST_S = 0.08  # some ten commands


class Owner:
    """One element's owner: writes until the power goes, then looks at what there is."""

    def __init__(self, node: LoggedNode, sen: str, seed: str) -> None:
        self.node = node
        self.element = node[sen]
        self.view = View(self.element.psk)
        self.pending: Change | None = None
        self.is_answered = False
        self.answered = 0
        self.outcomes = {"before": 0, "after": 0}
        self.fault: BaseException | None = None
        self._rng = random.Random(seed)  # noqa: S311  # a run can be repeated

    def write_until_cut(self, started: threading.Barrier) -> None:
        """Send one writing command after the other until the session breaks."""
        try:
            with self.open(self.view.psk) as client:
                started.wait(PATIENCE_S)
                while self._write(client):
                    self.answered += 1
        except BaseException as fault:  # noqa: BLE001  # told in the test's own thread
            self.fault = fault
            started.abort()

    def check(self) -> None:
        """Look at the element: what was answered is stored, the rest is before or after."""
        found = self._look()
        change = self.pending
        is_before = found == self.view
        if change is None:
            assert is_before, (self.view, found)
            return
        is_after = change.is_right(found)
        story = f"{self.element.sen}, {change.line!r}: {self.view} became {found}"
        assert is_after if self.is_answered else is_before or is_after, story
        self.outcomes["after" if is_after else "before"] += 1
        self.view, self.pending, self.is_answered = found, None, False

    def open(self, psk: bytes) -> WireClient:
        """Return an open session; an element that is being started again is waited for."""
        client = until(lambda: self._try_open(psk), f"{self.element.sen} to be back")
        assert client.alert is None, f"{self.element.sen} refused its key: {client.alert!r}"
        return client

    def _try_open(self, psk: bytes) -> WireClient | None:
        client = WireClient(self.node, replace(self.element, psk=psk))
        if client.handshake() or client.alert is AlertDescription.DECRYPT_ERROR:
            return client
        client.__exit__()
        return None

    def _write(self, client: WireClient) -> bool:
        change = next_change(self.view, self._rng)
        self.pending, self.is_answered = change, False
        answer = client.call(change.line)
        if not answer:
            return False
        assert answer != b"ERROR", (change.line, self.view)
        self.is_answered = True
        view = change.result or self._read(client, self.view.psk)
        if view is None:
            return False
        assert change.is_right(view), (change.line, self.view, view)
        self.view, self.pending, self.is_answered = view, None, False
        return True

    def _look(self) -> View:
        """Read everything in a session that ends in order, after trying each key in question."""
        keys = [self.view.psk]
        if self.pending is not None and self.pending.psk is not None:
            keys.append(self.pending.psk)
        views = []
        for psk in keys:
            client = until(lambda psk=psk: self._try_open(psk), f"{self.element.sen} to be back")
            with client:
                if client.complete is not None:
                    views.append(self._read(client, psk))
                    assert client.goodbye() is AlertDescription.CLOSE_NOTIFY
        assert len(views) == 1, f"{self.element.sen}: {len(views)} of {len(keys)} keys work"
        assert views[0] is not None
        return views[0]

    def _read(self, client: WireClient, psk: bytes) -> View | None:
        answers = [client.call(line) for line in READINGS]
        return View(psk, *answers) if all(answers) else None


def kill_hosts(node: LoggedNode, rng: random.Random) -> int:
    """Kill every element host, each at an instant of its own."""
    pids = node.pids(ELEMENT_HOST)
    for pid in rng.sample(pids, len(pids)):
        time.sleep(rng.uniform(0, LONGEST_S / 2))  # the instant is what this is about
        os.kill(pid, signal.SIGKILL)
    return len(pids)


def kill_everything(node: LoggedNode, rng: random.Random) -> int:
    """Kill every process of the node at once, as a power cut does."""
    pids = [node.process.pid, *node.pids("")]
    time.sleep(rng.uniform(0, LONGEST_S))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    node.process.wait(PATIENCE_S)
    return len(pids)


def cut_once(
    node: LoggedNode,
    owners: list[Owner],
    rng: random.Random,
    kill: Callable[[LoggedNode, random.Random], int] = kill_hosts,
) -> int:
    """Let everybody write, kill, and wait until all have noticed; return how many died."""
    started = threading.Barrier(len(owners) + 1)
    threads = [threading.Thread(target=one.write_until_cut, args=(started,)) for one in owners]
    for thread in threads:
        thread.start()
    try:
        started.wait(PATIENCE_S)
        killed = kill(node, rng)
    except threading.BrokenBarrierError:
        killed = 0
    for thread in threads:
        thread.join(2 * PATIENCE_S)
    for owner in owners:
        if owner.fault is not None:
            raise owner.fault
    return killed


def owners_of(node: LoggedNode) -> list[Owner]:
    return [Owner(node, sen, f"{SEED} {sen}") for sen in node.elements]


@pytest.mark.timeout(60 + 2 * KILLS)
def test_killed_at_any_instant_an_element_is_before_or_after(tmp_path):
    rng = random.Random(SEED)  # noqa: S311  # a run can be repeated
    owners: list[Owner] = []
    killed = 0
    sys.stdout.write(f"IOSE_SEED={SEED}\n")
    while killed < KILLS:
        with configured_node(tmp_path, ELEMENTS, node={"hosts": HOSTS}) as node:
            owners = owners or owners_of(node)
            for owner in owners:
                owner.node = node
                assert owner.view.psk == node[owner.element.sen].psk
            for _ in range(ROUNDS):
                killed += cut_once(node, owners, rng)
                for owner in owners:
                    owner.check()
                if killed >= KILLS:
                    break
        assert node.process.returncode == 0
    answered = sum(owner.answered for owner in owners)
    before = sum(owner.outcomes["before"] for owner in owners)
    after = sum(owner.outcomes["after"] for owner in owners)
    sys.stdout.write(f"{killed} kills, {answered} answers, {before} cut before, {after} after\n")
    assert answered > KILLS, "the cuts came before there was anything to cut"
    assert before + after > 0


@pytest.mark.timeout(60 + 2 * KILLS)
def test_after_a_cut_of_the_whole_machine_it_is_the_same(tmp_path):
    rng = random.Random(SEED)  # noqa: S311  # a run can be repeated
    owners: list[Owner] = []
    sys.stdout.write(f"IOSE_SEED={SEED}\n")
    for _ in range(1 + KILLS // 20):
        with configured_node(tmp_path, 4) as node:
            owners = owners or owners_of(node)
            for owner in owners:
                owner.node = node
                owner.check()
            cut_once(node, owners, rng, kill_everything)
    with configured_node(tmp_path, 4) as node:
        for owner in owners:
            owner.node = node
            owner.check()
    assert sum(owner.answered for owner in owners) > len(owners)
