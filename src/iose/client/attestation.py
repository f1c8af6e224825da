# SPDX-License-Identifier: Apache-2.0
"""Checks of what an element says of itself: its certificate, and its proof of this session.

Pure. Keys are on secp256k1, the only curve of the application's key.
"""

from typing import Final

from iose.client.signature import encode_signature
from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.errors import InvalidSignatureError
from iose.crypto.pyca import PycaCrypto

CERTIFICATE_SIZE: Final = 64
MAX_CHALLENGE_SIZE: Final = 32
_HALF: Final = 32
_CRYPTO: Final = PycaCrypto()


def verify_certificate(authority: bytes, public: bytes, certificate: bytes) -> None:
    """Check that an authority signed an application's public key.

    Args:
        authority: The authority's public key, 65 bytes.
        public: The application's public key, 65 bytes.
        certificate: r and s, 32 bytes each.

    Raises:
        InvalidSignatureError: It did not, or there is no certificate.
        CryptoError: A key is not a point of the curve.
    """
    r, s = (int.from_bytes(half, "big") for half in (certificate[:_HALF], certificate[_HALF:]))
    if len(certificate) != CERTIFICATE_SIZE or not r or not s:
        raise InvalidSignatureError("the element has no certificate")
    digest = _CRYPTO.hash(HashAlgorithm.SHA256, public[1:])
    _CRYPTO.ecdsa_verify(Curve.SECP256K1, authority, digest, encode_signature(r, s))


def verify_proof(
    public: bytes, handshake_secret: bytes, challenge: bytes, signature: bytes
) -> None:
    """Check that the other end of a session holds an application's private key.

    Args:
        public: The application's public key, 65 bytes.
        handshake_secret: Of our end of the session, 32 bytes: no relay has the same.
        challenge: What we sent, 1 to 32 bytes.
        signature: The element's answer, DER.

    Raises:
        InvalidSignatureError: It does not, or the session has another end.
        CryptoError: The key is not a point of the curve.
    """
    message = handshake_secret + challenge.rjust(MAX_CHALLENGE_SIZE, b"\0")
    digest = _CRYPTO.hash(HashAlgorithm.SHA256, message)
    _CRYPTO.ecdsa_verify(Curve.SECP256K1, public, digest, signature)
