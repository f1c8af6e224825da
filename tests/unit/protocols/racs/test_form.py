# SPDX-License-Identifier: Apache-2.0
"""Requests as form fields and URIs (racs.md §13)."""

import pytest

from iose.protocols.racs.form import (
    LINES_LIMIT,
    RacsUri,
    check_request_lines,
    decode_form,
    decode_racs_uri,
    decode_text,
    encode_form,
    encode_racs_uri,
)
from iose.wire.errors import DecodeError, LocalProtocolError

FORM = "BEGIN=&POWERON=999&APDU=999%2000A4040006010203040500&END="
LINES = ("BEGIN", "POWERON 999", "APDU 999 00A4040006010203040500", "END")


def test_order_and_repetition_of_fields_are_kept():
    assert decode_form(FORM) == LINES
    assert encode_form(LINES) == FORM
    assert decode_form("LIST=&LIST&ECHO=a+b&ECHO=%2B") == ("LIST", "LIST", "ECHO a b", "ECHO +")


@pytest.mark.parametrize(
    "text", ["ECHO=%0D%0AEND", "ECHO=%", "ECHO=%4", "ECHO=%zz", "ECHO=%FF", "ECHO=é", "%0a=1"]
)
def test_a_field_cannot_forge_a_line(text):
    with pytest.raises(DecodeError):
        decode_form(text)


def test_lines_come_without_comments():
    text = b"// one\r\nBEGIN x\nLIST\r\n\r\nEND\r\n"
    assert decode_text(text) == ("BEGIN x", "LIST", "END")
    assert decode_form("") == ()


@pytest.mark.parametrize("text", [b"ECHO \xff", b"ECHO \x00"])
def test_lines_are_printable_ascii(text):
    with pytest.raises(DecodeError):
        decode_text(text)


@pytest.mark.parametrize(
    "lines", [(), ("LIST",), ("BEGIN",), ("BEGIN", "LIST"), ("BEGIN", "END", "BEGIN", "END")]
)
def test_one_whole_request_is_expected(lines):
    with pytest.raises(DecodeError):
        check_request_lines(lines)
    check_request_lines(("BEGIN x", "LIST", "END"))


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("racs://gose.example:7777/1010", RacsUri("gose.example", 7777, "1010")),
        ("RACS://gose.example/a%2Fb", RacsUri("gose.example", 7777, "a/b")),
        ("racs://[::1]:8888/1", RacsUri("::1", 8888, "1")),
        (f"RACS://gose.example:7777/?{FORM}", RacsUri("gose.example", 7777, lines=LINES)),
    ],
)
def test_uris_are_read_and_written(text, uri):
    assert decode_racs_uri(text) == uri
    assert decode_racs_uri(encode_racs_uri(uri)) == uri


@pytest.mark.parametrize(
    "text",
    [
        "http://h/1",
        "racs:h/1",
        "racs://h",
        "racs://h/",
        "racs://h:0/1",
        "racs://h:65536/1",
        "racs://h:x/1",
        "racs://h/1?x",
        "racs://h/a/b",
        "racs://h/a%20b",
        "racs://h/?LIST=",
        "racs://h/" + "s" * 64,
        "racs://u@h/1",
    ],
)
def test_what_is_no_racs_uri_is_refused(text):
    with pytest.raises(DecodeError):
        decode_racs_uri(text)


@pytest.mark.parametrize("uri", [RacsUri("h"), RacsUri("h", 1, "s", ("BEGIN", "END"))])
def test_a_uri_has_an_element_or_a_request(uri):
    with pytest.raises(LocalProtocolError):
        encode_racs_uri(uri)


@pytest.mark.parametrize("line", [" END", "  BEGIN", "END x"])
def test_a_second_request_is_found_behind_blanks_too(line):
    with pytest.raises(DecodeError):
        check_request_lines(("BEGIN", line, "END"))
    check_request_lines((" BEGIN", "  LIST", " END"))


def test_a_request_has_a_limited_number_of_lines():
    assert len(decode_form("&".join(["LIST="] * LINES_LIMIT))) == LINES_LIMIT
    assert len(decode_text(b"\n".join([b"LIST"] * LINES_LIMIT))) == LINES_LIMIT
    with pytest.raises(DecodeError):
        decode_form("&" * LINES_LIMIT)
    with pytest.raises(DecodeError):
        decode_text(b"\n" * LINES_LIMIT)
