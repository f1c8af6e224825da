# SPDX-License-Identifier: Apache-2.0
"""Rows of real readers: what the node adds to an APDU, on a reader that takes its time for each.

The same APDUs go to the same kind of element twice: through a node, and straight to the reader, by
the same client. What the node takes longer is what it adds.
"""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from iose.bridge.stream import RECORD_HEADER_SIZE, RESET_TLS, record_steps
from iose.client.access import resolve_access
from iose.client.session import ElementSession
from iose.client.uri import ElementUri
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import DEFAULT_CHUNK_SIZE
from iose.protocols.sim_array import decode_reply, encode_exchange
from iose.runtime.bench.administration import GET_DATA, SELECT_DOMAIN, racs_session
from iose.runtime.bench.openssl_client import PeerProgramError
from iose.runtime.bench.plan import Plan, take_turns
from iose.runtime.bench.programs import REFERENCE_KEY, Node, node_with_reader, slow_reader
from iose.runtime.bench.report import Added, Row, figure
from iose.runtime.bench.slow_reader import SLOTS, sen_of
from iose.transport.stack import drain

READER_MS: Final = 20.0  # a short APDU on a card at usual speed, its T=1 blocks included
LIMIT_PERCENT: Final = 1.0
_SERVED, _OWN = SLOTS  # the node's, and the one we ask ourselves
_VERSION: Final = b"?00"
_TIMEOUT_S: Final = 20.0
_READ_SIZE: Final = 65_536
_MS_PER_S: Final = 1000.0
_SLOWNESS: Final = 10  # fewer repetitions: each takes as long as the reader


class _Link(Protocol):
    """What carries a client's TLS records."""

    def send(self, data: bytes) -> None: ...

    def receive(self) -> bytes: ...


def reader_rows(folder: Path, plan: Plan, notify: Callable[[str], None]) -> Iterator[Row]:
    """Measure what a node adds to an APDU, in both planes.

    Raises:
        PeerProgramError: A program did not start, or an answer is not what it should be.
        OSError: A connection was refused.
    """
    notify(f"a reader of {READER_MS:g} ms an APDU")
    with (
        slow_reader(READER_MS) as address,
        _ArrayLine(address) as line,
        node_with_reader(folder, address, _SERVED) as node,
    ):
        yield _command(plan, node, line)
        yield _apdu(plan, node, line)


class _ArrayLine:
    """The reader, asked directly.

    Attributes:
        apdus: How many it has had.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.apdus = 0
        self._received = b""
        self._link = socket.create_connection(address, _TIMEOUT_S)
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._link.makefile("rb")
        self._lines.readline()
        self._ask(f"USE {_OWN}")

    def __enter__(self) -> "_ArrayLine":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._link.close()

    def process(self, command: bytes) -> bytes:
        """Return the raw answer to a raw command."""
        self.apdus += 1
        return self._ask(encode_exchange(_OWN, command))

    def send(self, data: bytes) -> None:
        """Carry TLS records to the element."""
        while data:
            size = RECORD_HEADER_SIZE + int.from_bytes(data[3:RECORD_HEADER_SIZE], "big")
            for step in record_steps(data[:size], DEFAULT_CHUNK_SIZE):
                self._received += drain(self.process, step.command).data
            data = data[size:]

    def receive(self) -> bytes:
        """Return what the element answered."""
        received, self._received = self._received, b""
        return received

    def _ask(self, line: str) -> bytes:
        self._link.sendall(line.encode("ascii") + b"\n")
        reply = decode_reply(self._lines.readline().removesuffix(b"\n"))
        if not reply.is_ok:
            raise PeerProgramError(f"the slow reader refused {line.partition(' ')[0]}")
        return reply.payload


class _SocketLink:
    """A TCP connection to a node's front."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send = connection.sendall
        self._connection = connection

    def receive(self) -> bytes:
        data = self._connection.recv(_READ_SIZE)
        if not data:
            raise PeerProgramError("the node ended the session")
        return data


class _Session:
    """A TLS session with an element, by one client whatever the link."""

    def __init__(self, sen: str, link: _Link) -> None:
        uri = ElementUri(scheme="keyS", sen=sen, host="localhost", port=1)
        config = resolve_access(uri, psk=REFERENCE_KEY).client_config(REFERENCE_KEY)
        self._session = ElementSession(config)
        self._link = link
        self._flush()
        while not self._session.is_open():
            self._wait()

    def ask(self, line: bytes) -> bytes:
        """Return the answer to one line."""
        self._session.send_line(line)
        self._flush()
        while (answer := self._session.next_answer()) is None:
            self._wait()
        return answer

    def _wait(self) -> None:
        self._session.receive_data(self._link.receive())
        self._flush()

    def _flush(self) -> None:
        if data := self._session.data_to_send():
            self._link.send(data)


def _command(plan: Plan, node: Node, line: _ArrayLine) -> Row:
    drain(line.process, RESET_TLS)
    direct = _Session(sen_of(_OWN), line)
    before = line.apdus
    answer = direct.ask(_VERSION)
    apdus = line.apdus - before
    with socket.create_connection(node.address, _TIMEOUT_S) as connection:
        through = _Session(sen_of(_SERVED), _SocketLink(connection))
        if through.ask(_VERSION) != answer:
            raise PeerProgramError("the two elements answer differently")
        works = (_timed(lambda: through.ask(_VERSION)), _timed(lambda: direct.ask(_VERSION)))
        samples = take_turns(plan, _repetitions(plan), works)
    return _row("reader_command", "one command (?00) on an open session", samples, apdus)


def _apdu(plan: Plan, node: Node, line: _ArrayLine) -> Row:
    seid = f"sim-{_SERVED}"
    select, get_data = bytes.fromhex(SELECT_DOMAIN), CommandApdu.decode(bytes.fromhex(GET_DATA))
    line.process(select)
    before = line.apdus
    drain(line.process, get_data)
    apdus = line.apdus - before
    with racs_session(node) as link:
        link.ask(f"POWERON {seid}", f"APDU {seid} {SELECT_DOMAIN} MORE=61 CONTINUE=9000")
        request = f"APDU {seid} {GET_DATA}"
        works = (
            _timed(lambda: link.ask(request)),
            _timed(lambda: drain(line.process, get_data)),
        )
        samples = take_turns(plan, _repetitions(plan), works)
        link.ask(f"SHUTDOWN {seid}")
    return _row("reader_apdu", "RACS request APDU (GET DATA, audited)", samples, apdus)


def _timed(work: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * _MS_PER_S

    return timed


def _repetitions(plan: Plan) -> int:
    return max(1, plan.repetitions // _SLOWNESS)


def _row(name: str, work: str, samples: list[list[float]], apdus: int) -> Row:
    node, reader = figure("through a node", samples[0]), figure("asked directly", samples[1])
    added_ms = (node.value - reader.value) / apdus
    percent = 100 * added_ms * apdus / reader.value
    return Row(
        id=name,
        work=f"{work}, reader of {READER_MS:g} ms an APDU",
        unit="ms",
        ours=node,
        references=(reader,),
        aim="the node adds under 1 % of the reader's own time",
        met=percent < LIMIT_PERCENT,
        added=Added(apdus, added_ms, percent),
    )
