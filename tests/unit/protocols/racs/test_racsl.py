# SPDX-License-Identifier: Apache-2.0
"""RACS Lite: both ends of its lines (racs.md §12.1)."""

import pytest

from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.racsl import (
    LINE_LIMIT,
    RacslAnswer,
    RacslCommand,
    RacslLines,
    RacslVerb,
    decode_answer,
    decode_command,
    encode_answer,
    encode_command,
)
from iose.wire.errors import LocalProtocolError

SELECT = bytes.fromhex("00A4040006010203040500")
COMMANDS = [
    (RacslCommand(RacslVerb.ON), b"on\r\n"),
    (RacslCommand(RacslVerb.OFF), b"off\r\n"),
    (RacslCommand(RacslVerb.APDU, SELECT), b"A 00A4040006010203040500\r\n"),
]
ANSWERS = [
    (RacslAnswer(is_ok=True), b"OK\r\n"),
    (RacslAnswer(is_ok=False), b"ERROR\r\n"),
    (RacslAnswer(is_ok=True, apdu=b"\x90\x00"), b"9000\r\n"),
]


@pytest.mark.parametrize(("command", "wire"), COMMANDS)
def test_commands_go_out_and_come_back(command, wire):
    assert encode_command(command) == wire
    assert decode_command(wire.decode().removesuffix("\r\n")) == command


@pytest.mark.parametrize(("answer", "wire"), ANSWERS)
def test_answers_go_out_and_come_back(answer, wire):
    assert encode_answer(answer) == wire
    assert decode_answer(wire.decode().removesuffix("\r\n")) == answer


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        ("ON", RacslVerb.ON),
        ("OFF", RacslVerb.OFF),
        ("a 9000", RacslVerb.APDU),
        ("on ", RacslVerb.ON),
    ],
)
def test_case_and_blanks_of_a_command_do_not_matter(line, verb):
    assert decode_command(line).verb is verb


@pytest.mark.parametrize(
    "line", ["", "A", "A ", "A 9", "A 90 00", "A zz", "on 1", "user 1234", "o n", "AA 9000"]
)
def test_what_is_no_command_is_refused(line):
    with pytest.raises(RacsPeerError):
        decode_command(line)


@pytest.mark.parametrize("line", ["", "ok", "ERRORS", "9", "90 00", "+006 001 9000"])
def test_what_is_no_answer_is_refused(line):
    with pytest.raises(RacsPeerError):
        decode_answer(line)


def test_any_error_is_a_refusal():
    assert decode_answer("ERROR No Command!") == RacslAnswer(is_ok=False)


@pytest.mark.parametrize(
    "command", [RacslCommand(RacslVerb.APDU), RacslCommand(RacslVerb.ON, SELECT)]
)
def test_an_apdu_goes_with_a_and_with_nothing_else(command):
    with pytest.raises(LocalProtocolError):
        encode_command(command)


def test_lines_are_cut_whole_and_byte_by_byte():
    data = b"on\r\nA 9000\noff\r\n"
    assert RacslLines().receive_data(data) == ["on", "A 9000", "off"]
    lines = RacslLines()
    found = [line for byte in data for line in lines.receive_data(bytes([byte]))]
    assert found == ["on", "A 9000", "off"]


@pytest.mark.parametrize("data", [b"x" * 11, b"x" * 11 + b"\n", b"\xe9\n", b"\x00\n"])
def test_lines_that_are_too_long_or_no_text_are_refused(data):
    with pytest.raises(RacsPeerError):
        RacslLines(10).receive_data(data)


def test_a_line_of_just_the_limit_is_read():
    assert LINE_LIMIT > 2 * 65_544
    assert RacslLines(10).receive_data(b"x" * 10 + b"\n") == ["x" * 10]
