# SPDX-License-Identifier: Apache-2.0
"""The primitives the project uses, as one Protocol.

``pyca`` implements it; the cost meter of a chip profile wraps it. Keys and secrets are plain
bytes here: who holds them, and for how long, is the caller's business.
"""

from enum import Enum
from typing import Protocol


class HashAlgorithm(Enum):
    """Hash functions: name in hashlib, and size of a digest in bytes."""

    SHA256 = ("sha256", 32)
    SHA384 = ("sha384", 48)
    SHA512 = ("sha512", 64)

    def __init__(self, hashlib_name: str, digest_size: int) -> None:
        # plain attributes: an Enum's value is a slow property, and a handshake asks 25 times
        self.hashlib_name = hashlib_name
        self.digest_size = digest_size


class Curve(Enum):
    """Elliptic curves used for keys and signatures; coordinates and scalars are 32 bytes."""

    SECP256R1 = "secp256r1"
    SECP256K1 = "secp256k1"


class Group(Enum):
    """Key-exchange groups of TLS (RFC 8446 §4.2.7, draft-ietf-tls-ecdhe-mlkem)."""

    SECP256R1 = "secp256r1"
    X25519 = "x25519"
    X25519_MLKEM768 = "X25519MLKEM768"
    SECP256R1_MLKEM768 = "SecP256r1MLKEM768"


class AeadAlgorithm(Enum):
    """Authenticated ciphers: name, and sizes of key and tag in bytes; nonces are 12 bytes."""

    AES_128_GCM = ("aes-128-gcm", 16, 16)
    AES_256_GCM = ("aes-256-gcm", 32, 16)
    AES_128_CCM = ("aes-128-ccm", 16, 16)
    AES_128_CCM_8 = ("aes-128-ccm-8", 16, 8)
    CHACHA20_POLY1305 = ("chacha20-poly1305", 32, 16)

    def __init__(self, label: str, key_size: int, tag_size: int) -> None:
        self.label = label
        self.key_size = key_size
        self.tag_size = tag_size


class Rng(Protocol):
    """A source of random bytes: the operating system's, or a scripted one in tests."""

    def random_bytes(self, count: int) -> bytes:
        """Return ``count`` unpredictable bytes."""


class Hasher(Protocol):
    """A running hash."""

    def update(self, data: bytes) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """Return the hash of what was added so far; more may be added."""

    def copy(self) -> "Hasher":
        """Return an independent running hash with the same content."""


