# SPDX-License-Identifier: Apache-2.0
"""The ClientHello after a HelloRetryRequest, as the server checks it (RFC 8446 §4.1.2)."""

from dataclasses import replace

import pytest

from iose.crypto.base import HashAlgorithm
from iose.tls import PreSharedKey, ServerEngine
from iose.tls.constants import AlertDescription, CipherSuite, ExtensionType, NamedGroup
from iose.tls.key_extensions import ClientShares, KeyShareEntry, OfferedPsks, PskIdentity
from iose.tls.messages import ClientHello
from iose.tls.transcript import Transcript
from tests.support.engine_pair import PSK, client_config, server_config
from tests.unit.tls.forge import check_refused, hello_of, plain_record, seal, with_extensions
from tests.unit.tls.traces import CRYPTO

A = AlertDescription
E = ExtensionType
GROUPS = (NamedGroup.X25519, NamedGroup.SECP256R1)
LONG = PreSharedKey(b"long", bytes(48), HashAlgorithm.SHA384)
FIRST = hello_of(client_config(groups=GROUPS))
POINT = ClientShares.decode(hello_of().extensions[E.KEY_SHARE]).entries[0].key_exchange
SHARE = ClientShares((KeyShareEntry(NamedGroup.SECP256R1, POINT),)).encode()


class RetriedServer:
    """A server that has asked for a share on P-256."""

    def __init__(self, first: ClientHello = FIRST) -> None:
        self.engine = ServerEngine(server_config(groups=(NamedGroup.SECP256R1,)))
        first_record = seal(first)
        self.engine.receive_data(first_record)
        self.retry, *_ = self.engine.records_to_send()
        self.transcript = Transcript(CRYPTO, PSK.hash)
        self.transcript.update(first_record[5:])
        self.transcript.replace_with_message_hash()
        self.transcript.update(self.retry[5:])

    def seal(self, hello: ClientHello) -> bytes:
        """Return a second ClientHello with the right binder."""
        body = hello.extensions[E.PRE_SHARED_KEY]
        psks = OfferedPsks.decode(body)
        encoded = hello.encode()
        early = PSK.early_secret(CRYPTO)
        assert early is not None
        self.transcript.update(encoded[: -psks.binders_size])
        binder = early.derive_binder(self.transcript.digest())
        return plain_record(encoded[: -len(binder)] + binder)


SECOND = with_extensions(FIRST, {E.KEY_SHARE: SHARE})


def test_the_share_asked_for_is_taken() -> None:
    server = RetriedServer()
    server.engine.receive_data(server.seal(SECOND))
    # change_cipher_spec went out with the retry request
    assert [record[0] for record in server.engine.records_to_send()] == [22, 23, 23]


def test_padding_may_change() -> None:
    server = RetriedServer(with_extensions(FIRST, {E.PADDING: bytes(9)}))
    server.engine.receive_data(server.seal(SECOND))
    assert not server.engine.is_closed


@pytest.mark.parametrize(
    "hello",
    [
        FIRST,
        with_extensions(SECOND, {E.KEY_SHARE: ClientShares(()).encode()}),
        with_extensions(SECOND, {E.KEY_SHARE: None}),
        with_extensions(
            SECOND,
            {
                E.KEY_SHARE: ClientShares(
                    (
                        KeyShareEntry(NamedGroup.SECP256R1, POINT),
                        KeyShareEntry(NamedGroup.X25519, bytes(32)),
                    )
                ).encode()
            },
        ),
        replace(SECOND, random=bytes(32)),
        replace(SECOND, session_id=b""),
        replace(SECOND, cipher_suites=(0x1304,)),
        replace(SECOND, legacy_version=0x0302),
        with_extensions(SECOND, {E.EARLY_DATA: b""}),
        with_extensions(SECOND, {E.COOKIE: b"\x00\x01x"}),
        with_extensions(SECOND, {E.ALPN: b"\x00\x02\x01x"}),
        with_extensions(SECOND, {E.SUPPORTED_GROUPS: b"\x00\x02\x00\x17"}),
        with_extensions(SECOND, {E.PSK_KEY_EXCHANGE_MODES: b"\x02\x01\x00"}),
    ],
)
def test_any_other_change_is_refused(hello: ClientHello) -> None:
    server = RetriedServer()
    check_refused(server.engine, server.seal(hello), A.ILLEGAL_PARAMETER)


def test_the_binder_covers_both_hellos() -> None:
    server = RetriedServer()
    other = RetriedServer(with_extensions(FIRST, {E.PADDING: bytes(1)}))
    check_refused(server.engine, other.seal(SECOND), A.DECRYPT_ERROR)


def test_the_binder_of_the_first_hello_is_checked_before_the_retry() -> None:
    server = ServerEngine(server_config(groups=(NamedGroup.SECP256R1,)))
    record = bytearray(seal(FIRST))
    record[-1] ^= 1
    check_refused(server, bytes(record), A.DECRYPT_ERROR)


def test_early_data_is_skipped_between_the_hellos() -> None:
    server = RetriedServer(with_extensions(FIRST, {E.EARLY_DATA: b""}))
    server.engine.receive_data(plain_record(bytes(500), 23) * 3)
    server.engine.receive_data(server.seal(SECOND))
    assert not server.engine.is_closed
    assert server.engine.records_to_send()


def test_early_data_in_the_middle_of_the_second_hello_is_refused() -> None:
    server = RetriedServer(with_extensions(FIRST, {E.EARLY_DATA: b""}))
    server.engine.receive_data(plain_record(server.seal(SECOND)[5:100]))
    check_refused(server.engine, plain_record(bytes(500), 23), A.UNEXPECTED_MESSAGE)


def test_nothing_is_skipped_after_the_second_hello() -> None:
    server = RetriedServer(with_extensions(FIRST, {E.EARLY_DATA: b""}))
    server.engine.receive_data(plain_record(bytes(500), 23) + server.seal(SECOND))
    check_refused(server.engine, plain_record(bytes(500), 23), A.BAD_RECORD_MAC)


def test_early_data_that_was_not_announced_is_refused() -> None:
    server = RetriedServer()
    check_refused(server.engine, plain_record(bytes(500), 23), A.UNEXPECTED_MESSAGE)


def test_too_much_early_data_is_refused() -> None:
    server = RetriedServer(with_extensions(FIRST, {E.EARLY_DATA: b""}))
    for _ in range(2):
        server.engine.receive_data(plain_record(bytes(16_384), 23))
    check_refused(server.engine, plain_record(bytes(1), 23), A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("identity", [b"guest", b"long", b"nobody"])
def test_another_identity_in_the_second_hello_is_refused(identity: bytes) -> None:
    suites = (CipherSuite.TLS_AES_128_CCM_SHA256, CipherSuite.TLS_AES_256_GCM_SHA384)
    first = replace(FIRST, cipher_suites=suites)
    guest = PreSharedKey(b"guest", PSK.key)
    server = ServerEngine(
        server_config(PSK, guest, LONG, groups=(NamedGroup.SECP256R1,), suites=suites)
    )
    server.receive_data(seal(first))
    assert server.records_to_send()
    psks = OfferedPsks((PskIdentity(identity),), (bytes(32),)).encode()
    second = with_extensions(first, {E.KEY_SHARE: SHARE})
    second = replace(second, extensions={**second.extensions, E.PRE_SHARED_KEY: psks})
    check_refused(server, plain_record(second.encode()), A.ILLEGAL_PARAMETER)
