# SPDX-License-Identifier: Apache-2.0
"""Answers of a server that a client must refuse, each with its alert, next to one it takes."""

from dataclasses import replace

import pytest

from iose.tls import ClientEngine, TlsPeerError
from iose.tls.constants import (
    HELLO_RETRY_RANDOM,
    AlertDescription,
    ContentType,
    ExtensionType,
    HandshakeType,
    NamedGroup,
)
from iose.tls.extensions import (
    Cookie,
    MaxFragmentLength,
    ProtocolNames,
    RecordSizeLimit,
    SelectedNumber,
)
from iose.tls.key_extensions import KeyShareEntry, SupportedGroups
from iose.tls.messages import EncryptedExtensions, Finished, ServerHello, encode_message
from tests.support.engine_pair import EnginePair, client_config, server_config
from tests.unit.tls.forge import ForgedServer, check_refused, plain_record, session_of

A = AlertDescription
E = ExtensionType
P256 = NamedGroup.SECP256R1


def changed(hello: ServerHello, changes: dict[int, bytes | None]) -> ServerHello:
    extensions = {kind: body for kind, body in hello.extensions.items() if kind not in changes}
    extensions.update({kind: body for kind, body in changes.items() if body is not None})
    return replace(hello, extensions=extensions)


def test_the_honest_answer_is_taken() -> None:
    server = ForgedServer()
    server.accept()
    assert not server.client.is_closed


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({E.SUPPORTED_VERSIONS: None}, A.PROTOCOL_VERSION),
        ({E.SUPPORTED_VERSIONS: SelectedNumber(0x0303).encode()}, A.ILLEGAL_PARAMETER),
        ({E.SUPPORTED_VERSIONS: b"\x03"}, A.DECODE_ERROR),
        ({E.PRE_SHARED_KEY: None}, A.HANDSHAKE_FAILURE),
        ({E.PRE_SHARED_KEY: SelectedNumber(1).encode()}, A.ILLEGAL_PARAMETER),
        ({E.PRE_SHARED_KEY: b"\x00\x00\x00"}, A.DECODE_ERROR),
        ({E.KEY_SHARE: None}, A.MISSING_EXTENSION),
        ({E.KEY_SHARE: KeyShareEntry(NamedGroup.X25519, bytes(32)).encode()}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: KeyShareEntry(P256, bytes(65)).encode()}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: KeyShareEntry(P256, b"").encode()}, A.DECODE_ERROR),
        ({E.COOKIE: Cookie(b"x").encode()}, A.UNSUPPORTED_EXTENSION),
        ({E.EARLY_DATA: b""}, A.UNSUPPORTED_EXTENSION),
        ({0x1234: b""}, A.UNSUPPORTED_EXTENSION),
        ({E.SUPPORTED_GROUPS: SupportedGroups((P256,)).encode()}, A.ILLEGAL_PARAMETER),
    ],
)
def test_a_server_hello_with_a_bad_extension_is_refused(
    changes: dict[int, bytes | None], alert: AlertDescription
) -> None:
    server = ForgedServer()
    hello = changed(server.hello(), changes)
    check_refused(server.client, plain_record(hello.encode()), alert)


@pytest.mark.parametrize("group", [NamedGroup.X25519, 0x0018])
def test_a_share_under_the_name_of_another_group_is_refused(group: int) -> None:
    server = ForgedServer()
    share = KeyShareEntry.decode(server.hello().extensions[E.KEY_SHARE])
    hello = changed(server.hello(), {E.KEY_SHARE: replace(share, group=group).encode()})
    check_refused(server.client, plain_record(hello.encode()), A.ILLEGAL_PARAMETER)


@pytest.mark.parametrize(
    "fields",
    [
        {"legacy_version": 0x0304},
        {"session_id": b""},
        {"session_id": bytes(32)},
        {"cipher_suite": 0x1302},
        {"cipher_suite": 0x00AE},
        {"compression_method": 1},
    ],
)
def test_a_server_hello_with_a_bad_field_is_refused(fields: dict[str, object]) -> None:
    server = ForgedServer()
    hello = replace(server.hello(), **fields)  # type: ignore[arg-type]
    check_refused(server.client, plain_record(hello.encode()), A.ILLEGAL_PARAMETER)


