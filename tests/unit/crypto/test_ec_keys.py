# SPDX-License-Identifier: Apache-2.0
"""Keys on elliptic curves in PEM, ours and OpenSSL's, and what is refused."""

import subprocess

import pytest

from iose.crypto.base import Curve
from iose.crypto.ec_keys import (
    decode_private_key,
    decode_public_key,
    encode_private_key,
    encode_public_key,
)
from iose.crypto.errors import CryptoError
from iose.crypto.pyca import PycaCrypto
from iose.wire.errors import DecodeError
from tests.support.peers import require_peer

PRIVATE = bytes(31) + b"\x05"  # short: its zeros are kept
NAMES = {Curve.SECP256K1: "secp256k1", Curve.SECP256R1: "prime256v1"}


def openssl(*arguments: str, data: bytes = b"") -> bytes:
    command = [require_peer("openssl"), *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("curve", list(Curve))
def test_what_is_written_is_read(curve):
    public = PycaCrypto().public_key(curve, PRIVATE)
    assert decode_private_key(encode_private_key(curve, PRIVATE).encode(), curve) == PRIVATE
    assert decode_public_key(encode_public_key(curve, public).encode(), curve) == public


@pytest.mark.parametrize("curve", list(Curve))
def test_openssl_reads_what_we_write(curve):
    public = PycaCrypto().public_key(curve, PRIVATE)
    private_pem = encode_private_key(curve, PRIVATE).encode()
    assert openssl("pkey", "-pubout", data=private_pem) == encode_public_key(curve, public).encode()


@pytest.mark.parametrize("curve", list(Curve))
@pytest.mark.parametrize("form", ["pkcs8", "sec1"])
def test_we_read_what_openssl_writes(curve, form):
    name = NAMES[curve]
    if form == "pkcs8":
        pem = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{name}")
    else:  # with the parameters before the key, as its oldest command has them
        pem = openssl("ecparam", "-name", name, "-genkey")
        assert b"EC PARAMETERS" in pem
    private = decode_private_key(pem, curve)
    public = decode_public_key(openssl("pkey", "-pubout", data=pem), curve)
    assert PycaCrypto().public_key(curve, private) == public


def test_a_key_on_another_curve_is_refused():
    private = encode_private_key(Curve.SECP256R1, PRIVATE).encode()
    public = PycaCrypto().public_key(Curve.SECP256R1, PRIVATE)
    with pytest.raises(DecodeError, match="secp256k1"):
        decode_private_key(private, Curve.SECP256K1)
    with pytest.raises(DecodeError, match="secp256k1"):
        decode_public_key(encode_public_key(Curve.SECP256R1, public).encode(), Curve.SECP256K1)


def test_a_key_of_another_kind_is_refused():
    private = openssl("genpkey", "-algorithm", "ED25519")
    with pytest.raises(DecodeError):
        decode_private_key(private, Curve.SECP256K1)
    with pytest.raises(DecodeError):
        decode_public_key(openssl("pkey", "-pubout", data=private), Curve.SECP256K1)


def test_an_encrypted_key_is_refused():
    pem = encode_private_key(Curve.SECP256K1, PRIVATE).encode()
    encrypted = openssl("pkey", "-aes128", "-passout", "pass:x", data=pem)
    with pytest.raises(DecodeError, match="not encrypted"):
        decode_private_key(encrypted, Curve.SECP256K1)


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PUBLIC KEY-----\n", b"\xff" * 40])
def test_what_is_no_pem_is_refused(data):
    with pytest.raises(DecodeError):
        decode_private_key(data, Curve.SECP256K1)
    with pytest.raises(DecodeError):
        decode_public_key(data, Curve.SECP256K1)


def test_a_private_key_is_no_public_one():
    pem = encode_private_key(Curve.SECP256K1, PRIVATE).encode()
    with pytest.raises(DecodeError):
        decode_public_key(pem, Curve.SECP256K1)


def test_what_is_no_key_is_not_written():
    with pytest.raises(CryptoError):
        encode_private_key(Curve.SECP256K1, bytes(32))
    with pytest.raises(CryptoError):
        encode_public_key(Curve.SECP256K1, b"\x04" + bytes(64))
