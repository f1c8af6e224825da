# SPDX-License-Identifier: Apache-2.0
"""The server's side of RACS: framing, APPEND, errors that throw the rest away (racs.md §3, §4)."""

import pytest

from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.request import (
    LINE_LIMIT,
    RacsCommand,
    RequestMachine,
    encode_response,
)
from iose.protocols.racs.response import RacsResponse, ResponseParser
from iose.protocols.racs.status import EventClass, StatusLine, Verb
from iose.wire.errors import LocalProtocolError


def good(command, text="done"):
    return StatusLine("+", EventClass.EXECUTION, command.verb, command.line, text)


def bad(command, event_class=EventClass.BAD_PARAMETER):
    return StatusLine("-", event_class, command.verb, command.line, "no")


def play(data, *, size=0, answer=good, **settings):
    """Feed bytes in pieces, answer each command, return what is sent."""
    machine = RequestMachine(**settings)
    sent = b""
    for start in range(0, len(data), size or len(data)):
        machine.receive_data(data[start : start + (size or len(data))])
        while (command := machine.next_command()) is not None:
            machine.answer(answer(command))
        sent += machine.data_to_send()
    return sent, machine


def commands(*lines, **settings):
    """Return the commands of one request."""
    found = []

    def note(command):
        found.append(command)
        return good(command)

    play("\r\n".join(("BEGIN t", *lines, "END", "")).encode(), answer=note, **settings)
    return found


@pytest.mark.parametrize("size", [0, 1, 2, 7])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_request_is_answered_however_it_is_cut(size, end):
    request = end.join(("BEGIN a", "LIST", "GET-VERSION", "END", "BEGIN", "ECHO x", "END", ""))
    sent, machine = play(request.encode(), size=size)
    assert sent == b"BEGIN a\r\n+002 002 done\r\nEND\r\nBEGIN\r\n+009 001 done\r\nEND\r\n"
    assert machine.is_idle
    assert not machine.is_closed


def test_nothing_is_sent_before_end_or_an_error():
    sent, machine = play(b"BEGIN a\r\nLIST APPEND\r\nLIST\r\n")
    assert sent == b""
    assert not machine.is_idle


def test_append_keeps_a_line_and_the_last_is_always_there():
    sent, _ = play(b"BEGIN\r\nLIST APPEND\r\nECHO x\r\nLIST APPEND\r\nECHO y APPEND\r\nEND\r\n")
    assert sent == b"BEGIN\r\n+004 001 done\r\n+004 003 done\r\n+009 004 done\r\nEND\r\n"


def test_an_error_is_sent_at_once_alone_and_the_rest_is_thrown_away():
    answered = []

    def answer(command):
        answered.append(command.line)
        return bad(command) if command.verb is Verb.POWERON else good(command)

    sent, machine = play(b"BEGIN e\r\nLIST APPEND\r\nPOWERON 1\r\n", answer=answer)
    assert sent == b"BEGIN e\r\n-408 002 no\r\nEND\r\n"
    machine.receive_data(b"LIST\r\nBEGIN x\r\n\r\nEND\r\n")
    assert machine.next_command() is None
    assert machine.data_to_send() == b""
    assert machine.is_idle
    assert answered == [1, 2]
    machine.receive_data(b"BEGIN after\r\nEND\r\n")
    assert machine.next_command() is None
    assert machine.data_to_send() == b"BEGIN after\r\n+001 000 empty request\r\nEND\r\n"


def test_lines_are_counted_without_the_empty_ones():
    assert [one.line for one in commands("LIST", "", "   ", "ECHO x")] == [1, 2]


def test_comments_and_empty_lines_between_requests_are_nothing():
    sent, _ = play(b"\r\n// a remark\r\nBEGIN\r\nEND\r\n//END\r\n\r\n")
    assert sent == b"BEGIN\r\n+001 000 empty request\r\nEND\r\n"


def test_a_comment_inside_a_request_is_an_unknown_command():
    assert commands("// remark") == [RacsCommand(1, "//", Verb.NONE, ("remark",))]


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"LIST\r\n", b"BEGIN\r\n-300 000 expected BEGIN, found LIST\r\nEND\r\n"),
        (b"begin x\r\n", b"BEGIN\r\n-300 000 expected BEGIN, found begin\r\nEND\r\n"),
        (b"END\r\n", b"BEGIN\r\n-300 000 expected BEGIN, found END\r\nEND\r\n"),
        (b"\xff\r\n", b"BEGIN\r\n-300 000 expected BEGIN, found unreadable\r\nEND\r\n"),
        (
            b"BEGIN a\r\nLIST\r\nBEGIN b\r\n",
            b"BEGIN a\r\n-301 002 BEGIN inside a request\r\nEND\r\n",
        ),
        (
            b"BEGIN \x07\r\n",
            b"BEGIN\r\n-302 000 a name that is not visible ASCII\r\nEND\r\n",
        ),
    ],
)
@pytest.mark.parametrize("size", [0, 1])
def test_broken_framing_is_told_and_ends_the_session(data, answer, size):
    sent, machine = play(data + b"BEGIN\r\nEND\r\n", size=size)
    assert sent == answer
    assert machine.is_closed


