# SPDX-License-Identifier: Apache-2.0
"""Keys on an elliptic curve as PEM: SubjectPublicKeyInfo, PKCS #8, and the older SEC 1 form.

For keys that other programs made, or shall read. Files are the caller's.
"""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from iose.crypto.base import Curve
from iose.crypto.pyca import SCALAR_SIZE, PycaCrypto
from iose.wire.errors import DecodeError

_CURVES = {Curve.SECP256R1: ec.SECP256R1(), Curve.SECP256K1: ec.SECP256K1()}
_FAULTS = (ValueError, TypeError, UnsupportedAlgorithm)


def encode_private_key(curve: Curve, private: bytes) -> str:
    """Return a private scalar as PEM, PKCS #8, not encrypted (RFC 5958).

    Raises:
        CryptoError: The scalar is zero or not below the order.
    """
    PycaCrypto().public_key(curve, private)
    key = ec.derive_private_key(int.from_bytes(private, "big"), _CURVES[curve])
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def encode_public_key(curve: Curve, public: bytes) -> str:
    """Return an uncompressed point as PEM, SubjectPublicKeyInfo (RFC 5480 §2).

    Raises:
        CryptoError: It is no point of the curve.
    """
    PycaCrypto().check_public_key(curve, public)
    key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve], public)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def decode_private_key(pem: bytes, curve: Curve) -> bytes:
    """Return the scalar of a private key in PEM, 32 bytes; the message never holds it.

    Raises:
        DecodeError: It is none, encrypted, or on another curve.
    """
    try:
        key = load_pem_private_key(pem, None)
    except _FAULTS:
        raise DecodeError("expected a private key in PEM, not encrypted") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != curve.value:
        raise DecodeError(f"expected a private key on {curve.value}")
    return key.private_numbers().private_value.to_bytes(SCALAR_SIZE, "big")


def decode_public_key(pem: bytes, curve: Curve) -> bytes:
    """Return the uncompressed point of a public key in PEM, 65 bytes.

    Raises:
        DecodeError: It is none, or on another curve.
    """
    try:
        key = load_pem_public_key(pem)
    except _FAULTS:
        raise DecodeError("expected a public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve.value:
        raise DecodeError(f"expected a public key on {curve.value}")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
