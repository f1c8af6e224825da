# SPDX-License-Identifier: Apache-2.0
"""The twin of the published RACS server says what that server was measured to say."""

import re
from collections.abc import Sequence

import pytest

from tests.support.racs_cards import KeystoreCard, element
from tests.support.racs_transcripts import NAMES, Turn, turns
from tests.support.racs_twin import Closed, Twin, TwinSession

USERS = {"racs_user_guest.txt": "guest", "racs_user_nobody.txt": "nobody"}
BEGIN = b"BEGIN x\r\n"


def twin(turns_seen: Sequence[Turn] = (), **given: object) -> Twin:
    received = b"".join(turn.received for turn in turns_seen)
    randoms = [
        bytes.fromhex(found.decode())
        for found in re.findall(rb"\+006 \d+ ([0-9A-F]{8,}9000)", received)
    ]
    card = KeystoreCard(randoms)
    users = {"admin": None, "guest": ("tls1",)}
    elements = [element(card, "key1", "0", sen="key1.com"), element(None, "tls1", "1")]
    return Twin(elements, users, **given)


def say(session: TwinSession, data: bytes) -> tuple[bytes, bool]:
    answer = b""
    try:
        for part in session.receive_record(data):
            answer += part
    except Closed:
        return answer, True
    return answer, False


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_answers_as_the_published_server_did(name):
    seen = turns(name)
    assert seen
    server = twin(seen, is_sound_with_split_lines=name == "racs_split.txt")
    sessions = [TwinSession(server, USERS.get(name, "admin")) for _ in range(2)]
    for turn in seen:
        answer, is_closed = say(sessions[turn.client], turn.sent)
        assert (answer, is_closed) == (turn.received, turn.is_closed)
    assert server.crashes == []


def test_a_line_in_two_records_is_broken():
    session = TwinSession(twin(), "admin")
    assert say(session, BEGIN + b"LI") == (b"", False)
    answer, is_closed = say(session, b"ST\r\nEND\r\n")
    assert (answer[:14], is_closed) == (b"BEGIN x\r\n-900 ", True)


def test_a_name_is_forgotten_with_its_end():
    session = TwinSession(twin(), "admin")
    answer, _ = say(session, BEGIN + b"GET-SEN 1\r\nEND\r\n")
    assert answer.startswith(b"BEGIN x\r\n-911 001 ")
    assert b"END" not in answer


@pytest.mark.parametrize(
    "data",
    [
        BEGIN + b"ECHO" + b" a" * 10 + b"\r\n",
        BEGIN + b"APDU key1 " + b"00" * 513 + b"\r\n",
        BEGIN + b"ECHO " + b"a" * 1000 + b"\r\n",
        b"BEGIN " + b"n" * 64 + b"\r\n",
    ],
)
def test_what_overwrites_its_memory_ends_it(data):
    server = twin()
    assert say(TwinSession(server, "admin"), data)[1]
    assert len(server.crashes) == 1


def test_append_is_an_aid_where_sen_looks_for_one():
    server = twin()
    session = TwinSession(server, "admin")
    say(session, BEGIN + b"SEN key1 k.com APPEND\r\nEND\r\n")
    assert (server.elements[0].sen, server.elements[0].aid) == ("k.com", "APPEND")


def test_the_end_of_a_session_takes_the_power():
    server = twin()
    session = TwinSession(server, "admin")
    say(session, BEGIN + b"POWERON key1\r\nEND\r\n")
    session.end()
    assert server.elements[0].log == ["on", "off"]
    assert server.elements[0].holder is None
