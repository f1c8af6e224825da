# SPDX-License-Identifier: Apache-2.0
"""Every state against every message and against any bytes: only declared errors come out."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iose.tls import AlertReceived, ClientEngine, PreSharedKey, ServerEngine, TlsPeerError
from iose.tls.constants import ContentType, HandshakeType, NamedGroup
from iose.tls.events import ApplicationData
from iose.tls.messages import encode_message
from iose.tls.states import TRANSITIONS, HandshakeMessage, Pause, State, StateMachine
from iose.tls.stream_engine import StreamEngine
from iose.wire.errors import LocalProtocolError
from tests.support.engine_pair import IDENTITY, EnginePair, client_config, events_of, server_config
from tests.unit.tls.forge import plain_record

ELSEWHERE = PreSharedKey(IDENTITY, None)
RETRY = {"groups": (NamedGroup.X25519, NamedGroup.SECP256R1)}
P256 = {"groups": (NamedGroup.SECP256R1,)}


def client_in(state: State) -> StreamEngine:
    """Return a client in a state, reached by an honest server."""
    psk = ELSEWHERE if state in (State.CLIENT_WAIT_BINDER,) else client_config().psk
    retried = state is State.CLIENT_WAIT_SECOND_SERVER_HELLO
    client = ClientEngine(client_config(psk, **(RETRY if retried else P256)))
    server = ServerEngine(server_config(**P256))
    if state is State.CLIENT_START:
        return client
    client.start()
    while client.state is not state:
        server.receive_data(client.data_to_send())
        for record in server.records_to_send():
            client.receive_data(record)
            if client.state is state:
                return client
    return client


def server_in(state: State) -> StreamEngine:
    """Return a server in a state, reached by an honest client."""
    psk = ELSEWHERE if state is State.SERVER_WAIT_BINDER else client_config().psk
    retried = state is State.SERVER_WAIT_SECOND_CLIENT_HELLO
    client = ClientEngine(client_config(**(RETRY if retried else P256)))
    server = ServerEngine(server_config(psk, **P256))
    client.start()
    while server.state is not state:
        server.receive_data(client.data_to_send())
        if server.state is not state:
            client.receive_data(server.data_to_send())
    return server


REACHABLE: dict[State, Callable[[State], StreamEngine]] = {
    State.CLIENT_START: client_in,
    State.CLIENT_WAIT_BINDER: client_in,
    State.CLIENT_WAIT_SERVER_HELLO: client_in,
    State.CLIENT_WAIT_SECOND_SERVER_HELLO: client_in,
    State.CLIENT_WAIT_ENCRYPTED_EXTENSIONS: client_in,
    State.CLIENT_WAIT_FINISHED: client_in,
    State.CLIENT_OPEN: client_in,
    State.SERVER_WAIT_CLIENT_HELLO: server_in,
    State.SERVER_WAIT_BINDER: server_in,
    State.SERVER_WAIT_SECOND_CLIENT_HELLO: server_in,
    State.SERVER_WAIT_FINISHED: server_in,
    State.SERVER_OPEN: server_in,
}
KINDS = [*HandshakeType, HandshakeType(0), HandshakeType(99)]


def record_for(engine: StreamEngine, content_type: int, content: bytes) -> bytes:
    """Return a record the engine will open in its present state."""
    reader = engine._session.reader
    if not reader.is_protected:
        return plain_record(content, content_type)
    return reader._protection.protect(reader.sequence, content_type, content, 0)


def check_no_secret_after_the_end(engine: StreamEngine) -> None:
    if engine.is_closed:
        assert engine.handshake_secret is None
        assert not engine._received.size


@pytest.mark.parametrize("state", REACHABLE)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(body=st.binary(max_size=80))
def test_every_state_takes_or_refuses_every_message(
    state: State, kind: HandshakeType, body: bytes
) -> None:
    engine = REACHABLE[state](state)
    record = record_for(engine, ContentType.HANDSHAKE, encode_message(kind, body))
    with suppress(TlsPeerError):
        engine.receive_data(record)
    if kind not in TRANSITIONS[state] and not engine._machine.is_paused:
        assert engine.is_closed
    check_no_secret_after_the_end(engine)


@pytest.mark.parametrize("state", REACHABLE)
@given(content_type=st.integers(0, 255), content=st.binary(max_size=60))
def test_every_state_takes_or_refuses_every_record(
    state: State, content_type: int, content: bytes
) -> None:
    engine = REACHABLE[state](state)
    with suppress(TlsPeerError, AlertReceived):
        engine.receive_data(record_for(engine, content_type, content))
    check_no_secret_after_the_end(engine)


@pytest.mark.parametrize("state", REACHABLE)
@given(data=st.binary(max_size=300))
def test_every_state_survives_any_bytes(state: State, data: bytes) -> None:
    engine = REACHABLE[state](state)
    with suppress(TlsPeerError, AlertReceived):
        engine.receive_data(data)
    check_no_secret_after_the_end(engine)


@given(
    flips=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 7)), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 200), max_size=10),
)
def test_a_changed_hello_gives_the_same_end_whole_and_split(
    flips: list[tuple[int, int]], cuts: list[int]
) -> None:
    client = ClientEngine(client_config())
    client.start()
    data = bytearray(client.data_to_send())
    for position, bit in flips:
        data[position % len(data)] ^= 1 << bit
    results: list[tuple[State, bytes]] = []
    for pieces in (pieces_of(bytes(data), []), pieces_of(bytes(data), cuts)):
        server = ServerEngine(server_config())
        with suppress(TlsPeerError, AlertReceived):
            for piece in pieces:
                server.receive_data(piece)
        results.append((server.state, server.data_to_send()))
    assert results[0] == results[1]


def pieces_of(data: bytes, sizes: list[int]) -> list[bytes]:
    """Return data cut in pieces of the sizes, the rest in the last one."""
    pieces: list[bytes] = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(
    forth=st.lists(st.binary(max_size=2_000), max_size=5),
    back=st.lists(st.binary(max_size=2_000), max_size=5),
    step=st.integers(1, 5_000),
    limit=st.integers(64, 600),
    padding=st.integers(0, 300),
)
@settings(max_examples=30)
def test_data_arrives_whole_whatever_the_limits(
    forth: list[bytes], back: list[bytes], step: int, limit: int, padding: int
) -> None:
    pair = EnginePair.make(
        client_config(record_size_limit=limit, record_padding=padding),
        server_config(record_size_limit=limit, record_padding=padding),
        step=step,
    ).start()
    for data in forth:
        pair.client.send_data(data)
    for data in back:
        pair.server.send_data(data)
    pair.exchange()
    for engine, sent in ((pair.server, forth), (pair.client, back)):
        received = [event.data for event in events_of(engine) if isinstance(event, ApplicationData)]
        assert b"".join(received) == b"".join(sent)


@pytest.mark.parametrize("state", State)
def test_a_machine_refuses_a_state_outside_the_table(state: State) -> None:
    elsewhere = next(other for other in State if other not in ALL_TARGETS.get(state, set()))

    class Astray:
        def __init__(self, own: State) -> None:
            self.state = own

        def receive(self, message: HandshakeMessage) -> "Astray":
            return Astray(elsewhere)

    machine = StateMachine(Astray(state))
    for kind in TRANSITIONS[state]:
        if isinstance(kind, HandshakeType):
            with pytest.raises(LocalProtocolError):
                machine.receive(HandshakeMessage(kind, b""))
        else:
            paused = StateMachine(Pause(state, lambda _: Astray(elsewhere)))
            with pytest.raises(LocalProtocolError):
                paused.resume(kind)


ALL_TARGETS = {
    state: {target for targets in moves.values() for target in targets}
    for state, moves in TRANSITIONS.items()
}


def test_every_state_but_the_last_leads_somewhere() -> None:
    assert {state for state, moves in TRANSITIONS.items() if not moves} == {State.CLOSED}
    assert set(TRANSITIONS) == set(State)
