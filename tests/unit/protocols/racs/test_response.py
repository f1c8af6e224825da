# SPDX-License-Identifier: Apache-2.0
"""The client's side of RACS: what is sent, what is understood, what is refused (racs.md §3, §5)."""

import pytest

from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.response import (
    LINE_LIMIT,
    RacsRequest,
    RacsResponse,
    ResponseParser,
    apdu_line,
    command_line,
)
from iose.wire.errors import LocalProtocolError
from tests.support.racs_transcripts import answers

BLOCK = b"BEGIN t\r\n+008 001 powered\r\n+006 002 6F0084009000\r\nEND\r\n"


def parsed(data: bytes) -> list[RacsResponse]:
    parser = ResponseParser()
    parser.receive_data(data)
    return drained(parser)


def drained(parser: ResponseParser) -> list[RacsResponse]:
    found = []
    while (response := parser.next_response()) is not None:
        found.append(response)
    return found


def told(response: RacsResponse) -> list[str]:
    return [str(line).rstrip() for line in response.lines]


def test_a_response_is_read_whole_and_byte_by_byte():
    parser = ResponseParser()
    for byte in BLOCK:
        parser.receive_data(bytes([byte]))
    assert drained(parser) == parsed(BLOCK)
    (response,) = parsed(BLOCK)
    assert (response.name, response.has_end, response.failure) == ("t", True, None)
    assert told(response) == ["+008 001 powered", "+006 002 6F0084009000"]
    assert response.last.text == "6F0084009000"


@pytest.mark.parametrize("begin", [b"BEGIN\r\n", b"BEGIN \r\n", b"BEGIN\n"])
def test_begin_without_a_name_is_read_with_and_without_its_blank(begin):
    (response,) = parsed(begin + b"+004 001 \r\nEND\r\n")
    assert (response.name, response.last.text) == ("", "")


def test_every_answer_the_published_server_was_seen_to_give_is_read():
    seen = list(answers())
    assert len(seen) > 30
    for data in seen:
        for response in parsed(data):
            assert response.lines


def test_several_responses_may_come_at_once():
    assert [response.name for response in parsed(BLOCK + BLOCK.replace(b"t", b"u", 1))] == [
        "t",
        "u",
    ]


def test_a_failure_without_end_is_over_at_the_next_begin():
    first, second = parsed(b"BEGIN a\r\n-911 001 no name\r\n" + BLOCK)
    assert (first.has_end, first.failure is first.last) == (False, True)
    assert second.name == "t"


def test_a_failure_without_end_is_over_when_the_caller_says_so_and_a_late_end_is_lost():
    parser = ResponseParser()
    parser.receive_data(b"BEGIN a\r\n-911 001 no name\r\n")
    assert parser.is_unfinished_failure
    assert parser.next_response() is None
    parser.end_failure()
    assert drained(parser)[0].has_end is False
    parser.receive_data(b"END\r\n" + BLOCK)
    assert [response.name for response in drained(parser)] == ["t"]


def test_a_second_late_end_is_a_fault():
    parser = ResponseParser()
    parser.receive_data(b"BEGIN a\r\n-911 001 no name\r\n")
    parser.end_failure()
    parser.receive_data(b"END\r\n")
    with pytest.raises(RacsPeerError):
        parser.receive_data(b"END\r\n")


def test_a_success_without_end_is_never_taken_as_whole():
    parser = ResponseParser()
    parser.receive_data(b"BEGIN a\r\n+008 001 powered\r\n")
    parser.end_failure()
    assert not parser.is_unfinished_failure
    assert parser.next_response() is None
    with pytest.raises(RacsPeerError, match="expected END"):
        parser.receive_data(b"BEGIN b\r\n")


def test_a_parser_says_when_nothing_is_under_way():
    parser = ResponseParser()
    assert parser.is_idle
    for part in (b"BEG", b"IN\r\n", b"+004 001 \r\nEND"):
        parser.receive_data(part)
        assert not parser.is_idle
    parser.receive_data(b"\r\n")
    assert not parser.is_idle
    parser.next_response()
    assert parser.is_idle


def test_half_of_an_end_is_waited_for():
    parser = ResponseParser()
    parser.receive_data(b"BEGIN a\r\n-911 001 no name\r\nEN")
    assert not parser.is_unfinished_failure


