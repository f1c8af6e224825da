# SPDX-License-Identifier: Apache-2.0
"""How a session ends, and that nothing secret outlives it (RFC 8446 §6.1)."""

import gc
from types import ModuleType

import pytest

from iose.tls import ClientEngine, EngineConfig, PreSharedKey, ServerEngine
from iose.tls.constants import AlertDescription, ContentType
from iose.tls.events import ApplicationData, PeerClosed
from iose.wire.errors import LocalProtocolError
from tests.support.engine_pair import PSK, EnginePair, client_config, events_of, server_config
from tests.unit.tls.forge import (
    check_refused,
    forged,
    open_pair,
    plain_record,
    session_of,
)

A = AlertDescription


def test_close_notify_ends_both_directions() -> None:
    pair = open_pair()
    pair.client.close()
    pair.client.close()
    assert pair.client.is_closed
    pair.exchange()
    assert events_of(pair.server) == [PeerClosed(A.CLOSE_NOTIFY)]
    assert pair.server.is_closed
    assert events_of(pair.client) == []


def test_data_before_close_notify_arrives() -> None:
    pair = open_pair()
    pair.server.send_data(b"bye")
    pair.server.close()
    pair.exchange()
    assert events_of(pair.client) == [ApplicationData(b"bye"), PeerClosed(A.CLOSE_NOTIFY)]


def test_a_closed_engine_keeps_no_secret_and_takes_no_data() -> None:
    pair = open_pair()
    assert pair.client.handshake_secret is not None
    pair.client.close()
    assert pair.client.handshake_secret is None
    for move in (
        lambda: pair.client.send_data(b"x"),
        lambda: pair.client.send_key_update(request_peer=False),
        lambda: pair.client.export_keying_material(b"x", b"", 32),
        pair.client.start,
    ):
        with pytest.raises(LocalProtocolError):
            move()


def secrets_within(engine: object) -> set[bytes]:
    """Return every byte string an engine can reach, but for what its owner gave it."""
    found: set[bytes] = set()
    seen: set[int] = set()
    waiting = [engine]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | EngineConfig):
            continue
        seen.add(id(thing))
        if isinstance(thing, bytes):
            found.add(thing)
        waiting += gc.get_referents(thing)
    return found


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_closed_engine_reaches_no_secret(*, is_refused: bool) -> None:
    logged: list[bytes] = [PSK.key or b""]
    pair = open_pair(key_log=lambda _label, _random, secret: logged.append(secret))
    logged += [pair.client.handshake_secret or b"", session_of(pair.client).exporter.secret]  # type: ignore[union-attr]
    for engine in (pair.client, pair.server):
        assert len(secrets_within(engine) & set(logged)) >= 4
        if is_refused:
            check_refused(engine, plain_record(b"not sealed", 0x17), A.BAD_RECORD_MAC)
        else:
            engine.close()
        assert secrets_within(engine) & set(logged) == set()


def test_an_engine_closed_during_the_handshake_reaches_no_secret() -> None:
    logged: list[bytes] = [PSK.key or b""]
    settings = {"key_log": lambda _label, _random, secret: logged.append(secret)}
    for records_taken in (0, 2, 3):  # ServerHello and change_cipher_spec, then two messages
        pair = EnginePair.make(client_config(**settings), server_config(**settings))
        pair.client.start()
        pair.server.receive_data(pair.client.data_to_send())
        for record in pair.server.records_to_send()[:records_taken]:
            pair.client.receive_data(record)
        for engine in (pair.client, pair.server):
            assert secrets_within(engine) & set(logged)
            engine.close()
            assert secrets_within(engine) & set(logged) == set()


def test_a_client_that_never_began_closes_in_silence() -> None:
    client = ClientEngine(client_config())
    client.close()
    assert client.data_to_send() == b""
    assert client.is_closed


def test_a_client_without_its_binder_closes_in_silence() -> None:
    client = ClientEngine(client_config(PreSharedKey(b"elsewhere", None)))
    client.start()
    client.close()
    assert client.data_to_send() == b""
    assert events_of(client) == []


@pytest.mark.parametrize("content", [b"", b"early"])
def test_application_data_under_handshake_keys_is_refused(content: bytes) -> None:
    pair = EnginePair.make()
    pair.client.start()
    pair.server.receive_data(pair.client.data_to_send())
    server_hello, *_ = pair.server.records_to_send()
    pair.client.receive_data(server_hello)
    data = forged(pair.client, ContentType.APPLICATION_DATA, content)
    check_refused(pair.server, data, A.UNEXPECTED_MESSAGE)


def test_closing_during_the_handshake_says_so() -> None:
    server = ServerEngine(server_config())
    server.close()
    assert server.data_to_send() == bytes.fromhex("15030300020100")
