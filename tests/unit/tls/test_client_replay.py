# SPDX-License-Identifier: Apache-2.0
"""Our client in the middle of recorded connections: the same bytes come out.

The ClientHello of OpenSSL has extensions we never send; it is decoded, sealed and encoded by our
codecs, and our states go on from there with OpenSSL's ephemeral key.
"""

from dataclasses import replace

import pytest

from iose.crypto.base import Group
from iose.crypto.pyca import PycaCrypto
from iose.tls import ClientConfig, EngineConfig
from iose.tls.client.hello import ClientOffer
from iose.tls.client.replies import RetryRequest
from iose.tls.client.tls13 import ClientHandshake, WaitSecondServerHello, WaitServerHello
from iose.tls.constants import ExtensionType, NamedGroup
from iose.tls.events import ApplicationData, HandshakeComplete, PeerClosed
from iose.tls.key_extensions import OfferedPsks
from iose.tls.key_schedule import EarlySecret
from iose.tls.messages import ClientHello
from iose.tls.session import Session
from iose.tls.states import MessageState
from iose.tls.stream_engine import StreamEngine
from iose.tls.transcript import Transcript
from tests.support.engine_pair import events_of
from tests.support.rng import ScriptedRng
from tests.unit.tls.test_server_replay import psk_of
from tests.unit.tls.traces import (
    CRYPTO,
    Trace,
    hexed,
    messages_of,
    names_of,
    openssl_connections,
    suite_of,
)


def last_hello(trace: Trace) -> bytes:
    """Return the ClientHello the server answered."""
    known = list(zip(names_of(trace), messages_of(trace), strict=True))
    return [message for name, message in known if name == ("client", "client_hello")][-1]


def is_retried(trace: Trace) -> bool:
    return ("server", "hello_retry_request") in names_of(trace)


def transcript_before_answer(trace: Trace) -> Transcript:
    """Return the transcript up to and with the last ClientHello.

    Raises:
        AssertionError: There is no answer to it.
    """
    transcript = Transcript(CRYPTO, psk_of(trace).hash)
    for name, message in zip(names_of(trace), messages_of(trace), strict=True):
        if name == ("server", "hello_retry_request"):
            transcript.replace_with_message_hash()
        if name == ("server", "server_hello"):
            return transcript
        transcript.update(message)
    raise AssertionError("no server_hello")


def client_like_openssl(trace: Trace, logged: dict[str, str]) -> StreamEngine:
    """Return our client as it is after it has sent OpenSSL's last ClientHello."""
    crypto = PycaCrypto()
    engine = EngineConfig(
        crypto,
        ScriptedRng(),
        suites=(suite_of(trace),),
        groups=(NamedGroup.SECP256R1,),
        key_log=lambda label, _, secret: logged.update({label: secret.hex()}),
    )
    config = ClientConfig(engine, psk_of(trace))
    encoded = last_hello(trace)
    share = crypto.generate_key_exchange(
        Group.SECP256R1, ScriptedRng(hexed(trace, "hello", "client_private"))
    )
    hello = ClientHello.decode(encoded[4:])
    offer = ClientOffer(hello, encoded, 35, NamedGroup.SECP256R1, share)
    session = Session(engine)
    session.client_random = hello.random
    handshake = ClientHandshake(session, config, transcript_before_answer(trace))
    early = config.psk.early_secret(crypto)
    state: MessageState = WaitServerHello(handshake, offer, early)
    if is_retried(trace):
        retry = RetryRequest(suite_of(trace), NamedGroup.SECP256R1, None)
        state = WaitSecondServerHello(handshake, offer, early, retry)
        session.send_change_cipher_spec()
        session.records.clear()
    return StreamEngine(session, state)


@pytest.mark.parametrize("index", range(len(openssl_connections())))
def test_client_hellos_of_openssl_are_sealed_and_encoded_again(index: int) -> None:
    trace = openssl_connections()[index]
    encoded = last_hello(trace)
    hello = ClientHello.decode(encoded[4:])
    psks = OfferedPsks.decode(hello.extensions[ExtensionType.PRE_SHARED_KEY])
    assert hello.encode() == encoded

    transcript = Transcript(CRYPTO, psk_of(trace).hash)
    if is_retried(trace):
        transcript.update(messages_of(trace)[0])
        transcript.replace_with_message_hash()
        transcript.update(messages_of(trace)[1])
    early = psk_of(trace).early_secret(CRYPTO)
    assert isinstance(early, EarlySecret)
    transcript.update(encoded[: -psks.binders_size])
    binder = early.derive_binder(transcript.digest())
    # a resuming OpenSSL offers the external PSK in second place
    sealed = replace(psks, binders=(binder, *psks.binders[1:]))
    extensions = {**hello.extensions, ExtensionType.PRE_SHARED_KEY: sealed.encode()}

    assert replace(hello, extensions=extensions).encode() == encoded


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("index", range(len(openssl_connections())))
def test_flights_of_openssl_clients_are_made_again(index: int, step: int) -> None:
    trace = openssl_connections()[index]
    logged: dict[str, str] = {}
    client = client_like_openssl(trace, logged)
    records = trace["records"]
    first = next(i for i, item in enumerate(records) if "server_hello" in item.get("messages", ()))
    sent: list[bytes] = []
    for item in records[first:]:
        record = bytes.fromhex(item["record"])
        if item["from"] == "server":
            for start in range(0, len(record), step or len(record)):
                client.receive_data(record[start : start + (step or len(record))])
        elif item["type"] == "application_data":
            client.send_data(bytes.fromhex(item["content"]))
        sent += client.records_to_send()
    theirs = [bytes.fromhex(item["record"]) for item in records[first:] if item["from"] == "client"]

    assert sent == theirs
    assert logged == trace["key_log"]
    complete, data, closed = events_of(client)
    assert isinstance(complete, HandshakeComplete)
    assert data == ApplicationData(bytes.fromhex(trace["application_data"][1]["bytes"]))
    assert isinstance(closed, PeerClosed)


@pytest.mark.parametrize("index", range(len(openssl_connections())))
def test_the_exporter_of_the_client_equals_openssl(index: int) -> None:
    trace = openssl_connections()[index]
    client = client_like_openssl(trace, {})
    records = trace["records"]
    first = next(i for i, item in enumerate(records) if "server_hello" in item.get("messages", ()))
    for item in records[first:]:
        if item["from"] == "server" and not client.is_open:
            client.receive_data(bytes.fromhex(item["record"]))
    known = trace["exporter"]
    value = client.export_keying_material(
        known["label"].encode(), bytes.fromhex(known["context"]), known["length"]
    )
    assert value.hex() == known["value"]
