# SPDX-License-Identifier: Apache-2.0
"""PUT KEY from one end of a channel to the other, and what a card refuses of it."""

import pytest

from iose.globalplatform.keys import KeySet, KeyType
from iose.globalplatform.put_key import PutKey, WrappedKey
from iose.iso7816.apdu import CommandApdu
from iose.wire.errors import DecodeError, LocalProtocolError
from tests.support.channel_pair import CRYPTO, S8, SCP02, Pair, key_set

PARAMETERS = [
    (variant, key_type, size)
    for variant in (SCP02, S8)
    for key_type, sizes in ((KeyType.DES3, (16,)), (KeyType.AES, (16, 24, 32)))
    for size in sizes
]


@pytest.mark.parametrize(("variant", "key_type", "size"), PARAMETERS, ids=str)
def test_a_key_set_arrives_whole(variant, key_type, size):
    pair = Pair.make(variant)
    keys = key_set(key_type, size=size, version=0x31)
    sent = PutKey.for_keys(CRYPTO, keys, pair.host.encrypt_key, replaces=0x30)
    command = sent.to_command()
    assert (command.cla, command.ins, command.p1, command.p2) == (0x80, 0xD8, 0x30, 0x81)
    assert keys.enc not in command.data
    received = PutKey.from_command(pair.card.unwrap(pair.host.wrap(command)))
    assert received == sent
    assert received.open(CRYPTO, pair.card.decrypt_key) == keys
    assert received.answer() == b"\x31" + b"".join(key.check_value for key in sent.keys)


def test_the_fields_of_both_types_are_these():
    identity = bytes
    des = PutKey.for_keys(CRYPTO, key_set(KeyType.DES3), identity).to_command()
    assert des.data[:3].hex() == "308010"
    assert des.data[19] == 3
    assert len(des.data) == 1 + 3 * (2 + 16 + 4)
    aes = PutKey.for_keys(CRYPTO, key_set(KeyType.AES), identity).to_command()
    assert aes.data[:4].hex() == "30881110"
    assert len(aes.data) == 1 + 3 * (3 + 16 + 4)


@pytest.mark.parametrize("key_type", KeyType)
def test_a_key_with_one_bit_turned_is_refused(key_type):
    pair = Pair.make(S8)
    sent = PutKey.for_keys(CRYPTO, key_set(key_type), pair.host.encrypt_key).to_command()
    first = 3 if key_type is KeyType.DES3 else 4
    for place in range(8 * first, 8 * (first + 16 + 4)):
        if place // 8 == first + 16:
            continue  # the size of the check value
        data = bytearray(sent.data)
        data[place // 8] ^= 1 << place % 8
        received = PutKey.from_command(CommandApdu(0x80, 0xD8, 0, 0x81, bytes(data)))
        with pytest.raises(DecodeError, match="check value"):
            received.open(CRYPTO, pair.card.decrypt_key)


def test_a_key_without_check_value_is_not_taken():
    pair = Pair.make(S8)
    wrapped = pair.host.encrypt_key(bytes(16))
    key = WrappedKey(KeyType.AES, 16, wrapped, b"")
    received = PutKey.from_command(PutKey(1, (key,) * 3).to_command())
    with pytest.raises(DecodeError, match="missing or wrong"):
        received.open(CRYPTO, pair.card.decrypt_key)


ONE = "881110" + "00" * 16 + "03000000"
DES = "8010" + "00" * 16 + "03000000"


@pytest.mark.parametrize(
    ("p1", "p2", "data", "reason"),
    [
        (0x80, 0x81, "01" + ONE * 3, "in one command"),
        (0x00, 0x01, "01" + ONE * 3, "P2 01 names no whole"),
        (0x00, 0x82, "01" + ONE * 3, "P2 82 names no whole"),
        (0x00, 0x81, "00" + ONE * 3, "key version 00"),
        (0x00, 0x81, "80" + ONE * 3, "key version 80"),
        (0x00, 0x81, "01" + ONE * 2, "expected 1 more"),
        (0x00, 0x81, "01" + ONE * 4, "bytes too many"),
        (0x00, 0x81, "01" + ONE * 2 + DES, "different types or sizes"),
        (0x00, 0x81, "01" + "81" + ONE[2:] + ONE * 2, "a key of type 81"),
        (0x00, 0x81, "01" + "8800" + "00", "does not fit"),
        (0x00, 0x81, "01" + "881111" + "00" * 16 + "00", "a key of 17 bytes"),
        (0x00, 0x81, "01" + "881118" + "00" * 16 + "00", "a key of 24 bytes, wrapped 16"),
        (0x00, 0x81, "01" + "881A10" + "00" * 25 + "00", "a key of 16 bytes, wrapped 25"),
        (0x00, 0x81, "01" + "8018" + "00" * 24 + "00", "a key of 24 bytes"),
        (0x00, 0x81, "01" + "881110" + "00" * 16 + "0200", "does not fit"),
        (0x00, 0x81, "01" + "881110" + "00" * 16 + "020000" + ONE * 2, "value of 2 bytes"),
    ],
)
def test_a_card_refuses_what_is_not_quite_a_key_set(p1, p2, data, reason):
    with pytest.raises(DecodeError, match=reason):
        PutKey.from_command(CommandApdu(0x80, 0xD8, p1, p2, bytes.fromhex(data)))


@pytest.mark.parametrize(("version", "replaces"), [(0, 0), (0x80, 0), (1, 0x80), (1, -1)])
def test_versions_on_a_card_have_seven_bits(version, replaces):
    keys = KeySet(version, bytes(16), bytes(16), bytes(16))
    with pytest.raises(LocalProtocolError, match="1 to 127"):
        PutKey.for_keys(CRYPTO, keys, bytes, replaces=replaces)