def test_an_answer_of_tls_1_2_is_refused() -> None:
    server = ForgedServer()
    message = server.hello().encode()
    size = sum(4 + len(body) for body in server.hello().extensions.values()) + 2
    shorter = encode_message(HandshakeType.SERVER_HELLO, message[4:-size])
    check_refused(server.client, plain_record(shorter), A.PROTOCOL_VERSION)


def test_a_psk_without_share_is_taken_where_psk_ke_is_offered() -> None:
    server = ForgedServer(allow_psk_ke=True)
    hello = changed(server.hello(), {E.KEY_SHARE: None})
    server.client.receive_data(plain_record(hello.encode()))
    assert not server.client.is_closed


RETRY_GROUP = SelectedNumber(NamedGroup.X25519).encode()


def retry_message(server: ForgedServer, changes: dict[int, bytes | None]) -> bytes:
    hello = changed(
        replace(server.hello(), random=HELLO_RETRY_RANDOM),
        {E.PRE_SHARED_KEY: None, E.KEY_SHARE: None, **changes},
    )
    return hello.encode()


def retry(server: ForgedServer, changes: dict[int, bytes | None]) -> bytes:
    return plain_record(retry_message(server, changes))


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: SelectedNumber(P256).encode()}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: SelectedNumber(0x0018).encode()}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: b"\x00"}, A.DECODE_ERROR),
        ({E.COOKIE: b"\x00\x00"}, A.DECODE_ERROR),
        ({E.KEY_SHARE: RETRY_GROUP, E.PRE_SHARED_KEY: b"\x00\x00"}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: RETRY_GROUP, E.SUPPORTED_VERSIONS: None}, A.PROTOCOL_VERSION),
        ({E.KEY_SHARE: RETRY_GROUP, 0x1234: b""}, A.UNSUPPORTED_EXTENSION),
    ],
)
def test_a_bad_retry_request_is_refused(
    changes: dict[int, bytes | None], alert: AlertDescription
) -> None:
    server = ForgedServer()
    check_refused(server.client, retry(server, changes), alert)


def test_a_cookie_is_given_back_with_the_same_share() -> None:
    server = ForgedServer()
    server.client.receive_data(retry(server, {E.COOKIE: Cookie(b"crumbs").encode()}))
    change_cipher_spec, second = server.client.records_to_send()
    assert change_cipher_spec[0] == ContentType.CHANGE_CIPHER_SPEC
    assert Cookie(b"crumbs").encode() in second
    share = server.client_hello.index(b"\x00\x17\x00\x41\x04")
    assert server.client_hello[share : share + 69] in second
    assert second[11:43] == server.client_hello[11:43]


@pytest.mark.parametrize(("size", "is_taken"), [(65_000, True), (65_400, False)])
def test_a_cookie_must_leave_room_for_the_rest_of_the_hello(size: int, *, is_taken: bool) -> None:
    server = ForgedServer()
    message = retry_message(server, {E.COOKIE: Cookie(bytes(size)).encode()})
    *pieces, last = (message[start : start + 16_384] for start in range(0, len(message), 16_384))
    for piece in pieces:
        server.client.receive_data(plain_record(piece))
    if is_taken:
        server.client.receive_data(plain_record(last))
        assert len(server.client.data_to_send()) > size
    else:
        check_refused(server.client, plain_record(last), A.ILLEGAL_PARAMETER)


def test_a_second_retry_request_is_refused() -> None:
    server = ForgedServer()
    server.client.receive_data(retry(server, {E.KEY_SHARE: RETRY_GROUP}))
    check_refused(
        server.client, retry(server, {E.COOKIE: Cookie(b"x").encode()}), A.UNEXPECTED_MESSAGE
    )


def test_a_suite_changed_after_the_retry_request_is_refused() -> None:
    server = ForgedServer()
    server.client.receive_data(retry(server, {E.KEY_SHARE: RETRY_GROUP}))
    entry = KeyShareEntry(NamedGroup.X25519, bytes(range(1, 33)))
    hello = changed(replace(server.hello(), cipher_suite=0x1301), {E.KEY_SHARE: entry.encode()})
    check_refused(server.client, plain_record(hello.encode()), A.ILLEGAL_PARAMETER)


