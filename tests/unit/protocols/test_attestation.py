# SPDX-License-Identifier: Apache-2.0
"""The statement of an element: one encoding of each, what is signed, and its pieces."""

from dataclasses import replace

import pytest

from iose.crypto.base import Curve
from iose.crypto.pyca import PycaCrypto
from iose.protocols.attestation import (
    MAX_PIECES,
    PIECE_SIZE,
    SIGNING_DOMAIN,
    SignedStatement,
    Statement,
    read_first_piece,
    sign_statement,
    signed_message,
    split_pieces,
    statement_digest,
)
from iose.wire.errors import DecodeError, LocalProtocolError

CRYPTO = PycaCrypto()
PRIVATE = b"\x05" * 32
STATEMENT = Statement(
    sen=b"key1.com",
    seid=b"se-00000001",
    module=b"tls_se",
    version=b"1.0",
    package_hash=bytes(range(32)),
    life_cycle=0x07,
    is_copy=False,
    exporter=b"\xee" * 32,
    challenge=b"\xcc" * 32,
    public_key=CRYPTO.public_key(Curve.SECP256K1, PRIVATE),
)
# the layout that docs/attestation.md promises, written by hand
ENCODED = bytes.fromhex(
    "01"
    "0100086B6579312E636F6D"
    "02000B73652D3030303030303031"
    "030006746C735F7365"
    "040003312E30"
    "050020000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
    "06000107"
    "07000100"
    "080020" + "EE" * 32 + "090020" + "CC" * 32 + "0A0041"
) + CRYPTO.public_key(Curve.SECP256K1, PRIVATE)
EMPTY = replace(STATEMENT, sen=b"", seid=b"", module=b"", version=b"", is_copy=True)


def test_a_statement_is_encoded_as_documented():
    assert STATEMENT.encode() == ENCODED
    assert Statement.decode(ENCODED) == STATEMENT


def test_names_may_be_empty_and_a_copy_is_marked():
    assert Statement.decode(EMPTY.encode()) == EMPTY


@pytest.mark.parametrize("size", range(len(ENCODED)))
def test_a_statement_cut_short_is_refused(size):
    with pytest.raises(DecodeError):
        Statement.decode(ENCODED[:size])


def test_a_byte_too_many_is_refused():
    with pytest.raises(DecodeError):
        Statement.decode(ENCODED + b"\x00")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("01010008", "02010008"),  # the version
        ("02000B73", "03000B73"),  # a tag out of order
        ("06000107", "0600020707"),  # a size
        ("07000100", "07000102"),  # a copy mark that is neither
        ("05002000", "05001F"),  # a hash of 31 bytes
    ],
)
def test_what_has_another_encoding_is_refused(good, bad):
    text = ENCODED.hex().upper()
    assert text.count(good) == 1
    with pytest.raises(DecodeError):
        Statement.decode(bytes.fromhex(text.replace(good, bad)))


def test_a_number_that_does_not_fit_its_byte_is_not_sent():
    with pytest.raises(LocalProtocolError):
        replace(STATEMENT, life_cycle=256).encode()


def test_a_signature_covers_the_domain_and_the_whole_statement():
    signed = sign_statement(CRYPTO, PRIVATE, STATEMENT)
    assert signed.statement() == STATEMENT
    public = STATEMENT.public_key
    digest = statement_digest(CRYPTO, signed.content)
    CRYPTO.ecdsa_verify(Curve.SECP256K1, public, digest, signed.signature)
    assert signed_message(signed.content) == SIGNING_DOMAIN + ENCODED


def test_what_a_statement_signs_is_never_what_a_proof_or_a_certificate_signs():
    # those are over exactly 64 bytes: handshake secret and challenge, or X and Y
    assert len(signed_message(EMPTY.encode())) > len(SIGNING_DOMAIN) + 32 + 32 > 64
    assert SIGNING_DOMAIN.isascii()
    assert SIGNING_DOMAIN.endswith(b"\0")


def test_a_signed_statement_is_read_whole_or_not_at_all():
    signed = sign_statement(CRYPTO, PRIVATE, STATEMENT)
    data = signed.encode()
    assert SignedStatement.decode(data) == signed
    for broken in (data + b"\0", *(data[:size] for size in range(len(data)))):
        with pytest.raises(DecodeError):
            SignedStatement.decode(broken)


@pytest.mark.parametrize("size", [1, PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, 3 * PIECE_SIZE])
def test_pieces_joined_are_what_was_split(size):
    data = bytes(number % 251 for number in range(size))
    first, *others = split_pieces(data)
    count, joined = read_first_piece(first)
    assert count == 1 + len(others) == -(-size // PIECE_SIZE)
    assert joined + b"".join(others) == data


@pytest.mark.parametrize("piece", [b"", b"\x00", bytes((MAX_PIECES + 1,)) + b"x"])
def test_a_number_of_pieces_that_no_statement_has_is_refused(piece):
    with pytest.raises(DecodeError):
        read_first_piece(piece)
