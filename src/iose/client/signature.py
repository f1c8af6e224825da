# SPDX-License-Identifier: Apache-2.0
"""ECDSA signatures as elements give them: strict DER, S low or high, digest taken as it is."""

from typing import Final

from iose.crypto.base import Curve
from iose.crypto.errors import CryptoError
from iose.crypto.pyca import ORDERS, PycaCrypto
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader

DIGEST_SIZE: Final = 32
INTEGER_SIZE: Final = 32
SEQUENCE: Final = 0x30  # X.690 §8.9
INTEGER: Final = 0x02  # X.690 §8.3
_CRYPTO: Final = PycaCrypto()


def verify_signature(
    public: bytes, digest: bytes, signature: bytes, *, curve: Curve = Curve.SECP256K1
) -> None:
    """Check a DER signature; low and high S are accepted (ANSI X9.62).

    Args:
        public: Uncompressed point, 65 bytes.
        digest: What the element was given to sign; short ones are padded on the left, as there.
        signature: The element's answer.
        curve: The curve of the key.

    Raises:
        InvalidSignatureError: It does not verify, or is not strict DER.
        CryptoError: The digest is too long, or the public key is not a point of the curve.
    """
    if len(digest) > DIGEST_SIZE:
        raise CryptoError(f"expected a digest of at most {DIGEST_SIZE} bytes, found {len(digest)}")
    _CRYPTO.ecdsa_verify(curve, public, digest.rjust(DIGEST_SIZE, b"\0"), signature)


def lower_s(signature: bytes, *, curve: Curve = Curve.SECP256K1) -> bytes:
    """Return the same signature with S at most n/2, which some verifiers insist on (BIP 62).

    Raises:
        DecodeError: It is not strict DER, or no signature on this curve.
    """
    r, s = decode_signature(signature)
    order = ORDERS[curve]
    if max(r, s) >= order:
        raise DecodeError("expected numbers below the order of the curve")
    return encode_signature(r, min(s, order - s))


def decode_signature(signature: bytes) -> tuple[int, int]:
    """Return r and s of a strict DER signature (X.690 §10).

    Raises:
        DecodeError: It is not strict DER, or a number is not positive.
    """
    outer = ByteReader(signature)
    if outer.read_uint8() != SEQUENCE:
        raise DecodeError("expected a DER sequence")
    body = outer.read_vector(1)
    outer.finish()
    r, s = _decode_integer(body), _decode_integer(body)
    body.finish()
    return r, s


def encode_signature(r: int, s: int) -> bytes:
    """Return two positive numbers as a DER signature (X.690 §10)."""
    body = _encode_integer(r) + _encode_integer(s)
    return bytes((SEQUENCE, len(body))) + body


def _decode_integer(reader: ByteReader) -> int:
    if reader.read_uint8() != INTEGER:
        raise DecodeError("expected a DER integer", offset=reader.offset - 1)
    content = reader.read_opaque(1, low=1, high=INTEGER_SIZE + 1)
    value = int.from_bytes(content, "big", signed=True)
    if value <= 0 or _encode_integer(value)[2:] != content:
        raise DecodeError("expected a positive integer in its shortest form", offset=reader.offset)
    return value


def _encode_integer(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes((INTEGER, len(content))) + content
