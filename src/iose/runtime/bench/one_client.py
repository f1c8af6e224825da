# SPDX-License-Identifier: Apache-2.0
"""Rows of one client that calls one element again and again: handshake, command, signature."""

import ctypes
import time
from collections.abc import Callable, Iterator

from iose.runtime.bench.openssl_client import OpensslClient, OpensslConnection, PeerProgramError
from iose.runtime.bench.plan import Plan, take_turns
from iose.runtime.bench.programs import IDENTITY, REFERENCE_KEY, Node, reference_server
from iose.runtime.bench.report import Figure, Row, figure

ELEMENT = "software element, through the front"
SERVER = "openssl s_server"

# The author's stack with a simulated card, as published; it cannot run here.
_PUBLISHED = "the author's stack with a simulated card"
_PUBLISHED_COMMAND = Figure(_PUBLISHED, 0.12, published=True)
_PUBLISHED_SIGNATURE = Figure(_PUBLISHED, 1.0, published=True)

_HANDSHAKE_AIM = 2.0
_SIGNATURE_AIM_MS = 0.25
_MS_PER_S = 1000.0

_VERSION = b"?00\r\n"
_CLEAR, _GENERATE, _SIGN = b"c00\r\n", b"g00\r\n", b"s00" + b"5A" * 32 + b"\r\n"
_OK = b"OK\r\n"

Target = tuple[OpensslClient, tuple[str, int]]


def one_client_rows(
    library: ctypes.CDLL, node: Node, plan: Plan, notify: Callable[[str], None]
) -> Iterator[Row]:
    """Measure the first element of a node against ``openssl s_server``, in turns.

    Raises:
        PeerProgramError: The reference did not start, or a session failed.
    """
    element = node.elements[0]
    client = OpensslClient(library, element.key, element.identity, element.name)
    reference = OpensslClient(library, REFERENCE_KEY, IDENTITY)
    with reference_server() as server:
        notify("handshakes")
        yield _handshakes(plan, (client, node.address), (reference, server))
        with client.connect(node.address) as session, reference.connect(server) as peer:
            notify("commands on an open session")
            yield _commands(plan, session, peer)
            notify("signatures on an open session")
            yield _signatures(plan, session)
    client.close()
    reference.close()


def _handshake(target: Target) -> Callable[[], float]:
    client, address = target

    def work() -> float:
        start = time.perf_counter()
        session = client.connect(address)
        elapsed = time.perf_counter() - start
        session.close()
        return elapsed * _MS_PER_S

    return work


def _question(session: OpensslConnection, line: bytes) -> Callable[[], float]:
    def work() -> float:
        start = time.perf_counter()
        session.ask(line)
        return (time.perf_counter() - start) * _MS_PER_S

    return work


def _handshakes(plan: Plan, ours: Target, theirs: Target) -> Row:
    works = (_handshake(ours), _handshake(theirs))
    samples = take_turns(plan, plan.repetitions, works)
    element, server = figure(ELEMENT, samples[0]), figure(SERVER, samples[1])
    return Row(
        id="handshake",
        work="TLS 1.3 PSK-DHE P-256 CCM handshake, TCP connect included",
        unit="ms",
        ours=element,
        references=(server,),
        aim="at most 2 times the reference",
        met=element.value <= _HANDSHAKE_AIM * server.value,
    )


def _commands(plan: Plan, session: OpensslConnection, peer: OpensslConnection) -> Row:
    works = (_question(session, _VERSION), _question(peer, _VERSION))
    samples = take_turns(plan, plan.repetitions, works)
    element = figure(ELEMENT, samples[0])
    return Row(
        id="command",
        work="one command (?00) on an open session",
        unit="ms",
        ours=element,
        references=(_PUBLISHED_COMMAND, figure(f"{SERVER} -rev, a line as long", samples[1])),
        aim="below the published figure",
        met=element.value < _PUBLISHED_COMMAND.value,
    )


def _signatures(plan: Plan, session: OpensslConnection) -> Row:
    for line in (_CLEAR, _GENERATE):
        answer = session.ask(line)
        if answer != _OK:
            raise PeerProgramError(f"{line!r} was answered {answer!r}")
    (samples,) = take_turns(plan, plan.repetitions, (_question(session, _SIGN),))
    element = figure(ELEMENT, samples)
    return Row(
        id="signature",
        work="secp256k1 signature (s00) on an open session",
        unit="ms",
        ours=element,
        references=(_PUBLISHED_SIGNATURE,),
        aim="at most 0.25 ms",
        met=element.value <= _SIGNATURE_AIM_MS,
    )