class Aead(Protocol):
    """One key of an authenticated cipher; ciphertexts end with their tag."""

    def encrypt(self, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
        """Return ciphertext and tag. The caller never repeats a nonce."""

    def decrypt(self, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
        """Return the plaintext.

        Raises:
            InvalidTagError: The data is not what was encrypted; no plaintext is released.
        """


class KeyExchange(Protocol):
    """One ephemeral key pair, the side that sends its share first."""

    @property
    def public_share(self) -> bytes:
        """The key_exchange field of the KeyShareEntry (RFC 8446 §4.2.8)."""

    def exchange(self, peer_share: bytes) -> bytes:
        """Return the shared secret; for the hybrids this is the client's decapsulation.

        Raises:
            CryptoError: The peer's share is malformed, or not a point of the group.
        """


class CryptoProvider(Protocol):
    """Every primitive, stateless; errors never hold key material."""

    def hash(self, algorithm: HashAlgorithm, data: bytes) -> bytes:
        """Return a digest."""

    def new_hash(self, algorithm: HashAlgorithm) -> Hasher:
        """Return an empty running hash."""

    def hmac(self, algorithm: HashAlgorithm, key: bytes, data: bytes) -> bytes:
        """Return an HMAC (RFC 2104)."""

    def aead(self, algorithm: AeadAlgorithm, key: bytes) -> Aead:
        """Return a cipher for one key.

        Raises:
            CryptoError: The key has the wrong size.
        """

    def generate_key_exchange(self, group: Group, rng: Rng) -> KeyExchange:
        """Return a fresh ephemeral key pair; all its randomness comes from ``rng``."""

    def respond_key_exchange(
        self, group: Group, peer_share: bytes, rng: Rng
    ) -> tuple[bytes, bytes]:
        """Return (our share, shared secret) for a share received: the server's half.

        For the hybrids this encapsulates; ML-KEM's own randomness is OpenSSL's, not ``rng``.

        Raises:
            CryptoError: The peer's share is malformed, or not a point of the group.
        """

    def generate_private_key(self, curve: Curve, rng: Rng) -> bytes:
        """Return a private scalar, uniform in 1..n-1, 32 bytes."""

    def public_key(self, curve: Curve, private: bytes) -> bytes:
        """Return the uncompressed point of a private scalar, 65 bytes.

        Raises:
            CryptoError: The scalar is zero or not below the order.
        """

    def check_public_key(self, curve: Curve, public: bytes) -> None:
        """Check that 65 bytes are an uncompressed point of the curve.

        Raises:
            CryptoError: They are not.
        """

    def ecdh(self, curve: Curve, private: bytes, peer_public: bytes) -> bytes:
        """Return the X coordinate of the shared point, 32 bytes (SP 800-56A §5.7.1.2).

        Raises:
            CryptoError: The peer's key is not an uncompressed point of the curve.
        """

    def ecdsa_sign(self, curve: Curve, private: bytes, digest: bytes) -> bytes:
        """Return a DER signature over a 32-byte digest (ANSI X9.62); secp256k1 has low S.

        Raises:
            CryptoError: The key is not valid, or the digest has not 32 bytes.
        """

    def ecdsa_verify(self, curve: Curve, public: bytes, digest: bytes, signature: bytes) -> None:
        """Check a DER signature over a 32-byte digest; low and high S are accepted.

        Raises:
            InvalidSignatureError: It does not verify, or is not strict DER.
            CryptoError: The public key is not valid, or the digest has not 32 bytes.
        """

    def aes_encrypt_block(self, key: bytes, data: bytes) -> bytes:
        """Return whole 16-byte blocks encrypted one by one, AES-ECB (NIST SP 800-38A §6.1).

        Raises:
            CryptoError: Wrong key size, or not whole blocks.
        """

    def aes_decrypt_block(self, key: bytes, data: bytes) -> bytes:
        """Return whole 16-byte blocks decrypted one by one, AES-ECB (NIST SP 800-38A §6.1).

        Raises:
            CryptoError: Wrong key size, or not whole blocks.
        """

    def aes_cbc_encrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Return whole 16-byte blocks encrypted, without padding (NIST SP 800-38A §6.2).

        Raises:
            CryptoError: Wrong size of key or IV, or not whole blocks.
        """

    def aes_cbc_decrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Return whole 16-byte blocks decrypted, padding left in place (NIST SP 800-38A §6.2).

        Raises:
            CryptoError: Wrong size of key or IV, or not whole blocks.
        """

    def aes_cmac(self, key: bytes, data: bytes) -> bytes:
        """Return the 16-byte CMAC of any data (NIST SP 800-38B).

        Raises:
            CryptoError: Wrong key size.
        """

    def des3_cbc_encrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Return whole 8-byte blocks encrypted with a key of 16 or 24 bytes (NIST SP 800-67).

        Raises:
            CryptoError: Wrong size of key or IV, or not whole blocks.
        """

    def des3_cbc_decrypt(self, key: bytes, iv: bytes, data: bytes) -> bytes:
        """Return whole 8-byte blocks decrypted with a key of 16 or 24 bytes (NIST SP 800-67).

        Raises:
            CryptoError: Wrong size of key or IV, or not whole blocks.
        """

    def des3_ecb_encrypt(self, key: bytes, data: bytes) -> bytes:
        """Return whole 8-byte blocks encrypted one by one (NIST SP 800-67, SP 800-38A §6.1).

        Raises:
            CryptoError: Wrong key size, or not whole blocks.
        """

    def constant_time_equal(self, left: bytes, right: bytes) -> bool:
        """Return whether two byte strings are equal, in a time that depends on sizes alone."""
