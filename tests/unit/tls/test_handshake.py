# SPDX-License-Identifier: Apache-2.0
"""Whole handshakes between our two ends: suites, groups, modes, keys that are elsewhere."""

from itertools import product

import pytest

from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.tls import PreSharedKey, TlsPeerError
from iose.tls.constants import AlertDescription, CipherSuite, NamedGroup
from iose.tls.events import (
    ApplicationData,
    BinderNeeded,
    HandshakeComplete,
    HandshakeSecretNeeded,
)
from iose.tls.key_schedule import EarlySecret, Hkdf, derive_psk_secrets
from iose.wire.errors import LocalProtocolError
from tests.support.engine_pair import (
    IDENTITY,
    KEY,
    EnginePair,
    client_config,
    events_of,
    server_config,
)

CRYPTO = PycaCrypto()
SUITES = (0x1301, 0x1303, 0x1304, 0x1305)
GROUPS = tuple(NamedGroup)
LONG_PSK = PreSharedKey(b"long", bytes(48), HashAlgorithm.SHA384)
ELSEWHERE = PreSharedKey(IDENTITY, None)


def check_open(pair: EnginePair, suite: CipherSuite, group: NamedGroup | None) -> None:
    """Check what both ends say of the handshake, and that data flows both ways."""
    for engine in (pair.client, pair.server):
        (complete,) = events_of(engine)
        assert isinstance(complete, HandshakeComplete)
        assert (complete.cipher_suite, complete.group) == (suite, group)
        assert complete.psk_identity == IDENTITY
        assert engine.is_open
    assert pair.client.handshake_secret == pair.server.handshake_secret
    check_data(pair)


def check_data(pair: EnginePair) -> None:
    pair.client.send_data(b"?00\r\n")
    pair.server.send_data(b"iose\r\n")
    pair.exchange()
    assert events_of(pair.server) == [ApplicationData(b"?00\r\n")]
    assert events_of(pair.client) == [ApplicationData(b"iose\r\n")]


@pytest.mark.parametrize(("suite", "group"), list(product(SUITES, GROUPS)))
@pytest.mark.parametrize("step", [0, 1])
def test_every_suite_meets_every_group(suite: int, group: NamedGroup, step: int) -> None:
    settings = {"suites": (CipherSuite(suite),), "groups": (group,)}
    pair = EnginePair.make(client_config(**settings), server_config(**settings), step=step)
    check_open(pair.start(), CipherSuite(suite), group)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("step", [0, 1])
def test_a_missing_share_is_asked_for(group: NamedGroup, step: int) -> None:
    first = NamedGroup.X25519 if group is not NamedGroup.X25519 else NamedGroup.SECP256R1
    pair = EnginePair.make(
        client_config(groups=(first, group)), server_config(groups=(group,)), step=step
    )
    check_open(pair.start(), CipherSuite.TLS_AES_128_CCM_SHA256, group)
    # hello, change_cipher_spec, hello, finished: each side says change_cipher_spec once
    assert len([record for record in pair.client_records if record[0] == 20]) == 1
    assert len([record for record in pair.server_records if record[0] == 20]) == 1


def test_a_psk_with_sha384_takes_the_suite_with_sha384() -> None:
    suites = (CipherSuite.TLS_AES_128_CCM_SHA256, CipherSuite.TLS_AES_256_GCM_SHA384)
    pair = EnginePair.make(
        client_config(LONG_PSK, suites=suites), server_config(LONG_PSK, suites=suites)
    ).start()
    (complete,) = events_of(pair.client)
    assert isinstance(complete, HandshakeComplete)
    assert complete.cipher_suite is CipherSuite.TLS_AES_256_GCM_SHA384
    assert len(pair.client.handshake_secret or b"") == 48
    events_of(pair.server)
    check_data(pair)


def test_the_server_takes_the_first_of_its_own_suites() -> None:
    suites = (CipherSuite.TLS_CHACHA20_POLY1305_SHA256, CipherSuite.TLS_AES_128_GCM_SHA256)
    pair = EnginePair.make(client_config(suites=suites[::-1]), server_config(suites=suites))
    check_open(pair.start(), suites[0], NamedGroup.SECP256R1)


