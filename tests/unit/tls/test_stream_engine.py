# SPDX-License-Identifier: Apache-2.0
"""Records on a connection: alerts, ChangeCipherSpec, fragments, early data."""

import pytest

from iose.tls import AlertReceived, ClientEngine, ServerEngine
from iose.tls.constants import AlertDescription, ContentType, ExtensionType
from iose.tls.events import ApplicationData, PeerClosed
from iose.tls.messages import KeyUpdate, KeyUpdateRequest
from iose.tls.session import MAX_IDLE_RECORDS
from iose.wire.errors import LocalProtocolError
from tests.support.engine_pair import EnginePair, client_config, events_of, server_config
from tests.unit.tls.forge import (
    CHANGE_CIPHER_SPEC,
    check_refused,
    forged,
    hello_of,
    open_pair,
    plain_record,
    seal,
    session_of,
    with_extensions,
)

A = AlertDescription
HELLO = hello_of()


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("number", [A.HANDSHAKE_FAILURE, A.UNKNOWN_PSK_IDENTITY, 199])
def test_a_fatal_alert_in_the_clear_ends_the_handshake(level: int, number: int) -> None:
    client = ClientEngine(client_config())
    client.start()
    client.data_to_send()
    with pytest.raises(AlertReceived) as caught:
        client.receive_data(plain_record(bytes((level, number)), ContentType.ALERT))
    assert caught.value.alert == number
    assert client.is_closed
    assert events_of(client) == [PeerClosed(A(number))]
    assert client.data_to_send() == b""


def test_a_fatal_alert_on_an_open_session_ends_it() -> None:
    pair = open_pair()
    with pytest.raises(AlertReceived):
        pair.server.receive_data(forged(pair.client, ContentType.ALERT, b"\x02\x50"))
    assert pair.server.is_closed
    assert pair.server.handshake_secret is None


def test_a_client_without_keys_may_refuse_our_flight_in_the_clear() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(HELLO))
    with pytest.raises(AlertReceived):
        server.receive_data(bytes.fromhex("15030300020228"))


def test_a_client_that_has_used_its_keys_may_not_go_back_to_the_clear() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(HELLO))
    reader = session_of(server).reader._protection
    server.receive_data(reader.protect(0, ContentType.HANDSHAKE, b"\x14\x00", 0))
    check_refused(server, bytes.fromhex("15030300020228"), A.UNEXPECTED_MESSAGE)


def test_alerts_in_the_clear_are_refused_later() -> None:
    pair = open_pair()
    check_refused(pair.server, bytes.fromhex("15030300020228"), A.UNEXPECTED_MESSAGE)


def test_user_canceled_announces_close_notify() -> None:
    server = ServerEngine(server_config())
    server.receive_data(bytes.fromhex("1503030002015A"))
    assert not server.is_closed
    server.receive_data(bytes.fromhex("15030300020100"))
    assert events_of(server) == [PeerClosed(A.CLOSE_NOTIFY)]


def test_a_flood_of_user_canceled_is_refused() -> None:
    server = ServerEngine(server_config())
    canceled = bytes.fromhex("1503030002015A")
    server.receive_data(canceled * MAX_IDLE_RECORDS)
    check_refused(server, canceled, A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize(
    ("content", "alert"),
    [(b"", A.UNEXPECTED_MESSAGE), (b"\x02", A.DECODE_ERROR), (b"\x01\x00\x01", A.DECODE_ERROR)],
)
def test_an_alert_that_is_not_two_bytes_is_refused(content: bytes, alert: AlertDescription) -> None:
    check_refused(ServerEngine(server_config()), plain_record(content, ContentType.ALERT), alert)


def test_starting_twice_is_refused() -> None:
    for engine in (ClientEngine(client_config()), ServerEngine(server_config())):
        engine.start()
        with pytest.raises(LocalProtocolError):
            engine.start()


def test_nothing_may_be_sent_before_the_session_is_open() -> None:
    for engine in (ClientEngine(client_config()), ServerEngine(server_config())):
        with pytest.raises(LocalProtocolError):
            engine.send_data(b"x")
        with pytest.raises(LocalProtocolError):
            engine.send_key_update(request_peer=True)
        with pytest.raises(LocalProtocolError):
            engine.export_keying_material(b"label", b"", 32)


def test_a_server_exports_nothing_before_the_clients_finished() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(HELLO))
    with pytest.raises(LocalProtocolError):
        server.export_keying_material(b"label", b"", 32)


