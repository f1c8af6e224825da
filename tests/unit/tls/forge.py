# SPDX-License-Identifier: Apache-2.0
"""Messages no honest engine of ours would send, sealed and protected so that they arrive."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from iose.tls import ClientConfig, ClientEngine, TlsPeerError
from iose.tls.constants import AlertDescription, CipherSuite, ContentType, ExtensionType
from iose.tls.engine import TlsEngine
from iose.tls.key_extensions import OfferedPsks, PskIdentity
from iose.tls.key_schedule import HandshakeSecret, TrafficSecret
from iose.tls.messages import ClientHello, ServerHello
from iose.tls.record_layer import RecordLayer, encode_header
from iose.tls.session import Session
from iose.tls.transcript import Transcript
from tests.support.engine_pair import (
    IDENTITY,
    PSK,
    EnginePair,
    client_config,
    events_of,
    server_config,
)
from tests.unit.tls.traces import CRYPTO, HKDF, record_layer

CHANGE_CIPHER_SPEC = bytes.fromhex("140303000101")
Change = Callable[[ClientHello], ClientHello]


def plain_record(message: bytes, content_type: int = ContentType.HANDSHAKE) -> bytes:
    """Return a record in the clear."""
    return encode_header(content_type, len(message)) + message


def hello_of(config: ClientConfig | None = None) -> ClientHello:
    """Return the ClientHello our client sends."""
    client = ClientEngine(config or client_config())
    client.start()
    return ClientHello.decode(client.data_to_send()[9:])


def seal(hello: ClientHello, identities: tuple[bytes, ...] = (IDENTITY,)) -> bytes:
    """Return a ClientHello record whose binders are all right for our PSK."""
    psks = OfferedPsks(
        tuple(PskIdentity(identity) for identity in identities),
        tuple(bytes(32) for _ in identities),
    )
    extensions = {**hello.extensions}
    extensions[ExtensionType.PRE_SHARED_KEY] = psks.encode()
    encoded = replace(hello, extensions=extensions).encode()
    if [*extensions][-1] != ExtensionType.PRE_SHARED_KEY:
        return plain_record(encoded)
    early = PSK.early_secret(CRYPTO)
    assert early is not None
    binder = early.derive_binder(HKDF.hash(encoded[: -psks.binders_size]))
    extensions[ExtensionType.PRE_SHARED_KEY] = replace(
        psks, binders=tuple(binder for _ in identities)
    ).encode()
    return plain_record(replace(hello, extensions=extensions).encode())


def with_extensions(hello: ClientHello, changes: Mapping[int, bytes | None]) -> ClientHello:
    """Return a ClientHello with extensions set or, where None, taken out."""
    extensions = {kind: body for kind, body in hello.extensions.items() if kind not in changes}
    psk = extensions.pop(ExtensionType.PRE_SHARED_KEY, None)
    extensions.update({kind: body for kind, body in changes.items() if body is not None})
    if psk is not None:
        extensions[ExtensionType.PRE_SHARED_KEY] = psk
    return replace(hello, extensions=extensions)


def check_refused(engine: TlsEngine, data: bytes, alert: AlertDescription) -> None:
    """Check that bytes close the engine with one alert, sent as the last record."""
    with pytest.raises(TlsPeerError) as caught:
        engine.receive_data(data)
    assert caught.value.alert is alert, caught.value
    assert engine.is_closed
    assert not engine.is_open
    assert engine.handshake_secret is None
    (*_, record) = engine.records_to_send()
    if record[0] == ContentType.ALERT:
        assert record == plain_record(bytes((2, alert)), ContentType.ALERT)
    else:
        assert record[0] == ContentType.APPLICATION_DATA
    # a closed engine takes anything and does nothing
    engine.receive_data(data)
    assert engine.records_to_send() == []


def open_pair(step: int = 0, **settings: object) -> EnginePair:
    """Return a pair with an open session, its first events taken."""
    pair = EnginePair.make(client_config(**settings), server_config(**settings), step=step).start()
    events_of(pair.client)
    events_of(pair.server)
    return pair


def session_of(engine: object) -> Session:
    """Return the inner session, to make records no caller can ask for."""
    session: Session = engine._session  # type: ignore[attr-defined]
    return session


def forged(engine: object, content_type: int, content: bytes) -> bytes:
    """Return a record protected as an engine's next one."""
    return session_of(engine).writer.protect(content_type, content)


class ForgedServer:
    """A server made of an honest ServerHello and whatever a test puts behind it."""

    def __init__(self, config: ClientConfig | None = None, **settings: object) -> None:
        self.pair = EnginePair.make(config or client_config(**settings))
        self.client = self.pair.client
        self.client.start()
        (self.client_hello,) = self.client.records_to_send()
        self.pair.server.receive_data(self.client_hello)
        self.server_hello, *_ = self.pair.server.records_to_send()

    def hello(self) -> ServerHello:
        """Return the honest ServerHello."""
        return ServerHello.decode(self.server_hello[9:])

    def accept(self) -> RecordLayer:
        """Let the client have the ServerHello; return what protects the server's flight."""
        self.client.receive_data(self.server_hello)
        return self.server_layer()

    def server_layer(self) -> RecordLayer:
        """Return the server's direction under the handshake keys."""
        return record_layer(CipherSuite.TLS_AES_128_CCM_SHA256, self._traffic().secret)

    def verify_data(self, transcript: Transcript) -> bytes:
        """Return what the server's Finished says after a transcript."""
        return self._traffic().verify_data(transcript.digest())

    def _traffic(self) -> TrafficSecret:
        secret = self.client.handshake_secret
        assert secret is not None
        return HandshakeSecret(HKDF, secret).derive_server_traffic(self.transcript().digest())

    def transcript(self) -> Transcript:
        """Return the transcript up to and with ServerHello."""
        transcript = Transcript(CRYPTO, PSK.hash)
        transcript.update(self.client_hello[5:])
        transcript.update(self.server_hello[5:])
        return transcript
