# SPDX-License-Identifier: Apache-2.0
"""The key schedule against RFC 8448 and connections of OpenSSL."""

import pytest

from iose.crypto.base import HashAlgorithm
from iose.tls.key_schedule import (
    EarlySecret,
    HandshakeSecret,
    Hkdf,
    MasterSecret,
    TrafficSecret,
    derive_psk_secrets,
)
from iose.tls.suites import SUITES
from iose.wire.errors import LocalProtocolError
from tests.support.shared import own_json
from tests.unit.tls.traces import (
    CRYPTO,
    HKDF,
    Trace,
    hexed,
    messages_of,
    names_of,
    openssl_connections,
    rfc8448_traces,
    suite_of,
    transcript_through,
)

SECTIONS = range(5)


def check_early_stage(trace: Trace) -> EarlySecret:
    psk = bytes.fromhex(trace["psk"]) if "psk" in trace else bytes(32)
    secrets = derive_psk_secrets(HKDF, psk, resumption=trace.get("psk_kind") == "resumption")
    early = EarlySecret(HKDF, secrets)
    known = trace["secrets"]
    assert secrets.early_secret.hex() == known["early_secret"]
    assert secrets.derived_secret.hex() == known["derived_for_handshake"]
    if "binder_finished_key" in known:
        assert secrets.binder_finished_key.hex() == known["binder_finished_key"]
    if "client_early_traffic_secret" in known:
        digest = hexed(trace, "transcript_hashes", "client_hello")
        assert (
            early.derive_client_traffic(digest).secret.hex()
            == (known["client_early_traffic_secret"])
        )
        assert early.derive_exporter(digest).secret.hex() == known["early_exporter_master_secret"]
    return early


def check_handshake_stage(trace: Trace, handshake: HandshakeSecret) -> MasterSecret:
    known = trace["secrets"]
    digest = transcript_through(trace, "server", "server_hello").digest()
    assert digest.hex() == trace["transcript_hashes"]["client_hello_to_server_hello"]
    client = handshake.derive_client_traffic(digest)
    server = handshake.derive_server_traffic(digest)
    assert client.secret.hex() == known["client_handshake_traffic_secret"]
    assert server.secret.hex() == known["server_handshake_traffic_secret"]
    for side, traffic in (("client", client), ("server", server)):
        finished = trace["finished"][side]
        digest = bytes.fromhex(finished["transcript_hash"])
        assert traffic.verify_data(digest).hex() == finished["verify_data"]
    return handshake.derive_master_secret()


def check_master_stage(trace: Trace, master: MasterSecret) -> None:
    known = trace["secrets"]
    digest = transcript_through(trace, "server", "finished").digest()
    assert digest.hex() == trace["transcript_hashes"]["client_hello_to_server_finished"]
    client = master.derive_client_traffic(digest)
    server = master.derive_server_traffic(digest)
    assert client.secret.hex() == known["client_application_traffic_secret_0"]
    assert server.secret.hex() == known["server_application_traffic_secret_0"]
    assert master.derive_exporter(digest).secret.hex() == known["exporter_master_secret"]
    digest = transcript_through(trace, "client", "finished").digest()
    assert digest.hex() == trace["transcript_hashes"]["client_hello_to_client_finished"]
    assert master.derive_resumption(digest).hex() == known["resumption_master_secret"]


def check_traffic_keys(trace: Trace) -> None:
    size = SUITES[suite_of(trace)].aead.key_size
    for name, keys in trace["traffic_keys"].items():
        traffic = TrafficSecret(HKDF, hexed(trace, "secrets", name))
        assert traffic.derive_key(size).hex() == keys["key"]
        assert traffic.derive_iv().hex() == keys["iv"]


def check_schedule(trace: Trace) -> None:
    early = check_early_stage(trace)
    handshake = early.derive_handshake_secret(hexed(trace, "secrets", "ecdhe_shared_secret"))
    assert handshake.secret.hex() == trace["secrets"]["handshake_secret"]
    master = check_handshake_stage(trace, handshake)
    assert master.secret.hex() == trace["secrets"]["master_secret"]
    check_master_stage(trace, master)
    check_traffic_keys(trace)


