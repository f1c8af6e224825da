# SPDX-License-Identifier: Apache-2.0
"""Keys from passphrases by scrypt (RFC 7914). Slow on purpose; the cost travels with the salt."""

import hashlib
from dataclasses import dataclass
from typing import Final

from iose.crypto.errors import CryptoError

DEFAULT_COST_LOG2: Final = 17  # 128 MiB and about 0.4 s, the least OWASP advises with p = 1
COST_LOG2_LIMIT: Final = 20  # 1 GiB: a file from outside may not ask for more
BLOCK_SIZE: Final = 8
BLOCK_BYTES: Final = 128  # RFC 7914 §2: memory is 128 · r · N
SLACK: Final = 1 << 20
KEY_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class ScryptParameters:
    """What must be kept beside the ciphertext to derive its key again.

    Attributes:
        salt: Random bytes, one value per key.
        cost_log2: Binary logarithm of N; r is 8 and p is 1.
    """

    salt: bytes
    cost_log2: int = DEFAULT_COST_LOG2


def derive_passphrase_key(passphrase: bytes, parameters: ScryptParameters) -> bytes:
    """Return a 32-byte key (RFC 7914 §6).

    Raises:
        CryptoError: The cost is outside 1..20; nothing was computed.
    """
    if not 1 <= parameters.cost_log2 <= COST_LOG2_LIMIT:
        raise CryptoError(f"a scrypt cost of 2^{parameters.cost_log2} is not accepted")
    cost = 1 << parameters.cost_log2
    return hashlib.scrypt(
        passphrase,
        salt=parameters.salt,
        n=cost,
        r=BLOCK_SIZE,
        p=1,
        maxmem=BLOCK_BYTES * BLOCK_SIZE * cost + SLACK,
        dklen=KEY_SIZE,
    )
