# SPDX-License-Identifier: Apache-2.0
"""ClientHellos a server must refuse, each with the alert it gets, next to one it takes."""

from contextlib import suppress
from dataclasses import replace

import pytest

from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.tls import PreSharedKey, ServerEngine, TlsPeerError
from iose.tls.constants import (
    AlertDescription,
    CipherSuite,
    ExtensionType,
    HandshakeType,
    NamedGroup,
)
from iose.tls.extensions import (
    ClientVersions,
    MaxFragmentLength,
    ProtocolNames,
    RecordSizeLimit,
    ServerName,
)
from iose.tls.key_extensions import (
    ClientShares,
    KeyShareEntry,
    OfferedPsks,
    PskIdentity,
    PskModes,
    SupportedGroups,
)
from iose.tls.messages import ClientHello, ServerHello, encode_message
from tests.support.engine_pair import PSK, client_config, server_config
from tests.unit.tls.forge import check_refused, hello_of, plain_record, seal, with_extensions

HELLO = hello_of()
POINT = ClientShares.decode(HELLO.extensions[ExtensionType.KEY_SHARE]).entries[0].key_exchange
A = AlertDescription
E = ExtensionType
P256 = NamedGroup.SECP256R1


def share(*entries: tuple[int, bytes]) -> bytes:
    return ClientShares(tuple(KeyShareEntry(*entry) for entry in entries)).encode()


def test_the_honest_hello_is_taken() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(HELLO))
    assert len(server.records_to_send()) == 4


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({E.SUPPORTED_VERSIONS: None}, A.PROTOCOL_VERSION),
        ({E.SUPPORTED_VERSIONS: ClientVersions((0x0303, 0x0302)).encode()}, A.PROTOCOL_VERSION),
        ({E.SUPPORTED_VERSIONS: b""}, A.DECODE_ERROR),
        ({E.SUPPORTED_VERSIONS: b"\x03\x03\x04\x03"}, A.DECODE_ERROR),
        ({E.PSK_KEY_EXCHANGE_MODES: None}, A.MISSING_EXTENSION),
        ({E.PSK_KEY_EXCHANGE_MODES: PskModes((0,)).encode()}, A.HANDSHAKE_FAILURE),
        ({E.PSK_KEY_EXCHANGE_MODES: PskModes((7,)).encode()}, A.HANDSHAKE_FAILURE),
        ({E.PSK_KEY_EXCHANGE_MODES: b"\x00"}, A.DECODE_ERROR),
        ({E.SUPPORTED_GROUPS: None}, A.MISSING_EXTENSION),
        ({E.KEY_SHARE: None}, A.MISSING_EXTENSION),
        ({E.KEY_SHARE: None, E.SUPPORTED_GROUPS: None}, A.MISSING_EXTENSION),
        ({E.SUPPORTED_GROUPS: SupportedGroups((0x0018,)).encode()}, A.ILLEGAL_PARAMETER),
        ({E.SUPPORTED_GROUPS: b"\x00\x00"}, A.DECODE_ERROR),
        ({E.SUPPORTED_GROUPS: b"\x00\x03\x00\x17\x00"}, A.DECODE_ERROR),
        ({E.KEY_SHARE: share((P256, POINT), (P256, POINT))}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: share((0x9999, b"x"))}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: share((P256, POINT[:-1]))}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: share((P256, POINT[:-1] + b"\x00"))}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: share((P256, b"\x02" + POINT[1:33]))}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: share((NamedGroup.X25519, bytes(32)))}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: share((NamedGroup.X25519, bytes(31)))}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: share((NamedGroup.X25519_MLKEM768, bytes(1216)))}, A.ILLEGAL_PARAMETER),
        ({E.KEY_SHARE: share((NamedGroup.SECP256R1_MLKEM768, bytes(1249)))}, A.ILLEGAL_PARAMETER),
        (
            {E.KEY_SHARE: share((NamedGroup.X25519_MLKEM768, b"\xff" * 1216))},
            A.ILLEGAL_PARAMETER,
        ),
        ({E.KEY_SHARE: share((P256, b""))}, A.DECODE_ERROR),
        ({E.SERVER_NAME: b"\x00\x00"}, A.DECODE_ERROR),
        ({E.SERVER_NAME: b"\x00\x03\x00\x00\x00"}, A.DECODE_ERROR),
        ({E.SERVER_NAME: b"\x00\x04\x01\x00\x01a"}, A.ILLEGAL_PARAMETER),
        ({E.SERVER_NAME: b"\x00\x08\x00\x00\x01a\x00\x00\x01b"}, A.ILLEGAL_PARAMETER),
        ({E.SERVER_NAME: b"\x00\x04\x00\x00\x01\xe9"}, A.ILLEGAL_PARAMETER),
        ({E.SERVER_NAME: ServerName("other.com").encode()}, A.UNRECOGNIZED_NAME),
        ({E.ALPN: ProtocolNames((b"coap",)).encode()}, A.NO_APPLICATION_PROTOCOL),
        ({E.ALPN: b"\x00\x01\x00"}, A.DECODE_ERROR),
        ({E.MAX_FRAGMENT_LENGTH: b"\x05"}, A.ILLEGAL_PARAMETER),
        ({E.MAX_FRAGMENT_LENGTH: b""}, A.DECODE_ERROR),
        ({E.EARLY_DATA: b"\x00"}, A.DECODE_ERROR),
    ],
)
def test_a_hello_with_a_bad_extension_is_refused(
    changes: dict[int, bytes | None], alert: AlertDescription
) -> None:
    server = ServerEngine(server_config(server_names=("key1.com",), alpn_protocols=(b"http/1.1",)))
    check_refused(server, seal(with_extensions(HELLO, changes)), alert)


