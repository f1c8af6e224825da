# SPDX-License-Identifier: Apache-2.0
"""The client's handshake of TLS 1.3, one class per waiting state (RFC 8446 §A.1).

Each state is built with what was proved before it, and returns the next one. Names of the states,
and which message may come in which, are in ``states``.
"""

from dataclasses import dataclass, field

from iose.tls.client.hello import (
    SESSION_ID_SIZE,
    ClientOffer,
    make_first_offer,
    make_second_offer,
)
from iose.tls.client.replies import (
    RetryRequest,
    ServerAnswer,
    ServerParameters,
    check_server_hello,
    read_answer,
    read_parameters,
    read_retry_request,
)
from iose.tls.config import ClientConfig
from iose.tls.constants import RANDOM_SIZE, AlertDescription, CipherSuite
from iose.tls.errors import TlsPeerError
from iose.tls.events import BinderNeeded, HandshakeComplete, HandshakeSecretNeeded
from iose.tls.key_schedule import EarlySecret, HandshakeSecret, Hkdf, TrafficSecret
from iose.tls.messages import (
    ClientHello,
    EncryptedExtensions,
    Finished,
    HandshakeMessage,
    ServerHello,
)
from iose.tls.post_handshake import Open
from iose.tls.record_layer import NullProtection
from iose.tls.session import Session
from iose.tls.states import Pause, State, WaitingState
from iose.tls.transcript import Transcript
from iose.wire.errors import LocalProtocolError


@dataclass(frozen=True, slots=True)
class ClientHandshake:
    """What all states of one client handshake share."""

    session: Session
    config: ClientConfig
    transcript: Transcript

    def start(self) -> WaitingState:
        """Make the ClientHello and go on to its binder (RFC 8446 §4.1.2)."""
        engine = self.config.engine
        random = engine.rng.random_bytes(RANDOM_SIZE)
        compatible = engine.middlebox_compatibility
        session_id = engine.rng.random_bytes(SESSION_ID_SIZE) if compatible else b""
        offer = make_first_offer(self.config, random, session_id)
        self.session.client_random = random
        self.session.suite = CipherSuite(offer.hello.cipher_suites[0])
        return self.bind(offer, None)

    def bind(self, offer: ClientOffer, retry: RetryRequest | None) -> WaitingState:
        """Compute the binder, or ask for it, and send the ClientHello."""
        psk = self.config.psk
        self.transcript.update(offer.truncated)
        transcript_hash = self.transcript.digest()
        early = psk.early_secret(self.config.engine.crypto)
        if early is not None:
            return self._send_offer(offer, retry, early, early.derive_binder(transcript_hash))
        self.session.events.append(BinderNeeded(psk.identity, transcript_hash))
        return Pause(
            State.CLIENT_WAIT_BINDER if retry is None else State.CLIENT_WAIT_SECOND_BINDER,
            lambda binder: self._send_offer(offer, retry, None, binder),
        )

    def _send_offer(
        self,
        offer: ClientOffer,
        retry: RetryRequest | None,
        early: EarlySecret | None,
        binder: bytes,
    ) -> WaitingState:
        message = offer.with_binder(binder)
        self.transcript.update(message[-offer.binders_size :])
        self.session.send_handshake(message)
        self.session.writer.change_protection(NullProtection())
        if retry is None:
            return WaitServerHello(self, offer, early)
        return WaitSecondServerHello(self, offer, early, retry)

    def accept(
        self, offer: ClientOffer, early: EarlySecret | None, hello: ServerHello, message: bytes
    ) -> WaitingState:
        """Go on from a ServerHello to the handshake secret (RFC 8446 §7.1)."""
        answer = read_answer(self.config, offer, hello)
        self.session.suite = answer.suite
        self.transcript.update(message)
        # our own ChangeCipherSpec comes before the second flight (RFC 8446 §D.4)
        self.session.send_change_cipher_spec()
        shared_secret = bytes(self.session.hash_size)
        if answer.share is not None and offer.share is not None:
            shared_secret = offer.share.exchange(answer.share)
        if early is not None:
            return self._read_flight(
                offer.hello, answer, early.derive_handshake_secret(shared_secret)
            )
        psk = self.config.psk
        self.session.events.append(HandshakeSecretNeeded(psk.identity, shared_secret))
        hkdf = Hkdf(self.config.engine.crypto, psk.hash)
        return Pause(
            State.CLIENT_WAIT_SECRET,
            lambda secret: self._read_flight(offer.hello, answer, HandshakeSecret(hkdf, secret)),
        )

    def _read_flight(
        self, offered: ClientHello, answer: ServerAnswer, secret: HandshakeSecret
    ) -> WaitingState:
        session = self.session
        session.handshake_secret = secret
        transcript_hash = self.transcript.digest()
        client = secret.derive_client_traffic(transcript_hash)
        server = secret.derive_server_traffic(transcript_hash)
        session.log_secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET", client.secret)
        session.log_secret("SERVER_HANDSHAKE_TRAFFIC_SECRET", server.secret)
        session.read_with(server)
        session.write_with(client)
        return WaitEncryptedExtensions(self, offered, answer, secret, client, server)