def test_a_share_for_the_first_group_after_the_retry_request_is_refused() -> None:
    server = ForgedServer()
    server.client.receive_data(retry(server, {E.KEY_SHARE: RETRY_GROUP}))
    check_refused(server.client, server.server_hello, A.ILLEGAL_PARAMETER)


OFFER = {"server_name": "key1.com", "alpn_protocols": (b"coap",), "record_size_limit": 500}


@pytest.mark.parametrize(
    ("extensions", "alert"),
    [
        ({E.ALPN: ProtocolNames((b"http/1.1",)).encode()}, A.ILLEGAL_PARAMETER),
        ({E.ALPN: ProtocolNames((b"coap", b"coap")).encode()}, A.ILLEGAL_PARAMETER),
        ({E.ALPN: b"\x00\x00"}, A.DECODE_ERROR),
        ({E.SERVER_NAME: b"\x00"}, A.DECODE_ERROR),
        ({E.SUPPORTED_GROUPS: b""}, A.DECODE_ERROR),
        ({E.RECORD_SIZE_LIMIT: RecordSizeLimit(63).encode()}, A.ILLEGAL_PARAMETER),
        ({E.RECORD_SIZE_LIMIT: RecordSizeLimit(16_386).encode()}, A.ILLEGAL_PARAMETER),
        ({E.MAX_FRAGMENT_LENGTH: MaxFragmentLength(1).encode()}, A.UNSUPPORTED_EXTENSION),
        ({E.EARLY_DATA: b""}, A.UNSUPPORTED_EXTENSION),
        ({E.COOKIE: b"\x00\x01x"}, A.UNSUPPORTED_EXTENSION),
        ({0x1234: b""}, A.UNSUPPORTED_EXTENSION),
        ({E.KEY_SHARE: b""}, A.ILLEGAL_PARAMETER),
        ({E.SUPPORTED_VERSIONS: b"\x03\x04"}, A.ILLEGAL_PARAMETER),
        ({E.PRE_SHARED_KEY: b"\x00\x00"}, A.ILLEGAL_PARAMETER),
    ],
)
def test_bad_encrypted_extensions_are_refused(
    extensions: dict[int, bytes], alert: AlertDescription
) -> None:
    server = ForgedServer(**OFFER)
    layer = server.accept()
    message = EncryptedExtensions(extensions).encode()
    check_refused(server.client, layer.protect(ContentType.HANDSHAKE, message), alert)


@pytest.mark.parametrize(
    "extensions",
    [
        {},
        {E.ALPN: ProtocolNames((b"coap",)).encode()},
        {E.SERVER_NAME: b""},
        {E.SUPPORTED_GROUPS: SupportedGroups((0x0018, P256)).encode()},
        {E.RECORD_SIZE_LIMIT: RecordSizeLimit(16_385).encode()},
    ],
)
def test_good_encrypted_extensions_are_taken(extensions: dict[int, bytes]) -> None:
    server = ForgedServer(**OFFER)
    layer = server.accept()
    message = EncryptedExtensions(extensions).encode()
    server.client.receive_data(layer.protect(ContentType.HANDSHAKE, message))
    assert not server.client.is_closed


def test_a_cookie_has_no_place_in_encrypted_extensions() -> None:
    server = ForgedServer()
    server.client.receive_data(retry(server, {E.COOKIE: Cookie(b"crumbs").encode()}))
    server.client.receive_data(server.server_hello)
    message = EncryptedExtensions({E.COOKIE: Cookie(b"crumbs").encode()}).encode()
    record = session_of(server.client).reader._protection.protect(
        0, ContentType.HANDSHAKE, message, 0
    )
    check_refused(server.client, record, A.ILLEGAL_PARAMETER)


def test_another_fragment_length_than_offered_is_refused() -> None:
    server = ForgedServer(max_fragment_length=2)
    layer = server.accept()
    message = EncryptedExtensions({E.MAX_FRAGMENT_LENGTH: b"\x01"}).encode()
    check_refused(server.client, layer.protect(ContentType.HANDSHAKE, message), A.ILLEGAL_PARAMETER)


