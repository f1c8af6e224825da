# SPDX-License-Identifier: Apache-2.0
"""Our server given the randoms and keys of recorded servers: the same bytes come out."""

from typing import Any

import pytest

from iose.crypto.base import Group, Rng
from iose.crypto.pyca import PycaCrypto
from iose.tls import EngineConfig, PreSharedKey, ServerConfig, ServerEngine
from iose.tls.constants import CipherSuite, ExtensionType, NamedGroup
from iose.tls.events import ApplicationData, HandshakeComplete, PeerClosed
from iose.tls.key_schedule import derive_psk_secrets
from tests.support.engine_pair import events_of
from tests.support.rng import ScriptedRng
from tests.support.shared import own_json
from tests.unit.tls.traces import HKDF, Trace, hexed, openssl_connections, suite_of

SEND = "00D8"
RECEIVE = "00C0"


class FixedExchange(PycaCrypto):
    """Answers every share with a point and a shared secret given beforehand."""

    def __init__(self, point: bytes, secret: bytes) -> None:
        self._answer = (point, secret)

    def respond_key_exchange(
        self, group: Group, peer_share: bytes, rng: Rng
    ) -> tuple[bytes, bytes]:
        return self._answer


def compatible_server(crypto: PycaCrypto, random: bytes, psk: bytes) -> ServerEngine:
    """Return an engine that behaves as the published applets do."""
    engine = EngineConfig(
        crypto,
        ScriptedRng(random),
        suites=(CipherSuite.TLS_AES_128_CCM_SHA256,),
        groups=(NamedGroup.SECP256R1,),
        middlebox_compatibility=False,
    )
    return ServerEngine(
        ServerConfig(
            engine,
            (PreSharedKey(b"Client_identity", psk),),
            hello_retry_request=False,
            check_psk_modes=False,
        )
    )


def records_of(steps: list[dict[str, str]], *, of_client: bool) -> bytes:
    """Return the TLS bytes one side sent, out of an APDU transcript."""
    collected = ""
    for step in steps:
        command, response = step["command"], step["response"]
        is_tls = command.startswith((SEND, RECEIVE))
        if is_tls and of_client and command.startswith(SEND):
            collected += command[10:]
        elif is_tls and not of_client:
            collected += response[:-4]
    return bytes.fromhex(collected)


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_flights_of_the_published_applets_are_made_again(name: str) -> None:
    document: dict[str, Any] = own_json("tlsse_sessions.json")
    steps = document["apdu_transcripts"][name]
    inputs = {
        step["command"][:8]: bytes.fromhex(step["command"][10:])
        for step in steps
        if step["command"].startswith("00DA")
    }
    handshake = steps[: next(i for i, s in enumerate(steps) if s["response"] == "9001") + 1]
    crypto = FixedExchange(inputs["00DA0002"], inputs["00DA0001"])
    server = compatible_server(crypto, inputs["00DA0003"], bytes.fromhex(document["psk"]))

    server.receive_data(records_of(handshake, of_client=True))

    assert server.data_to_send() == records_of(handshake, of_client=False)
    assert server.is_open
    assert server.handshake_secret == bytes.fromhex(document["secrets"][name]["HS"])
    assert isinstance(server.next_event(), HandshakeComplete)


@pytest.mark.parametrize(("name", "answer"), [("B", b"?00\r\n"), ("C", None)])
def test_commands_after_the_handshake_are_opened_and_answered(
    name: str, answer: bytes | None
) -> None:
    document: dict[str, Any] = own_json("tlsse_sessions.json")
    steps = document["apdu_transcripts"][name]
    inputs = {
        step["command"][:8]: bytes.fromhex(step["command"][10:])
        for step in steps
        if step["command"].startswith("00DA")
    }
    crypto = FixedExchange(inputs["00DA0002"], inputs["00DA0001"])
    server = compatible_server(crypto, inputs["00DA0003"], bytes.fromhex(document["psk"]))
    server.receive_data(records_of(steps, of_client=True))
    events = events_of(server)
    assert events[1:] == [ApplicationData(b"?00\r\n")]

    server.send_data(answer or b"Ethertrust keystore 1.3\r\n")

    assert server.data_to_send() == records_of(steps, of_client=False)


def psk_of(trace: Trace) -> PreSharedKey:
    """Return the PSK of a connection, of a ticket too."""
    is_resumption = trace["psk_kind"] == "resumption"
    secrets = derive_psk_secrets(HKDF, bytes.fromhex(trace["psk"]), resumption=is_resumption)
    identity = bytes.fromhex(trace["hello"]["psk_identities"][0]["identity"])
    return PreSharedKey(identity, None, secrets=secrets)


def server_like_openssl(trace: Trace, logged: dict[str, str]) -> ServerEngine:
    """Return our server with the randoms and the ephemeral key of OpenSSL's."""

    def log(label: str, random: bytes, secret: bytes) -> None:
        assert random == hexed(trace, "hello", "client_random")
        logged[label] = secret.hex()

    engine = EngineConfig(
        PycaCrypto(),
        ScriptedRng(
            hexed(trace, "hello", "server_random"), hexed(trace, "hello", "server_private")
        ),
        suites=(suite_of(trace),),
        groups=(NamedGroup.SECP256R1,),
        key_log=log,
    )
    order = (
        ExtensionType.SUPPORTED_VERSIONS,
        ExtensionType.KEY_SHARE,
        ExtensionType.PRE_SHARED_KEY,
    )
    return ServerEngine(ServerConfig(engine, (psk_of(trace),), extension_order=order))


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("index", range(len(openssl_connections())))
def test_flights_of_openssl_servers_are_made_again(index: int, step: int) -> None:
    trace = openssl_connections()[index]
    logged: dict[str, str] = {}
    server = server_like_openssl(trace, logged)
    sent: list[bytes] = []
    for item in trace["records"]:
        record = bytes.fromhex(item["record"])
        if item["from"] == "client":
            for start in range(0, len(record), step or len(record)):
                server.receive_data(record[start : start + (step or len(record))])
            sent += server.records_to_send()
    theirs = [
        bytes.fromhex(item["record"]) for item in trace["records"] if item["from"] == "server"
    ]

    # OpenSSL goes on with a ticket and with data, which our server does not send
    flight = [record for record in theirs if record in sent]
    assert sent[:-1] == theirs[: len(sent) - 1] == flight
    assert logged == trace["key_log"]
    complete, data, closed = events_of(server)
    assert isinstance(complete, HandshakeComplete)
    assert complete.cipher_suite is suite_of(trace)
    assert data == ApplicationData(bytes.fromhex(trace["application_data"][0]["bytes"]))
    assert isinstance(closed, PeerClosed)


@pytest.mark.parametrize("index", range(len(openssl_connections())))
def test_the_exporter_of_the_server_equals_openssl(index: int) -> None:
    trace = openssl_connections()[index]
    server = server_like_openssl(trace, {})
    for item in trace["records"]:
        if item["from"] == "client" and item["epoch"] != "application":
            server.receive_data(bytes.fromhex(item["record"]))
    known = trace["exporter"]
    value = server.export_keying_material(
        known["label"].encode(), bytes.fromhex(known["context"]), known["length"]
    )
    assert value.hex() == known["value"]