@pytest.mark.parametrize("body", [RecordSizeLimit(63).encode(), RecordSizeLimit(0).encode()])
def test_a_record_size_limit_under_64_is_refused(body: bytes) -> None:
    hello = with_extensions(HELLO, {E.RECORD_SIZE_LIMIT: body})
    check_refused(
        ServerEngine(server_config(record_size_limit=500)), seal(hello), A.ILLEGAL_PARAMETER
    )


@pytest.mark.parametrize(
    "changes",
    [
        {E.SERVER_NAME: ServerName("KEY1.com").encode()},
        {E.ALPN: ProtocolNames((b"coap", b"http/1.1")).encode()},
        {E.MAX_FRAGMENT_LENGTH: MaxFragmentLength(1).encode()},
        {E.COOKIE: b"\x00\x01x"},
        {0x1234: b"unknown"},
        {E.PSK_KEY_EXCHANGE_MODES: PskModes((7, 1)).encode()},
        {E.SUPPORTED_VERSIONS: ClientVersions((0x7F1C, 0x0304)).encode()},
        {E.PADDING: bytes(200)},
        {E.EARLY_DATA: b""},
        {E.RECORD_SIZE_LIMIT: RecordSizeLimit(0xFFFF).encode()},
    ],
)
def test_a_hello_with_a_good_extension_is_taken(changes: dict[int, bytes | None]) -> None:
    server = ServerEngine(
        server_config(
            server_names=("key1.com",), alpn_protocols=(b"http/1.1",), record_size_limit=500
        )
    )
    server.receive_data(seal(with_extensions(HELLO, changes)))
    assert not server.is_closed


@pytest.mark.parametrize(
    ("hello", "alert"),
    [
        (replace(HELLO, cipher_suites=(0x1302, 0x00FF)), A.HANDSHAKE_FAILURE),
        (replace(HELLO, legacy_version=0x0300), A.PROTOCOL_VERSION),
        (replace(HELLO, compression_methods=b"\x01\x00"), A.ILLEGAL_PARAMETER),
        (replace(HELLO, compression_methods=b"\x01"), A.ILLEGAL_PARAMETER),
        (replace(HELLO, extensions={}), A.PROTOCOL_VERSION),
    ],
)
def test_a_hello_with_a_bad_field_is_refused(hello: ClientHello, alert: AlertDescription) -> None:
    check_refused(ServerEngine(server_config()), seal(hello), alert)


