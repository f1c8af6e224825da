# SPDX-License-Identifier: Apache-2.0
"""What an engine tells its owner, in order, from ``TlsEngine.next_event``."""

from dataclasses import dataclass, field

from iose.tls.constants import AlertDescription, CipherSuite, NamedGroup


@dataclass(frozen=True, slots=True)
class BinderNeeded:
    """The PSK is elsewhere: give HMAC(binder finished key, hash) to ``provide_binder``.

    The server compares it with the client's binder in constant time; the client sends it.
    """

    identity: bytes
    transcript_hash: bytes


@dataclass(frozen=True, slots=True)
class HandshakeSecretNeeded:
    """The PSK is elsewhere: give HKDF-Extract(derived secret, shared_secret).

    Answered by ``provide_handshake_secret``; the engine goes on from that secret alone.
    """

    identity: bytes
    shared_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HandshakeComplete:
    """Both Finished are verified; application data may flow both ways."""

    cipher_suite: CipherSuite
    group: NamedGroup | None
    psk_identity: bytes
    server_name: str | None
    alpn_protocol: bytes | None


@dataclass(frozen=True, slots=True)
class ApplicationData:
    """The plaintext of one record, never empty of meaning: record boundaries are kept."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyUpdated:
    """The peer changed its sending keys (RFC 8446 §4.6.3)."""


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The peer sent close_notify, or another alert, which ended the session."""

    alert: AlertDescription


Event = (
    BinderNeeded
    | HandshakeSecretNeeded
    | HandshakeComplete
    | ApplicationData
    | KeyUpdated
    | PeerClosed
)
