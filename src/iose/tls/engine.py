# SPDX-License-Identifier: Apache-2.0
"""The one face of the TLS state machines: bytes in, events and records out, nothing else."""

from typing import Protocol

from iose.tls.events import Event


class TlsEngine(Protocol):
    """One TLS connection, either role, any version; it owns no socket and no clock."""

    @property
    def is_open(self) -> bool:
        """Whether application data may flow."""

    @property
    def is_closed(self) -> bool:
        """Whether the session is over: closed by either side, or after an error."""

    @property
    def handshake_secret(self) -> bytes | None:
        """The handshake secret (RFC 8446 §7.1) once known; None before, and after the end.

        Only the attestation of a secure element has business with it.
        """

    def start(self) -> None:
        """Begin the handshake: a client queues its ClientHello; a server does nothing.

        Raises:
            LocalProtocolError: Called twice.
        """

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the network, any split; events and records to send follow from them.

        Raises:
            TlsPeerError: The peer broke TLS; the alert is queued, the engine closed.
            AlertReceived: The peer sent a fatal alert; the engine is closed.
        """

    def next_event(self) -> Event | None:
        """Return the oldest event not yet seen, or None."""

    def records_to_send(self) -> list[bytes]:
        """Return whole records not yet taken, one handshake message each, in order."""

    def data_to_send(self) -> bytes:
        """Return the same, joined."""

    def send_data(self, data: bytes) -> None:
        """Queue application data, in as many records as the limits ask for; b"" sends nothing.

        Raises:
            LocalProtocolError: The session is not open.
        """

    def send_key_update(self, *, request_peer: bool) -> None:
        """Change our sending keys, and ask the peer for the same (RFC 8446 §4.6.3).

        Raises:
            LocalProtocolError: The session is not open.
        """

    def close(self) -> None:
        """Queue close_notify and close; harmless when closed already."""

    def provide_binder(self, binder: bytes) -> None:
        """Answer ``BinderNeeded``.

        Raises:
            LocalProtocolError: None was asked for, or its size is wrong; nothing changes.
            TlsPeerError: It differs from the client's binder (server only), or the peer broke TLS
                meanwhile; the alert is queued, the engine closed.
            AlertReceived: The peer gave up meanwhile; the engine is closed.
        """

    def provide_handshake_secret(self, secret: bytes) -> None:
        """Answer ``HandshakeSecretNeeded``.

        Raises:
            LocalProtocolError: None was asked for, or its size is wrong; nothing changes.
            TlsPeerError: The peer broke TLS meanwhile; the alert is queued, the engine closed.
            AlertReceived: The peer gave up meanwhile; the engine is closed.
        """

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return an exporter value (RFC 8446 §7.5).

        Raises:
            LocalProtocolError: The handshake is not complete, the length is over 255 hashes, or the
                label over 249 bytes.
        """
