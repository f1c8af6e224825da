# SPDX-License-Identifier: Apache-2.0
"""Rows of many clients and many elements: handshakes per second, memory, restart."""

import ctypes
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

from iose.runtime.bench.one_client import ELEMENT, SERVER, Target
from iose.runtime.bench.openssl_client import OpensslClient
from iose.runtime.bench.plan import Plan, take_turns
from iose.runtime.bench.programs import (
    IDENTITY,
    REFERENCE_KEY,
    Node,
    cores,
    reference_server,
    running_node,
)
from iose.runtime.bench.report import Figure, Row, figure

_RATE_AIM = 0.5
_MEMORY_AIM_KB = 100.0
_RESTART_AIM_S = 10.0
_KB = 1000.0

_VERSION = b"?00\r\n"


def rate_row(library: ctypes.CDLL, node: Node, plan: Plan) -> Row:
    """Measure handshakes per second, against as many ``openssl s_server`` as there are cores.

    Raises:
        PeerProgramError: A reference did not start, or a handshake failed.
    """
    ours = _targets(library, node)
    client = OpensslClient(library, REFERENCE_KEY, IDENTITY)
    with ExitStack() as stack:
        theirs = [(client, stack.enter_context(reference_server())) for _ in range(cores())]
        works = [_rate(plan, ours), _rate(plan, theirs)]
        samples = take_turns(plan, 1, works)
    element = figure(f"{len(ours)} elements, through the front", samples[0])
    server = figure(f"{len(theirs)} processes of {SERVER}", samples[1])
    return Row(
        id="rate",
        work=f"handshakes per second, {plan.clients} clients",
        unit="1/s",
        ours=element,
        references=(server,),
        aim="at least half of the reference",
        met=element.value >= _RATE_AIM * server.value,
    )


def _targets(library: ctypes.CDLL, node: Node) -> list[Target]:
    return [
        (OpensslClient(library, element.key, element.identity, element.name), node.address)
        for element in node.elements
    ]


def _rate(plan: Plan, targets: Sequence[Target]) -> Callable[[], float]:
    """Return a work that opens and closes sessions from many clients, and counts them."""
    # Each client takes the next target, so that no two wait for the same one by chance.
    following = itertools.cycle(targets)

    def client(deadline: float) -> int:
        done = 0
        while time.perf_counter() < deadline:
            caller, address = next(following)
            caller.connect(address).close()
            done += 1
        return done

    def work() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(plan.clients) as pool:
            done = sum(pool.map(client, [start + plan.seconds] * plan.clients))
        return done / (time.perf_counter() - start)

    return work


def crowd_rows(library: ctypes.CDLL, folder: Path, plan: Plan) -> Iterator[Row]:
    """Measure a node of many elements: memory of each, time to restart, sessions at once.

    Raises:
        PeerProgramError: A node did not start, or a session failed.
    """
    for name, elements in (("one", 1), ("crowd", plan.crowd)):
        with running_node(folder / name, elements):
            pass  # made; what counts is the restart
    with running_node(folder / "one", 1) as node:
        alone = node.memory_bytes()
    with running_node(folder / "crowd", plan.crowd) as node:
        each = (node.memory_bytes() - alone) / (plan.crowd - 1)
        yield _plain_row("memory", "memory of one idle element", "kB", each / _KB, _MEMORY_AIM_KB)
        work = f"restart to ready, {plan.crowd} elements"
        yield _plain_row("restart", work, "s", node.ready_s, _RESTART_AIM_S)
        yield _sessions_at_once(library, node, plan)


def _plain_row(name: str, work: str, unit: str, value: float, limit: float) -> Row:
    ours = Figure(ELEMENT, value, samples=1)
    return Row(name, work, unit, ours, (), f"under {limit:g} {unit}", met=value < limit)


def _sessions_at_once(library: ctypes.CDLL, node: Node, plan: Plan) -> Row:
    """Open one session with each of many elements; every one stays open until all are."""
    targets = _targets(library, node)[: plan.clients]
    everyone = Barrier(len(targets))

    def client(target: Target) -> bool:
        caller, address = target
        with caller.connect(address) as session:
            everyone.wait()
            return bool(session.ask(_VERSION))

    with ThreadPoolExecutor(len(targets)) as pool:
        answered = sum(pool.map(client, targets))
    ours = Figure(f"{len(node.elements)} elements, through the front", answered, samples=1)
    return Row(
        id="sessions",
        work="sessions open at once, each answering",
        unit="sessions",
        ours=ours,
        references=(),
        aim=f"{len(targets)}",
        met=answered == len(targets),
    )