def test_a_name_has_up_to_64_characters():
    name = "n" * 64
    sent, machine = play(f"BEGIN {name}\r\nEND\r\n".encode())
    assert sent.startswith(f"BEGIN {name}\r\n+001".encode())
    assert not machine.is_closed
    sent, machine = play(f"BEGIN {name}n\r\nEND\r\n".encode())
    assert sent.startswith(f"BEGIN {name}n\r\n-302 000 ".encode())
    assert machine.is_closed


def test_more_than_one_word_after_begin_is_no_name():
    sent, _ = play(b"BEGIN a b\r\nEND\r\n")
    assert sent.startswith(b"BEGIN\r\n+001")


@pytest.mark.parametrize("end", [b"", b"\r\n"])
@pytest.mark.parametrize("opening", [b"", b"BEGIN\r\n"])
def test_a_line_may_be_as_long_as_its_limit_and_no_longer(opening, end):
    sent, machine = play(opening + b"x" * (LINE_LIMIT + 1) + end)
    assert b"-300 " in sent
    assert machine.is_closed
    echo = b"ECHO " + b"x" * (LINE_LIMIT - 5)
    sent, machine = play(b"BEGIN\r\n" + echo + b"\nEND\r\n")
    assert sent == b"BEGIN\r\n+009 001 done\r\nEND\r\n"


def test_a_line_that_is_too_long_ends_even_a_request_being_thrown_away():
    _, machine = play(b"BEGIN\r\nLIST\r\n" + b"x" * (LINE_LIMIT + 1), answer=bad)
    assert machine.is_closed
    assert machine.buffered == 0


@pytest.mark.parametrize(
    ("before", "begin"),
    [
        (b"", b"BEGIN\r\n-300 000 "),
        (b"BEGIN old\r\nLIST\r\nLIST\r\nEND\r\n", b"BEGIN\r\n-300 000 "),
        (b"BEGIN name\r\nLIST\r\n", b"BEGIN name\r\n-300 002 "),
    ],
)
def test_a_line_that_is_too_long_is_told_of_with_its_own_number_and_name(before, begin):
    sent, _ = play(before + b"x" * (LINE_LIMIT + 1))
    assert begin in sent
    assert b"old" not in sent.partition(b"END\r\n")[2]


@pytest.mark.parametrize(
    ("line", "parameters", "is_kept"),
    [
        ("APDU s 00 APPEND", ("s", "00"), True),
        ("APDU s 00 APPEND MORE=61", ("s", "00", "MORE=61"), True),
        ("APDU s 00 MORE=61", ("s", "00", "MORE=61"), False),
        ("APDU APPEND APPEND", ("APPEND",), True),
        ("ECHO APPEND", (), True),
        ("ECHO APPEND APPEND", ("APPEND",), True),
        ("ECHO APPEND x", ("APPEND", "x"), False),
        ("SEN s name APPEND", ("s", "name"), True),
        ("SEN s APPEND 00", ("s", "APPEND", "00"), False),
        ("POWERON   s   APPEND  ", ("s",), True),
        ("LIST", (), False),
    ],
)
def test_append_is_taken_away_before_parameters_are_read(line, parameters, is_kept):
    (command,) = commands(line)
    assert (command.parameters, command.is_kept) == (parameters, is_kept)


def test_a_command_of_one_word_is_never_append():
    assert commands("APPEND")[0] == RacsCommand(1, "APPEND", Verb.NONE)


@pytest.mark.parametrize("line", ["ECHO \x7f", "ECHO a\tb", "LIST\r"])
def test_what_is_not_visible_ascii_is_a_fault_of_its_line(line):
    (command,) = commands(line)
    assert command.fault == "not visible ASCII"
    assert command.word == ""


def test_a_line_has_up_to_32_words():
    assert commands("ECHO " + "x " * 31)[0].fault == ""
    assert commands("ECHO " + "x " * 32)[0].fault == "over 32 words"


