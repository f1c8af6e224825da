# SPDX-License-Identifier: Apache-2.0
"""Hybrid key exchange through the front: no other program speaks it yet, so both ends are ours.

The arithmetic is held to published ML-KEM vectors elsewhere; here it is about the way: a
ClientHello of more than a kilobyte, cut into APDUs, whole again in the element.
"""

import pytest

from iose.crypto.base import HashAlgorithm
from iose.tls.constants import AlertDescription, CipherSuite, NamedGroup
from tests.acceptance.wire import WireClient, assert_serves, split_records

# RFC 8446 §4.2.8; draft-ietf-tls-ecdhe-mlkem: X25519 1216 and 1120 bytes, P-256 1249 and 1153
SHARES = {
    NamedGroup.X25519_MLKEM768: (1216, 1120),
    NamedGroup.SECP256R1_MLKEM768: (1249, 1153),
}
SUITES = (
    CipherSuite.TLS_AES_128_CCM_SHA256,
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_AES_128_CCM_8_SHA256,
)


@pytest.mark.parametrize("group", SHARES, ids=lambda group: group.name)
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_hybrid_session_serves(node, group, suite):
    client_share, server_share = SHARES[group]
    with WireClient(node, node["key1.com"], groups=(group,), suites=(suite,)) as client:
        assert client.handshake(), client.alert
        assert (client.complete.group, client.complete.cipher_suite) == (group, suite)
        hello, server_hello = client.sent[0], split_records(client.received)[0]
        assert group.to_bytes(2, "big") + client_share.to_bytes(2, "big") in hello
        assert client_share < len(hello) < client_share + 300
        assert 1300 <= len(hello) <= 1600, "a ClientHello of 1.3 KB, as on the wire"
        assert group.to_bytes(2, "big") + server_share.to_bytes(2, "big") in server_hello
        assert client.call(b"?01through the hybrid") == b"through the hybrid"
        assert client.goodbye() is AlertDescription.CLOSE_NOTIFY
    assert client.ended()["reason"] == "element_closed"


@pytest.mark.parametrize("group", SHARES, ids=lambda group: group.name)
def test_a_hybrid_hello_may_come_in_many_records_and_segments(node, group):
    def in_pieces(number: int, record: bytes) -> bytes:
        if number:
            return record
        pieces = [record[5:][start : start + 100] for start in range(0, len(record) - 5, 100)]
        return b"".join(record[:3] + len(one).to_bytes(2, "big") + one for one in pieces)

    with WireClient(node, node["key1.com"], groups=(group,), spoil=in_pieces) as client:
        assert client.handshake(), client.alert
        assert client.call(b"?00")


@pytest.mark.parametrize("group", SHARES, ids=lambda group: group.name)
def test_a_broken_hybrid_share_is_refused_and_the_element_goes_on(node, group):
    def one_coefficient_too_large(number: int, record: bytes) -> bytes:
        if number:
            return record
        head = group.to_bytes(2, "big") + SHARES[group][0].to_bytes(2, "big")
        start = record.index(head) + len(head)
        # ML-KEM's part comes first with X25519, last with P-256 (65 bytes)
        start += 0 if group is NamedGroup.X25519_MLKEM768 else 65
        return record[:start] + b"\xff\xff\xff" + record[start + 3 :]

    element = node["key1.com"]
    with WireClient(node, element, groups=(group,), spoil=one_coefficient_too_large) as client:
        assert not client.handshake()
        # the binder no longer fits either: which of the two is told first is the element's choice
        assert client.alert in {AlertDescription.ILLEGAL_PARAMETER, AlertDescription.DECRYPT_ERROR}
    assert_serves(node, element)


def test_the_key_schedule_takes_the_whole_shared_secret(node):
    # both parts: the handshake secret differs although PSK and one part may repeat
    seen = set()
    for group in SHARES:
        with WireClient(node, node["key1.com"], groups=(group,)) as client:
            assert client.handshake()
            assert len(client.engine.handshake_secret) == HashAlgorithm.SHA256.digest_size
            seen.add(client.engine.handshake_secret)
    assert len(seen) == len(SHARES)
