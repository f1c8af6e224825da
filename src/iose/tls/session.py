# SPDX-License-Identifier: Apache-2.0
"""What the waiting states of one engine share: both record layers, the queues, the secrets.

States call it to send messages and to change keys; the engine calls it to move records. It decides
nothing about the handshake.
"""

from collections import deque
from typing import Final

from iose.tls.config import EngineConfig
from iose.tls.constants import (
    MAX_INNER_SIZE,
    TLS_1_0,
    AlertDescription,
    AlertLevel,
    CipherSuite,
    ContentType,
    KeyUpdateRequest,
)
from iose.tls.errors import TlsPeerError
from iose.tls.events import BinderNeeded, Event, HandshakeSecretNeeded
from iose.tls.key_schedule import ExporterSecret, HandshakeSecret, MasterSecret, TrafficSecret
from iose.tls.messages import KeyUpdate
from iose.tls.record_layer import (
    KEY_USAGE_REQUEST_LIMIT,
    KEY_USAGE_SOFT_LIMIT,
    RecordLayer,
    Tls13Protection,
    encode_header,
)
from iose.tls.suites import SUITES

MAX_IDLE_RECORDS: Final = 32
"""Records in a row that carry nothing: what OpenSSL and BoringSSL allow against floods."""

_CHANGE_CIPHER_SPEC = encode_header(ContentType.CHANGE_CIPHER_SPEC, 1) + b"\x01"


