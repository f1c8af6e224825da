# SPDX-License-Identifier: Apache-2.0
"""Typed commands: the exact line sent, the value of an answer, and what is refused."""

import inspect
import re
from pathlib import Path

import pytest

import iose
from iose.client import commands
from iose.client.asynchronous import AsyncElement
from iose.client.blocking import Element
from iose.client.codec import Command
from iose.client.errors import AnswerError, KeystoreError
from iose.client.signature import lower_s
from iose.client.syntax import SYNTAX, UNKNOWN, shown, syntax_of
from iose.crypto.base import Curve, HashAlgorithm
from iose.wire.errors import LocalProtocolError

POINT = b"\x04" + bytes(range(64))
SECRET = bytes(range(32))
DER_HIGH_S = bytes.fromhex(  # attestation of a simulated card: S is above n/2
    "3046022100FA05ED0A3649886270BACEC5DDC1A3643009A759BEE996F9A6AC060C9992A82E"
    "022100EC95856DD38AEEDF6890B84D115F16F3371BDDE933CBADB02F909E8061798C47"
)


@pytest.mark.parametrize(
    ("command", "line", "answer", "value"),
    [
        (commands.version(), b"?00", b"Ethertrust keystore 1.3", "Ethertrust keystore 1.3"),
        (commands.version(), b"?00", b"\xff", "\\xff"),
        (commands.echo(b"ERROR"), b"?01ERROR", b"ERROR", b"ERROR"),
        (commands.echo_bytes(b"\x01\xff"), b"?FF01FF", b"01ff", b"\x01\xff"),
        (commands.application_public_key(), b"?0A", POINT.hex().encode(), POINT),
        (commands.certificate(), b"?0B", b"00" * 64, None),
        (commands.certificate(), b"?0B", b"01" * 64, b"\x01" * 64),
        (commands.prove(b"\xab"), b"?0CAB", DER_HIGH_S.hex().encode(), DER_HIGH_S),
        (commands.session_secret(), b"?0D", SECRET.hex().encode(), SECRET),
        (commands.set_certificate(b"\x02" * 64), b"?0E" + b"02" * 64, b"OK", None),
        (
            commands.replace_psk(SECRET, b"\x07" * 32),
            b"?AA" + SECRET.hex().upper().encode() + b"07" * 32,
            b"07" * 32,
            b"\x07" * 32,
        ),
        (commands.clear_key(3), b"c03", b"OK", None),
        (commands.clear_key(3, curve=Curve.SECP256R1), b"C03", b"OK", None),
        (commands.generate_key(0), b"g00", b"OK", None),
        (commands.generate_key(0, curve=Curve.SECP256R1), b"G00", b"OK", None),
        (commands.seal_key(2), b"n02", b"OK", None),
        (commands.is_key_sealed(2), b"N02", b"01", True),
        (commands.is_key_sealed(2), b"N02", b"00", False),
        (commands.public_key(1), b"p01", POINT.hex().upper().encode(), POINT),
        (commands.set_public_key(1, POINT), b"P01" + POINT.hex().upper().encode(), b"OK", None),
        (commands.private_key(2), b"r02", SECRET.hex().encode(), SECRET),
        (commands.set_private_key(3, b"\x12\x34"), b"X031234", b"OK", None),
        (commands.sign(3, b"\xab\xcd"), b"s03ABCD", DER_HIGH_S.hex().encode(), DER_HIGH_S),
        (commands.generate_seed(3), b"t03", b"OK", None),
        (commands.set_seed(3, b"\x12"), b"t0312", b"OK", None),
        (commands.seed(3), b"v03", b"1234", b"\x12\x34"),
        (
            commands.sign(3, b"\xab", low_s=True),
            b"s03AB",
            DER_HIGH_S.hex().encode(),
            lower_s(DER_HIGH_S),
        ),
        (commands.derive(3, "m/0'"), b"b0380000000", b"OK", None),
        (commands.derive(3, "1h/2H"), b"b038000000180000002", b"OK", None),
        (commands.derive(3, [0x80000001]), b"b0380000001", b"OK", None),
        (commands.write_record(31, b"a b"), b"Z1Fa b", b"OK", None),
        (commands.write_record(0, b""), b"Z00", b"OK", None),
        (commands.read_record(0), b"I00", b"OK", b""),
        (commands.read_record(0), b"I00", b"text", b"text"),
        (commands.hmac(1, b"\x01"), b"h0101", b"aa" * 32, b"\xaa" * 32),
        (
            commands.hmac(1, b"", algorithm=HashAlgorithm.SHA512),
            b"H01",
            b"aa" * 64,
            b"\xaa" * 64,
        ),
        (commands.aes_encrypt(0, bytes(16)), b"A00" + b"00" * 16, b"11" * 16, b"\x11" * 16),
        (commands.aes_decrypt(0, bytes(32)), b"a00" + b"00" * 32, b"11" * 32, b"\x11" * 32),
        (commands.set_identity("me"), b"?05me", b"OK", None),
        (commands.set_guest_identity("you"), b"?06you", b"OK", None),
        (commands.set_guest_psk(SECRET), b"?A0" + SECRET.hex().upper().encode(), b"OK", None),
        (commands.guest_psk(), b"?A1", SECRET.hex().encode(), SECRET),
        (commands.set_flags(0x81), b"?A581", b"OK", None),
        (commands.set_module_psk(SECRET), b"?A2" + SECRET.hex().upper().encode(), b"OK", None),
        (commands.module_binder(bytes(32)), b"?D0" + b"00" * 32, b"11" * 32, b"\x11" * 32),
        (
            commands.module_handshake_secret(bytes(32)),
            b"?D1" + b"00" * 32,
            b"11" * 32,
            b"\x11" * 32,
        ),
        (
            commands.module_handshake_secret(bytes(32), confirmed=True),
            b"?D2" + b"00" * 32,
            b"11" * 32,
            b"\x11" * 32,
        ),
        (commands.raw("p00"), b"p00", b"anything", b"anything"),
        (commands.raw("Z00\udcff"), b"Z00\xff", b"OK", b"OK"),
    ],
)
def test_sends_the_line_and_reads_the_answer(command, line, answer, value):
    assert command.line == line
    assert command.read_answer(answer) == value


