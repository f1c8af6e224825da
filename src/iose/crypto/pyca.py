# SPDX-License-Identifier: Apache-2.0
"""The primitives by pyca/cryptography, hashlib, and libsecp256k1 (coincurve).

This is the one door to cryptography. It holds no state and knows no protocol.
"""

import hashlib
import hmac
from typing import Final, assert_never

import coincurve
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from iose.crypto import block_ciphers
from iose.crypto.base import (
    Aead,
    AeadAlgorithm,
    Curve,
    Group,
    HashAlgorithm,
    Hasher,
    KeyExchange,
    Rng,
)
from iose.crypto.block_ciphers import AES_BLOCK_SIZE, DES_BLOCK_SIZE
from iose.crypto.errors import CryptoError, InvalidSignatureError, InvalidTagError

SCALAR_SIZE: Final = 32
DIGEST_SIZE: Final = 32
POINT_SIZE: Final = 65
UNCOMPRESSED: Final = 0x04  # SEC 1 §2.3.3
X25519_SIZE: Final = 32
MLKEM768_PUBLIC_SIZE: Final = 1184
MLKEM768_CIPHERTEXT_SIZE: Final = 1088
MLKEM_SEED_SIZE: Final = 64
# SEC 2 §2.4.1 and §2.4.2
ORDERS: Final = {
    Curve.SECP256R1: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    Curve.SECP256K1: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
}
_P256 = ec.SECP256R1()
_ECDH = ec.ECDH()
_ECDSA = ec.ECDSA(Prehashed(SHA256()))


