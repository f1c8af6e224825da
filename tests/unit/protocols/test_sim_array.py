# SPDX-License-Identifier: Apache-2.0
"""The lines of a SIM array: commands, replies with their runs, contents (iose-server.md §8.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iose.protocols.sim_array import (
    LINE_LIMIT,
    PAYLOAD_LIMIT,
    SimBoard,
    SimReply,
    decode_content,
    decode_reply,
    encode_content,
    encode_exchange,
    encode_reply,
)
from iose.wire.errors import DecodeError, LocalProtocolError

COMMANDS = [
    ("00A4040006010203040500", "apdu 701 00A4040006010203040500"),
    ("00A404000601020304050000", "apdu 701 00A4040006010203040500"),
    ("00A4040000", "apdu 701 00A4040000"),
    ("00A40400", "apdu 701 00A4040000"),
    ("00A4000C023F00", "tpdu 701 w 00A4000C023F00"),
    ("00C0000010", "tpdu 701 r 00C0000010"),
    ("00C0000000", "tpdu 701 r 00C00000FF"),
    ("00D8000000", "tpdu 701 w 00D8000000"),
    ("00EE0000", "tpdu 701 w 00EE000000"),
    ("0020000004" + "30" * 4, "tpdu 701 w 0020000004" + "30" * 4),
    ("00D8000302AABB00", "tpdu 701 w 00D8000302AABB"),
]


@pytest.mark.parametrize(("command", "line"), COMMANDS)
def test_a_command_goes_the_way_its_case_asks_for(command, line):
    assert encode_exchange(701, bytes.fromhex(command)) == line


@pytest.mark.parametrize(
    "command",
    [
        "",
        "00A404",
        "00D8000300AA",
        "00D8000302AA",
        "00D8000302AABB0000",
        "00D800000000FF",
        "00CA00000000",
    ],
)
def test_a_command_without_a_form_in_t0_is_refused(command):
    with pytest.raises(LocalProtocolError):
        encode_exchange(701, bytes.fromhex(command))


@pytest.mark.parametrize(
    ("line", "payload"),
    [
        (b"000 9000", "9000"),
        (b"000 ", ""),
        (b"012 *05AB6100", "ABABABABAB6100"),
        (b"000 9f*03009000", "9F0000009000"),
        (b"000:9000 ", "9000"),
        (b"00009000", "9000"),
        (b"0ok 9000", "9000"),
        (b"000*05AB", "05AB"),
        (b"000**05AB", "ABABABABAB"),
    ],
)
def test_a_success_holds_hex_and_runs(line, payload):
    assert decode_reply(line) == SimReply(is_ok=True, payload=bytes.fromhex(payload))


def test_a_refusal_keeps_some_of_its_words():
    assert decode_reply(b"105 no card") == SimReply(is_ok=False, text="no card")
    assert decode_reply(b"9000") == SimReply(is_ok=False)
    assert len(decode_reply(b"105 " + b"x" * 1000).text) == 80


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"0",
        b"000",
        b"105",
        b"abc 9000",
        b"ERROR",
        b"0000900",
        b"000 900",
        b"000 90 00",
        b"000 9G",
        b"000 *0",
        b"000 *05A",
        b"000 *5 AB",
        b"000 \xff",
        b"000 90\x00",
        b"000 " + b"*FFAA" * 400,
        b"000 " + b"00" * LINE_LIMIT,
    ],
)
def test_what_is_no_reply_is_refused(line):
    with pytest.raises(DecodeError):
        decode_reply(line)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 255)), max_size=6))
def test_replies_come_back_as_they_went(runs):
    payload = b"".join(bytes((byte,)) * count for count, byte in runs)
    assert len(payload) < PAYLOAD_LIMIT
    line = encode_reply(SimReply(is_ok=True, payload=payload))
    assert decode_reply(line.encode()).payload == payload


def test_a_refusal_comes_back_as_it_went():
    refusal = SimReply(is_ok=False, text="no card")
    assert decode_reply(encode_reply(refusal).encode()) == refusal


def test_contents_list_boards_and_cards():
    boards = decode_content(b"000 701:8:B8:0.801:3:E:1")
    assert boards == (
        SimBoard(701, (True, False, True, True, True, False, False, False)),
        SimBoard(801, (True, True, True), has_changed=True),
    )
    assert decode_content(b"000.801:3:F:1") == boards[1:]
    assert decode_content(b"000 ") == ()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"000",
        b"105 no",
        b"000 701",
        b"000 701:8:B8",
        b"000 701:8:B:0",
        b"000 701:8:B80:0",
        b"000 701:8:BX:0",
        b"000 x:8:B8:0",
        b"000 701:8:B8:0.",
        b"000 701:8:B8:0.702:8:B8:0",
        b"000 99999:8:B8:0",
        b"000 701:8:B8:0\xff",
    ],
)
def test_what_are_no_contents_is_refused(line):
    with pytest.raises(DecodeError):
        decode_content(line)


@given(
    st.lists(st.tuples(st.lists(st.booleans(), min_size=1, max_size=40), st.booleans()), max_size=5)
)
def test_contents_come_back_as_they_went(boards):
    made = tuple(
        SimBoard(100 * place + 1, tuple(cards), has_changed)
        for place, (cards, has_changed) in enumerate(boards, 1)
    )
    assert decode_content(encode_content(made).encode()) == made