class Session:
    """The mutable part of one connection.

    Attributes:
        config: What the owner chose.
        reader: The peer's records.
        writer: Our records.
        events: What the owner has not seen yet.
        records: Records the owner has not taken yet.
        suite: The suite negotiated; it gives keys their sizes.
        handshake_secret: Kept for the attestation of a secure element, until the end.
        exporter: Root of exported keying material, once the handshake is complete.
        early_data_budget: Bytes of refused 0-RTT records still skipped (RFC 8446 §4.2.10).
    """

    __slots__ = (
        "_change_cipher_spec_sent",
        "_idle_records",
        "_read_traffic",
        "_update_requested",
        "_write_traffic",
        "client_random",
        "config",
        "early_data_budget",
        "events",
        "exporter",
        "handshake_secret",
        "reader",
        "records",
        "suite",
        "writer",
    )

    def __init__(self, config: EngineConfig, *, first_version: int = TLS_1_0) -> None:
        self.config = config
        self.reader = RecordLayer()
        self.writer = RecordLayer(padding_unit=config.record_padding, version=first_version)
        self.events: deque[Event] = deque()
        self.records: list[bytes] = []
        self.suite = CipherSuite.TLS_AES_128_GCM_SHA256
        self.client_random = b""
        self.handshake_secret: HandshakeSecret | None = None
        self.exporter: ExporterSecret | None = None
        self.early_data_budget = 0
        self._read_traffic: TrafficSecret | None = None
        self._write_traffic: TrafficSecret | None = None
        self._change_cipher_spec_sent = False
        self._idle_records = 0
        self._update_requested = False

    def send_handshake(self, message: bytes) -> None:
        """Queue one message, in as many records as its size asks for (RFC 8446 §5.1)."""
        self._send(ContentType.HANDSHAKE, message)

    def send_change_cipher_spec(self) -> None:
        """Queue the one ChangeCipherSpec of middlebox compatibility (RFC 8446 §D.4)."""
        if self.config.middlebox_compatibility and not self._change_cipher_spec_sent:
            self._change_cipher_spec_sent = True
            self.records.append(_CHANGE_CIPHER_SPEC)

    def send_alert(self, alert: AlertDescription) -> None:
        """Queue an alert; all we send but close_notify are fatal (RFC 8446 §6)."""
        is_closure = alert is AlertDescription.CLOSE_NOTIFY
        level = AlertLevel.WARNING if is_closure else AlertLevel.FATAL
        self.records.append(self.writer.protect(ContentType.ALERT, bytes((level, alert))))

    def send_data(self, data: bytes) -> None:
        """Queue application data, the key changed when it is due (RFC 8446 §5.5)."""
        if data:
            self._send(ContentType.APPLICATION_DATA, data)

    def send_key_update(self, request: KeyUpdateRequest) -> None:
        """Queue a KeyUpdate and change our keys after it (RFC 8446 §4.6.3)."""
        if self._write_traffic is not None:
            self.send_handshake(KeyUpdate(request).encode())
            self.write_with(self._write_traffic.next_generation())

    def receive_key_update(self, request: KeyUpdateRequest) -> None:
        """Follow the peer's change of keys, and answer if it asks (RFC 8446 §4.6.3)."""
        if self._read_traffic is not None:
            self.read_with(self._read_traffic.next_generation())
        self._update_requested = False
        if request is KeyUpdateRequest.UPDATE_REQUESTED:
            self.send_key_update(KeyUpdateRequest.UPDATE_NOT_REQUESTED)

    def request_key_update_if_due(self) -> None:
        """Ask the peer to change a key that was used often (RFC 8446 §5.5)."""
        if self.reader.sequence >= KEY_USAGE_REQUEST_LIMIT and not self._update_requested:
            self._update_requested = True
            self.send_key_update(KeyUpdateRequest.UPDATE_REQUESTED)

    @property
    def hash_size(self) -> int:
        """Size of the hash of the suite, of secrets and binders."""
        return SUITES[self.suite].hash.digest_size

    def read_with(self, traffic: TrafficSecret) -> None:
        """Open the peer's next records with the keys of ``traffic``."""
        self._read_traffic = traffic
        self.reader.change_protection(self._protection(traffic))

    def write_with(self, traffic: TrafficSecret) -> None:
        """Protect our next records with the keys of ``traffic``."""
        self._write_traffic = traffic
        self.writer.change_protection(self._protection(traffic))

    def limit_fragments(self, size: int) -> None:
        """Obey a negotiated max_fragment_length, both ways (RFC 6066 §4)."""
        self.writer.content_limit = size
        self.writer.inner_limit = size + 1
        self.reader.content_limit = size

    def limit_records(self, *, ours: int, peers: int) -> None:
        """Obey both record_size_limits; they count type and padding (RFC 8449 §4)."""
        self.reader.inner_limit = min(ours, MAX_INNER_SIZE)
        self.writer.inner_limit = min(peers, MAX_INNER_SIZE)
        self.writer.content_limit = self.writer.inner_limit - 1

    def start_application(self, master: MasterSecret, transcript_hash: bytes) -> None:
        """Keep the root of exported keying material (RFC 8446 §7.5)."""
        self.exporter = master.derive_exporter(transcript_hash)
        self.log_secret("EXPORTER_SECRET", self.exporter.secret)

    def log_secret(self, label: str, secret: bytes) -> None:
        """Give a secret to the key log, if there is one."""
        if self.config.key_log is not None:
            self.config.key_log(label, self.client_random, secret)

    def count_idle_record(self) -> None:
        """Count a record that carries nothing.

        Raises:
            TlsPeerError: Too many in a row.
        """
        self._idle_records += 1
        if self._idle_records > MAX_IDLE_RECORDS:
            raise TlsPeerError(
                AlertDescription.UNEXPECTED_MESSAGE,
                f"more than {MAX_IDLE_RECORDS} records in a row without data",
            )

    def count_useful_record(self) -> None:
        """Note that a record carried something."""
        self._idle_records = 0

    def wipe(self) -> None:
        """Drop every secret; what is queued may still be taken, but questions are moot."""
        questions = (BinderNeeded, HandshakeSecretNeeded)
        self.events = deque(event for event in self.events if not isinstance(event, questions))
        self.reader = RecordLayer()
        self.writer = RecordLayer()
        self.handshake_secret = None
        self.exporter = None
        self._read_traffic = None
        self._write_traffic = None

    def _send(self, content_type: ContentType, content: bytes) -> None:
        limit = self.writer.content_limit
        for start in range(0, len(content), limit):
            if self._is_key_worn(content_type):
                self.send_key_update(KeyUpdateRequest.UPDATE_NOT_REQUESTED)
            piece = content[start : start + limit] if len(content) > limit else content
            self.records.append(self.writer.protect(content_type, piece))

    def _is_key_worn(self, content_type: ContentType) -> bool:
        return (
            content_type is ContentType.APPLICATION_DATA
            and self.writer.sequence >= KEY_USAGE_SOFT_LIMIT
        )

    def _protection(self, traffic: TrafficSecret) -> Tls13Protection:
        algorithm = SUITES[self.suite].aead
        aead = self.config.crypto.aead(algorithm, traffic.derive_key(algorithm.key_size))
        return Tls13Protection(aead, traffic.derive_iv(), algorithm.tag_size)