class PycaCrypto:
    """Implementation of ``CryptoProvider``; one instance may serve everything."""

    def hash(self, algorithm: HashAlgorithm, data: bytes) -> bytes:
        """Return a digest."""
        return hashlib.new(algorithm.hashlib_name, data).digest()

    def new_hash(self, algorithm: HashAlgorithm) -> Hasher:
        """Return an empty running hash."""
        return hashlib.new(algorithm.hashlib_name)

    def hmac(self, algorithm: HashAlgorithm, key: bytes, data: bytes) -> bytes:
        """Return an HMAC (RFC 2104)."""
        return hmac.digest(key, data, algorithm.hashlib_name)

    def aead(self, algorithm: AeadAlgorithm, key: bytes) -> Aead:
        """Return a cipher for one key.

        Raises:
            CryptoError: The key has the wrong size.
        """
        if len(key) != algorithm.key_size:
            raise CryptoError(f"expected a key of {algorithm.key_size} bytes, found {len(key)}")
        if algorithm in (AeadAlgorithm.AES_128_CCM, AeadAlgorithm.AES_128_CCM_8):
            return _Aead(AESCCM(key, algorithm.tag_size))
        if algorithm is AeadAlgorithm.CHACHA20_POLY1305:
            return _Aead(ChaCha20Poly1305(key))
        return _Aead(AESGCM(key))

    def generate_key_exchange(self, group: Group, rng: Rng) -> KeyExchange:
        """Return a fresh ephemeral key pair; all its randomness comes from ``rng``."""
        match group:
            case Group.SECP256R1:
                return _P256KeyExchange(rng)
            case Group.X25519:
                return _X25519KeyExchange(rng)
            case Group.X25519_MLKEM768:
                return _HybridKeyExchange(_X25519KeyExchange(rng), rng, kem_first=True)
            case Group.SECP256R1_MLKEM768:
                return _HybridKeyExchange(_P256KeyExchange(rng), rng, kem_first=False)
            case _:
                assert_never(group)

    def respond_key_exchange(
        self, group: Group, peer_share: bytes, rng: Rng
    ) -> tuple[bytes, bytes]:
        """Return (our share, shared secret) for a share received: the server's half.

        For the hybrids this encapsulates; ML-KEM's own randomness is OpenSSL's, not ``rng``.

        Raises:
            CryptoError: The peer's share is malformed, or not a point of the group.
        """
        match group:
            case Group.SECP256R1 | Group.X25519:
                pair = self.generate_key_exchange(group, rng)
                return pair.public_share, pair.exchange(peer_share)
            case Group.X25519_MLKEM768:
                kem, classical = _split(peer_share, MLKEM768_PUBLIC_SIZE, X25519_SIZE)
                ciphertext, kem_secret = _encapsulate(kem)
                pair = _X25519KeyExchange(rng)
                return ciphertext + pair.public_share, kem_secret + pair.exchange(classical)
            case Group.SECP256R1_MLKEM768:
                classical, kem = _split(peer_share, POINT_SIZE, MLKEM768_PUBLIC_SIZE)
                ciphertext, kem_secret = _encapsulate(kem)
                point = _P256KeyExchange(rng)
                return point.public_share + ciphertext, point.exchange(classical) + kem_secret
            case _:
                assert_never(group)

    def generate_private_key(self, curve: Curve, rng: Rng) -> bytes:
        """Return a private scalar, uniform in 1..n-1, 32 bytes."""
        while True:
            candidate = rng.random_bytes(32)
            if 0 < int.from_bytes(candidate, "big") < ORDERS[curve]:
                return candidate

    def public_key(self, curve: Curve, private: bytes) -> bytes:
        """Return the uncompressed point of a private scalar, 65 bytes.

        Raises:
            CryptoError: The scalar is zero or not below the order.
        """
        if curve is Curve.SECP256K1:
            return _k1_private(private).public_key.format(compressed=False)
        return _point(_r1_private(private).public_key())

    def check_public_key(self, curve: Curve, public: bytes) -> None:
        """Check that 65 bytes are an uncompressed point of the curve.

        Raises:
            CryptoError: They are not.
        """
        if curve is Curve.SECP256K1:
            _k1_public(public)
        else:
            _r1_public(public)

    def ecdh(self, curve: Curve, private: bytes, peer_public: bytes) -> bytes:
        """Return the X coordinate of the shared point, 32 bytes (SP 800-56A §5.7.1.2).

        Raises:
            CryptoError: The peer's key is not an uncompressed point of the curve.
        """
        if curve is Curve.SECP256R1:
            return _r1_private(private).exchange(_ECDH, _r1_public(peer_public))
        _k1_private(private)
        shared = _k1_public(peer_public).multiply(private)
        return shared.format(compressed=False)[1:33]

    def ecdsa_sign(self, curve: Curve, private: bytes, digest: bytes) -> bytes:
        """Return a DER signature over a 32-byte digest (ANSI X9.62); secp256k1 has low S.

        Raises:
            CryptoError: The key is not valid, or the digest has not 32 bytes.
        """
        _check_digest(digest)
        if curve is Curve.SECP256K1:
            _check_scalar(curve, private)
            return _K1SigningKey(private).sign(digest, hasher=None)
        return _r1_private(private).sign(digest, _ECDSA)

    def ecdsa_verify(self, curve: Curve, public: bytes, digest: bytes, signature: bytes) -> None:
        """Check a DER signature over a 32-byte digest; low and high S are accepted.

        Raises:
            InvalidSignatureError: It does not verify, or is not strict DER.
            CryptoError: The public key is not valid, or the digest has not 32 bytes.
        """
        _check_digest(digest)
        self.check_public_key(curve, public)
        known: ec.EllipticCurve = ec.SECP256K1() if curve is Curve.SECP256K1 else _P256
        key = ec.EllipticCurvePublicKey.from_encoded_point(known, public)
        try:
            key.verify(signature, digest, _ECDSA)
        except InvalidSignature:
            raise InvalidSignatureError("the signature does not verify") from None

    def aes_encrypt_block(self, key: bytes, data: bytes) -> bytes:
        """Return whole 16-byte blocks encrypted one by one, AES-ECB (NIST SP 800-38A §6.1).

        Raises:
            CryptoError: Wrong key size, or not whole blocks.
        """
        encryptor = _ecb(key, data).encryptor()
        return encryptor.update(data) + encryptor.finalize()

    def aes_decrypt_block(self, key: bytes, data: bytes) -> bytes:
        """Return whole 16-byte blocks decrypted one by one, AES-ECB (NIST SP 800-38A §6.1).

        Raises:
            CryptoError: Wrong key size, or not whole blocks.
        """
        decryptor = _ecb(key, data).decryptor()
        return decryptor.update(data) + decryptor.finalize()

    def aes_cbc_encrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Return whole 16-byte blocks encrypted, without padding (NIST SP 800-38A §6.2).

        Raises:
            CryptoError: Wrong size of key or IV, or not whole blocks.
        """
        return block_ciphers.encrypt(block_ciphers.aes_cbc(key, iv), data, AES_BLOCK_SIZE)

    def aes_cbc_decrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Return whole 16-byte blocks decrypted, padding left in place (NIST SP 800-38A §6.2).

        Raises:
            CryptoError: Wrong size of key or IV, or not whole blocks.
        """
        return block_ciphers.decrypt(block_ciphers.aes_cbc(key, iv), data, AES_BLOCK_SIZE)

    def aes_cmac(self, key: bytes, data: bytes) -> bytes:
        """Return the 16-byte CMAC of any data (NIST SP 800-38B).

        Raises:
            CryptoError: Wrong key size.
        """
        return block_ciphers.aes_cmac(key, data)

    def des3_cbc_encrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Return whole 8-byte blocks encrypted with a key of 16 or 24 bytes (NIST SP 800-67).

        Raises:
            CryptoError: Wrong size of key or IV, or not whole blocks.
        """
        return block_ciphers.encrypt(block_ciphers.des3_cbc(key, iv), data, DES_BLOCK_SIZE)

    def des3_cbc_decrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Return whole 8-byte blocks decrypted with a key of 16 or 24 bytes (NIST SP 800-67).

        Raises:
            CryptoError: Wrong size of key or IV, or not whole blocks.
        """
        return block_ciphers.decrypt(block_ciphers.des3_cbc(key, iv), data, DES_BLOCK_SIZE)

    def des3_ecb_encrypt(self, key: bytes, data: bytes) -> bytes:
        """Return whole 8-byte blocks encrypted one by one (NIST SP 800-67, SP 800-38A §6.1).

        Raises:
            CryptoError: Wrong key size, or not whole blocks.
        """
        return block_ciphers.encrypt(block_ciphers.des3_ecb(key), data, DES_BLOCK_SIZE)

    def constant_time_equal(self, left: bytes, right: bytes) -> bool:
        """Return whether two byte strings are equal, in a time that depends on sizes alone."""
        return hmac.compare_digest(left, right)


