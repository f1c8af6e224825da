# SPDX-License-Identifier: Apache-2.0
"""The twin of an SE050 computes what tls-im.md §4.1 and §8 say, without a bus."""

import pytest

from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.tlv import Tlv
from tests.twins.se050 import AID, Se050

CRYPTO = PycaCrypto()
PSK = bytes(range(1, 33))
DSK = "E8E7AC087158FC8440E41A12989F9194783764CD5FC36564028037F2C8206E96"
BINDER_KEY = "FCA24690D17DDE3F727D29D2186A5F83E1AEBD4889A4841793139168A65BFCB0"
CLIENT_POINT = (
    "0438A07080AA6350A2C28429E8211A840A2CED575606FB1CE0B36B23E25377C578"
    "BEEA2FE747D422E7DA3524D8ED5E022D1BEA9FB32F202BFF91B82D6C91F61664"
)
PRIVATE = "44339F299B09AD743B9F69D33654057CA50419D64FCC8235FB3C5D862569D69C"
SHARED = "C17ACEA9DEFFB7E537312678464E7538640B893A4CFBF7807D9DFA96D9180838"
EMPTY_HASH = CRYPTO.hash(HashAlgorithm.SHA256, b"").hex()


@pytest.fixture
def chip():
    chip = Se050()
    assert chip.process(bytes.fromhex("00A4040010") + AID + b"\0")[-2:] == b"\x90\0"
    return chip


def ask(chip, header, **fields):
    """Return the value answered to a command, or its status word in hex digits."""
    data = b"".join(
        Tlv(int(tag[1:], 16), bytes.fromhex(text)).encode() for tag, text in fields.items()
    )
    answer = chip.process(bytes.fromhex(header) + bytes((len(data),)) + data)
    if answer[-2:] != b"\x90\0":
        return answer.hex().upper()
    return Tlv.decode(answer[:-2]).value.hex().upper() if len(answer) > 2 else ""


def label(name, context=""):
    """Return the info of HKDF-Expand-Label (RFC 8446 §7.1) for 32 bytes."""
    text = b"tls13 " + name.encode()
    return (b"\0\x20" + bytes((len(text),)) + text + bytes((len(context) // 2,))).hex() + context


def test_binder_and_handshake_secret_of_the_specification(chip):
    assert ask(chip, "80010500", t41="000000F0", t43=BINDER_KEY) == ""
    assert ask(chip, "80010500", t41="000000D0", t43=DSK) == ""
    hashed = "E479370AF6F743A3C2ABBCBA4B67BD016CD0207D2ADFCC5260EBCBAF0175EDB9"
    assert ask(chip, "80030D45", t41="000000F0", t42="19", t43=hashed) == (
        "6B1BF24F43B60DE0597561289D840AA15E83ADA24E7E6C04AB3B10BFAE4D4591"
    )
    assert ask(chip, "80030D45", t41="000000D0", t42="19", t43=SHARED) == (
        "206D85B01FCEA8EA0C44FEE20475FB012F9C0AF0C1B29A54CA04B753AEF62F18"
    )


def test_ecdh_of_the_specification(chip):
    assert ask(chip, "80014100", t41="00000010", t42="03", t43=PRIVATE) == ""
    assert ask(chip, "8003010F", t41="00000010", t42=CLIENT_POINT) == SHARED


def test_a_psk_becomes_the_two_keys_by_hkdf(chip):
    assert ask(chip, "80810500", t41="000000FF", t43=PSK.hex()) == ""
    derived = label("derived", EMPTY_HASH)
    zeros = "00" * 32
    kept = {"t41": "000000FF", "t42": "04", "t43": zeros, "t45": "0020"}
    assert ask(chip, "8003002D", **{**kept, "t44": derived}) == DSK
    binder = ask(chip, "8003002D", **{**kept, "t44": label("ext binder", EMPTY_HASH)})
    assert binder == "4351F8A53AA85AC394AB04C516464CAB96E9340C269632D09899537887EE651F"
    ask(chip, "80010500", t41="000000FE", t43=binder)
    finished = label("finished") + "01"
    assert ask(chip, "80030D45", t41="000000FE", t42="19", t43=finished) == BINDER_KEY
    assert ask(chip, "80040028", t41="000000FF") == ""
    assert ask(chip, "80040028", t41="000000FF") == "6985"


def test_an_ephemeral_pair_signs_and_is_gone_after_a_reset(chip):
    assert ask(chip, "80816100", t41="000000E0", t42="03") == ""
    public = bytes.fromhex(ask(chip, "80020000", t41="000000E0"))
    digest = bytes(range(32))
    signature = bytes.fromhex(ask(chip, "80030C09", t41="000000E0", t42="21", t43=digest.hex()))
    CRYPTO.ecdsa_verify(Curve.SECP256R1, public, digest, signature)
    chip.restart()
    chip.process(bytes.fromhex("00A4040010") + AID)
    assert ask(chip, "80020000", t41="000000E0") == "6985"


def test_random_bytes_are_as_many_as_asked_for(chip):
    assert len(ask(chip, "80040049", t41="0010")) == 32
    assert ask(chip, "80040049", t41="0010") != ask(chip, "80040049", t41="0010")


@pytest.mark.parametrize(
    ("header", "fields", "status"),
    [
        ("80030D45", {"t41": "000000F0", "t42": "19", "t43": "00"}, "6985"),
        ("80030D45", {"t41": "000000F0", "t42": "18", "t43": "00"}, "6A80"),
        ("80010500", {"t41": "F0", "t43": "00"}, "6A80"),
        ("80014100", {"t41": "00000010", "t42": "04", "t43": PRIVATE}, "6A80"),
        ("80012100", {"t41": "00000010", "t42": "03", "t44": "04" + "00" * 64}, "6A80"),
        ("80090000", {}, "6A86"),
        ("00030D45", {}, "6E00"),
    ],
)
def test_other_commands_are_refused(chip, header, fields, status):
    assert ask(chip, header, **fields) == status


def test_nothing_is_done_before_the_applet_is_selected():
    assert ask(Se050(), "80040049", t41="0010") == "6E00"
    assert Se050().process(bytes.fromhex("00A4040005") + AID[:5]) == bytes.fromhex("6A82")
