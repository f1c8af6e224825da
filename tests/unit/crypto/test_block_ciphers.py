# SPDX-License-Identifier: Apache-2.0
"""AES-CBC, CMAC and triple DES against NIST's published examples, and what they refuse."""

import pytest

from iose.crypto.errors import CryptoError
from iose.crypto.pyca import PycaCrypto

CRYPTO = PycaCrypto()
AES_128 = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
AES_192 = bytes.fromhex("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b")
AES_256 = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
IV = bytes(range(16))
# SP 800-38A appendix F and SP 800-38B appendix D use the same message
MESSAGE = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
# NIST's "Example Algorithms: TDES modes", ECB of SP 800-67 appendix B
DES3_KEY = bytes.fromhex("0123456789abcdef23456789abcdef01456789abcdef0123")
DES3_MESSAGE = b"The qufck brown fox jump"
DES3_CIPHERTEXT = "a826fd8ce53b855fcce21c8112256fe668d5c05dd9b6b900"


# SP 800-38A §F.2
@pytest.mark.parametrize(
    ("key", "first", "last"),
    [
        (AES_128, "7649abac8119b246cee98e9b12e9197d", "3ff1caa1681fac09120eca307586e1a7"),
        (AES_192, "4f021db243bc633d7178183a9fa071e8", "08b0e27988598881d920a9e64f5615cd"),
        (AES_256, "f58c4c04d6e5f1ba779eabfb5f7bfbd6", "b2eb05e2c39be9fcda6c19078c6a9d1b"),
    ],
)
def test_aes_cbc_of_sp_800_38a(key, first, last):
    ciphertext = CRYPTO.aes_cbc_encrypt(key, IV, MESSAGE)
    assert (ciphertext[:16].hex(), ciphertext[-16:].hex()) == (first, last)
    assert CRYPTO.aes_cbc_decrypt(key, IV, ciphertext) == MESSAGE


# SP 800-38B §D.1 to §D.3
@pytest.mark.parametrize(
    ("key", "size", "mac"),
    [
        (AES_128, 0, "bb1d6929e95937287fa37d129b756746"),
        (AES_128, 16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (AES_128, 40, "dfa66747de9ae63030ca32611497c827"),
        (AES_128, 64, "51f0bebf7e3b9d92fc49741779363cfe"),
        (AES_192, 0, "d17ddf46adaacde531cac483de7a9367"),
        (AES_256, 64, "e1992190549f6ed5696a2c056c315410"),
    ],
)
def test_cmac_of_sp_800_38b(key, size, mac):
    assert CRYPTO.aes_cmac(key, MESSAGE[:size]).hex() == mac


def test_triple_des_of_sp_800_67():
    assert CRYPTO.des3_ecb_encrypt(DES3_KEY, DES3_MESSAGE).hex() == DES3_CIPHERTEXT


def test_triple_des_with_two_keys_uses_the_first_one_again():
    three = DES3_KEY[:16] + DES3_KEY[:8]
    ecb = CRYPTO.des3_ecb_encrypt(three, DES3_MESSAGE)
    assert CRYPTO.des3_ecb_encrypt(three[:16], DES3_MESSAGE) == ecb


def test_triple_des_with_equal_halves_is_single_des():
    # FIPS 46's best-known example: this key and "Now is t"
    key = bytes.fromhex("0123456789abcdef")
    assert CRYPTO.des3_ecb_encrypt(key * 2, b"Now is t").hex() == "3fa40e8a984d4815"


@pytest.mark.parametrize("key", [DES3_KEY, DES3_KEY[:16]])
def test_triple_des_cbc_chains_its_blocks(key):
    iv = bytes(range(8))
    ciphertext = CRYPTO.des3_cbc_encrypt(key, iv, DES3_MESSAGE)
    previous, expected = iv, b""
    for start in range(0, len(DES3_MESSAGE), 8):
        block = zip(DES3_MESSAGE[start : start + 8], previous, strict=True)
        previous = CRYPTO.des3_ecb_encrypt(key, bytes(a ^ b for a, b in block))
        expected += previous
    assert ciphertext == expected
    assert CRYPTO.des3_cbc_decrypt(key, iv, ciphertext) == DES3_MESSAGE


@pytest.mark.parametrize("operation", ["aes_cbc_encrypt", "aes_cbc_decrypt"])
def test_aes_cbc_refuses_other_sizes(operation):
    run = getattr(CRYPTO, operation)
    with pytest.raises(CryptoError, match="AES key"):
        run(bytes(17), IV, bytes(16))
    with pytest.raises(CryptoError, match="IV of 16 bytes"):
        run(AES_128, bytes(15), bytes(16))
    with pytest.raises(CryptoError, match="whole 16-byte blocks"):
        run(AES_128, IV, bytes(15))
    assert run(AES_128, IV, b"") == b""


@pytest.mark.parametrize("operation", ["des3_cbc_encrypt", "des3_cbc_decrypt"])
def test_triple_des_cbc_refuses_other_sizes(operation):
    run = getattr(CRYPTO, operation)
    with pytest.raises(CryptoError, match="triple DES key"):
        run(bytes(8), bytes(8), bytes(8))
    with pytest.raises(CryptoError, match="IV of 8 bytes"):
        run(DES3_KEY, bytes(16), bytes(8))
    with pytest.raises(CryptoError, match="whole 8-byte blocks"):
        run(DES3_KEY, bytes(8), bytes(7))


def test_triple_des_ecb_and_cmac_refuse_other_sizes():
    with pytest.raises(CryptoError, match="triple DES key"):
        CRYPTO.des3_ecb_encrypt(bytes(17), bytes(8))
    with pytest.raises(CryptoError, match="whole 8-byte blocks"):
        CRYPTO.des3_ecb_encrypt(DES3_KEY, bytes(9))
    with pytest.raises(CryptoError, match="AES key"):
        CRYPTO.aes_cmac(bytes(8), b"")
