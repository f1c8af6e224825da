# SPDX-License-Identifier: Apache-2.0
"""Rows of the administration plane: requests of one RACS session, over mutual TLS.

The client is OpenSSL's library under Python's ``ssl``, not ours; it writes a whole request and
reads until the line END.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from iose.runtime.bench.openssl_client import PeerProgramError
from iose.runtime.bench.plan import Plan, take_turns
from iose.runtime.bench.programs import Node
from iose.runtime.bench.report import Figure, Row, figure

# The author's server on the author's machine, as published; it cannot run here.
_PUBLISHED = "the author's server with a simulated card"
_PUBLISHED_LIST = Figure(_PUBLISHED, 0.05, published=True)
_PUBLISHED_APDU = Figure(_PUBLISHED, 0.18, published=True)

_TIMEOUT_S = 20.0
_READ_SIZE = 65_536
_MS_PER_S = 1000.0
_END = b"END\r\n"
_SERVER = "a node, over mutual TLS 1.3"
SELECT_DOMAIN = "00A4040000"
GET_DATA = "80CA9F7F00"  # production data of the card: no key, no state, some data back


def administration_rows(node: Node, plan: Plan, notify: Callable[[str], None]) -> Iterator[Row]:
    """Measure the requests an operator makes most, on the first element of a node.

    Raises:
        PeerProgramError: The node has no administration plane, or refuses.
    """
    with racs_session(node) as link:
        notify("requests of the administration plane")
        yield _list(plan, link)
        yield _apdu(plan, link, node.elements[0].seid)


class _Link:
    def __init__(self, stream: ssl.SSLSocket) -> None:
        self._stream = stream

    def ask(self, *lines: str) -> bytes:
        text = "\r\n".join(("BEGIN B", *lines, "END", ""))
        self._stream.sendall(text.encode("ascii"))
        answer = b""
        while not answer.endswith(_END):
            piece = self._stream.recv(_READ_SIZE)
            if not piece:
                raise PeerProgramError("the administration plane closed the session")
            answer += piece
        if b"\r\n-" in answer:
            raise PeerProgramError(f"{lines[-1]!r} was answered {answer!r}")
        return answer


@contextmanager
def racs_session(node: Node) -> Iterator[_Link]:
    """Give a session with the administration plane, as the node's operator.

    Raises:
        PeerProgramError: The node has none.
    """
    if node.racs is None or node.pki is None:
        raise PeerProgramError("the node has no administration plane")
    context = ssl.create_default_context(cafile=str(node.pki / "ca.pem"))
    context.load_cert_chain(node.pki / "user.pem", node.pki / "user.key")
    with (
        socket.create_connection(node.racs, timeout=_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=node.racs[0]) as stream,
    ):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield _Link(stream)


def _work(link: _Link, line: str) -> Callable[[], float]:
    def work() -> float:
        start = time.perf_counter()
        link.ask(line)
        return (time.perf_counter() - start) * _MS_PER_S

    return work


def _list(plan: Plan, link: _Link) -> Row:
    (samples,) = take_turns(plan, plan.repetitions, (_work(link, "LIST"),))
    return _row("racs_list", "RACS request LIST on an open session", samples, _PUBLISHED_LIST)


def _apdu(plan: Plan, link: _Link, seid: str) -> Row:
    link.ask(f"POWERON {seid}", f"APDU {seid} {SELECT_DOMAIN} MORE=61 CONTINUE=9000")
    (samples,) = take_turns(plan, plan.repetitions, (_work(link, f"APDU {seid} {GET_DATA}"),))
    link.ask(f"SHUTDOWN {seid}")
    work = "RACS request APDU (GET DATA, audited) on an open session"
    return _row("racs_apdu", work, samples, _PUBLISHED_APDU)


def _row(name: str, work: str, samples: list[float], published: Figure) -> Row:
    ours = figure(_SERVER, samples)
    return Row(
        id=name,
        work=work,
        unit="ms",
        ours=ours,
        references=(published,),
        aim="below the published figure",
        met=ours.value < published.value,
    )