@pytest.mark.parametrize("version", [0x0301, 0x0302, 0x0303, 0x0304])
def test_legacy_version_is_ignored_where_versions_are_listed(version: int) -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(replace(HELLO, legacy_version=version)))
    assert not server.is_closed


def test_a_share_is_not_asked_for_where_retry_is_off() -> None:
    hello = with_extensions(HELLO, {E.KEY_SHARE: share()})
    server = ServerEngine(server_config(hello_retry_request=False))
    check_refused(server, seal(hello), A.HANDSHAKE_FAILURE)


def test_no_group_in_common_is_refused() -> None:
    server = ServerEngine(server_config(groups=(NamedGroup.X25519,)))
    hello = hello_of(client_config(groups=(P256,)))
    check_refused(server, seal(hello), A.HANDSHAKE_FAILURE)


def test_modes_may_be_absent_where_the_configuration_says_so() -> None:
    hello = with_extensions(HELLO, {E.PSK_KEY_EXCHANGE_MODES: None})
    server = ServerEngine(server_config(check_psk_modes=False))
    server.receive_data(seal(hello))
    assert not server.is_closed


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({E.SIGNATURE_ALGORITHMS: b"\x00\x02\x04\x03"}, A.HANDSHAKE_FAILURE),
        (
            {E.SIGNATURE_ALGORITHMS: b"\x00\x02\x04\x03", E.SUPPORTED_GROUPS: None},
            A.MISSING_EXTENSION,
        ),
        ({}, A.MISSING_EXTENSION),
    ],
)
def test_a_hello_without_psk_is_refused(
    changes: dict[int, bytes | None], alert: AlertDescription
) -> None:
    hello = with_extensions(HELLO, {E.PRE_SHARED_KEY: None, **changes})
    check_refused(ServerEngine(server_config()), plain_record(hello.encode()), alert)


def test_a_psk_that_is_not_last_is_refused() -> None:
    extensions = {**HELLO.extensions, 0x1234: b""}
    check_refused(
        ServerEngine(server_config()),
        seal(replace(HELLO, extensions=extensions)),
        A.ILLEGAL_PARAMETER,
    )


TWO_BINDERS = "1f" + "00" * 31 + "20" + "00" * 32


def test_an_extension_that_comes_twice_is_refused() -> None:
    encoded = HELLO.encode()
    size = sum(4 + len(body) for body in HELLO.extensions.values())
    fields, extensions = encoded[4 : -size - 2], encoded[-size:]
    extensions += bytes.fromhex("002D00020101")
    body = fields + len(extensions).to_bytes(2, "big") + extensions
    message = encode_message(HandshakeType.CLIENT_HELLO, body)
    check_refused(ServerEngine(server_config()), plain_record(message), A.ILLEGAL_PARAMETER)


@pytest.mark.parametrize(
    "psks",
    [
        "0015000f436c69656e745f6964656e7469747900000000",
        "0000" + "0021" + "20" + "00" * 32,
        "0007" + "0000" + "00000000" + "00" + "0021" + "20" + "00" * 32,
        "0015000f436c69656e745f6964656e7469747900000000" + "0020" + "1f" + "00" * 31,
        "0015000f436c69656e745f6964656e7469747900000000" + "0021" + "20" + "00" * 32 + "00",
        "0010" + "00026162" + "00000000" + "00026364" + "00000000" + "0041" + TWO_BINDERS,
    ],
)
def test_a_psk_offer_outside_its_syntax_is_refused(psks: str) -> None:
    hello = replace(HELLO, extensions={**HELLO.extensions, E.PRE_SHARED_KEY: bytes.fromhex(psks)})
    check_refused(ServerEngine(server_config()), plain_record(hello.encode()), A.DECODE_ERROR)


