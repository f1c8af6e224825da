# SPDX-License-Identifier: Apache-2.0
"""A hostile peer that knows the keys: what it changes is sealed again, so that it goes deep.

Inputs are the messages of recorded connections and of our own engines; bounded here, longer with
IOSE_FUZZ_RUNS. Only declared errors may come out, the same whole and split, and a closed engine
keeps nothing.
"""

import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from iose.tls import AlertReceived, ClientEngine, PreSharedKey, ServerEngine, TlsPeerError
from iose.tls import extensions as ext
from iose.tls import key_extensions as keys
from iose.tls import messages as msg
from iose.tls.constants import ContentType, ExtensionType, HandshakeType, NamedGroup
from iose.tls.stream_engine import StreamEngine
from iose.wire.errors import DecodeError, LocalProtocolError
from tests.support.engine_pair import IDENTITY, PSK, EnginePair, client_config, server_config
from tests.unit.tls.forge import (
    ForgedServer,
    hello_of,
    open_pair,
    plain_record,
    seal,
    session_of,
)
from tests.unit.tls.traces import all_openssl_connections, messages_of, names_of

RUNS = int(os.environ.get("IOSE_FUZZ_RUNS", "100"))
TELLING = (0x00, 0x01, 0x02, 0x03, 0x04, 0x17, 0x1F, 0x20, 0x40, 0x7F, 0x80, 0xFF)
E = ExtensionType
MESSAGES: dict[str, Callable[[bytes], object]] = {
    "client_hello": msg.ClientHello.decode,
    "server_hello": msg.ServerHello.decode,
    "hello_retry_request": msg.ServerHello.decode,
    "encrypted_extensions": msg.EncryptedExtensions.decode,
    "finished": lambda body: msg.Finished.decode(body, 32),
    "new_session_ticket": msg.NewSessionTicket.decode,
}
EXTENSIONS: dict[int, type] = {
    E.SERVER_NAME: ext.ServerName,
    E.MAX_FRAGMENT_LENGTH: ext.MaxFragmentLength,
    E.SUPPORTED_GROUPS: keys.SupportedGroups,
    E.ALPN: ext.ProtocolNames,
    E.RECORD_SIZE_LIMIT: ext.RecordSizeLimit,
    E.PRE_SHARED_KEY: keys.OfferedPsks,
    E.SUPPORTED_VERSIONS: ext.ClientVersions,
    E.COOKIE: ext.Cookie,
    E.PSK_KEY_EXCHANGE_MODES: keys.PskModes,
    E.KEY_SHARE: keys.ClientShares,
}
HELLOS = [
    hello_of(),
    hello_of(client_config(groups=(NamedGroup.X25519, NamedGroup.SECP256R1))),
    hello_of(client_config(groups=(NamedGroup.SECP256R1_MLKEM768,), allow_psk_ke=True)),
    hello_of(
        client_config(
            server_name="key1.com",
            alpn_protocols=(b"coap", b"http/1.1"),
            record_size_limit=512,
            max_fragment_length=2,
        )
    ),
]
BODIES = {
    E.COOKIE: ext.Cookie(b"crumbs").encode(),
    E.EARLY_DATA: b"",
    E.PADDING: bytes(9),
    0x1234: b"unknown",
    **{kind: body for hello in HELLOS for kind, body in hello.extensions.items()},
}
SERVERS = [
    server_config(),
    server_config(groups=(NamedGroup.SECP256R1,), alpn_protocols=(b"coap",), record_size_limit=99),
    server_config(allow_psk_ke=True, check_psk_modes=False, server_names=("key1.com",)),
    server_config(PreSharedKey(b"guest", bytes(32)), PSK, hello_retry_request=False),
]
ENDS = (TlsPeerError, AlertReceived)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return data with up to three changes."""
    changed = bytearray(data)
    for _ in range(rng.randint(0, 3)):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 1 if place < len(changed):
                changed[place] = rng.choice(TELLING)
            case 2:
                changed[place:place] = rng.randbytes(rng.randint(1, 8))
            case 3:
                changed[place:place] = changed[place : place + rng.randint(1, 40)]
            case _:
                del changed[place : place + rng.randint(1, 8)]
    return bytes(changed)


def mutate_extensions(extensions: msg.Extensions, rng: random.Random) -> dict[int, bytes]:
    """Return extensions with one changed, lost, new or elsewhere."""
    changed = dict(extensions)
    kind = rng.choice([*changed, *BODIES])
    body = changed.pop(kind, BODIES.get(kind, b""))
    if rng.random() < 0.8:
        changed[kind] = mutate(body, rng)
    if kind != E.PRE_SHARED_KEY and E.PRE_SHARED_KEY in changed and rng.random() < 0.9:
        changed[E.PRE_SHARED_KEY] = changed.pop(E.PRE_SHARED_KEY)
    return changed


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """Return data in a few pieces."""
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randint(0, 6)))
    return [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]


def feed(engine: StreamEngine, pieces: list[bytes]) -> tuple[object, bytes]:
    """Give an engine pieces until it has enough; return where it is and what it said."""
    with suppress(*ENDS):
        for piece in pieces:
            engine.receive_data(piece)
    assert engine._received.size <= 65_536
    assert len(engine._handshake._data) <= 65_536
    if engine.is_closed:
        assert engine.handshake_secret is None
        assert not engine._received.size
        assert engine._handshake.is_empty
        assert not session_of(engine).reader.is_protected
    return engine.state, engine.data_to_send()


def seeded(name: str) -> random.Random:
    """Return a repeatable source of changes."""
    return random.Random(name)  # noqa: S311  # repeatable


# --- decoders ------------------------------------------------------------------------------


def recorded(name: str) -> list[bytes]:
    """Return the bodies of a message in all recorded connections."""
    return [
        message[4:]
        for trace in all_openssl_connections()
        for message, (_, known) in zip(messages_of(trace), names_of(trace), strict=True)
        if known == name
    ]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", MESSAGES)
def test_mutated_messages_are_decoded_or_refused(name: str) -> None:
    rng, seeds = seeded(name), recorded(name)
    for _ in range(RUNS * 5):
        data = mutate(rng.choice(seeds), rng)
        with suppress(DecodeError, TlsPeerError):
            value = MESSAGES[name](data)
            assert MESSAGES[name](value.encode()[4:]) == value, data.hex()  # type: ignore[attr-defined]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", EXTENSIONS)
def test_mutated_extensions_are_decoded_or_refused(kind: int) -> None:
    rng, decoder = seeded(str(kind)), EXTENSIONS[kind]
    for _ in range(RUNS * 5):
        data = mutate(BODIES[kind], rng)
        with suppress(DecodeError, TlsPeerError):
            assert decoder.decode(data).encode() == data, data.hex()


# --- engines -------------------------------------------------------------------------------


@pytest.mark.timeout(0)
@pytest.mark.parametrize("index", range(len(SERVERS)))
def test_a_server_survives_hellos_sealed_with_its_key(index: int) -> None:
    rng = seeded(f"server {index}")
    for _ in range(RUNS):
        hello = rng.choice(HELLOS)
        hello = replace(hello, extensions=mutate_extensions(hello.extensions, rng))
        try:
            data = seal(hello, rng.choice([(IDENTITY,), (b"guest", IDENTITY), (b"nobody",)]))
        except LocalProtocolError:
            continue
        data += mutate(plain_record(bytes(20), 0x17), rng)
        whole = feed(ServerEngine(SERVERS[index]), [data])
        split = feed(ServerEngine(SERVERS[index]), cut(data, rng))
        assert whole[0] == split[0], data.hex()


@pytest.mark.timeout(0)
def test_a_server_survives_any_second_hello() -> None:
    rng = seeded("second hello")
    config = server_config(groups=(NamedGroup.SECP256R1,))
    for _ in range(RUNS):
        server = ServerEngine(config)
        server.receive_data(seal(HELLOS[1]))
        hello = replace(HELLOS[1], extensions=mutate_extensions(HELLOS[0].extensions, rng))
        feed(server, cut(plain_record(mutate(hello.encode(), rng)), rng))


@pytest.mark.timeout(0)
def test_a_client_survives_any_server_hello() -> None:
    rng = seeded("server hello")
    for _ in range(RUNS):
        server = ForgedServer(groups=(NamedGroup.SECP256R1, NamedGroup.X25519))
        hello = server.hello()
        if rng.random() < 0.5:
            hello = replace(hello, random=msg.HELLO_RETRY_RANDOM)
        hello = replace(hello, extensions=mutate_extensions(hello.extensions, rng))
        data = plain_record(hello.encode()) + mutate(server.server_hello, rng)
        feed(server.client, cut(data, rng))


@pytest.mark.timeout(0)
def test_a_client_survives_any_protected_flight() -> None:
    rng = seeded("flight")
    finished = msg.Finished(bytes(32)).encode()
    for _ in range(RUNS):
        server = ForgedServer(server_name="key1.com", record_size_limit=512)
        layer = server.accept()
        extensions = mutate_extensions({E.RECORD_SIZE_LIMIT: b"\x02\x00"}, rng)
        flight = msg.EncryptedExtensions(extensions).encode() + mutate(finished, rng)
        pieces = [layer.protect(ContentType.HANDSHAKE, piece) for piece in cut(flight, rng)]
        feed(server.client, pieces)


POST_HANDSHAKE = [
    (ContentType.HANDSHAKE, b"\x18\x00\x00\x01\x00"),
    (ContentType.HANDSHAKE, b"\x18\x00\x00\x01\x01"),
    (ContentType.HANDSHAKE, msg.NewSessionTicket(300, 1, b"\x00", bytes(20)).encode()),
    (ContentType.HANDSHAKE, msg.encode_message(HandshakeType.FINISHED, bytes(32))),
    (ContentType.ALERT, b"\x01\x5a"),
    (ContentType.ALERT, b"\x01\x00"),
    (ContentType.APPLICATION_DATA, b"data"),
    (ContentType.APPLICATION_DATA, b""),
]


@pytest.mark.timeout(0)
def test_an_open_session_survives_any_protected_records_and_goes_on_or_ends() -> None:
    rng = seeded("open")
    for _ in range(RUNS):
        pair = open_pair()
        ends = [pair.client, pair.server]
        rng.shuffle(ends)
        peer, engine = ends
        for _ in range(rng.randint(1, 20)):
            content_type, content = rng.choice(POST_HANDSHAKE)
            changed = mutate(content, rng) if rng.random() < 0.2 else content
            session = session_of(peer)
            feed(engine, cut(session.writer.protect(content_type, changed), rng))
            if changed[:4] == b"\x18\x00\x00\x01" and session._write_traffic is not None:
                session.write_with(session._write_traffic.next_generation())
        assert engine.is_open is not engine.is_closed
        if engine.is_open:
            engine.send_data(b"still here")


@pytest.mark.timeout(0)
@pytest.mark.parametrize("role", ["client", "server"])
def test_mutated_records_end_the_same_whole_and_split(role: str) -> None:
    rng = seeded(role)
    pair = EnginePair.make().start()
    records = pair.server_records if role == "client" else pair.client_records
    for _ in range(RUNS):
        results = []
        data = mutate(b"".join(records), rng)
        for pieces in ([data], cut(data, rng), [data[i : i + 1] for i in range(len(data))]):
            engine: StreamEngine
            engine = ClientEngine(client_config()) if role == "client" else ServerEngine(SERVERS[0])
            engine.start()
            engine.data_to_send()
            results.append(feed(engine, pieces)[0])
        assert len(set(results)) == 1, data.hex()


@pytest.mark.timeout(0)
def test_a_caller_may_do_anything_at_any_time() -> None:
    rng = seeded("caller")
    psk = PreSharedKey(IDENTITY, None)
    for _ in range(RUNS):
        pair = EnginePair.make(client_config(psk), server_config(psk))
        for _ in range(rng.randint(1, 30)):
            engine, other = rng.sample([pair.client, pair.server], 2)
            moves: list[Callable[[], object]] = [
                engine.start,
                engine.next_event,
                lambda engine=engine: engine.provide_binder(bytes(rng.choice((0, 31, 32)))),
                lambda engine=engine: engine.provide_handshake_secret(bytes(rng.choice((32, 48)))),
                lambda engine=engine: engine.send_data(b"x"),
                lambda engine=engine: engine.send_key_update(request_peer=True),
                lambda engine=engine: engine.export_keying_material(b"label", b"", 32),
                lambda engine=engine, other=other: other.receive_data(engine.data_to_send()),
                lambda engine=engine, other=other: other.receive_data(engine.data_to_send()),
                lambda engine=engine: rng.random() < 0.1 and engine.close(),
                lambda engine=engine: rng.random() < 0.2 and engine.receive_data(rng.randbytes(9)),
            ]
            with suppress(LocalProtocolError, *ENDS):
                rng.choice(moves)()
            assert not (engine.is_open and engine.is_closed)
            assert engine.handshake_secret is None or not engine.is_closed
