# SPDX-License-Identifier: Apache-2.0
"""Hashes, ciphers, curves and signatures against published vectors, and what they refuse."""

import pytest

from iose.crypto.base import AeadAlgorithm, Curve, HashAlgorithm
from iose.crypto.errors import CryptoError, InvalidSignatureError, InvalidTagError
from iose.crypto.pyca import ORDERS, PycaCrypto
from tests.support.shared import shared_json

CRYPTO = PycaCrypto()
CURVES = {"P-256": Curve.SECP256R1, "secp256k1": Curve.SECP256K1}
HASHES = {
    "sha256": HashAlgorithm.SHA256,
    "sha384": HashAlgorithm.SHA384,
    "sha512": HashAlgorithm.SHA512,
}
ECC = "ecc_raw.json"
TAG_BITS = {8: AeadAlgorithm.AES_128_CCM_8, 16: AeadAlgorithm.AES_128_CCM}


def raw(entry: dict[str, str], *names: str) -> list[bytes]:
    return [bytes.fromhex(entry[name]) for name in names]


# --- hashes --------------------------------------------------------------------------------


# FIPS 180-4 examples: the message "abc"
@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        (HashAlgorithm.SHA256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            HashAlgorithm.SHA384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
            "8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            HashAlgorithm.SHA512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ],
)
def test_hashes_of_fips_180_4_whole_and_split(algorithm: HashAlgorithm, digest: str):
    assert CRYPTO.hash(algorithm, b"abc").hex() == digest
    assert algorithm.digest_size == len(digest) // 2
    running = CRYPTO.new_hash(algorithm)
    running.update(b"a")
    branch = running.copy()
    running.update(b"bc")
    assert running.digest().hex() == digest
    branch.update(b"b")
    branch.update(b"c")
    assert branch.digest() == branch.digest() == running.digest()