def test_more_binders_than_identities_are_refused() -> None:
    psks = "0015000f436c69656e745f6964656e7469747900000000" + "0042" + ("20" + "00" * 32) * 2
    hello = replace(HELLO, extensions={**HELLO.extensions, E.PRE_SHARED_KEY: bytes.fromhex(psks)})
    check_refused(ServerEngine(server_config()), plain_record(hello.encode()), A.ILLEGAL_PARAMETER)


def test_the_right_identity_in_second_place_is_selected() -> None:
    server = ServerEngine(server_config())
    server.receive_data(seal(HELLO, (b"another", b"Client_identity")))
    assert bytes.fromhex("002900020001") in server.records_to_send()[0]


LONG = PreSharedKey(b"long", bytes(48), HashAlgorithm.SHA384)
BOTH_HASHES = (CipherSuite.TLS_AES_256_GCM_SHA384, CipherSuite.TLS_AES_128_CCM_SHA256)


def test_an_identity_whose_hash_goes_with_no_common_suite_is_passed_over() -> None:
    server = ServerEngine(server_config(LONG, PSK, suites=BOTH_HASHES))
    server.receive_data(seal(HELLO, (b"long", b"Client_identity")))
    assert bytes.fromhex("002900020001") in server.records_to_send()[0]


@pytest.mark.parametrize("identity", [b"long", b"nobody"])
def test_an_identity_of_another_hash_looks_like_an_unknown_one(identity: bytes) -> None:
    server = ServerEngine(server_config(LONG, PSK, suites=BOTH_HASHES))
    check_refused(server, seal(HELLO, (identity,)), A.DECRYPT_ERROR)


def test_the_suite_goes_with_the_hash_of_the_identity() -> None:
    server = ServerEngine(server_config(LONG, PSK, suites=BOTH_HASHES))
    server.receive_data(seal(replace(HELLO, cipher_suites=(0x1302, 0x1304))))
    assert ServerHello.decode(server.records_to_send()[0][9:]).cipher_suite == 0x1304


class CountingCrypto(PycaCrypto):
    """Remembers the hash of each MAC."""

    def __init__(self) -> None:
        self.macs: list[HashAlgorithm] = []

    def hmac(self, algorithm: HashAlgorithm, key: bytes, data: bytes) -> bytes:
        self.macs.append(algorithm)
        return super().hmac(algorithm, key, data)


def counting_server(*psks: PreSharedKey, **settings: object) -> tuple[ServerEngine, CountingCrypto]:
    crypto = CountingCrypto()
    config = server_config(*psks, **settings)
    return ServerEngine(replace(config, engine=replace(config.engine, crypto=crypto))), crypto


@pytest.mark.parametrize(("size", "known"), [(32, b"Client_identity"), (48, b"long")])
def test_an_unknown_identity_costs_what_its_binder_suggests(size: int, known: bytes) -> None:
    work: list[list[HashAlgorithm]] = []
    for identity in (known, b"nobody"):
        server, crypto = counting_server(PSK, LONG, suites=BOTH_HASHES)
        psks = OfferedPsks((PskIdentity(identity),), (bytes(size),)).encode()
        hello = replace(HELLO, cipher_suites=BOTH_HASHES)
        hello = replace(hello, extensions={**hello.extensions, E.PRE_SHARED_KEY: psks})
        check_refused(server, plain_record(hello.encode()), A.DECRYPT_ERROR)
        work.append(crypto.macs)
    assert work[0] == work[1] == [work[0][0]] * 5  # four of the key, one binder
    assert work[0][0].digest_size == size


def test_a_hello_full_of_identities_costs_one_binder() -> None:
    server, crypto = counting_server()
    message = seal(HELLO, tuple(b"%03d" % number for number in range(1_000)))[5:]
    *pieces, last = (message[start : start + 16_384] for start in range(0, len(message), 16_384))
    for piece in pieces:
        server.receive_data(plain_record(piece))
    check_refused(server, plain_record(last), A.DECRYPT_ERROR)
    assert len(crypto.macs) == 5


