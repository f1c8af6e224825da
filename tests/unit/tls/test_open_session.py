# SPDX-License-Identifier: Apache-2.0
"""What may happen on an open session: tickets, key changes, floods, exporters, limits."""

import pytest

from iose.tls import TlsPeerError
from iose.tls.constants import AlertDescription, ContentType, HandshakeType, NamedGroup
from iose.tls.events import ApplicationData, HandshakeComplete, KeyUpdated
from iose.tls.messages import NewSessionTicket, encode_message
from iose.tls.record_layer import KEY_USAGE_LIMIT, KEY_USAGE_REQUEST_LIMIT, KEY_USAGE_SOFT_LIMIT
from iose.tls.session import MAX_IDLE_RECORDS
from iose.wire.errors import LocalProtocolError
from tests.support.engine_pair import EnginePair, client_config, events_of, server_config
from tests.unit.tls.forge import check_refused, forged, open_pair, session_of

A = AlertDescription


def test_tickets_are_read_and_forgotten() -> None:
    pair = open_pair()
    ticket = NewSessionTicket(300, 1, b"\x00", bytes(100)).encode()
    pair.client.receive_data(forged(pair.server, ContentType.HANDSHAKE, ticket * 2))
    assert events_of(pair.client) == []
    assert pair.client.is_open


def test_a_malformed_ticket_is_refused() -> None:
    pair = open_pair()
    ticket = encode_message(HandshakeType.NEW_SESSION_TICKET, bytes(12))
    check_refused(pair.client, forged(pair.server, ContentType.HANDSHAKE, ticket), A.DECODE_ERROR)


