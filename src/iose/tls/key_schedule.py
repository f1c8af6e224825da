# SPDX-License-Identifier: Apache-2.0
"""The secrets of TLS 1.3 by stage (RFC 8446 §7).

Each stage is a type, so that a secret cannot be asked for too early, and the schedule can begin at
any stage: at a PSK, at values once derived from it, or at a handshake secret made elsewhere.
"""

from dataclasses import dataclass, field
from typing import Final

from iose.crypto.base import CryptoProvider, HashAlgorithm
from iose.wire.errors import LocalProtocolError

IV_SIZE: Final = 12
HKDF_MAX_BLOCKS: Final = 255  # RFC 5869 §2.3
LABEL_MAX_SIZE: Final = 255  # with its prefix (RFC 8446 §7.1)
_LABEL_PREFIX = b"tls13 "


class Hkdf:
    """HKDF with one hash (RFC 5869), and the labels of TLS 1.3 on top (RFC 8446 §7.1)."""

    __slots__ = ("_algorithm", "_crypto", "_prefix", "empty_hash", "size")

    def __init__(
        self, crypto: CryptoProvider, algorithm: HashAlgorithm, prefix: bytes = _LABEL_PREFIX
    ) -> None:
        self._crypto = crypto
        self._algorithm = algorithm
        self._prefix = prefix
        self.size = algorithm.digest_size
        self.empty_hash = crypto.hash(algorithm, b"")

    def hmac(self, key: bytes, data: bytes) -> bytes:
        """Return an HMAC with the hash of this HKDF."""
        return self._crypto.hmac(self._algorithm, key, data)

    def hash(self, data: bytes) -> bytes:
        """Return a digest with the hash of this HKDF."""
        return self._crypto.hash(self._algorithm, data)

    def extract(self, salt: bytes, material: bytes) -> bytes:
        """Return HKDF-Extract (RFC 5869 §2.2)."""
        return self._crypto.hmac(self._algorithm, salt, material)

    def expand_label(self, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        """Return HKDF-Expand-Label (RFC 8446 §7.1).

        Raises:
            LocalProtocolError: More than 255 hashes were asked for, or the label is too long.
        """
        name = self._prefix + label
        if length > HKDF_MAX_BLOCKS * self.size or length < 0 or len(name) > LABEL_MAX_SIZE:
            raise LocalProtocolError(f"{length} bytes for a label of {len(label)}")
        info = b"%b%c%b%c%b" % (length.to_bytes(2, "big"), len(name), name, len(context), context)
        block = self._crypto.hmac(self._algorithm, secret, info + b"\x01")
        if length <= self.size:
            return block[:length]
        output = block
        counter = 1
        while len(output) < length:
            counter += 1
            block = self._crypto.hmac(self._algorithm, secret, b"%b%b%c" % (block, info, counter))
            output += block
        return output[:length]

    def derive_secret(self, secret: bytes, label: bytes, transcript_hash: bytes) -> bytes:
        """Return Derive-Secret, the messages already hashed (RFC 8446 §7.1)."""
        return self.expand_label(secret, label, transcript_hash, self.size)


@dataclass(frozen=True, slots=True)
class PskSecrets:
    """All that handshakes need of one PSK; made once, kept by whoever owns the PSK.

    Attributes:
        early_secret: HKDF-Extract(0, PSK).
        derived_secret: Derive-Secret(early secret, "derived", ""), salt of the handshake secret.
        binder_finished_key: The HMAC key of the binder.
    """

    early_secret: bytes = field(repr=False)
    derived_secret: bytes = field(repr=False)
    binder_finished_key: bytes = field(repr=False)


def derive_psk_secrets(hkdf: Hkdf, psk: bytes, *, resumption: bool = False) -> PskSecrets:
    """Return what a PSK gives before any handshake (RFC 8446 §7.1).

    Args:
        hkdf: With the hash that goes with the PSK.
        psk: The key; zeros of the hash's size when there is none.
        resumption: Whether the PSK came with a ticket, which changes the binder's label.
    """
    early = hkdf.extract(bytes(hkdf.size), psk)
    label = b"res binder" if resumption else b"ext binder"
    binder_key = hkdf.derive_secret(early, label, hkdf.empty_hash)
    return PskSecrets(
        early_secret=early,
        derived_secret=hkdf.derive_secret(early, b"derived", hkdf.empty_hash),
        binder_finished_key=hkdf.expand_label(binder_key, b"finished", b"", hkdf.size),
    )


@dataclass(frozen=True, slots=True)
class TrafficSecret:
    """One direction's secret of one epoch (RFC 8446 §7.2, §7.3)."""

    hkdf: Hkdf = field(repr=False)
    secret: bytes = field(repr=False)

    def derive_key(self, size: int) -> bytes:
        """Return the record key, ``size`` bytes."""
        return self.hkdf.expand_label(self.secret, b"key", b"", size)

    def derive_iv(self) -> bytes:
        """Return the record IV, 12 bytes."""
        return self.hkdf.expand_label(self.secret, b"iv", b"", IV_SIZE)

    def verify_data(self, transcript_hash: bytes) -> bytes:
        """Return the content of a Finished made with this secret (RFC 8446 §4.4.4)."""
        key = self.hkdf.expand_label(self.secret, b"finished", b"", self.hkdf.size)
        return self.hkdf.hmac(key, transcript_hash)

    def next_generation(self) -> "TrafficSecret":
        """Return the secret after a KeyUpdate (RFC 8446 §7.2)."""
        following = self.hkdf.expand_label(self.secret, b"traffic upd", b"", self.hkdf.size)
        return TrafficSecret(self.hkdf, following)


@dataclass(frozen=True, slots=True)
class EarlySecret:
    """The first stage: a PSK alone."""

    hkdf: Hkdf = field(repr=False)
    psk: PskSecrets = field(repr=False)

    def derive_binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over a truncated ClientHello (RFC 8446 §4.2.11.2)."""
        return self.hkdf.hmac(self.psk.binder_finished_key, transcript_hash)

    def derive_client_traffic(self, transcript_hash: bytes) -> TrafficSecret:
        """Return client_early_traffic_secret over the ClientHello."""
        return self._derive(b"c e traffic", transcript_hash)

    def derive_exporter(self, transcript_hash: bytes) -> "ExporterSecret":
        """Return early_exporter_master_secret over the ClientHello."""
        return ExporterSecret(self.hkdf, self._derive(b"e exp master", transcript_hash).secret)

    def derive_handshake_secret(self, shared_secret: bytes) -> "HandshakeSecret":
        """Return the second stage; without (EC)DHE the input is zeros of the hash's size."""
        return HandshakeSecret(self.hkdf, self.hkdf.extract(self.psk.derived_secret, shared_secret))

    def _derive(self, label: bytes, transcript_hash: bytes) -> TrafficSecret:
        secret = self.hkdf.derive_secret(self.psk.early_secret, label, transcript_hash)
        return TrafficSecret(self.hkdf, secret)


@dataclass(frozen=True, slots=True)
class HandshakeSecret:
    """The second stage: PSK and key exchange; it can be built from the secret alone."""

    hkdf: Hkdf = field(repr=False)
    secret: bytes = field(repr=False)

    def derive_client_traffic(self, transcript_hash: bytes) -> TrafficSecret:
        """Return client_handshake_traffic_secret over ClientHello..ServerHello."""
        return TrafficSecret(
            self.hkdf, self.hkdf.derive_secret(self.secret, b"c hs traffic", transcript_hash)
        )

    def derive_server_traffic(self, transcript_hash: bytes) -> TrafficSecret:
        """Return server_handshake_traffic_secret over ClientHello..ServerHello."""
        return TrafficSecret(
            self.hkdf, self.hkdf.derive_secret(self.secret, b"s hs traffic", transcript_hash)
        )

    def derive_master_secret(self) -> "MasterSecret":
        """Return the last stage."""
        salt = self.hkdf.derive_secret(self.secret, b"derived", self.hkdf.empty_hash)
        return MasterSecret(self.hkdf, self.hkdf.extract(salt, bytes(self.hkdf.size)))


@dataclass(frozen=True, slots=True)
class MasterSecret:
    """The last stage: application traffic, exporter and resumption."""

    hkdf: Hkdf = field(repr=False)
    secret: bytes = field(repr=False)

    def derive_client_traffic(self, transcript_hash: bytes) -> TrafficSecret:
        """Return client_application_traffic_secret_0 over ClientHello..server Finished."""
        return TrafficSecret(
            self.hkdf, self.hkdf.derive_secret(self.secret, b"c ap traffic", transcript_hash)
        )

    def derive_server_traffic(self, transcript_hash: bytes) -> TrafficSecret:
        """Return server_application_traffic_secret_0 over ClientHello..server Finished."""
        return TrafficSecret(
            self.hkdf, self.hkdf.derive_secret(self.secret, b"s ap traffic", transcript_hash)
        )

    def derive_exporter(self, transcript_hash: bytes) -> "ExporterSecret":
        """Return exporter_master_secret over ClientHello..server Finished."""
        secret = self.hkdf.derive_secret(self.secret, b"exp master", transcript_hash)
        return ExporterSecret(self.hkdf, secret)

    def derive_resumption(self, transcript_hash: bytes) -> bytes:
        """Return resumption_master_secret over ClientHello..client Finished."""
        return self.hkdf.derive_secret(self.secret, b"res master", transcript_hash)


@dataclass(frozen=True, slots=True)
class ExporterSecret:
    """The root of exported keying material (RFC 8446 §7.5)."""

    hkdf: Hkdf = field(repr=False)
    secret: bytes = field(repr=False)

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return TLS-Exporter(label, context, length).

        Raises:
            LocalProtocolError: More than 255 hashes were asked for, or the label is too long.
        """
        base = self.hkdf.derive_secret(self.secret, label, self.hkdf.empty_hash)
        return self.hkdf.expand_label(base, b"exporter", self.hkdf.hash(context), length)
