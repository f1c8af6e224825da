# SPDX-License-Identifier: Apache-2.0
"""Hierarchical deterministic keys on secp256k1, hardened derivation of private keys only (BIP32).

A pair of key and chain code is one string of 64 bytes, as it comes out of HMAC-SHA512.
"""

from typing import Final

from iose.applet_commands.curves import SCALAR_SIZE, SECP256K1_ORDER
from iose.crypto.base import CryptoProvider, HashAlgorithm

HARDENED: Final = 0x80
LEVEL_SIZE: Final = 4
LEVELS_LIMIT: Final = 30
_MASTER_KEY: Final = b"Bitcoin seed"


def master_key(crypto: CryptoProvider, seed: bytes) -> bytes | None:
    """Return master key and chain code of a seed, or None when it makes none (BIP32)."""
    root = crypto.hmac(HashAlgorithm.SHA512, _MASTER_KEY, seed)
    return root if _is_scalar(int.from_bytes(root[:SCALAR_SIZE], "big")) else None


def is_path(path: bytes) -> bool:
    """Return whether it is 1 to 30 numbers of four bytes, each hardened."""
    return (
        len(path) % LEVEL_SIZE == 0
        and LEVEL_SIZE <= len(path) <= LEVEL_SIZE * LEVELS_LIMIT
        and all(byte >= HARDENED for byte in path[::LEVEL_SIZE])
    )


def derive_private_key(crypto: CryptoProvider, root: bytes, path: bytes) -> bytes | None:
    """Return the private key at the end of a path, or None when a level makes none (BIP32).

    Args:
        crypto: The primitives.
        root: Master key and chain code.
        path: One that ``is_path``.
    """
    key, chain_code = root[:SCALAR_SIZE], root[SCALAR_SIZE:]
    for start in range(0, len(path), LEVEL_SIZE):
        level = path[start : start + LEVEL_SIZE]
        output = crypto.hmac(HashAlgorithm.SHA512, chain_code, b"\x00" + key + level)
        tweak = int.from_bytes(output[:SCALAR_SIZE], "big")
        child = (tweak + int.from_bytes(key, "big")) % SECP256K1_ORDER
        if not (_is_scalar(tweak) and child):
            return None
        key, chain_code = child.to_bytes(SCALAR_SIZE, "big"), output[SCALAR_SIZE:]
    return key


def _is_scalar(value: int) -> bool:
    return 0 < value < SECP256K1_ORDER