def test_wrong_identity_and_wrong_binder_look_alike() -> None:
    unknown = ServerEngine(server_config())
    check_refused(unknown, seal(HELLO, (b"Client_identitx",)), A.DECRYPT_ERROR)
    wrong = ServerEngine(server_config())
    record = bytearray(seal(HELLO))
    record[-1] ^= 1
    check_refused(wrong, bytes(record), A.DECRYPT_ERROR)


@pytest.mark.parametrize("size", [33, 48])
@pytest.mark.parametrize("identity", [b"Client_identity", b"Client_identitx"])
def test_a_binder_of_another_size_is_a_wrong_one(size: int, identity: bytes) -> None:
    psks = OfferedPsks((PskIdentity(identity),), (bytes(size),))
    hello = replace(HELLO, extensions={**HELLO.extensions, E.PRE_SHARED_KEY: psks.encode()})
    check_refused(ServerEngine(server_config()), plain_record(hello.encode()), A.DECRYPT_ERROR)


def test_a_flipped_bit_under_the_binder_alone_is_a_wrong_binder() -> None:
    record = seal(HELLO)
    random_and_session_id = [*range(11, 43), *range(44, 76)]
    point = record.index(POINT)
    identity = record.index(b"Client_identity")
    opaque = [*range(point, point + 65), *range(identity, len(record) - 35)]
    binder = [*range(len(record) - 32, len(record))]
    for position in random_and_session_id + opaque + binder:
        changed = bytearray(record)
        changed[position] ^= 0x01
        check_refused(ServerEngine(server_config()), bytes(changed), A.DECRYPT_ERROR)


@pytest.mark.parametrize(
    ("position", "bit", "alert"),
    [
        (0, 0x01, A.UNEXPECTED_MESSAGE),  # application data
        (0, 0x02, A.UNEXPECTED_MESSAGE),  # change_cipher_spec
        (0, 0x80, A.UNEXPECTED_MESSAGE),  # unknown
        (3, 0x80, A.RECORD_OVERFLOW),
        (5, 0x01, A.UNEXPECTED_MESSAGE),  # hello_request
        (5, 0x03, A.UNEXPECTED_MESSAGE),  # server_hello
        (6, 0x01, A.ILLEGAL_PARAMETER),  # 65 536 bytes more
        (8, 0x01, A.UNEXPECTED_MESSAGE),  # one byte less, and one left over
        (43, 0x01, A.DECODE_ERROR),  # a session id of 33 bytes
        (77, 0x01, A.DECODE_ERROR),  # an odd size of suites
        (-33, 0x01, A.DECODE_ERROR),  # a binder of 33 bytes
    ],
)
def test_a_flipped_bit_of_the_syntax_has_its_alert(
    position: int, bit: int, alert: AlertDescription
) -> None:
    changed = bytearray(seal(HELLO))
    changed[position] ^= bit
    check_refused(ServerEngine(server_config()), bytes(changed), alert)


def test_no_flipped_bit_of_a_hello_goes_unseen() -> None:
    record = seal(HELLO)
    ignored_version = (1, 2)
    for position in range(len(record)):
        for bit in (0x01, 0x80) if position not in ignored_version else ():
            changed = bytearray(record)
            changed[position] ^= bit
            server = ServerEngine(server_config())
            with suppress(TlsPeerError):
                server.receive_data(bytes(changed))
                # a longer length makes the server wait for what never comes
                assert not server.is_closed
            assert server.is_closed == bool(server.records_to_send())
            assert not server.is_open


def test_every_truncation_of_a_hello_is_refused() -> None:
    message = seal(HELLO)[5:]
    without_extensions = 4 + 2 + 32 + 33 + 10 + 2
    for size in range(4, len(message)):
        shorter = encode_message(HandshakeType.CLIENT_HELLO, message[4:size])
        # a cut behind the compression methods leaves a hello of TLS 1.2
        expected = A.PROTOCOL_VERSION if size == without_extensions else A.DECODE_ERROR
        check_refused(ServerEngine(server_config()), plain_record(shorter), expected)
