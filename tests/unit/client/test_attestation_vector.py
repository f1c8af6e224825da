# SPDX-License-Identifier: Apache-2.0
"""The worked vector of the attestation (attestation.md §5): every value in it, from our own code.

Session C of ``tests/vectors/tlsse_sessions.json``; the dialogue itself, as APDUs, is replayed by
``tests/unit/applets/test_transcripts.py``.
"""

import pytest

from iose.applet_commands.psk import derive_psk
from iose.client.attestation.authority import DEMO_AUTHORITY_PRIVATE
from iose.client.attestation.checks import proof_digest, verify_certificate, verify_proof
from iose.client.attestation.procedure import make_certificate
from iose.client.attestation.result import DEMO_AUTHORITY
from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.errors import InvalidSignatureError
from iose.crypto.pyca import PycaCrypto

CRYPTO = PycaCrypto()
HANDSHAKE_SECRET = bytes.fromhex("2213CC81B4B97F8D2D2E6E1BDB0793C3A3CBD06F1ED111D903030F40668FE9CE")
PRIVATE = bytes.fromhex("6C5544797A91115DC3330EBD003851D239A706FF2AA2AB70039C5510DDF06420")
PUBLIC = bytes.fromhex(
    "04FA05ED0A3649886270BACEC5DDC1A3643009A759BEE996F9A6AC060C9992A82E"
    "2F676E0DF3B9DC680E28DABC3AF3F9C264FF8953F1D143D62C06E960E562F678"
)
CERTIFICATE = bytes.fromhex(
    "F03B7B01A0185CEAE21426DE5088C495079EC75E4932D4D1F469F6B09EA4D13D"
    "23BF6442BBF09BBFCAB232AFECC2F5683E9BFCE525B5A2C66C072679A91C10C7"
)
CHALLENGE = bytes.fromhex("50AAAAD88959FEC8F98357129C2389B0B4E01A8C103B66ADE2B99A7A1634BC4C")
DIGEST = bytes.fromhex("5F35FC603AEB6A397D1DED70D543C3214FA8E85B96C60488695200D3D6AC9EAB")
PROOF = bytes.fromhex(
    "3046022100FA05ED0A3649886270BACEC5DDC1A3643009A759BEE996F9A6AC060C9992A82E"
    "022100EC95856DD38AEEDF6890B84D115F16F3371BDDE933CBADB02F909E8061798C47"
)
USER_PSK = bytes.fromhex("97D77327B138FD8CACF4F165B2874A035E874CD2B3CDEF7BD05418686720DEAD")


def sha256(data: bytes) -> bytes:
    return CRYPTO.hash(HashAlgorithm.SHA256, data)


def test_keys_and_their_hash():
    assert CRYPTO.public_key(Curve.SECP256K1, PRIVATE) == PUBLIC
    assert CRYPTO.public_key(Curve.SECP256K1, DEMO_AUTHORITY_PRIVATE) == DEMO_AUTHORITY
    assert sha256(PUBLIC[1:]).hex().upper() == (
        "EA885D1658FBA2D0689C4A426BF3795D31B37D4FD46F4F5C4214B2848801919F"
    )


def test_our_certificate_is_the_one_of_the_vector():
    # RFC 6979 by the published authority; its S happens to be low, as libsecp256k1's always is
    assert make_certificate(DEMO_AUTHORITY_PRIVATE, PUBLIC) == CERTIFICATE
    verify_certificate(DEMO_AUTHORITY, PUBLIC, CERTIFICATE)


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_a_certificate_one_bit_off_is_refused(place):
    broken = bytearray(CERTIFICATE)
    broken[place] ^= 1
    with pytest.raises(InvalidSignatureError):
        verify_certificate(DEMO_AUTHORITY, PUBLIC, bytes(broken))


def test_the_digest_and_the_proof():
    assert sha256(b"IoSE test challenge") == CHALLENGE
    assert proof_digest(HANDSHAKE_SECRET, CHALLENGE) == DIGEST
    verify_proof(PUBLIC, HANDSHAKE_SECRET, CHALLENGE, PROOF)
    own = CRYPTO.ecdsa_sign(Curve.SECP256K1, PRIVATE, DIGEST)
    verify_proof(PUBLIC, HANDSHAKE_SECRET, CHALLENGE, own)


def test_the_key_of_the_user_and_what_follows_from_it():
    assert sha256(b"IoSE test user PSK") == USER_PSK
    derived = derive_psk(CRYPTO, USER_PSK)
    assert derived.derived.hex().upper() == (
        "CE58FB30BF8CD76B332E1286C16F3ADF7F9F180A4E68CE5E63EF78CD3AE78D73"
    )
    assert derived.external_finished.hex().upper() == (
        "3EE7D8B0450197E75B335C17C439BE76E7F77FDCCCD2DC80380746258DA8E6C8"
    )
