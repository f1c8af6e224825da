# SPDX-License-Identifier: Apache-2.0
"""The server's handshake of TLS 1.3, one class per waiting state (RFC 8446 §A.2).

Each state is built with what was proved before it, and returns the next one. Names of the states,
and which message may come in which, are in ``states``.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from iose.tls.config import ServerConfig
from iose.tls.constants import (
    HELLO_RETRY_RANDOM,
    RANDOM_SIZE,
    TLS_1_3,
    AlertDescription,
    ExtensionType,
)
from iose.tls.errors import TlsPeerError
from iose.tls.events import BinderNeeded, HandshakeComplete, HandshakeSecretNeeded
from iose.tls.extensions import ProtocolNames, RecordSizeLimit, SelectedNumber
from iose.tls.key_extensions import KeyShareEntry
from iose.tls.key_schedule import EarlySecret, HandshakeSecret, Hkdf, MasterSecret, TrafficSecret
from iose.tls.messages import (
    ClientHello,
    EncryptedExtensions,
    Finished,
    HandshakeMessage,
    ServerHello,
)
from iose.tls.post_handshake import Open
from iose.tls.server.negotiation import Choice, check_second_hello, choose
from iose.tls.session import Session
from iose.tls.states import Pause, State, WaitingState
from iose.tls.suites import GROUPS
from iose.tls.transcript import Transcript

MAX_SKIPPED_EARLY_DATA: Final = 32_768
"""Bytes of 0-RTT records skipped: twice what OpenSSL sends unless told otherwise."""

_Extensions = dict[int, bytes]


@dataclass(frozen=True, slots=True)
class WaitClientHello:
    """Waits for the first message of all."""

    session: Session
    config: ServerConfig
    state: State = State.SERVER_WAIT_CLIENT_HELLO

    def receive(self, message: HandshakeMessage) -> WaitingState:
        """Choose, then verify the binder.

        Raises:
            IoseError: The ClientHello is refused.
        """
        hello = ClientHello.decode(message.body)
        choice = choose(self.config, hello)
        self.session.suite = choice.suite
        self.session.client_random = hello.random
        if choice.has_early_data:
            self.session.early_data_budget = MAX_SKIPPED_EARLY_DATA
        transcript = Transcript(self.config.engine.crypto, choice.psk.psk.hash)
        handshake = _Handshake(self.session, self.config, transcript, hello, choice)
        return handshake.check_binder(message, State.SERVER_WAIT_BINDER)


@dataclass(frozen=True, slots=True)
class WaitSecondClientHello:
    """Waits for a ClientHello with the share asked for by HelloRetryRequest."""

    first: "_Handshake"
    state: State = State.SERVER_WAIT_SECOND_CLIENT_HELLO

    def receive(self, message: HandshakeMessage) -> WaitingState:
        """Check that only the share changed, then verify the new binder (RFC 8446 §4.1.2).

        Raises:
            TlsPeerError: It changes more.
            IoseError: The ClientHello is refused.
        """
        self.first.session.early_data_budget = 0  # none may follow this message
        hello = ClientHello.decode(message.body)
        check_second_hello(self.first.hello, hello, self.first.choice)
        choice = choose(self.first.config, hello)
        # only PSKs that do not go with the suite may be taken out, so the choice is the same
        if not choice.psk.is_known or choice.psk.psk is not self.first.choice.psk.psk:
            raise TlsPeerError(
                AlertDescription.ILLEGAL_PARAMETER, "the second client_hello changes the PSK"
            )
        handshake = replace(self.first, hello=hello, choice=choice)
        return handshake.check_binder(message, State.SERVER_WAIT_SECOND_BINDER)


@dataclass(frozen=True, slots=True)
class WaitFinished:
    """Waits for the client's Finished; our whole flight is queued."""

    session: Session
    complete: HandshakeComplete
    verify_data: bytes = field(repr=False)
    client_traffic: TrafficSecret
    state: State = State.SERVER_WAIT_FINISHED

    def receive(self, message: HandshakeMessage) -> WaitingState:
        """Verify it; then application data flows.

        Raises:
            DecodeError: It has not the size of the hash.
            TlsPeerError: The client's handshake was not ours.
        """
        finished = Finished.decode(message.body, len(self.verify_data))
        crypto = self.session.config.crypto
        if not crypto.constant_time_equal(finished.verify_data, self.verify_data):
            raise TlsPeerError(AlertDescription.DECRYPT_ERROR, "the client's finished is wrong")
        self.session.read_with(self.client_traffic)
        self.session.events.append(self.complete)
        return Open(self.session, State.SERVER_OPEN)


