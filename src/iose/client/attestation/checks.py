# SPDX-License-Identifier: Apache-2.0
"""Checks of what an element says of itself: its certificate, its proof, its statement.

Pure. Keys are on secp256k1, the only curve of the application's key.
"""

from typing import Final

from iose.client.signature import encode_signature
from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.errors import InvalidSignatureError
from iose.crypto.pyca import PycaCrypto
from iose.protocols.attestation import SignedStatement, statement_digest

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
    verify_proof_digest(public, proof_digest(handshake_secret, challenge), signature)


def proof_digest(handshake_secret: bytes, challenge: bytes) -> bytes:
    """Return what a proof signs; it tells nothing of the secret."""
    message = handshake_secret + challenge.rjust(MAX_CHALLENGE_SIZE, b"\0")
    return _CRYPTO.hash(HashAlgorithm.SHA256, message)


def verify_proof_digest(public: bytes, digest: bytes, signature: bytes) -> None:
    """Check a proof whose digest somebody kept.

    Raises:
        InvalidSignatureError: The application did not sign it.
        CryptoError: The key is not a point of the curve, or the digest has not 32 bytes.
    """
    _CRYPTO.ecdsa_verify(Curve.SECP256K1, public, digest, signature)


def verify_statement(
    public: bytes, exporter: bytes, challenge: bytes, signed: SignedStatement
) -> None:
    """Check that an element's application made a statement, for one session and one challenge.

    Args:
        public: The application's public key, 65 bytes.
        exporter: Of our end of the session, ``EXPORTER_LABEL`` without context: no relay has it.
        challenge: What we sent, 32 bytes.
        signed: The element's answer.

    Raises:
        InvalidSignatureError: It did not, or it was made for another session or challenge.
        CryptoError: The key is not a point of the curve.
        DecodeError: What was signed is no statement.
    """
    digest = statement_digest(_CRYPTO, signed.content)
    _CRYPTO.ecdsa_verify(Curve.SECP256K1, public, digest, signed.signature)
    stated = signed.statement()
    if stated.public_key != public:
        raise InvalidSignatureError("the statement is on another application key")
    if stated.challenge != challenge:
        raise InvalidSignatureError("the statement answers another challenge")
    if not _CRYPTO.constant_time_equal(stated.exporter, exporter):
        raise InvalidSignatureError("the statement was made in another session")
