# SPDX-License-Identifier: Apache-2.0
"""Signatures and attestation: strict DER, high and low S, and the worked vector of a card."""

import pytest

from iose.client.attestation import verify_certificate, verify_proof
from iose.client.signature import decode_signature, encode_signature, lower_s, verify_signature
from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.errors import CryptoError, InvalidSignatureError
from iose.crypto.pyca import ORDERS, PycaCrypto
from iose.wire.errors import DecodeError

ORDER = ORDERS[Curve.SECP256K1]
# our own measurement of the published applet in a card simulator; its certificate is RFC 6979
PUBLIC = bytes.fromhex(
    "04FA05ED0A3649886270BACEC5DDC1A3643009A759BEE996F9A6AC060C9992A82E"
    "2F676E0DF3B9DC680E28DABC3AF3F9C264FF8953F1D143D62C06E960E562F678"
)
AUTHORITY = bytes.fromhex(
    "046099836D971593AAA2C1C32B6DB9EF9521041795E21CF1E7511DF3BD358F97DF"
    "358B33A875E359CBE236163D6DBAEDFEC6C9393522C7EBC25A7CC85E1F0A7D67"
)
CERTIFICATE = bytes.fromhex(
    "F03B7B01A0185CEAE21426DE5088C495079EC75E4932D4D1F469F6B09EA4D13D"
    "23BF6442BBF09BBFCAB232AFECC2F5683E9BFCE525B5A2C66C072679A91C10C7"
)
HANDSHAKE_SECRET = bytes.fromhex("2213CC81B4B97F8D2D2E6E1BDB0793C3A3CBD06F1ED111D903030F40668FE9CE")
CHALLENGE = bytes.fromhex("50AAAAD88959FEC8F98357129C2389B0B4E01A8C103B66ADE2B99A7A1634BC4C")
PROOF = bytes.fromhex(
    "3046022100FA05ED0A3649886270BACEC5DDC1A3643009A759BEE996F9A6AC060C9992A82E"
    "022100EC95856DD38AEEDF6890B84D115F16F3371BDDE933CBADB02F909E8061798C47"
)
# a real card's answer to s03abcd, and the key it belongs to (published example)
CARD_PUBLIC = bytes.fromhex(
    "0455CB37165F08D5E85D49DA700C083B8D9D7CB33EA7BEF0FE3455F632FE50DE74"
    "3E4664A488C3D825F872135BF2F139C655B9E212394717D0A9F27E9DEA32146E"
)
CARD_SIGNATURE = bytes.fromhex(
    "30440220604F3520C7112BA934B34D25DB03DD66851C84017A0216FE1DC876A4ED4F6C33"
    "022070B437A956D5D9D7B7EAEBDC122E52DC347218DA4884EF920AA44940D48BD92F"
)


def test_the_signature_of_a_real_card_verifies_over_the_padded_digest():
    verify_signature(CARD_PUBLIC, b"\xab\xcd", CARD_SIGNATURE)
    with pytest.raises(InvalidSignatureError):
        verify_signature(CARD_PUBLIC, b"\xab\xcc", CARD_SIGNATURE)


def test_high_s_verifies_and_its_lower_form_too():
    verify_proof(PUBLIC, HANDSHAKE_SECRET, CHALLENGE, PROOF)
    assert decode_signature(PROOF)[1] > ORDER // 2
    low = lower_s(PROOF)
    assert decode_signature(low)[1] <= ORDER // 2
    assert lower_s(low) == low
    verify_proof(PUBLIC, HANDSHAKE_SECRET, CHALLENGE, low)


def test_a_proof_of_another_session_or_challenge_is_refused():
    with pytest.raises(InvalidSignatureError):
        verify_proof(PUBLIC, bytes(32), CHALLENGE, PROOF)
    with pytest.raises(InvalidSignatureError):
        verify_proof(PUBLIC, HANDSHAKE_SECRET, CHALLENGE[:-1], PROOF)


def test_a_short_challenge_is_padded_on_the_left_as_the_element_does():
    crypto, private = PycaCrypto(), b"\x05" * 32
    digest = crypto.hash(HashAlgorithm.SHA256, HANDSHAKE_SECRET + bytes(31) + b"\x01")
    proof = crypto.ecdsa_sign(Curve.SECP256K1, private, digest)
    public = crypto.public_key(Curve.SECP256K1, private)
    verify_proof(public, HANDSHAKE_SECRET, b"\x01", proof)
    with pytest.raises(InvalidSignatureError):
        verify_proof(public, HANDSHAKE_SECRET, b"\x01\x00", proof)


def test_a_certificate_verifies_and_a_changed_one_does_not():
    verify_certificate(AUTHORITY, PUBLIC, CERTIFICATE)
    for broken in (
        bytes(64),
        CERTIFICATE[:-1],
        CERTIFICATE[:-1] + b"\0",
        CERTIFICATE + b"\0",
        b"\1" * 400,
    ):
        with pytest.raises(InvalidSignatureError):
            verify_certificate(AUTHORITY, PUBLIC, broken)
    with pytest.raises(InvalidSignatureError):
        verify_certificate(PUBLIC, AUTHORITY, CERTIFICATE)


def test_signatures_on_p256_verify():
    crypto = PycaCrypto()
    private, digest = b"\x05" * 32, b"\x06" * 32
    public = crypto.public_key(Curve.SECP256R1, private)
    signature = crypto.ecdsa_sign(Curve.SECP256R1, private, digest)
    verify_signature(public, digest, signature, curve=Curve.SECP256R1)
    verify_signature(
        public, digest, lower_s(signature, curve=Curve.SECP256R1), curve=Curve.SECP256R1
    )
    with pytest.raises(CryptoError):
        verify_signature(public, digest, signature)


@pytest.mark.parametrize(("r", "s"), [(1, ORDER), (ORDER, 1), (1, 2**256 - 1), (1, 2**263 - 1)])
def test_numbers_that_no_signature_on_the_curve_has_are_not_lowered(r, s):
    with pytest.raises(DecodeError, match="order of the curve"):
        lower_s(encode_signature(r, s))


@pytest.mark.parametrize(("r", "s"), [(1, 1), (127, 128), (255, 256), (ORDER - 1, ORDER - 1)])
def test_encoding_and_decoding_are_inverse(r, s):
    assert decode_signature(encode_signature(r, s)) == (r, s)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "3006020101020101" + "00",
        "3106020101020101",
        "3005020101020101",
        "3007020101020101",
        "3006030101020101",
        "3006020101030101",
        "300602010102010100",
        "30070202000102 0101",
        "3006020100020101",
        "3006020181020101",
        "300402000201 01",
        "308106020101020101",
        "3009020101020101020101",
        "3080020101020101 0000",
    ],
)
def test_what_is_not_strict_der_is_refused(text):
    with pytest.raises(DecodeError):
        decode_signature(bytes.fromhex(text))


def test_a_digest_longer_than_the_curve_is_refused():
    with pytest.raises(CryptoError, match="at most 32"):
        verify_signature(CARD_PUBLIC, bytes(33), CARD_SIGNATURE)