@pytest.mark.parametrize(
    "data",
    [
        b"+004 001 key1 \r\n",  # before BEGIN
        b"END\r\n",
        b"\r\n",
        b"BEGIN a\r\nEND\r\n",  # nothing said
        b"BEGIN a\r\n\r\n",
        b"BEGIN a\r\n004 001 key1\r\n",
        b"BEGIN a\r\n+04 001 key1\r\n",
        b"BEGIN a\r\n+004\r\n",
        b"BEGIN a\r\n+004 x\r\n",
        b"BEGIN a\r\n+004 0000000001 x\r\n",
        b"BEGIN a\r\n+004 001 k\xe9y1\r\n",
        b"BEGIN \x00\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"x" * (LINE_LIMIT + 1),
        b"x" * (LINE_LIMIT + 1) + b"\n",
    ],
)
def test_what_is_no_response_is_refused_once_and_for_all(data):
    parser = ResponseParser()
    with pytest.raises(RacsPeerError):
        parser.receive_data(data)
    with pytest.raises(RacsPeerError):
        parser.receive_data(BLOCK)
    assert parser.next_response() is None


def test_a_line_of_just_the_limit_is_read():
    text = b"0" * (LINE_LIMIT - len(b"+006 001 \r"))
    (response,) = parsed(b"BEGIN\r\n+006 001 " + text + b"\r\nEND\r\n")
    assert len(response.last.text) == len(text)


def test_an_endless_response_is_cut_off():
    parser = ResponseParser(response_limit=100)
    with pytest.raises(RacsPeerError, match="longer than 100"):
        parser.receive_data(b"BEGIN\r\n" + b"+009 001 x\r\n" * 11)


# --- requests -------------------------------------------------------------------------------


def test_a_request_is_one_block_with_crlf():
    assert RacsRequest(("LIST",)).encode() == b"BEGIN\r\nLIST\r\nEND\r\n"
    assert RacsRequest((), "t").encode(is_careful=True) == b"BEGIN t\r\nEND\r\n"


@pytest.mark.parametrize(
    "line", ["", "  ", "BEGIN", "BEGIN x", "END", "LIST\r\nEND", "ECHO é", "A\0"]
)
def test_a_line_that_would_break_the_frame_is_refused(line):
    with pytest.raises(LocalProtocolError):
        RacsRequest((line,))


@pytest.mark.parametrize("name", ["n" * 64, "a b", "é", "a\n"])
def test_a_name_that_cannot_be_sent_is_refused(name):
    with pytest.raises(LocalProtocolError):
        RacsRequest(("LIST",), name)


def test_a_name_of_63_characters_is_sent():
    assert RacsRequest(("LIST",), "n" * 63).encode().startswith(b"BEGIN " + b"n" * 63 + b"\r\n")


@pytest.mark.parametrize(
    ("sound", "too_large"),
    [
        ("ECHO " + "a " * 9, "ECHO " + "a " * 10),
        (apdu_line("k", bytes(512)), apdu_line("k", bytes(513))),
        ("ECHO " + "a" * 995, "ECHO " + "a" * 996),
    ],
)
def test_what_overruns_the_published_server_is_refused_where_care_is_asked_for(sound, too_large):
    RacsRequest((sound,)).encode(is_careful=True)
    request = RacsRequest((too_large,))
    assert request.encode()
    with pytest.raises(LocalProtocolError, match="line 1"):
        request.encode(is_careful=True)


def test_a_request_that_fits_no_record_is_refused_where_care_is_asked_for():
    request = RacsRequest((apdu_line("k", bytes(500)),) * 17)
    with pytest.raises(LocalProtocolError, match="over 16384"):
        request.encode(is_careful=True)


def test_an_apdu_line_holds_its_options():
    assert apdu_line("k", b"\x00\xd8") == "APDU k 00D8"
    assert (
        apdu_line("k", b"\x00\xd8", more=0x9F, fetch=bytes.fromhex("a0c00000"), expected=0x9000)
        == "APDU k 00D8 CONTINUE=9000 MORE=9F FETCH=A0C00000"
    )


@pytest.mark.parametrize("words", [("POWERON", "a b"), ("POWERON", ""), ("POWERON", "é")])
def test_a_word_with_a_blank_makes_no_line(words):
    with pytest.raises(LocalProtocolError):
        command_line(*words)