class _Aead:
    __slots__ = ("_cipher",)

    def __init__(self, cipher: AESCCM | AESGCM | ChaCha20Poly1305) -> None:
        self._cipher = cipher

    def encrypt(self, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
        return self._cipher.encrypt(nonce, plaintext, associated_data)

    def decrypt(self, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
        try:
            return self._cipher.decrypt(nonce, ciphertext, associated_data)
        except InvalidTag:
            raise InvalidTagError("the authentication tag is wrong") from None


class _P256KeyExchange:
    __slots__ = ("_private", "public_share")

    def __init__(self, rng: Rng) -> None:
        self._private = _r1_private(PycaCrypto().generate_private_key(Curve.SECP256R1, rng))
        self.public_share = _point(self._private.public_key())

    def exchange(self, peer_share: bytes) -> bytes:
        return self._private.exchange(_ECDH, _r1_public(peer_share))


class _X25519KeyExchange:
    __slots__ = ("_private", "public_share")

    def __init__(self, rng: Rng) -> None:
        self._private = x25519.X25519PrivateKey.from_private_bytes(rng.random_bytes(X25519_SIZE))
        self.public_share = self._private.public_key().public_bytes_raw()

    def exchange(self, peer_share: bytes) -> bytes:
        try:
            peer = x25519.X25519PublicKey.from_public_bytes(peer_share)
            return self._private.exchange(peer)
        except ValueError:
            raise CryptoError("the peer's X25519 share is not valid") from None


class _HybridKeyExchange:
    __slots__ = ("_classical", "_kem", "_kem_first", "public_share")

    def __init__(self, classical: KeyExchange, rng: Rng, *, kem_first: bool) -> None:
        self._classical = classical
        self._kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(rng.random_bytes(MLKEM_SEED_SIZE))
        self._kem_first = kem_first
        kem_share = self._kem.public_key().public_bytes_raw()
        share = classical.public_share
        self.public_share = kem_share + share if kem_first else share + kem_share

    def exchange(self, peer_share: bytes) -> bytes:
        size = len(self._classical.public_share)
        if self._kem_first:
            ciphertext, share = _split(peer_share, MLKEM768_CIPHERTEXT_SIZE, size)
            return self._kem.decapsulate(ciphertext) + self._classical.exchange(share)
        share, ciphertext = _split(peer_share, size, MLKEM768_CIPHERTEXT_SIZE)
        return self._classical.exchange(share) + self._kem.decapsulate(ciphertext)


def _encapsulate(public: bytes) -> tuple[bytes, bytes]:
    try:
        secret, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError:
        raise CryptoError("the peer's ML-KEM-768 share is not valid") from None
    return ciphertext, secret


def _split(share: bytes, first: int, second: int) -> tuple[bytes, bytes]:
    if len(share) != first + second:
        raise CryptoError(f"expected a share of {first + second} bytes, found {len(share)}")
    return share[:first], share[first:]


def _check_digest(digest: bytes) -> None:
    if len(digest) != DIGEST_SIZE:
        raise CryptoError(f"expected a digest of {DIGEST_SIZE} bytes, found {len(digest)}")


def _check_scalar(curve: Curve, private: bytes) -> int:
    scalar = int.from_bytes(private, "big")
    if len(private) != SCALAR_SIZE or not 0 < scalar < ORDERS[curve]:
        raise CryptoError("the private key is not in 1..n-1")
    return scalar


def _r1_private(private: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(_check_scalar(Curve.SECP256R1, private), _P256)


def _r1_public(public: bytes) -> ec.EllipticCurvePublicKey:
    try:
        if len(public) == POINT_SIZE:
            return ec.EllipticCurvePublicKey.from_encoded_point(_P256, public)
    except ValueError:
        pass
    raise CryptoError("expected an uncompressed point of secp256r1")


class _K1SigningKey(coincurve.PrivateKey):
    """A valid scalar that signs; without the public keys, whose making costs more than signing."""

    def __init__(self, scalar: bytes) -> None:  # coincurve's own would compute them
        self.secret = scalar
        self.context = coincurve.GLOBAL_CONTEXT


def _k1_private(private: bytes) -> coincurve.PrivateKey:
    _check_scalar(Curve.SECP256K1, private)
    return coincurve.PrivateKey(private)


def _k1_public(public: bytes) -> coincurve.PublicKey:
    try:
        if len(public) == POINT_SIZE and public[0] == UNCOMPRESSED:
            return coincurve.PublicKey(public)
    except ValueError:
        pass
    raise CryptoError("expected an uncompressed point of secp256k1")


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _ecb(key: bytes, data: bytes) -> Cipher[modes.ECB]:
    if len(key) not in (16, 24, 32) or len(data) % 16:
        raise CryptoError("expected an AES key and whole 16-byte blocks")
    return Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  # the keystore's A and a commands