@pytest.mark.parametrize("index", SECTIONS)
def test_every_secret_of_rfc_8448_is_derived(index: int) -> None:
    check_schedule(rfc8448_traces()[index])


@pytest.mark.parametrize("index", range(len(openssl_connections())))
def test_every_secret_of_openssl_connections_is_derived(index: int) -> None:
    check_schedule(openssl_connections()[index])


def test_binder_of_rfc_8448_is_computed() -> None:
    trace = rfc8448_traces()[1]
    truncated = messages_of(trace)[0][: trace["hello"]["client_hello_truncated_length"]]
    early = check_early_stage(trace)
    assert early.derive_binder(HKDF.hash(truncated)).hex() == trace["hello"]["psk_binder"]


@pytest.mark.parametrize("index", range(len(openssl_connections())))
def test_binders_of_openssl_connections_are_computed(index: int) -> None:
    trace = openssl_connections()[index]
    early = check_early_stage(trace)
    digest = hexed(trace, "transcript_hashes", "binder_transcript_hash")
    assert early.derive_binder(digest).hex() == trace["hello"]["psk_binder"]
    if ("server", "hello_retry_request") not in names_of(trace):
        truncated = messages_of(trace)[0][: trace["hello"]["client_hello_truncated_length"]]
        assert HKDF.hash(truncated) == digest


@pytest.mark.parametrize("index", range(len(openssl_connections())))
def test_exported_keying_material_equals_openssl(index: int) -> None:
    trace = openssl_connections()[index]
    known = trace["exporter"]
    digest = hexed(trace, "transcript_hashes", "client_hello_to_server_finished")
    exporter = MasterSecret(HKDF, hexed(trace, "secrets", "master_secret")).derive_exporter(digest)
    value = exporter.export(
        known["label"].encode(), bytes.fromhex(known["context"]), known["length"]
    )
    assert value.hex() == known["value"]


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_schedule_starts_from_a_handshake_secret_alone(name: str) -> None:
    secrets = own_json("tlsse_sessions.json")["secrets"][name]
    handshake = HandshakeSecret(HKDF, bytes.fromhex(secrets["HS"]))
    assert handshake.derive_master_secret().secret == bytes.fromhex(secrets["MS"])


def test_values_of_the_demo_psk_are_derived() -> None:
    document = own_json("tlsse_sessions.json")
    known = {
        name: bytes.fromhex(value) for name, value in document["secrets"]["psk_derived"].items()
    }
    psk = bytes.fromhex(document["psk"])
    external = derive_psk_secrets(HKDF, psk)
    assert external.early_secret == known["ES"]
    assert external.derived_secret == known["DSK"]
    assert external.binder_finished_key == known["feBSK"]
    assert derive_psk_secrets(HKDF, psk, resumption=True).binder_finished_key == known["frBSK"]


def test_a_key_update_changes_the_secret_by_its_label() -> None:
    secret = bytes(range(32))
    expected = HKDF.expand_label(secret, b"traffic upd", b"", 32)
    assert TrafficSecret(HKDF, secret).next_generation().secret == expected


def test_expansion_joins_blocks() -> None:
    # RFC 5869 §A.2 checks HKDF itself in the crypto room; here, that blocks follow each other
    long = HKDF.expand_label(bytes(32), b"x", b"", 100)
    assert len(long) == 100
    assert len({long[start : start + 32] for start in (0, 32, 64)}) == 3
    assert HKDF.expand_label(bytes(32), b"x", b"", 255 * 32) != b""


def test_expansion_beyond_255_blocks_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        HKDF.expand_label(bytes(32), b"x", b"", 255 * 32 + 1)


def test_sha384_gives_secrets_of_48_bytes() -> None:
    hkdf = Hkdf(CRYPTO, HashAlgorithm.SHA384)
    assert len(derive_psk_secrets(hkdf, b"key").early_secret) == 48


def test_secrets_are_not_shown() -> None:
    secrets = derive_psk_secrets(HKDF, b"key")
    early = EarlySecret(HKDF, secrets)
    for value in (secrets, early, early.derive_handshake_secret(b""), TrafficSecret(HKDF, b"key")):
        assert "secret=" not in repr(value).replace("_secret=", "secret=")
