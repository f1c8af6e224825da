# SPDX-License-Identifier: Apache-2.0
"""Static keys of a security domain: sets, check values, and derivation from a master set.

Both ends use it. Keys are plain bytes and stay out of every representation and error.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from iose.crypto.base import CryptoProvider
from iose.wire.errors import DecodeError

DES3_KEY_SIZE: Final = 16  # two keys: what SCP02 has (GPCS 2.3.1 §E.1.2)
AES_KEY_SIZES: Final = (16, 24, 32)
ANY_VERSION: Final = 0x00  # P1 of INITIALIZE UPDATE: the card's first key set
VERSION_LIMIT: Final = 0xFF
CHECK_VALUE_SIZE: Final = 3
DIVERSIFICATION_SIZE: Final = 10
_DEMO_KEY: Final = bytes(range(0x40, 0x50))


class KeyType(Enum):
    """Ciphers of static keys."""

    DES3 = "des3"
    AES = "aes"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of one key, in bytes."""
        return (DES3_KEY_SIZE,) if self is KeyType.DES3 else AES_KEY_SIZES


@dataclass(frozen=True, slots=True)
class KeySet:
    """The three keys of one version (GPCS 2.3.1 §E.1.2, Amendment D 1.2 §4.1).

    Attributes:
        version: Key version number; 0 lets the card choose.
        enc: Key of cryptograms and encryption.
        mac: Key of MACs.
        dek: Key that wraps keys and other secrets.
        key_type: Their cipher, the same for all three; so is their size.
    """

    version: int
    enc: bytes = field(repr=False)
    mac: bytes = field(repr=False)
    dek: bytes = field(repr=False)
    key_type: KeyType = KeyType.AES

    def __post_init__(self) -> None:
        if not 0 <= self.version <= VERSION_LIMIT:
            raise DecodeError(f"a key version is 0 to {VERSION_LIMIT}, found {self.version}")
        sizes = {len(self.enc), len(self.mac), len(self.dek)}
        if len(sizes) != 1 or not sizes <= set(self.key_type.sizes):
            allowed = " or ".join(str(size) for size in self.key_type.sizes)
            raise DecodeError(
                f"three keys of one size, {allowed} bytes, expected for {self.key_type.name}"
            )

    @property
    def is_demo(self) -> bool:
        """Whether these are the published keys that protect nothing."""
        return {self.enc, self.mac, self.dek} == {_DEMO_KEY}


DEMO_KEYS: Final = KeySet(ANY_VERSION, _DEMO_KEY, _DEMO_KEY, _DEMO_KEY)
"""The published test keys 404142…4F; being no secret, a channel takes them for either cipher."""


def check_value(crypto: CryptoProvider, key: bytes, key_type: KeyType) -> bytes:
    """Return the key check value, 3 bytes (GPCS 2.3.1 §B.5).

    Raises:
        CryptoError: Wrong key size.
    """
    if key_type is KeyType.DES3:
        return crypto.des3_ecb_encrypt(key, bytes(8))[:CHECK_VALUE_SIZE]
    return crypto.aes_encrypt_block(key, b"\x01" * 16)[:CHECK_VALUE_SIZE]


class Diversification(Enum):
    """How the keys of one card follow from master keys and the card's diversification data."""

    NONE = "none"
    EMV = "emv"
    VISA2 = "visa2"
    KDF3 = "kdf3"


def diversify(
    crypto: CryptoProvider, keys: KeySet, diversification_data: bytes, method: Diversification
) -> KeySet:
    """Return one card's keys, derived from master ``keys``.

    EMV (EMV CPS 1.1 §4.1) and VISA2 encrypt card data by triple DES with a 16-byte master key;
    KDF3 is the counter-mode KDF of SCP03 over the whole data, with constants 1, 2 and 3.

    Args:
        crypto: Primitives.
        keys: Master keys; version and type are kept.
        diversification_data: First 10 bytes of the answer to INITIALIZE UPDATE.
        method: NONE returns ``keys``.

    Raises:
        DecodeError: Not 10 bytes of data, or master keys of another size than 16 bytes for
            EMV and VISA2.
    """
    if method is Diversification.NONE:
        return keys
    if len(diversification_data) != DIVERSIFICATION_SIZE:
        raise DecodeError(f"expected {DIVERSIFICATION_SIZE} bytes of diversification data")
    if method is not Diversification.KDF3 and len(keys.enc) != DES3_KEY_SIZE:
        raise DecodeError(f"{method.value} derives from master keys of {DES3_KEY_SIZE} bytes")
    masters = enumerate((keys.enc, keys.mac, keys.dek), start=1)
    enc, mac, dek = (
        _derive(crypto, master, diversification_data, method, constant)
        for constant, master in masters
    )
    return KeySet(keys.version, enc, mac, dek, keys.key_type)


def _derive(
    crypto: CryptoProvider, master: bytes, data: bytes, method: Diversification, constant: int
) -> bytes:
    if method is Diversification.KDF3:
        return derive_by_kdf(crypto, master, constant, data, len(master))
    seed = data[4:10] if method is Diversification.EMV else data[:2] + data[4:8]
    blocks = seed + bytes((0xF0, constant)) + seed + bytes((0x0F, constant))
    return crypto.des3_ecb_encrypt(master, blocks)


def derive_by_kdf(
    crypto: CryptoProvider, key: bytes, constant: int, context: bytes, size: int
) -> bytes:
    """Return ``size`` bytes of the KDF of SCP03 (Amendment D 1.2 §4.1.5, NIST SP 800-108)."""
    label = bytes(11) + bytes((constant,))
    bits = (8 * size).to_bytes(2, "big")
    count = -(-size // 16)
    blocks = (
        crypto.aes_cmac(key, label + b"\x00" + bits + bytes((number,)) + context)
        for number in range(1, count + 1)
    )
    return b"".join(blocks)[:size]