def test_a_share_that_is_there_beats_a_better_group() -> None:
    groups = (NamedGroup.X25519, NamedGroup.SECP256R1)
    pair = EnginePair.make(client_config(groups=groups), server_config(groups=groups[::-1]))
    check_open(pair.start(), CipherSuite.TLS_AES_128_CCM_SHA256, NamedGroup.X25519)


@pytest.mark.parametrize("groups", [(), (NamedGroup.SECP256R1,)])
def test_psk_ke_works_where_both_allow_it(groups: tuple[NamedGroup, ...]) -> None:
    pair = EnginePair.make(
        client_config(groups=groups, allow_psk_ke=True),
        server_config(groups=(), allow_psk_ke=True),
    )
    check_open(pair.start(), CipherSuite.TLS_AES_128_CCM_SHA256, None)


def test_psk_dhe_ke_is_preferred_to_psk_ke() -> None:
    pair = EnginePair.make(client_config(allow_psk_ke=True), server_config(allow_psk_ke=True))
    check_open(pair.start(), CipherSuite.TLS_AES_128_CCM_SHA256, NamedGroup.SECP256R1)


def test_psk_ke_is_refused_unless_allowed() -> None:
    pair = EnginePair.make(client_config(groups=(), allow_psk_ke=True), server_config())
    pair.client.start()
    with pytest.raises(TlsPeerError) as caught:
        pair.exchange()
    assert caught.value.alert is AlertDescription.HANDSHAKE_FAILURE


def test_the_server_finds_the_identity_among_its_own() -> None:
    others = [PreSharedKey(b"guest", bytes(32)), PreSharedKey(b"root", bytes(16))]
    pair = EnginePair.make(server=server_config(*others, PreSharedKey(IDENTITY, KEY)))
    check_open(pair.start(), CipherSuite.TLS_AES_128_CCM_SHA256, NamedGroup.SECP256R1)


def test_derived_secrets_serve_without_the_key() -> None:
    secrets = derive_psk_secrets(Hkdf(CRYPTO, HashAlgorithm.SHA256), KEY)
    psk = PreSharedKey(IDENTITY, None, secrets=secrets)
    pair = EnginePair.make(client_config(psk), server_config(psk))
    check_open(pair.start(), CipherSuite.TLS_AES_128_CCM_SHA256, NamedGroup.SECP256R1)


def test_records_leave_one_message_each() -> None:
    pair = EnginePair.make().start()
    assert [record[0] for record in pair.client_records] == [22, 20, 23]
    assert [record[0] for record in pair.server_records] == [22, 20, 23, 23]
    assert pair.client_records[0][1:3] == b"\x03\x01"


def test_without_middlebox_compatibility_nothing_else_is_sent() -> None:
    quiet = {"middlebox_compatibility": False}
    pair = EnginePair.make(client_config(**quiet), server_config(**quiet)).start()
    assert [record[0] for record in pair.client_records] == [22, 23]
    assert [len(record) for record in pair.server_records] == [134, 28, 58]


def test_a_server_says_change_cipher_spec_only_to_a_session_id() -> None:
    pair = EnginePair.make(client_config(middlebox_compatibility=False)).start()
    assert [record[0] for record in pair.server_records] == [22, 23, 23]


def test_the_same_random_bytes_make_the_same_records() -> None:
    first, second = EnginePair.make().start(), EnginePair.make().start()
    assert first.client_records == second.client_records
    assert first.server_records == second.server_records


class Element:
    """Where the PSK is when it is not in the engine."""

    def __init__(self) -> None:
        hkdf = Hkdf(CRYPTO, HashAlgorithm.SHA256)
        self._early = EarlySecret(hkdf, derive_psk_secrets(hkdf, KEY))
        self.questions: list[type] = []

    def answer(self, pair: EnginePair) -> None:
        """Answer every question of both ends until neither asks nor sends."""
        asked = True
        while asked:
            pair.exchange()
            asked = False
            for engine in (pair.client, pair.server):
                while not engine.is_open and (event := engine.next_event()) is not None:
                    asked = True
                    self.questions.append(type(event))
                    if isinstance(event, BinderNeeded):
                        assert event.identity == IDENTITY
                        engine.provide_binder(self._early.derive_binder(event.transcript_hash))
                    elif isinstance(event, HandshakeSecretNeeded):
                        assert event.identity == IDENTITY
                        secret = self._early.derive_handshake_secret(event.shared_secret).secret
                        engine.provide_handshake_secret(secret)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("first", [NamedGroup.SECP256R1, NamedGroup.X25519])