def test_change_cipher_spec_is_dropped_during_the_handshake() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(HELLO))
    server.receive_data(CHANGE_CIPHER_SPEC)
    assert not server.is_closed


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x02", b"\x01\x01"])
def test_another_change_cipher_spec_is_refused(body: bytes) -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(HELLO))
    record = plain_record(body, ContentType.CHANGE_CIPHER_SPEC)
    check_refused(server, record, A.UNEXPECTED_MESSAGE)


def test_change_cipher_spec_before_the_hello_is_refused() -> None:
    check_refused(ServerEngine(server_config()), CHANGE_CIPHER_SPEC, A.UNEXPECTED_MESSAGE)


def test_change_cipher_spec_after_finished_is_refused() -> None:
    pair = open_pair()
    check_refused(pair.server, CHANGE_CIPHER_SPEC, A.UNEXPECTED_MESSAGE)
    check_refused(pair.client, CHANGE_CIPHER_SPEC, A.UNEXPECTED_MESSAGE)


def test_a_flood_of_change_cipher_spec_is_refused() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(HELLO))
    server.receive_data(CHANGE_CIPHER_SPEC * 4)
    check_refused(server, CHANGE_CIPHER_SPEC, A.UNEXPECTED_MESSAGE)


def test_a_protected_change_cipher_spec_is_refused() -> None:
    pair = open_pair()
    record = forged(pair.client, ContentType.CHANGE_CIPHER_SPEC, b"\x01")
    check_refused(pair.server, record, A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("first", [0x00, 0x13, 0x18, 0x47, 0x80, 0xFF])
def test_what_is_no_record_is_refused_at_its_first_byte(first: int) -> None:
    check_refused(ServerEngine(server_config()), bytes((first,)), A.UNEXPECTED_MESSAGE)


def test_a_record_over_the_limit_is_refused_at_its_header() -> None:
    server = ServerEngine(server_config())
    server.receive_data(bytes.fromhex("1603034100")[:4])
    check_refused(server, b"\x01", A.RECORD_OVERFLOW)


def test_a_plain_record_over_16384_bytes_is_refused() -> None:
    server = ServerEngine(server_config())
    check_refused(server, plain_record(bytes(16_385)), A.RECORD_OVERFLOW)


def test_a_protected_record_holds_16384_bytes_and_not_one_more() -> None:
    pair = open_pair()
    pair.server.receive_data(forged(pair.client, ContentType.APPLICATION_DATA, bytes(16_384)))
    assert events_of(pair.server) == [ApplicationData(bytes(16_384))]
    record = forged(pair.client, ContentType.APPLICATION_DATA, bytes(16_385))
    check_refused(pair.server, record, A.RECORD_OVERFLOW)


def test_a_record_of_zeros_is_refused() -> None:
    pair = open_pair()
    record = forged(pair.client, 0, bytes(100))
    check_refused(pair.server, record, A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("content_type", [0x14, 0x18, 0xFF])
def test_an_unknown_type_inside_a_record_is_refused(content_type: int) -> None:
    pair = open_pair()
    check_refused(pair.server, forged(pair.client, content_type, b"x"), A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("content_type", [0x16, 0x17])
def test_a_record_in_the_clear_on_an_open_session_is_refused(content_type: int) -> None:
    pair = open_pair()
    alert = A.UNEXPECTED_MESSAGE if content_type == ContentType.HANDSHAKE else A.BAD_RECORD_MAC
    check_refused(pair.server, plain_record(b"hello", content_type), alert)


def test_a_protected_record_before_any_key_is_refused() -> None:
    check_refused(
        ServerEngine(server_config()), plain_record(bytes(50), 0x17), A.UNEXPECTED_MESSAGE
    )


def test_an_empty_handshake_record_is_refused() -> None:
    check_refused(ServerEngine(server_config()), plain_record(b""), A.UNEXPECTED_MESSAGE)
    pair = open_pair()
    record = forged(pair.client, ContentType.HANDSHAKE, b"")
    check_refused(pair.server, record, A.UNEXPECTED_MESSAGE)


def test_a_hello_in_many_records_is_joined() -> None:
    server = ServerEngine(server_config())
    message = seal(HELLO)[5:]
    for start in range(0, len(message), 10):
        server.receive_data(plain_record(message[start : start + 10]))
    assert server.records_to_send()


def test_a_record_between_the_pieces_of_a_message_is_refused() -> None:
    client = ClientEngine(client_config())
    client.start()
    client.data_to_send()
    client.receive_data(plain_record(b"\x02\x00"))
    check_refused(client, CHANGE_CIPHER_SPEC, A.UNEXPECTED_MESSAGE)
    pair = open_pair()
    pair.server.receive_data(forged(pair.client, ContentType.HANDSHAKE, b"\x18\x00"))
    record = forged(pair.client, ContentType.APPLICATION_DATA, b"data")
    check_refused(pair.server, record, A.UNEXPECTED_MESSAGE)


def test_a_message_behind_a_key_change_in_one_record_is_refused() -> None:
    server = ServerEngine(server_config())
    check_refused(server, plain_record(seal(HELLO)[5:] + b"\x14"), A.UNEXPECTED_MESSAGE)
    pair = EnginePair.make()
    pair.client.start()
    pair.server.receive_data(pair.client.data_to_send())
    server_hello, *_ = pair.server.records_to_send()
    check_refused(pair.client, plain_record(server_hello[5:] + b"\x08"), A.UNEXPECTED_MESSAGE)
    pair = EnginePair.make()
    pair.client.start()
    pair.server.receive_data(pair.client.data_to_send())
    server = session_of(pair.server)
    protection = server.reader._protection
    pair.client.receive_data(pair.server.data_to_send())
    *_, finished = pair.client.records_to_send()
    message = protection.unprotect(0, finished[:5], finished[5:])[1]
    record = protection.protect(0, ContentType.HANDSHAKE, message + b"\x18", 0)
    check_refused(pair.server, record, A.UNEXPECTED_MESSAGE)
    pair = open_pair()
    update = KeyUpdate(KeyUpdateRequest.UPDATE_NOT_REQUESTED).encode()
    record = forged(pair.client, ContentType.HANDSHAKE, update + update)
    check_refused(pair.server, record, A.UNEXPECTED_MESSAGE)


def test_an_oversize_message_is_refused_at_its_header() -> None:
    server = ServerEngine(server_config())
    server.receive_data(plain_record(bytes.fromhex("0100FFFC")))
    assert not server.is_closed
    for header in ("01010000", "0100FFFD"):
        server = ServerEngine(server_config())
        check_refused(server, plain_record(bytes.fromhex(header)), A.ILLEGAL_PARAMETER)


def test_application_data_before_finished_is_refused() -> None:
    pair = EnginePair.make()
    pair.client.start()
    pair.server.receive_data(pair.client.data_to_send())
    pair.client.receive_data(pair.server.data_to_send())
    pair.client.send_data(b"too early")
    *_, data = pair.client.records_to_send()
    check_refused(pair.server, data, A.BAD_RECORD_MAC)


def test_a_replayed_or_lost_record_is_refused() -> None:
    pair = open_pair()
    pair.client.send_data(b"one")
    pair.client.send_data(b"two")
    one, two = pair.client.records_to_send()
    check_refused(pair.server, two, A.BAD_RECORD_MAC)
    other = open_pair()
    other.server.receive_data(one)
    check_refused(other.server, one, A.BAD_RECORD_MAC)


def test_refused_early_data_is_skipped_before_finished() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(with_extensions(HELLO, {ExtensionType.EARLY_DATA: b""})))
    server.receive_data(plain_record(bytes(60), 0x17) * 5)
    assert not server.is_closed


def test_early_data_has_a_limit() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(with_extensions(HELLO, {ExtensionType.EARLY_DATA: b""})))
    server.receive_data(plain_record(bytes(16_384), 0x17) * 2)
    check_refused(server, plain_record(bytes(60), 0x17), A.BAD_RECORD_MAC)


@pytest.mark.parametrize("body", [b"", b"x"])
def test_small_records_of_early_data_count_with_their_headers(body: bytes) -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(with_extensions(HELLO, {ExtensionType.EARLY_DATA: b""})))
    record = plain_record(body, 0x17)
    server.receive_data(record * (32_768 // len(record)))
    check_refused(server, record * 2, A.BAD_RECORD_MAC)


def test_nothing_is_skipped_after_the_first_record_that_opens() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(with_extensions(HELLO, {ExtensionType.EARLY_DATA: b""})))
    part = session_of(server).reader._protection.protect(0, ContentType.HANDSHAKE, b"\x14\x00", 0)
    server.receive_data(plain_record(bytes(60), 0x17) + part)
    check_refused(server, plain_record(bytes(60), 0x17), A.BAD_RECORD_MAC)