@pytest.mark.parametrize(
    "kind",
    [
        HandshakeType.CLIENT_HELLO,
        HandshakeType.SERVER_HELLO,
        HandshakeType.NEW_SESSION_TICKET,
        HandshakeType.CERTIFICATE_REQUEST,
        HandshakeType.FINISHED,
        HandshakeType(0),
        HandshakeType(200),
    ],
)
def test_a_server_takes_nothing_but_key_updates(kind: HandshakeType) -> None:
    pair = open_pair()
    record = forged(pair.client, ContentType.HANDSHAKE, encode_message(kind, b""))
    check_refused(pair.server, record, A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("request_peer", [True, False])
def test_keys_change_while_data_flows(step: int, *, request_peer: bool) -> None:
    pair = open_pair(step)
    for number in range(3):
        pair.client.send_key_update(request_peer=request_peer)
        pair.client.send_data(b"after %d" % number)
        pair.exchange()
        assert events_of(pair.server) == [KeyUpdated(), ApplicationData(b"after %d" % number)]
        assert events_of(pair.client) == ([KeyUpdated()] if request_peer else [])
        pair.server.send_data(b"back")
        pair.exchange()
        assert events_of(pair.client) == [ApplicationData(b"back")]


def test_both_may_ask_for_a_key_change_at_once() -> None:
    pair = open_pair()
    pair.client.send_key_update(request_peer=True)
    pair.server.send_key_update(request_peer=True)
    pair.exchange()
    assert events_of(pair.server) == [KeyUpdated(), KeyUpdated()]
    assert events_of(pair.client) == [KeyUpdated(), KeyUpdated()]


@pytest.mark.parametrize(
    ("body", "alert"),
    [(b"\x02", A.ILLEGAL_PARAMETER), (b"", A.DECODE_ERROR), (b"\x00\x00", A.DECODE_ERROR)],
)
def test_a_bad_key_update_is_refused(body: bytes, alert: AlertDescription) -> None:
    pair = open_pair()
    message = encode_message(HandshakeType.KEY_UPDATE, body)
    check_refused(pair.server, forged(pair.client, ContentType.HANDSHAKE, message), alert)


def test_empty_data_records_are_taken_in_moderation() -> None:
    pair = open_pair()
    for _ in range(MAX_IDLE_RECORDS):
        pair.server.receive_data(forged(pair.client, ContentType.APPLICATION_DATA, b""))
    pair.server.receive_data(forged(pair.client, ContentType.APPLICATION_DATA, b"data"))
    assert events_of(pair.server) == [ApplicationData(b"data")]
    for _ in range(MAX_IDLE_RECORDS):
        pair.server.receive_data(forged(pair.client, ContentType.APPLICATION_DATA, b""))
    record = forged(pair.client, ContentType.APPLICATION_DATA, b"")
    check_refused(pair.server, record, A.UNEXPECTED_MESSAGE)


def test_a_flood_of_key_updates_is_refused() -> None:
    pair = open_pair()
    for _ in range(MAX_IDLE_RECORDS):
        pair.client.send_key_update(request_peer=False)
        pair.server.receive_data(pair.client.data_to_send())
    pair.client.send_key_update(request_peer=False)
    with pytest.raises(TlsPeerError) as caught:
        pair.server.receive_data(pair.client.data_to_send())
    assert caught.value.alert is A.UNEXPECTED_MESSAGE


def test_both_ends_export_the_same() -> None:
    pair = open_pair()
    exported = pair.client.export_keying_material(b"EXPORTER-x", b"context", 100)
    assert exported == pair.server.export_keying_material(b"EXPORTER-x", b"context", 100)
    assert len(exported) == 100
    assert exported != pair.client.export_keying_material(b"EXPORTER-x", b"", 100)
    assert exported != pair.client.export_keying_material(b"EXPORTER-y", b"context", 100)


def test_empty_data_sends_nothing() -> None:
    pair = open_pair()
    pair.client.send_data(b"")
    assert pair.client.data_to_send() == b""


def sizes(records: list[bytes]) -> list[int]:
    return [len(record) - 5 for record in records]


def test_data_is_cut_where_a_record_ends() -> None:
    pair = open_pair()
    pair.client.send_data(bytes(40_000))
    assert sizes(pair.client.records_to_send()) == [16_384 + 17, 16_384 + 17, 7_232 + 17]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(("ours", "theirs"), [(64, 64), (64, 500), (500, 64), (16_385, 100)])
def test_record_size_limits_hold_both_ways(ours: int, theirs: int, step: int) -> None:
    pair = EnginePair.make(
        client_config(record_size_limit=ours),
        server_config(record_size_limit=theirs),
        step=step,
    ).start()
    events_of(pair.client)
    events_of(pair.server)
    for sender, receiver, limit in (
        (pair.client, pair.server, theirs),
        (pair.server, pair.client, ours),
    ):
        sender.send_data(bytes(2_000))
        records = sender.records_to_send()
        assert max(sizes(records)) <= limit + 16
        assert len(records) == -(-2_000 // (min(limit, 16_385) - 1))
        receiver.receive_data(b"".join(records))
        data = b"".join(
            event.data for event in events_of(receiver) if isinstance(event, ApplicationData)
        )
        assert data == bytes(2_000)


def test_a_record_over_our_limit_is_refused() -> None:
    pair = open_pair(record_size_limit=100)
    pair.server.receive_data(forged(pair.client, ContentType.APPLICATION_DATA, bytes(99)))
    record = forged(pair.client, ContentType.APPLICATION_DATA, bytes(100))
    check_refused(pair.server, record, A.RECORD_OVERFLOW)


def test_a_limit_only_one_end_knows_changes_nothing() -> None:
    pair = EnginePair.make(client_config(record_size_limit=100)).start()
    pair.server.send_data(bytes(1_000))
    assert sizes(pair.server.records_to_send()) == [1_017]


@pytest.mark.parametrize(("code", "size"), [(1, 512), (2, 1_024), (3, 2_048), (4, 4_096)])
def test_a_max_fragment_length_holds_both_ways(code: int, size: int) -> None:
    pair = EnginePair.make(client_config(max_fragment_length=code)).start()
    events_of(pair.client)
    events_of(pair.server)
    for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
        sender.send_data(bytes(5_000))
        records = sender.records_to_send()
        assert max(sizes(records)) == size + 17
        receiver.receive_data(b"".join(records))
    session_of(pair.client).writer.content_limit = 5_000
    pair.client.send_data(bytes(size + 1))
    check_refused(pair.server, pair.client.data_to_send(), A.RECORD_OVERFLOW)


def test_a_max_fragment_length_cuts_the_handshake_too() -> None:
    group = {"groups": (NamedGroup.X25519_MLKEM768,)}
    pair = EnginePair.make(
        client_config(max_fragment_length=1, **group), server_config(**group)
    ).start()
    assert pair.client.is_open
    assert sizes(pair.server_records[:3]) == [512, 512, 192]


def test_record_size_limit_wins_over_max_fragment_length() -> None:
    limit = {"record_size_limit": 300}
    pair = EnginePair.make(
        client_config(max_fragment_length=1, **limit), server_config(**limit)
    ).start()
    pair.server.send_data(bytes(1_000))
    assert max(sizes(pair.server.records_to_send())) == 300 + 16


@pytest.mark.parametrize("step", [0, 1])
def test_padding_hides_sizes(step: int) -> None:
    pair = open_pair(step, record_padding=128)
    for size in (1, 100, 127):
        pair.client.send_data(bytes(size))
        (record,) = pair.client.records_to_send()
        assert sizes([record]) == [128 + 16]
        pair.deliver(pair.server, record)
        assert events_of(pair.server) == [ApplicationData(bytes(size))]
    pair.client.send_data(bytes(128))
    assert sizes(pair.client.records_to_send()) == [256 + 16]


def test_padding_stays_within_a_max_fragment_length() -> None:
    pair = EnginePair.make(client_config(record_padding=400, max_fragment_length=1)).start()
    pair.client.send_data(bytes(450))
    assert sizes(pair.client.records_to_send()) == [512 + 17]


def test_padding_stays_within_the_peers_limit() -> None:
    pair = EnginePair.make(
        client_config(record_padding=128, record_size_limit=100),
        server_config(record_size_limit=100),
    ).start()
    pair.client.send_data(bytes(150))
    assert sizes(pair.client.records_to_send()) == [116, 116]


def test_a_sending_key_is_changed_before_it_is_worn() -> None:
    pair = open_pair()
    for engine, side in ((pair.client, "writer"), (pair.server, "reader")):
        getattr(session_of(engine), side).sequence = KEY_USAGE_SOFT_LIMIT - 1
    pair.client.send_data(b"last")
    pair.client.send_data(b"first")
    pair.exchange()
    received = events_of(pair.server)
    assert [event for event in received if isinstance(event, ApplicationData)] == [
        ApplicationData(b"last"),
        ApplicationData(b"first"),
    ]
    assert session_of(pair.client).writer.sequence == 1


def test_a_peer_changes_a_worn_key_and_is_asked_again_when_the_next_is_worn() -> None:
    pair = open_pair()
    for _ in range(2):
        session_of(pair.server).reader.sequence = KEY_USAGE_REQUEST_LIMIT
        session_of(pair.client).writer.sequence = KEY_USAGE_REQUEST_LIMIT
        pair.server.receive_data(forged(pair.client, ContentType.APPLICATION_DATA, b"worn"))
        pair.exchange()
        assert events_of(pair.client) == [KeyUpdated()]
        assert events_of(pair.server) == [ApplicationData(b"worn"), KeyUpdated()]
        assert session_of(pair.server).reader.sequence == 0


def test_a_peer_is_asked_once_to_change_a_worn_key() -> None:
    pair = open_pair()
    session_of(pair.server).reader.sequence = KEY_USAGE_REQUEST_LIMIT
    session_of(pair.client).writer.sequence = KEY_USAGE_REQUEST_LIMIT
    record = forged(pair.client, ContentType.APPLICATION_DATA, b"worn")
    pair.server.receive_data(record)
    assert len(pair.server.records_to_send()) == 1
    pair.server.receive_data(forged(pair.client, ContentType.APPLICATION_DATA, b"worn"))
    assert pair.server.records_to_send() == []


def test_a_key_used_too_often_ends_the_session() -> None:
    pair = open_pair()
    session_of(pair.server).reader.sequence = KEY_USAGE_LIMIT
    session_of(pair.client).writer.sequence = KEY_USAGE_LIMIT
    record = forged(pair.client, ContentType.APPLICATION_DATA, b"x")
    check_refused(pair.server, record, A.UNEXPECTED_MESSAGE)


def test_names_and_protocols_are_agreed_on() -> None:
    names = {"alpn_protocols": (b"http/1.1", b"coap")}
    pair = EnginePair.make(
        client_config(server_name="key1.com", alpn_protocols=(b"coap", b"http/1.1")),
        server_config(**names),
    ).start()
    for engine in (pair.client, pair.server):
        (complete,) = events_of(engine)
        assert isinstance(complete, HandshakeComplete)
        assert complete.server_name == "key1.com"
        assert complete.alpn_protocol == b"http/1.1"


def test_alpn_is_ignored_by_a_server_without_protocols() -> None:
    pair = EnginePair.make(client_config(alpn_protocols=(b"coap",))).start()
    (complete,) = events_of(pair.client)
    assert isinstance(complete, HandshakeComplete)
    assert complete.alpn_protocol is None


@pytest.mark.parametrize("length", [0, 1, 32, 33, 64, 255 * 32])
def test_exported_values_have_the_length_asked_for(length: int) -> None:
    pair = open_pair()
    exported = pair.client.export_keying_material(b"x" * 249, b"context" * 100, length)
    assert len(exported) == length
    assert exported == pair.server.export_keying_material(b"x" * 249, b"context" * 100, length)


@pytest.mark.parametrize(
    ("label", "length"), [(b"x" * 250, 32), (b"x", 255 * 32 + 1), (b"x", 65_536), (b"x", -1)]
)
def test_an_export_outside_its_limits_is_refused(label: bytes, length: int) -> None:
    pair = open_pair()
    with pytest.raises(LocalProtocolError):
        pair.client.export_keying_material(label, b"", length)
    assert pair.client.is_open
