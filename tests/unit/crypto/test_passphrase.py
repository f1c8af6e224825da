# SPDX-License-Identifier: Apache-2.0
"""Keys from passphrases."""

import pytest

from iose.crypto.errors import CryptoError
from iose.crypto.passphrase import ScryptParameters, derive_passphrase_key


# RFC 7914 §12: P="pleaseletmein", S="SodiumChloride", N=16384, r=8, p=1, the first 32 bytes
def test_a_key_of_rfc_7914():
    key = derive_passphrase_key(b"pleaseletmein", ScryptParameters(b"SodiumChloride", 14))
    assert key.hex() == "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"


@pytest.mark.parametrize("cost", [-1, 0, 21, 1 << 40])
def test_a_cost_that_is_no_cost_or_too_much_is_refused(cost: int):
    with pytest.raises(CryptoError):
        derive_passphrase_key(b"p", ScryptParameters(b"s", cost))


def test_another_salt_cost_or_passphrase_gives_another_key():
    keys = {
        derive_passphrase_key(passphrase, ScryptParameters(salt, cost))
        for passphrase, salt, cost in (
            (b"a", b"s", 1),
            (b"b", b"s", 1),
            (b"a", b"t", 1),
            (b"a", b"s", 2),
        )
    }
    assert len(keys) == 4