def test_both_record_limits_at_once_are_refused() -> None:
    server = ForgedServer(max_fragment_length=2, record_size_limit=500)
    layer = server.accept()
    both = {E.MAX_FRAGMENT_LENGTH: b"\x02", E.RECORD_SIZE_LIMIT: RecordSizeLimit(500).encode()}
    message = EncryptedExtensions(both).encode()
    check_refused(server.client, layer.protect(ContentType.HANDSHAKE, message), A.ILLEGAL_PARAMETER)


@pytest.mark.parametrize(
    "message",
    [
        encode_message(HandshakeType.CERTIFICATE_REQUEST, b"\x00\x00\x00"),
        encode_message(HandshakeType.CERTIFICATE, bytes(4)),
        encode_message(HandshakeType.CERTIFICATE_VERIFY, bytes(4)),
        encode_message(HandshakeType.NEW_SESSION_TICKET, bytes(14)),
        encode_message(HandshakeType.KEY_UPDATE, b"\x00"),
        encode_message(HandshakeType.END_OF_EARLY_DATA, b""),
        Finished(bytes(32)).encode(),
    ],
)
def test_another_message_in_place_of_encrypted_extensions_is_refused(message: bytes) -> None:
    server = ForgedServer()
    layer = server.accept()
    check_refused(
        server.client, layer.protect(ContentType.HANDSHAKE, message), A.UNEXPECTED_MESSAGE
    )


@pytest.mark.parametrize(
    ("body", "alert"),
    [(bytes(32), A.DECRYPT_ERROR), (bytes(31), A.DECODE_ERROR), (bytes(33), A.DECODE_ERROR)],
)
def test_a_bad_finished_is_refused(body: bytes, alert: AlertDescription) -> None:
    server = ForgedServer()
    layer = server.accept()
    flight = EncryptedExtensions().encode() + encode_message(HandshakeType.FINISHED, body)
    check_refused(server.client, layer.protect(ContentType.HANDSHAKE, flight), alert)


def test_encrypted_extensions_and_finished_may_share_a_record_or_be_cut() -> None:
    for size in (1, 7, 100):
        server = ForgedServer()
        layer = server.accept()
        extensions = EncryptedExtensions().encode()
        transcript = server.transcript()
        transcript.update(extensions)
        flight = extensions + Finished(server.verify_data(transcript)).encode()
        for start in range(0, len(flight), size):
            piece = flight[start : start + size]
            server.client.receive_data(layer.protect(ContentType.HANDSHAKE, piece))
        assert server.client.is_open


def client_before(flight: list[bytes], index: int) -> ClientEngine:
    """Return a client that has taken the server's records before ``index``."""
    client = ClientEngine(client_config())
    client.start()
    client.data_to_send()
    for record in flight[:index]:
        client.receive_data(record)
    return client


@pytest.mark.parametrize("index", [2, 3])
def test_every_bit_of_a_protected_record_is_authenticated(index: int) -> None:
    flight = EnginePair.make().start().server_records
    for position in range(1, len(flight[index])):
        record = bytearray(flight[index])
        record[position] ^= 0x01
        # where the length grew, the record is given what it says it has
        grown = int.from_bytes(record[3:5], "big") - len(record) + 5
        data = bytes(record) + bytes(max(grown, 0))
        check_refused(client_before(flight, index), data, A.BAD_RECORD_MAC)


@pytest.mark.parametrize("index", [2, 3])
def test_every_truncation_of_a_protected_record_is_refused(index: int) -> None:
    flight = EnginePair.make().start().server_records
    for size in range(len(flight[index]) - 5):
        shorter = flight[index][:3] + size.to_bytes(2, "big") + flight[index][5 : 5 + size]
        check_refused(client_before(flight, index), shorter, A.BAD_RECORD_MAC)


def test_a_flipped_bit_of_the_server_hello_is_refused_now_or_with_the_next_record() -> None:
    flight = EnginePair.make(server=server_config()).start().server_records
    for position in range(5, len(flight[0])):
        client = client_before(flight, 0)
        record = bytearray(flight[0])
        record[position] ^= 0x01
        with pytest.raises(TlsPeerError):
            client.receive_data(b"".join([bytes(record), *flight[1:]]))
        assert client.is_closed