@dataclass(frozen=True, slots=True)
class _Handshake:
    """From a ClientHello to our Finished."""

    session: Session
    config: ServerConfig
    transcript: Transcript
    hello: ClientHello
    choice: Choice

    def check_binder(self, message: HandshakeMessage, pause: State) -> WaitingState:
        """Compute the binder, or ask for it (RFC 8446 §4.2.11.2)."""
        psk = self.choice.psk.psk
        end = len(message.encoded) - self.choice.psk.binders_size
        self.transcript.update(message.encoded[:end])
        transcript_hash = self.transcript.digest()
        self.transcript.update(message.encoded[end:])
        early = psk.early_secret(self.config.engine.crypto)
        if early is not None:
            return self._after_binder(early, early.derive_binder(transcript_hash))
        self.session.events.append(BinderNeeded(psk.identity, transcript_hash))
        return Pause(pause, lambda binder: self._after_binder(None, binder))

    def _after_binder(self, early: EarlySecret | None, binder: bytes) -> WaitingState:
        offered = self.choice.psk
        equal = self.config.engine.crypto.constant_time_equal(binder, offered.binder)
        if not (equal and offered.is_known):
            # one alert and one message for both, or identities could be guessed
            raise TlsPeerError(AlertDescription.DECRYPT_ERROR, "the PSK binder does not verify")
        if self.choice.needs_retry:
            return self._request_retry()
        shared_secret = self._send_server_hello()
        if early is not None:
            return self._send_flight(early.derive_handshake_secret(shared_secret))
        self.session.events.append(HandshakeSecretNeeded(offered.psk.identity, shared_secret))
        return Pause(State.SERVER_WAIT_SECRET, self._after_secret)

    def _after_secret(self, secret: bytes) -> WaitingState:
        hkdf = Hkdf(self.config.engine.crypto, self.choice.psk.psk.hash)
        return self._send_flight(HandshakeSecret(hkdf, secret))

    def _request_retry(self) -> WaitingState:
        self.transcript.replace_with_message_hash()
        group = SelectedNumber(self.choice.group or 0).encode()
        self._send_hello(HELLO_RETRY_RANDOM, {ExtensionType.KEY_SHARE: group})
        return WaitSecondClientHello(self)

    def _send_server_hello(self) -> bytes:
        """Queue ServerHello and return the shared secret, zeros for psk_ke (RFC 8446 §7.1)."""
        engine = self.config.engine
        random = engine.rng.random_bytes(RANDOM_SIZE)
        selected = SelectedNumber(self.choice.psk.index).encode()
        extensions: _Extensions = {ExtensionType.PRE_SHARED_KEY: selected}
        shared_secret = bytes(self.choice.psk.psk.hash.digest_size)
        if self.choice.group is not None and self.choice.share is not None:
            share, shared_secret = engine.crypto.respond_key_exchange(
                GROUPS[self.choice.group], self.choice.share, engine.rng
            )
            entry = KeyShareEntry(self.choice.group, share)
            extensions[ExtensionType.KEY_SHARE] = entry.encode()
        if self.choice.max_fragment_length is not None:
            self.session.limit_fragments(self.choice.max_fragment_length.size)
        self._send_hello(random, extensions)
        return shared_secret

    def _send_hello(self, random: bytes, extensions: _Extensions) -> None:
        extensions[ExtensionType.SUPPORTED_VERSIONS] = SelectedNumber(TLS_1_3).encode()
        order = [kind for kind in self.config.extension_order if kind in extensions]
        ordered = {kind: extensions[kind] for kind in (*order, *extensions)}
        message = ServerHello(random, self.hello.session_id, self.choice.suite, ordered).encode()
        self.transcript.update(message)
        self.session.send_handshake(message)
        if self.hello.session_id:
            self.session.send_change_cipher_spec()

    def _send_flight(self, secret: HandshakeSecret) -> WaitingState:
        session = self.session
        session.handshake_secret = secret
        transcript_hash = self.transcript.digest()
        client = secret.derive_client_traffic(transcript_hash)
        server = secret.derive_server_traffic(transcript_hash)
        session.log_secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET", client.secret)
        session.log_secret("SERVER_HANDSHAKE_TRAFFIC_SECRET", server.secret)
        session.read_with(client)
        session.write_with(server)
        self._send(EncryptedExtensions(self._encrypted_extensions()).encode())
        self._send(Finished(server.verify_data(self.transcript.digest())).encode())
        return self._wait_finished(client, secret.derive_master_secret())

    def _wait_finished(self, client: TrafficSecret, master: MasterSecret) -> WaitingState:
        session = self.session
        transcript_hash = self.transcript.digest()
        session.start_application(master, transcript_hash)
        client_traffic = master.derive_client_traffic(transcript_hash)
        server_traffic = master.derive_server_traffic(transcript_hash)
        session.log_secret("CLIENT_TRAFFIC_SECRET_0", client_traffic.secret)
        session.log_secret("SERVER_TRAFFIC_SECRET_0", server_traffic.secret)
        session.write_with(server_traffic)
        complete = HandshakeComplete(
            cipher_suite=self.choice.suite,
            group=self.choice.group,
            psk_identity=self.choice.psk.psk.identity,
            server_name=self.choice.server_name,
            alpn_protocol=self.choice.alpn_protocol,
        )
        return WaitFinished(session, complete, client.verify_data(transcript_hash), client_traffic)

    def _encrypted_extensions(self) -> _Extensions:
        extensions: _Extensions = {}
        choice = self.choice
        own_limit = self.config.engine.record_size_limit
        if choice.max_fragment_length is not None:
            extensions[ExtensionType.MAX_FRAGMENT_LENGTH] = choice.max_fragment_length.encode()
        if choice.alpn_protocol is not None:
            extensions[ExtensionType.ALPN] = ProtocolNames((choice.alpn_protocol,)).encode()
        if choice.record_size_limit is not None and own_limit is not None:
            extensions[ExtensionType.RECORD_SIZE_LIMIT] = RecordSizeLimit(own_limit).encode()
            self.session.limit_records(ours=own_limit, peers=choice.record_size_limit)
        return extensions

    def _send(self, message: bytes) -> None:
        self.transcript.update(message)
        self.session.send_handshake(message)