# RFC 4231 §4.2 to §4.4
@pytest.mark.parametrize(
    ("algorithm", "key", "data", "mac"),
    [
        (
            HashAlgorithm.SHA256,
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            HashAlgorithm.SHA256,
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            HashAlgorithm.SHA256,
            b"\xaa" * 20,
            b"\xdd" * 50,
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            HashAlgorithm.SHA384,
            b"Jefe",
            b"what do ya want for nothing?",
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
            "8e2240ca5e69e2c78b3239ecfab21649",
        ),
        (
            HashAlgorithm.SHA512,
            b"Jefe",
            b"what do ya want for nothing?",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
            "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
    ],
)
def test_macs_of_rfc_4231(algorithm: HashAlgorithm, key: bytes, data: bytes, mac: str):
    assert CRYPTO.hmac(algorithm, key, data).hex() == mac


def test_key_derivations_of_rfc_5869_from_our_mac():
    tried = 0
    for entry in shared_json(ECC)["hkdf"]:
        if entry["hash"] not in HASHES:
            continue
        algorithm = HASHES[entry["hash"]]
        ikm, salt, info, okm = raw(entry, "ikm", "salt", "info", "okm")
        secret = CRYPTO.hmac(algorithm, salt or bytes(algorithm.digest_size), ikm)
        block, output = b"", b""
        for number in range(1, -(-len(okm) // algorithm.digest_size) + 1):
            block = CRYPTO.hmac(algorithm, secret, block + info + bytes((number,)))
            output += block
        assert output[: len(okm)] == okm, entry["source"]
        tried += 1
    assert tried


# --- ciphers -------------------------------------------------------------------------------

# NIST GCM test cases 4 and 16 (their key, 16 bytes, is doubled), RFC 8439 §2.8.2
GCM_KEY = "feffe9928665731c6d6a8f9467308308"
GCM_TEXT = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
).hex()
GCM_NONCE = "cafebabefacedbaddecaf888"
GCM_AAD = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
AEADS = [
    (
        AeadAlgorithm.AES_128_GCM,
        (GCM_KEY, GCM_NONCE, GCM_AAD, GCM_TEXT),
        "42831ec2217774244b7221b784d0d49c",
        "5bc94fbc3221a5db94fae95ae7121a47",
    ),
    (
        AeadAlgorithm.AES_256_GCM,
        (GCM_KEY * 2, GCM_NONCE, GCM_AAD, GCM_TEXT),
        "522dc1f099567d07f47f37a32a84427d",
        "76fc6ece0f4e1768cddf8853bb2d551b",
    ),
    (
        AeadAlgorithm.CHACHA20_POLY1305,
        (
            bytes(range(0x80, 0xA0)).hex(),
            "070000004041424344454647",
            "50515253c0c1c2c3c4c5c6c7",
            SUNSCREEN,
        ),
        "d31a8d34648e60db7b86afbc53ef7ec2",
        "1ae10b594f09e26a7e902ecbd0600691",
    ),
]


@pytest.mark.parametrize(("algorithm", "fields", "start", "tag"), AEADS)
def test_ciphers_of_the_standards(
    algorithm: AeadAlgorithm, fields: tuple[str, str, str, str], start: str, tag: str
):
    key, nonce, aad, text = (bytes.fromhex(field) for field in fields)
    cipher = CRYPTO.aead(algorithm, key)
    sealed = cipher.encrypt(nonce, text, aad)
    assert sealed.hex().startswith(start)
    assert sealed[-algorithm.tag_size :].hex() == tag
    assert cipher.decrypt(nonce, sealed, aad) == text


def test_ccm_of_rfc_3610_and_nist_with_the_nonces_of_tls():
    tried = 0
    for entry in shared_json(ECC)["aes_ccm"]:
        key, nonce, aad, text, ciphertext, tag = raw(
            entry, "key", "nonce", "aad", "plaintext", "ciphertext", "tag"
        )
        algorithm = TAG_BITS.get(entry["tag_length"])
        if algorithm is None or len(key) != algorithm.key_size:
            continue
        cipher = CRYPTO.aead(algorithm, key)
        assert cipher.encrypt(nonce, text, aad) == ciphertext + tag, entry["source"]
        assert cipher.decrypt(nonce, ciphertext + tag, aad) == text
        tried += 1
    assert tried


@pytest.mark.parametrize("algorithm", AeadAlgorithm)
def test_one_bit_off_anywhere_releases_nothing(algorithm: AeadAlgorithm):
    cipher = CRYPTO.aead(algorithm, bytes(algorithm.key_size))
    nonce, text, aad = bytes(12), b"text", b"aad"
    sealed = cipher.encrypt(nonce, text, aad)
    assert len(sealed) == len(text) + algorithm.tag_size
    for index in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[index] ^= 1
        with pytest.raises(InvalidTagError):
            cipher.decrypt(nonce, bytes(damaged), aad)
    for arguments in (
        (bytes(11) + b"\x01", sealed, aad),
        (nonce, sealed, b"aae"),
        (nonce, b"", aad),
    ):
        with pytest.raises(InvalidTagError):
            cipher.decrypt(*arguments)


@pytest.mark.parametrize("algorithm", AeadAlgorithm)
def test_a_cipher_refuses_a_key_of_another_size(algorithm: AeadAlgorithm):
    for size in (0, algorithm.key_size - 1, algorithm.key_size + 1):
        with pytest.raises(CryptoError):
            CRYPTO.aead(algorithm, bytes(size))


# FIPS 197 appendix C
@pytest.mark.parametrize(
    ("size", "ciphertext"),
    [
        (16, "69c4e0d86a7b0430d8cdb78070b4c55a"),
        (24, "dda97ca4864cdfe06eaf70a0ec0d7191"),
        (32, "8ea2b7ca516745bfeafc49904b496089"),
    ],
)
def test_blocks_of_fips_197(size: int, ciphertext: str):
    key, block = bytes(range(size)), bytes.fromhex("00112233445566778899aabbccddeeff")
    assert CRYPTO.aes_encrypt_block(key, block * 2).hex() == ciphertext * 2
    assert CRYPTO.aes_decrypt_block(key, bytes.fromhex(ciphertext)) == block
    assert CRYPTO.aes_encrypt_block(key, b"") == b""


@pytest.mark.parametrize(("key_size", "size"), [(15, 16), (17, 16), (0, 16), (16, 15), (16, 17)])
def test_other_keys_and_part_blocks_are_refused(key_size: int, size: int):
    for operation in (CRYPTO.aes_encrypt_block, CRYPTO.aes_decrypt_block):
        with pytest.raises(CryptoError):
            operation(bytes(key_size), bytes(size))


# --- curves --------------------------------------------------------------------------------


def test_shared_secrets_of_nist_and_wycheproof():
    for entry in shared_json(ECC)["ecdh"]:
        curve = CURVES[entry["curve"]]
        private, peer, shared = raw(entry, "private", "peer_public", "shared")
        assert CRYPTO.ecdh(curve, private, peer) == shared, entry["source"]
        if entry.get("own_public"):
            assert CRYPTO.public_key(curve, private).hex() == entry["own_public"]


def test_points_that_are_not_on_the_curve_are_refused():
    for entry in shared_json(ECC)["ecdh_invalid_points"]:
        curve, peer = CURVES[entry["curve"]], bytes.fromhex(entry["peer_public"])
        with pytest.raises(CryptoError):
            CRYPTO.ecdh(curve, bytes(31) + b"\x01", peer)
        with pytest.raises(CryptoError):
            CRYPTO.check_public_key(curve, peer)


@pytest.mark.parametrize("curve", Curve)
def test_points_in_another_form_are_refused(curve: Curve):
    point = CRYPTO.public_key(curve, bytes(31) + b"\x02")
    CRYPTO.check_public_key(curve, point)
    compressed = bytes((2 + (point[-1] & 1),)) + point[1:33]
    hybrid = bytes((6 + (point[-1] & 1),)) + point[1:]
    for other in (b"", b"\x00", compressed, hybrid, point[:-1], point + b"\x00", bytes(65)):
        with pytest.raises(CryptoError):
            CRYPTO.check_public_key(curve, other)


@pytest.mark.parametrize("curve", Curve)
def test_private_keys_outside_1_to_n_minus_1_are_refused(curve: Curve):
    order = ORDERS[curve]
    point = CRYPTO.public_key(curve, (order - 1).to_bytes(32, "big"))
    assert point[1:33] == CRYPTO.public_key(curve, bytes(31) + b"\x01")[1:33]
    for private in (
        bytes(32),
        order.to_bytes(32, "big"),
        b"\xff" * 32,
        b"\x01",
        bytes(32) + b"\x01",
    ):
        with pytest.raises(CryptoError):
            CRYPTO.public_key(curve, private)
        with pytest.raises(CryptoError):
            CRYPTO.ecdh(curve, private, point)
        with pytest.raises(CryptoError):
            CRYPTO.ecdsa_sign(curve, private, bytes(32))


@pytest.mark.parametrize("curve", Curve)
def test_a_private_key_is_drawn_again_until_it_is_in_range(curve: Curve):
    class Draws:
        values = iter([bytes(32), ORDERS[curve].to_bytes(32, "big"), bytes(31) + b"\x07"])

        def random_bytes(self, count: int) -> bytes:
            assert count == 32
            return next(self.values)

    assert CRYPTO.generate_private_key(curve, Draws()) == bytes(31) + b"\x07"


# --- signatures ----------------------------------------------------------------------------


def test_signatures_of_wycheproof_verify_or_not():
    for entry in shared_json(ECC)["ecdsa_verify"]:
        if entry["hash"] != "sha256":
            continue
        curve = CURVES[entry["curve"]]
        public, message, signature = raw(entry, "public", "message", "signature_der")
        digest = CRYPTO.hash(HashAlgorithm.SHA256, message)
        if entry["expect"] == "valid":
            CRYPTO.ecdsa_verify(curve, public, digest, signature)
        else:
            with pytest.raises(InvalidSignatureError):
                CRYPTO.ecdsa_verify(curve, public, digest, signature)


def test_deterministic_signatures_of_rfc_6979_and_the_community():
    for entry in shared_json(ECC)["ecdsa_deterministic"]:
        if entry["hash"] != "sha256":
            continue
        curve = CURVES[entry["curve"]]
        private, public, digest = raw(entry, "private", "public", "digest")
        assert CRYPTO.public_key(curve, private) == public
        CRYPTO.ecdsa_verify(curve, public, digest, bytes.fromhex(entry["signature_der"]))
        CRYPTO.ecdsa_verify(curve, public, digest, bytes.fromhex(entry["signature_der_low_s"]))
        if curve is Curve.SECP256K1:
            assert CRYPTO.ecdsa_sign(curve, private, digest).hex() == entry["signature_der_low_s"]


@pytest.mark.parametrize("curve", Curve)
def test_a_signature_verifies_and_its_neighbours_do_not(curve: Curve):
    private, digest = bytes(range(1, 33)), bytes(range(32))
    public = CRYPTO.public_key(curve, private)
    signature = CRYPTO.ecdsa_sign(curve, private, digest)
    CRYPTO.ecdsa_verify(curve, public, digest, signature)
    other = CRYPTO.public_key(curve, bytes(range(2, 34)))
    for arguments in (
        (other, digest, signature),
        (public, bytes(32), signature),
        (public, digest, signature[:-1] + bytes((signature[-1] ^ 1,))),
        (public, digest, signature + b"\x00"),
        (public, digest, b""),
    ):
        with pytest.raises(InvalidSignatureError):
            CRYPTO.ecdsa_verify(curve, *arguments)
    with pytest.raises(CryptoError):
        CRYPTO.ecdsa_verify(curve, b"\x04" + bytes(64), digest, signature)


def test_equal_is_equal_and_nothing_else():
    assert CRYPTO.constant_time_equal(b"abc", b"abc")
    assert not CRYPTO.constant_time_equal(b"abc", b"abx")
    assert not CRYPTO.constant_time_equal(b"abc", b"ab")


@pytest.mark.parametrize("curve", Curve)
@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_of_another_size_is_refused(curve: Curve, size: int):
    private = bytes(31) + b"\x01"
    signature = CRYPTO.ecdsa_sign(curve, private, bytes(32))
    with pytest.raises(CryptoError):
        CRYPTO.ecdsa_sign(curve, private, bytes(size))
    with pytest.raises(CryptoError):
        CRYPTO.ecdsa_verify(curve, CRYPTO.public_key(curve, private), bytes(size), signature)
