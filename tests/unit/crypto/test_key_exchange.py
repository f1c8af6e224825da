# SPDX-License-Identifier: Apache-2.0
"""Key exchanges of TLS, classical and hybrid, from both ends."""

import pytest
from cryptography_vectors import open_vector_file

from iose.crypto.base import Group
from iose.crypto.errors import CryptoError
from iose.crypto.pyca import (
    MLKEM768_CIPHERTEXT_SIZE,
    MLKEM768_PUBLIC_SIZE,
    POINT_SIZE,
    X25519_SIZE,
    PycaCrypto,
)

CRYPTO = PycaCrypto()
# What the client and the server send, and the size of the secret (draft-ietf-tls-ecdhe-mlkem §4)
SIZES = {
    Group.SECP256R1: (65, 65, 32),
    Group.X25519: (32, 32, 32),
    Group.X25519_MLKEM768: (1216, 1120, 64),
    Group.SECP256R1_MLKEM768: (1249, 1153, 64),
}


class Draws:
    """An Rng that gives what it was told to."""

    def __init__(self, *values: bytes) -> None:
        self.values = list(values)

    def random_bytes(self, count: int) -> bytes:
        value = self.values.pop(0)
        assert len(value) == count
        return value


def rng_for(group: Group, first: int) -> Draws:
    private = bytes((first,)) * 32
    return Draws(private, bytes(range(64))) if "MLKEM" in group.value else Draws(private)


@pytest.mark.parametrize("group", Group)
def test_both_ends_find_the_same_secret(group: Group):
    client = CRYPTO.generate_key_exchange(group, rng_for(group, 1))
    share, secret = CRYPTO.respond_key_exchange(group, client.public_share, Draws(bytes([2]) * 32))
    assert client.exchange(share) == secret
    assert (len(client.public_share), len(share), len(secret)) == SIZES[group]


@pytest.mark.parametrize("group", Group)
def test_the_randomness_of_a_share_is_the_given_one(group: Group):
    first, again = (CRYPTO.generate_key_exchange(group, rng_for(group, 1)) for _ in range(2))
    other = CRYPTO.generate_key_exchange(group, rng_for(group, 2))
    assert first.public_share == again.public_share != other.public_share


@pytest.mark.parametrize("group", Group)
@pytest.mark.parametrize("change", ["shorter", "longer", "empty", "zero"])
def test_a_malformed_share_is_refused_at_both_ends(group: Group, change: str):
    client = CRYPTO.generate_key_exchange(group, rng_for(group, 1))
    server_share, _ = CRYPTO.respond_key_exchange(
        group, client.public_share, Draws(bytes([2]) * 32)
    )

    def changed(share: bytes) -> bytes:
        return {
            "shorter": share[:-1],
            "longer": share + b"\x00",
            "empty": b"",
            "zero": bytes(len(share)),
        }[change]

    with pytest.raises(CryptoError):
        client.exchange(changed(server_share))
    with pytest.raises(CryptoError):
        CRYPTO.respond_key_exchange(group, changed(client.public_share), Draws(bytes([2]) * 32))


@pytest.mark.parametrize("group", [Group.X25519_MLKEM768, Group.SECP256R1_MLKEM768])
def test_a_public_key_of_ml_kem_out_of_range_is_refused(group: Group):
    """FIPS 203 §7.2: every coefficient is below the modulus."""
    share = bytearray(CRYPTO.generate_key_exchange(group, rng_for(group, 1)).public_share)
    start = 0 if group is Group.X25519_MLKEM768 else POINT_SIZE
    share[start : start + 3] = b"\xff\xff\xff"
    with pytest.raises(CryptoError):
        CRYPTO.respond_key_exchange(group, bytes(share), Draws(bytes([2]) * 32))


# RFC 7748 §5.2
@pytest.mark.parametrize(
    ("private", "peer", "shared"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519_of_rfc_7748(private: str, peer: str, shared: str):
    pair = CRYPTO.generate_key_exchange(Group.X25519, Draws(bytes.fromhex(private)))
    assert pair.exchange(bytes.fromhex(peer)).hex() == shared
    responded = CRYPTO.respond_key_exchange(
        Group.X25519, bytes.fromhex(peer), Draws(bytes.fromhex(private))
    )
    assert responded == (pair.public_share, bytes.fromhex(shared))


def published_ml_kem_answers(count: int) -> list[dict[str, str]]:
    """Return the first known answers of FIPS 203 that the library's own suite carries."""
    entries: list[dict[str, str]] = []
    with open_vector_file("asymmetric/MLKEM/kat_MLKEM_768.rsp", "r") as lines:
        for line in lines:
            name, _, value = line.strip().partition(" = ")
            if name == "count":
                if len(entries) == count:
                    break
                entries.append({})
            if value:
                entries[-1][name] = value.lower()
    return entries


@pytest.mark.parametrize("entry", published_ml_kem_answers(3), ids=lambda entry: entry["count"])
def test_ml_kem_768_makes_and_opens_the_published_answers(entry: dict[str, str]):
    """Key generation and decapsulation; pyca offers no encapsulation with chosen randomness."""
    for group in (Group.X25519_MLKEM768, Group.SECP256R1_MLKEM768):
        seed = bytes.fromhex(entry["d"] + entry["z"])
        client = CRYPTO.generate_key_exchange(group, Draws(bytes([1]) * 32, seed))
        kem_first = group is Group.X25519_MLKEM768
        public = (
            client.public_share[:MLKEM768_PUBLIC_SIZE]
            if kem_first
            else client.public_share[-MLKEM768_PUBLIC_SIZE:]
        )
        assert public.hex() == entry["pk"]
        classical = Group.X25519 if kem_first else Group.SECP256R1
        peer = CRYPTO.generate_key_exchange(classical, Draws(bytes([2]) * 32)).public_share
        for ciphertext, shared in (("ct", "ss"), ("ct_n", "ss_n")):
            sealed = bytes.fromhex(entry[ciphertext])
            assert len(sealed) == MLKEM768_CIPHERTEXT_SIZE
            secret = client.exchange(sealed + peer if kem_first else peer + sealed)
            found = secret[:X25519_SIZE] if kem_first else secret[-32:]
            assert found.hex() == entry[shared]
