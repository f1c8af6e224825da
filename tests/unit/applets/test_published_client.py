# SPDX-License-Identifier: Apache-2.0
"""The published client's ``sign`` and ``auth``, line by line as it does them (attestation.md §4).

Its checks are written here anew and stricter nowhere: exact sizes of answers, numbers of 32 or 33
bytes in signatures, the CCM suite and P-256 alone. Signatures are checked by pyca, not by our code.
"""

import hashlib
import os

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from iose.applets.tls_se import CommandSet, Limits, Settings, Wire
from tests.support.element import Client, Element, demo, reference_client

PREHASHED = ec.ECDSA(Prehashed(SHA256()))
AUTHORITY = ec.derive_private_key(
    0x5CDEE66CAEDE933ADD0CA894393480A076431FCA3EE6AC9A8E1129CE5F794120, ec.SECP256K1()
)
KINDS = [Settings(wire, limits, kind) for wire in Wire for limits in Limits for kind in CommandSet]


class Refused(Exception):  # noqa: N818  # what the client prints
    """The client would close the session."""


def answer_to(client: Client, line: str, size: int) -> str:
    answer = client.line(line.encode() + b"\r\n")
    if len(answer) != size or not answer.endswith(b"\r\n"):
        raise Refused(line[:3])
    return answer.decode().removesuffix("\r\n")


def verify(public: bytes, digest: bytes, signature: bytes) -> None:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), public)
    try:
        key.verify(signature, digest, PREHASHED)
    except InvalidSignature:
        raise Refused("signature") from None


def rebuilt(certificate: bytes) -> bytes:
    numbers = [int.from_bytes(half, "big") for half in (certificate[:32], certificate[32:])]
    return encode_dss_signature(*numbers)


def sign(client: Client, authority: ec.EllipticCurvePrivateKey = AUTHORITY) -> bool:
    """Certify as ``-H sign<private>`` does; return whether anything was done.

    Raises:
        Refused: The client would close the session.
    """
    if answer_to(client, "?0B", 130) != "00" * 64:
        return False
    public = bytes.fromhex(answer_to(client, "?0A", 132))
    signature = authority.sign(hashlib.sha256(public[1:]).digest(), PREHASHED)
    r, s = decode_dss_signature(signature)
    pair = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if client.line(b"?0E" + pair.hex().encode() + b"\r\n") != b"OK\r\n":
        raise Refused("?0E")
    return True


def auth(client: Client, authority: ec.EllipticCurvePrivateKey = AUTHORITY) -> None:
    """Verify as ``-H auth<public>`` does.

    Raises:
        Refused: The client would close the session.
    """
    numbers = authority.public_key().public_numbers()
    ca_public = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    public = bytes.fromhex(answer_to(client, "?0A", 132))
    certificate = bytes.fromhex(answer_to(client, "?0B", 130))
    if not any(certificate):
        raise Refused("not certified")
    verify(ca_public, hashlib.sha256(public[1:]).digest(), rebuilt(certificate))
    challenge = os.urandom(32)
    proof = client.line(b"?0C" + challenge.hex().encode() + b"\r\n").removesuffix(b"\r\n")
    signature = bytes.fromhex(proof.decode())
    assert signature[3] in (32, 33), "shorter ones break the published client; rare"
    message = client.engine.handshake_secret + challenge
    verify(public, hashlib.sha256(message).digest(), signature)


@pytest.mark.parametrize(
    "settings",
    KINDS,
    ids=lambda one: "-".join(part.value for part in (one.wire, one.limits, one.commands)),
)
def test_the_published_client_certifies_and_authenticates_every_kind(settings):
    element = Element(demo(settings))
    provider = reference_client(element).connect()
    assert sign(provider)
    assert not sign(provider), "a certificate is there: nothing is done"
    auth(provider)
    auth(reference_client(element).connect())


def test_the_published_client_refuses_what_is_not_certified():
    with pytest.raises(Refused, match="not certified"):
        auth(reference_client(Element()).connect())


def test_the_published_client_refuses_another_authority():
    client = reference_client(Element()).connect()
    sign(client, ec.derive_private_key(7, ec.SECP256K1()))
    with pytest.raises(Refused, match="signature"):
        auth(client)