@pytest.mark.parametrize(
    "build",
    [
        lambda: commands.echo(b""),
        lambda: commands.echo(b"a\nb"),
        lambda: commands.echo_bytes(b""),
        lambda: commands.echo_bytes(bytes(129)),
        lambda: commands.set_certificate(bytes(63)),
        lambda: commands.prove(b""),
        lambda: commands.prove(bytes(33)),
        lambda: commands.replace_psk(bytes(31), bytes(33)),
        lambda: commands.replace_psk(bytes(32), bytes(31)),
        lambda: commands.clear_key(-1),
        lambda: commands.clear_key(256),
        lambda: commands.set_public_key(0, bytes(64)),
        lambda: commands.set_private_key(0, b""),
        lambda: commands.set_private_key(0, bytes(33)),
        lambda: commands.sign(0, b""),
        lambda: commands.sign(0, bytes(33)),
        lambda: commands.set_seed(0, b""),
        lambda: commands.set_seed(0, bytes(65)),
        lambda: commands.derive(0, ""),
        lambda: commands.derive(0, []),
        lambda: commands.derive(0, "m"),
        lambda: commands.derive(0, "m/1"),
        lambda: commands.derive(0, "m/2147483648'"),
        lambda: commands.derive(0, [0]),
        lambda: commands.derive(0, [0x80000000] * 31),
        lambda: commands.write_record(0, bytes(65)),
        lambda: commands.write_record(0, b"\r"),
        lambda: commands.hmac(16, b""),
        lambda: commands.hmac(0, b"", algorithm=HashAlgorithm.SHA384),
        lambda: commands.aes_encrypt(0, b""),
        lambda: commands.aes_decrypt(0, bytes(17)),
        lambda: commands.set_identity(""),
        lambda: commands.set_guest_psk(bytes(31)),
        lambda: commands.set_flags(256),
        lambda: commands.module_binder(bytes(31)),
        lambda: commands.raw(""),
        lambda: commands.raw("p00\n"),
        lambda: commands.raw(b"p00\rg00"),
        lambda: commands.raw("Z00\ud800"),
        lambda: commands.set_identity("\ud800"),
        lambda: commands.set_guest_identity("a\nb"),
    ],
)
def test_an_argument_out_of_range_is_refused_before_anything_is_sent(build):
    with pytest.raises(LocalProtocolError):
        build()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (commands.generate_key(0), b"ok"),
        (commands.generate_key(0), b""),
        (commands.is_key_sealed(0), b"02"),
        (commands.echo(b"a"), b"b"),
        (commands.echo(b"ab"), b"a"),
        (commands.echo(b"ab"), b"ac"),
        (commands.echo_bytes(b"a"), b"62"),
        (commands.public_key(0), POINT.hex().encode()[:-2]),
        (commands.public_key(0), POINT.hex().encode() + b"00"),
        (commands.public_key(0), b"zz" * 65),
        (commands.public_key(0), b"02" * 65),
        (commands.application_public_key(), b"00" * 65),
        (commands.private_key(0), b"1"),
        (commands.private_key(0), b" " * 64),
        (commands.seed(0), b"\xd9\xa1" * 2),
        (commands.certificate(), b"00" * 63),
        (commands.sign(0, b"\1"), b"OK"),
        (commands.sign(0, b"\1"), DER_HIGH_S.hex().encode() + b"00"),
        (commands.sign(0, b"\1"), DER_HIGH_S[:-1].hex().encode()),
        (commands.sign(0, b"\1", low_s=True), DER_HIGH_S[:-1].hex().encode()),
        (commands.sign(0, b"\1", low_s=True), b"30260201010221" + b"00" + b"FF" * 32),
    ],
)
def test_an_answer_of_another_form_is_refused(command, answer):
    with pytest.raises(AnswerError):
        command.read_answer(answer)


