# SPDX-License-Identifier: Apache-2.0
"""Key sets, check values and derived keys."""

import pytest

from iose.crypto.errors import CryptoError
from iose.globalplatform.channel import pad, unpad
from iose.globalplatform.keys import (
    DEMO_KEYS,
    Diversification,
    KeySet,
    KeyType,
    check_value,
    diversify,
)
from iose.wire.errors import DecodeError
from tests.support.channel_pair import CRYPTO, DIVERSIFICATION, VERSION, key_set

DEMO = bytes.fromhex("404142434445464748494A4B4C4D4E4F")


def test_the_demo_keys_are_the_published_ones():
    assert (DEMO_KEYS.enc, DEMO_KEYS.mac, DEMO_KEYS.dek) == (DEMO, DEMO, DEMO)
    assert DEMO_KEYS.is_demo
    assert DEMO_KEYS.version == 0
    assert not key_set(KeyType.AES).is_demo
    assert not KeySet(1, DEMO, DEMO, bytes(16)).is_demo


# what every card tool prints for the published keys
@pytest.mark.parametrize(("key_type", "value"), [(KeyType.DES3, "8baf47"), (KeyType.AES, "504a77")])
def test_check_values_of_the_demo_key(key_type, value):
    assert check_value(CRYPTO, DEMO, key_type).hex() == value


def test_a_check_value_of_no_key_is_refused():
    for key_type in KeyType:
        with pytest.raises(CryptoError):
            check_value(CRYPTO, bytes(7), key_type)


@pytest.mark.parametrize(
    ("key_type", "size", "is_right"),
    [
        (KeyType.DES3, 16, True),
        (KeyType.DES3, 24, False),
        (KeyType.AES, 16, True),
        (KeyType.AES, 24, True),
        (KeyType.AES, 32, True),
        (KeyType.AES, 15, False),
        (KeyType.AES, 0, False),
    ],
)
def test_keys_have_the_sizes_of_their_cipher(key_type, size, is_right):
    if is_right:
        assert len(key_set(key_type, size=size).enc) == size
        return
    with pytest.raises(DecodeError, match=f"expected for {key_type.name}"):
        key_set(key_type, size=size)


def test_the_keys_of_a_set_have_one_size():
    with pytest.raises(DecodeError, match="of one size"):
        KeySet(1, bytes(16), bytes(16), bytes(32))


@pytest.mark.parametrize("version", [-1, 256])
def test_a_key_version_is_one_byte(version):
    with pytest.raises(DecodeError, match="0 to 255"):
        KeySet(version, DEMO, DEMO, DEMO)


def test_keys_stay_out_of_what_is_printed():
    keys = key_set(KeyType.AES)
    text = repr(keys) + str(keys)
    assert all(key.hex() not in text and repr(key) not in text for key in (keys.enc, keys.dek))


def test_no_diversification_leaves_the_keys():
    keys = key_set(KeyType.AES)
    assert diversify(CRYPTO, keys, b"", Diversification.NONE) is keys


# EMV CPS 1.1 §4.1: the last six bytes; VISA2: two of the first and four in the middle
@pytest.mark.parametrize(
    ("method", "seed"),
    [(Diversification.EMV, "040506070809"), (Diversification.VISA2, "000104050607")],
)
def test_keys_derived_by_triple_des_encrypt_two_blocks_of_card_data(method, seed):
    keys = key_set(KeyType.DES3)
    derived = diversify(CRYPTO, keys, DIVERSIFICATION, method)
    for number, (master, key) in enumerate(
        ((keys.enc, derived.enc), (keys.mac, derived.mac), (keys.dek, derived.dek)), start=1
    ):
        left = bytes.fromhex(f"{seed}F0{number:02X}")
        right = bytes.fromhex(f"{seed}0F{number:02X}")
        assert key[:8] == CRYPTO.des3_ecb_encrypt(master, left)
        assert key[8:] == CRYPTO.des3_ecb_encrypt(master, right)
    assert (derived.version, derived.key_type) == (VERSION, KeyType.DES3)


@pytest.mark.parametrize("size", [16, 24, 32])
def test_keys_derived_by_kdf_keep_their_size(size):
    keys = key_set(KeyType.AES, size=size)
    derived = diversify(CRYPTO, keys, DIVERSIFICATION, Diversification.KDF3)
    assert {len(derived.enc), len(derived.mac), len(derived.dek)} == {size}
    bits = (8 * size).to_bytes(2, "big")
    message = bytes(11) + b"\x02\x00" + bits + b"\x01" + DIVERSIFICATION
    assert derived.mac[:16] == CRYPTO.aes_cmac(keys.mac, message)


@pytest.mark.parametrize("method", [one for one in Diversification if one.name != "NONE"])
def test_derivation_wants_ten_bytes(method):
    for size in (9, 11):
        with pytest.raises(DecodeError, match="10 bytes of diversification data"):
            diversify(CRYPTO, key_set(KeyType.AES), bytes(size), method)


@pytest.mark.parametrize("method", [Diversification.EMV, Diversification.VISA2])
def test_triple_des_derives_from_16_bytes(method):
    with pytest.raises(DecodeError, match="master keys of 16 bytes"):
        diversify(CRYPTO, key_set(KeyType.AES, size=32), DIVERSIFICATION, method)


@pytest.mark.parametrize("size", range(18))
def test_padding_is_taken_off_again(size):
    for block in (8, 16):
        padded = pad(bytes(size), block)
        assert len(padded) % block == 0
        assert unpad(padded, block) == bytes(size)


@pytest.mark.parametrize("data", ["", "00" * 8, "0102030405060708", "80" + "00" * 8, "81"])
def test_what_is_not_padded_is_seen(data):
    assert unpad(bytes.fromhex(data), 8) is None
