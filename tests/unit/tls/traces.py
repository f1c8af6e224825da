# SPDX-License-Identifier: Apache-2.0
"""Recorded TLS 1.3 connections, as the tests of this folder read them."""

from typing import Any

from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.tls.constants import HEADER_SIZE, CipherSuite
from iose.tls.key_schedule import Hkdf, TrafficSecret
from iose.tls.record_layer import RecordLayer, Tls13Protection
from iose.tls.suites import SUITES
from iose.tls.transcript import Transcript
from tests.support.shared import own_json, shared_json

CRYPTO = PycaCrypto()
HKDF = Hkdf(CRYPTO, HashAlgorithm.SHA256)
EPOCHS = {
    "early": "client_early_traffic_secret",
    "handshake": "{}_handshake_traffic_secret",
    "application": "{}_application_traffic_secret_0",
}
Trace = dict[str, Any]


def rfc8448_traces() -> list[Trace]:
    """Return the traces of RFC 8448, or skip."""
    traces: list[Trace] = shared_json("rfc8448.json")["traces"]
    return traces


def openssl_connections() -> list[Trace]:
    """Return the connections of OpenSSL with known ephemeral keys, certificates left out."""
    connections: list[Trace] = own_json("tls13_external_psk.json")["connections"]
    return [connection for connection in connections if "psk" in connection]


def all_openssl_connections() -> list[Trace]:
    """Return every connection of OpenSSL, those between processes and with certificates too."""
    document = own_json("tls13_external_psk.json")
    traces: list[Trace] = document["connections"] + document["process_connections"]
    return traces


def suite_of(trace: Trace) -> CipherSuite:
    """Return the cipher suite of a connection."""
    return CipherSuite(int(trace["cipher_suite_id"], 16))


def hexed(trace: Trace, *path: str) -> bytes:
    """Return a byte string by its path in the document."""
    value: Any = trace
    for step in path:
        value = value[step]
    return bytes.fromhex(value)


def messages_of(trace: Trace) -> list[bytes]:
    """Return every handshake message, in order."""
    return [bytes.fromhex(message["bytes"]) for message in trace["handshake_messages"]]


def names_of(trace: Trace) -> list[tuple[str, str]]:
    """Return sender and name of every handshake message, in order."""
    return [(message["from"], message["name"]) for message in trace["handshake_messages"]]


def transcript_through(trace: Trace, sender: str, name: str) -> Transcript:
    """Return the transcript up to and with a message, a retry replaced as it must be.

    Raises:
        AssertionError: There is no such message.
    """
    transcript = Transcript(CRYPTO, HashAlgorithm.SHA256)
    for message, known in zip(messages_of(trace), names_of(trace), strict=True):
        if known == ("server", "hello_retry_request"):
            transcript.replace_with_message_hash()
        transcript.update(message)
        if known == (sender, name) and not _comes_again(trace, message, known):
            return transcript
    raise AssertionError(f"no {name} from {sender}")


def record_layer(suite: CipherSuite, secret: bytes) -> RecordLayer:
    """Return one direction under the keys of a traffic secret."""
    layer = RecordLayer()
    parameters = SUITES[suite]
    traffic = TrafficSecret(HKDF, secret)
    aead = CRYPTO.aead(parameters.aead, traffic.derive_key(parameters.aead.key_size))
    layer.change_protection(Tls13Protection(aead, traffic.derive_iv(), parameters.aead.tag_size))
    return layer


def split_record(record: bytes) -> tuple[bytes, bytes]:
    """Return header and body."""
    return record[:HEADER_SIZE], record[HEADER_SIZE:]


def _comes_again(trace: Trace, message: bytes, known: tuple[str, str]) -> bool:
    following = messages_of(trace).index(message) + 1
    return known[1] == "client_hello" and known in names_of(trace)[following:]