def test_error_becomes_an_exception_with_a_next_step():
    with pytest.raises(KeystoreError, match="read the public key") as caught:
        commands.public_key(0).read_answer(b"ERROR")
    assert "generate" in caught.value.hint
    assert caught.value.hint.endswith("; written p<key>")


def test_error_to_a_command_without_a_name_tells_how_uris_write_them():
    with pytest.raises(KeystoreError) as caught:
        commands.raw("00").read_answer(b"ERROR")
    assert "/??00" in caught.value.hint


def test_the_line_of_a_command_is_never_printed():
    assert SECRET.hex().upper() not in repr(commands.set_private_key(0, SECRET))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"p00", "p00"),
        (b"X001234", "X00***"),
        (b"t001234", "t00***"),
        (b"t00", "t00"),
        (b"?aa" + b"00" * 64, "?aa***"),
        (b"?A0" + b"00" * 32, "?A0***"),
        (b"Z00\xff", "Z00\\xff"),
    ],
)
def test_a_line_is_shown_without_the_key_in_it(line, expected):
    assert shown(line) == expected


def test_every_typed_command_has_words():
    for letters, syntax in SYNTAX.items():
        assert syntax_of(letters.encode() + b"00") is syntax
        assert syntax.form.startswith(letters)
        assert syntax.if_refused
    assert syntax_of(b"?99") is UNKNOWN
    assert syntax_of(b"") is UNKNOWN


def test_both_kinds_of_element_offer_every_command():
    offered = {
        name
        for name, build in inspect.getmembers(commands, inspect.isfunction)
        if build.__module__ == commands.__name__ and not name.startswith("_")
    }
    offered -= {"raw", "replace_psk"}  # offered as command and change_psk
    for kind in (Element, AsyncElement):
        methods = {name for name in dir(kind) if not name.startswith("_")}
        assert offered <= methods
    assert {n for n in vars(Element) if n[0] != "_"} == {
        n for n in vars(AsyncElement) if n[0] != "_"
    }


def test_a_command_is_a_value():
    assert commands.public_key(0).line == commands.public_key(0).line
    assert isinstance(commands.public_key(0), Command)


def test_the_page_on_the_library_names_every_method_and_error():
    page = Path("docs/library.md").read_text()
    for name in (name for name in dir(Element) if not name.startswith("_")):
        assert re.search(rf"\b{name}\b\(?", page), name
    for name in iose.__all__:
        assert re.search(rf"\b{name}\b", page), name