@pytest.mark.parametrize("word", ["QUIT", "XEND"])
def test_quit_ends_the_session_after_the_response(word):
    sent, machine = play(f"BEGIN q\r\n{word} APPEND\r\nLIST\r\nEND\r\nBEGIN\r\nEND\r\n".encode())
    assert sent == b"BEGIN q\r\n+012 001 done\r\n+004 002 done\r\nEND\r\n"
    assert machine.is_closed


def test_quit_before_an_error_ends_the_session_at_end():
    _, machine = play(
        b"BEGIN q\r\nQUIT\r\nLIST\r\n",
        answer=lambda command: bad(command) if command.verb is Verb.LIST else good(command),
    )
    assert not machine.is_closed
    machine.receive_data(b"END\r\n")
    assert machine.next_command() is None
    assert machine.is_closed


def test_room_shrinks_with_what_is_kept_and_not_with_what_is_replaced():
    machine = RequestMachine(block_limit=10_000)
    machine.receive_data(
        b"BEGIN\r\nLIST\r\nLIST APPEND\r\nLIST\r\nLIST\r\nEND\r\nBEGIN\r\nLIST\r\n"
    )
    rooms = []
    while (command := machine.next_command()) is not None:
        rooms.append(machine.room)
        machine.answer(good(command, "x" * 1000))
    first, second, third, fourth, again = rooms
    assert first == again
    assert second == first - 1160
    assert third == second
    assert fourth == third - 1160


def test_a_command_is_answered_once_and_before_the_next():
    machine = RequestMachine()
    machine.receive_data(b"BEGIN\r\nLIST\r\nLIST\r\n")
    command = machine.next_command()
    with pytest.raises(LocalProtocolError):
        machine.next_command()
    machine.answer(good(command))
    with pytest.raises(LocalProtocolError):
        machine.answer(good(command))


def test_an_answer_may_end_the_session():
    machine = RequestMachine()
    machine.receive_data(b"BEGIN\r\nFOO\r\nEND\r\n")
    machine.answer(bad(machine.next_command()), closes=True)
    assert machine.is_closed
    assert machine.data_to_send().endswith(b"END\r\n")
    machine.receive_data(b"BEGIN\r\nEND\r\n")
    assert machine.buffered == 0


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"BEGIN x\r\n\r\nLIST\r\nEND\r\n", b""),
        (b"\r\n", b""),
        (b"// c\r\n", b"BEGIN\r\n-300 000 expected BEGIN, found //\r\nEND\r\n"),
    ],
)
def test_the_published_server_ends_the_session_at_an_empty_line(data, answer):
    sent, machine = play(data, is_reference=True)
    assert sent == answer
    assert machine.is_closed


def test_the_published_server_puts_a_blank_after_a_nameless_begin():
    sent, _ = play(b"BEGIN\r\nEND\r\n", is_reference=True)
    assert sent == b"BEGIN \r\n+001 000 empty request\r\nEND\r\n"


def test_the_published_server_takes_append_as_the_last_word_only():
    (command,) = commands("APDU s 00 APPEND MORE=61", is_reference=True)
    assert command.parameters == ("s", "00", "APPEND", "MORE=61")
    assert not command.is_kept


@pytest.mark.parametrize("text", ["é", "a\r\nEND", "a\nEND", "a\tb", "\x00"])
def test_a_text_that_could_forge_a_line_is_not_sent(text):
    line = StatusLine("+", EventClass.EXECUTION, Verb.ECHO, 1, text)
    with pytest.raises(RacsPeerError):
        encode_response(RacsResponse("", (line,)))


def test_our_client_reads_what_our_server_says():
    lines = tuple(
        StatusLine("+", EventClass.EXECUTION, Verb.APDU, number, "9000") for number in range(1, 4)
    )
    response = RacsResponse("name", lines)
    parser = ResponseParser()
    parser.receive_data(encode_response(response))
    assert parser.next_response() == response


def test_lines_that_are_no_command_may_be_looked_at_a_few_at_a_time():
    machine = RequestMachine()
    machine.receive_data(b"\n" * 20 + b"BEGIN\nEND\n// x\nBEGIN\nLIST\n")
    turns = 0
    while (command := machine.next_command(5)) is None:
        assert machine.is_behind
        turns += 1
    assert (turns, command.verb, machine.is_behind) == (4, Verb.LIST, False)
    assert machine.data_to_send().endswith(b"+001 000 empty request\r\nEND\r\n")
    machine.answer(good(command))
    assert machine.next_command(5) is None
    assert not machine.is_behind
