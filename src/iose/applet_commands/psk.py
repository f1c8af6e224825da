# SPDX-License-Identifier: Apache-2.0
"""A PSK of the element with all that is derived from it, once, when it is set (RFC 8446 §7.1).

A handshake needs three of the derived secrets and not the PSK, which only ?AA compares: no
handshake derives anything again, and a PSK set with a salt of its own works like any other.
"""

from dataclasses import dataclass, field, fields
from typing import Final

from iose.crypto.base import CryptoProvider, HashAlgorithm
from iose.tls.key_schedule import Hkdf, PskSecrets
from iose.wire.errors import DecodeError

PSK_SIZE: Final = 32
DEMO_PSK: Final = bytes(range(1, PSK_SIZE + 1))
SECRET_SIZE: Final = 32
NO_SALT: Final = bytes(SECRET_SIZE)


@dataclass(frozen=True, slots=True)
class ElementPsk:
    """A PSK and its six secrets, in the order INS 85 returns them."""

    psk: bytes = field(repr=False)
    early: bytes = field(repr=False)
    derived: bytes = field(repr=False)
    external_binder: bytes = field(repr=False)
    resumption_binder: bytes = field(repr=False)
    external_finished: bytes = field(repr=False)
    resumption_finished: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the PSK and the six secrets, joined."""
        return self.psk + self.six_secrets

    @property
    def six_secrets(self) -> bytes:
        """What is derived from the PSK, joined."""
        return b"".join(getattr(self, item.name) for item in fields(self)[1:])

    @classmethod
    def decode(cls, data: bytes) -> "ElementPsk":
        """Return the PSK that ``encode`` made.

        Raises:
            DecodeError: It has another size.
        """
        if len(data) != len(fields(cls)) * SECRET_SIZE:
            raise DecodeError(f"a stored PSK of {len(data)} bytes")
        return cls(*(data[i : i + SECRET_SIZE] for i in range(0, len(data), SECRET_SIZE)))

    def schedule_secrets(self) -> PskSecrets:
        """Return what the key schedule of a handshake begins with."""
        return PskSecrets(self.early, self.derived, self.external_finished)


def derive_psk(
    crypto: CryptoProvider, psk: bytes, *, salt: bytes = NO_SALT, reference: bool = False
) -> ElementPsk:
    """Return a PSK with its secrets (RFC 8446 §7.1).

    Args:
        crypto: The primitives.
        psk: The pre-shared key, 32 bytes; of another size it cannot be stored by ``encode``.
        salt: Salt of the first extraction; TLS 1.3 uses zeros.
        reference: Derive the resumption binder key over an empty context, as the published
            1.3 applet does by mistake; TLS-SE never uses it.
    """
    hkdf = Hkdf(crypto, HashAlgorithm.SHA256)
    early = hkdf.extract(salt, psk)
    external = hkdf.derive_secret(early, b"ext binder", hkdf.empty_hash)
    resumption = hkdf.derive_secret(early, b"res binder", b"" if reference else hkdf.empty_hash)
    return ElementPsk(
        psk,
        early,
        hkdf.derive_secret(early, b"derived", hkdf.empty_hash),
        external,
        resumption,
        hkdf.derive_secret(external, b"finished", b""),
        hkdf.derive_secret(resumption, b"finished", b""),
    )