def test_both_ends_work_with_a_psk_that_is_elsewhere(first: NamedGroup, step: int) -> None:
    groups = (first, NamedGroup.SECP256R1) if first is NamedGroup.X25519 else (first,)
    pair = EnginePair.make(
        client_config(ELSEWHERE, groups=groups),
        server_config(ELSEWHERE, groups=(NamedGroup.SECP256R1,)),
        step=step,
    )
    pair.client.start()
    element = Element()
    element.answer(pair)
    check_open(pair, CipherSuite.TLS_AES_128_CCM_SHA256, NamedGroup.SECP256R1)
    assert element.questions.count(BinderNeeded) == 2 * len(groups)
    assert element.questions.count(HandshakeSecretNeeded) == 2


def test_a_psk_elsewhere_makes_the_same_bytes() -> None:
    near = EnginePair.make().start()
    far = EnginePair.make(client_config(ELSEWHERE), server_config(ELSEWHERE))
    far.client.start()
    Element().answer(far)
    assert (far.client_records, far.server_records) == (near.client_records, near.server_records)


def test_answers_nobody_asked_for_are_refused() -> None:
    pair = EnginePair.make()
    for engine in (pair.client, pair.server):
        with pytest.raises(LocalProtocolError):
            engine.provide_binder(bytes(32))
        with pytest.raises(LocalProtocolError):
            engine.provide_handshake_secret(bytes(32))
    check_open(pair.start(), CipherSuite.TLS_AES_128_CCM_SHA256, NamedGroup.SECP256R1)


def test_an_answer_of_the_wrong_size_changes_nothing() -> None:
    pair = EnginePair.make(client_config(ELSEWHERE), server_config(ELSEWHERE))
    pair.client.start()
    with pytest.raises(LocalProtocolError):
        pair.client.provide_binder(bytes(31))
    Element().answer(pair)
    check_open(pair, CipherSuite.TLS_AES_128_CCM_SHA256, NamedGroup.SECP256R1)


def test_a_wrong_binder_from_elsewhere_is_refused() -> None:
    pair = EnginePair.make(server=server_config(ELSEWHERE))
    pair.client.start()
    pair.exchange()
    with pytest.raises(TlsPeerError) as caught:
        pair.server.provide_binder(bytes(32))
    assert caught.value.alert is AlertDescription.DECRYPT_ERROR
    assert pair.server.is_closed
    assert pair.server.data_to_send() == bytes.fromhex("15030300020233")


def test_questions_are_dropped_with_the_session() -> None:
    pair = EnginePair.make(server=server_config(ELSEWHERE))
    pair.client.start()
    pair.exchange()
    pair.server.close()
    assert events_of(pair.server) == []
    with pytest.raises(LocalProtocolError):
        pair.server.provide_binder(bytes(32))


def test_data_that_comes_during_a_question_waits() -> None:
    pair = EnginePair.make(client_config(), server_config(ELSEWHERE))
    pair.client.start()
    pair.exchange()
    pair.server.receive_data(bytes.fromhex("140303000101"))
    assert isinstance(pair.server.next_event(), BinderNeeded)
    assert pair.server.next_event() is None
    assert pair.server.data_to_send() == b""


def test_too_much_data_during_a_question_is_refused() -> None:
    pair = EnginePair.make(client_config(), server_config(ELSEWHERE))
    pair.client.start()
    pair.exchange()
    with pytest.raises(TlsPeerError) as caught:
        pair.server.receive_data(bytes(70_000))
    assert caught.value.alert is AlertDescription.UNEXPECTED_MESSAGE