@dataclass(frozen=True, slots=True)
class WaitServerHello:
    """Waits for ServerHello or HelloRetryRequest."""

    handshake: ClientHandshake
    offer: ClientOffer
    early: EarlySecret | None = field(repr=False)
    state: State = State.CLIENT_WAIT_SERVER_HELLO

    def receive(self, message: HandshakeMessage) -> WaitingState:
        """Follow the server, or try again as it asks (RFC 8446 §4.1.4).

        Raises:
            IoseError: The server's answer is refused.
            TlsPeerError: It does not fit what we could send back.
        """
        hello = ServerHello.decode(message.body)
        check_server_hello(self.offer.hello, hello)
        if not hello.is_retry_request:
            return self.handshake.accept(self.offer, self.early, hello, message.encoded)
        config = self.handshake.config
        retry = read_retry_request(config, self.offer, hello)
        self.handshake.transcript.replace_with_message_hash()
        self.handshake.transcript.update(message.encoded)
        self.handshake.session.send_change_cipher_spec()
        try:
            offer = make_second_offer(config, self.offer, retry.group, retry.cookie)
        except LocalProtocolError:
            raise TlsPeerError(
                AlertDescription.ILLEGAL_PARAMETER, "a cookie that no client_hello can hold"
            ) from None
        return self.handshake.bind(offer, retry)


@dataclass(frozen=True, slots=True)
class WaitSecondServerHello:
    """Waits for the ServerHello after a HelloRetryRequest."""

    handshake: ClientHandshake
    offer: ClientOffer
    early: EarlySecret | None = field(repr=False)
    retry: RetryRequest
    state: State = State.CLIENT_WAIT_SECOND_SERVER_HELLO

    def receive(self, message: HandshakeMessage) -> WaitingState:
        """Check that the server keeps to what it asked for.

        Raises:
            IoseError: The server's answer is refused.
            TlsPeerError: It asks again, or changes the suite.
        """
        hello = ServerHello.decode(message.body)
        if hello.is_retry_request:
            raise TlsPeerError(AlertDescription.UNEXPECTED_MESSAGE, "a second retry request")
        check_server_hello(self.offer.hello, hello)
        if hello.cipher_suite != self.retry.suite:
            raise TlsPeerError(
                AlertDescription.ILLEGAL_PARAMETER, "the server changed the suite after a retry"
            )
        return self.handshake.accept(self.offer, self.early, hello, message.encoded)


@dataclass(frozen=True, slots=True)
class WaitEncryptedExtensions:
    """Waits for the first protected message."""

    handshake: ClientHandshake
    offered: ClientHello
    answer: ServerAnswer
    secret: HandshakeSecret
    client: TrafficSecret
    server: TrafficSecret
    state: State = State.CLIENT_WAIT_ENCRYPTED_EXTENSIONS

    def receive(self, message: HandshakeMessage) -> WaitingState:
        """Take what the server agreed to.

        Raises:
            IoseError: It agreed to what we did not offer.
        """
        config = self.handshake.config
        extensions = EncryptedExtensions.decode(message.body).extensions
        parameters = read_parameters(config, self.offered, extensions)
        session = self.handshake.session
        if parameters.max_fragment_length is not None:
            session.limit_fragments(parameters.max_fragment_length.size)
        own_limit = config.engine.record_size_limit
        if parameters.record_size_limit is not None and own_limit is not None:
            session.limit_records(ours=own_limit, peers=parameters.record_size_limit)
        self.handshake.transcript.update(message.encoded)
        return WaitFinished(
            self.handshake, self.answer, parameters, self.secret, self.client, self.server
        )


@dataclass(frozen=True, slots=True)
class WaitFinished:
    """Waits for the server's Finished."""

    handshake: ClientHandshake
    answer: ServerAnswer
    parameters: ServerParameters
    secret: HandshakeSecret
    client: TrafficSecret
    server: TrafficSecret
    state: State = State.CLIENT_WAIT_FINISHED

    def receive(self, message: HandshakeMessage) -> WaitingState:
        """Verify it and send ours; then application data flows.

        Raises:
            DecodeError: It has not the size of the hash.
            TlsPeerError: The server's handshake was not ours.
        """
        session = self.handshake.session
        transcript = self.handshake.transcript
        finished = Finished.decode(message.body, session.hash_size)
        expected = self.server.verify_data(transcript.digest())
        if not session.config.crypto.constant_time_equal(finished.verify_data, expected):
            raise TlsPeerError(AlertDescription.DECRYPT_ERROR, "the server's finished is wrong")
        transcript.update(message.encoded)
        transcript_hash = transcript.digest()
        session.send_handshake(Finished(self.client.verify_data(transcript_hash)).encode())
        master = self.secret.derive_master_secret()
        session.start_application(master, transcript_hash)
        client = master.derive_client_traffic(transcript_hash)
        server = master.derive_server_traffic(transcript_hash)
        session.log_secret("CLIENT_TRAFFIC_SECRET_0", client.secret)
        session.log_secret("SERVER_TRAFFIC_SECRET_0", server.secret)
        session.write_with(client)
        session.read_with(server)
        session.events.append(self._complete())
        return Open(session, State.CLIENT_OPEN)

    def _complete(self) -> HandshakeComplete:
        config = self.handshake.config
        return HandshakeComplete(
            cipher_suite=self.answer.suite,
            group=self.answer.group,
            psk_identity=config.psk.identity,
            server_name=config.server_name,
            alpn_protocol=self.parameters.alpn_protocol,
        )
