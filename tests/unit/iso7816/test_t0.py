# SPDX-License-Identifier: Apache-2.0
"""A T=0 card's manners before an element that answers whole APDUs at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iose.iso7816.t0 import T0Interface
from iose.wire.errors import DecodeError

READ = bytes.fromhex("00B0000010")
WRITE = bytes.fromhex("00D6000002ABCD")


class Element:
    """Answers every command with the next answer of a list, in hex, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.interface = T0Interface()
        self.asked: list[str] = []
        self._answers = list(answers)

    def exchange(self, command: str) -> str:
        raw = bytes.fromhex(command)
        answer = self.interface.receive_command(raw)
        if answer is None:
            self.asked.append(command)
            answer = self.interface.receive_response(raw, bytes.fromhex(self._answers.pop(0)))
        return answer.hex().upper()


def test_data_for_a_command_with_data_are_announced_and_fetched():
    element = Element("0102039000")
    assert element.exchange("00D6000002ABCD") == "6103"
    assert element.exchange("00C0000003") == "0102039000"
    assert element.asked == ["00D6000002ABCD"]


def test_the_status_of_an_applet_comes_with_the_last_byte():
    element = Element("0102039F10", "AA9000")
    assert element.exchange("00D6000002ABCD") == "6103"
    assert element.exchange("00C0000003") == "0102039F10"
    assert element.exchange("00C0000001") == "AA9000"
    assert element.asked == ["00D6000002ABCD", "00C0000001"]


def test_an_answer_is_fetched_in_pieces():
    element = Element("01020304059001")
    assert element.exchange("00D6000002ABCD") == "6105"
    assert element.exchange("00C0000002") == "01026103"
    assert element.exchange("00C0000003") == "0304059001"


def test_more_than_256_bytes_are_announced_as_256():
    element = Element("00" * 300 + "9000")
    assert element.exchange("00D6000002ABCD") == "6100"
    assert element.exchange("00C0000000") == "00" * 256 + "612C"
    assert element.exchange("00C000002C") == "00" * 44 + "9000"


def test_asking_for_more_than_waits_says_how_much_waits():
    element = Element("0102039000")
    element.exchange("00D6000002ABCD")
    assert element.exchange("00C0000000") == "6C03"
    assert element.exchange("00C0000003") == "0102039000"


def test_a_wrong_length_is_corrected_and_the_command_not_worked_on_again():
    element = Element("0102039000")
    assert element.exchange("00B0000010") == "6C03"
    assert element.exchange("00B0000003") == "0102039000"
    assert element.asked == ["00B0000010"]


def test_a_length_corrected_wrongly_asks_the_element_again():
    element = Element("0102039000", "0102039000")
    assert element.exchange("00B0000010") == "6C03"
    assert element.exchange("00B0000004") == "6C03"
    assert element.asked == ["00B0000010", "00B0000004"]


def test_another_command_of_the_right_length_is_not_the_one_to_be_repeated():
    element = Element("0102039000", "AABBCC9000")
    assert element.exchange("00B0000010") == "6C03"
    assert element.exchange("00B0010003") == "AABBCC9000"
    assert element.asked == ["00B0000010", "00B0010003"]


def test_another_command_drops_what_waits():
    element = Element("0102039000", "9000", "6985")
    element.exchange("00D6000002ABCD")
    assert element.exchange("00B0010001") == "9000"
    assert element.exchange("00C0000003") == "6985"
    assert element.asked[-1] == "00C0000003"


def test_a_reset_drops_what_waits():
    element = Element("0102039000", "6D00")
    element.exchange("00D6000002ABCD")
    element.interface.clear()
    assert element.exchange("00C0000003") == "6D00"


def test_what_waits_belongs_to_its_channel():
    element = Element("0102039000", "6D00")
    element.exchange("01D6000002ABCD")
    assert element.exchange("00C0000003") == "6D00"


def test_the_class_of_the_command_fetches_its_answer_too():
    element = Element("0102039000")
    element.exchange("84D6000002ABCD")
    assert element.exchange("84C0000003") == "0102039000"


@pytest.mark.parametrize("answer", ["9000", "6A82", "610A", "9F10", "6C08"])
def test_a_status_alone_passes_unchanged(answer: str):
    for command in ("00D6000002ABCD", "00B0000010", "0084000000", "00840000"):
        assert Element(answer).exchange(command) == answer


def test_a_command_without_data_may_have_four_bytes_or_five():
    element = Element("9000", "9000")
    assert element.exchange("00840000") == "9000"
    assert element.exchange("0084000000") == "9000"
    assert element.asked == ["00840000", "0084000000"]


def test_the_length_of_an_answer_behind_data_is_understood():
    element = Element("019000")
    assert element.exchange("00D6000002ABCD00") == "6101"
    assert element.exchange("00C0000001") == "019000"


def test_an_answer_as_long_as_asked_for_comes_at_once():
    assert Element("01029000").exchange("00B0000002") == "01029000"
    assert Element("00" * 256 + "9000").exchange("00B0000000") == "00" * 256 + "9000"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "00B000",
        "00B00000000010",  # extended Le
        "00D600000000021234",  # extended Lc
        "00D6000002AB",
        "00D6000002ABCD0000",
    ],
)
def test_what_t0_cannot_carry_is_refused_without_the_element(command: str):
    element = Element()
    assert element.exchange(command) == "6700"


def test_an_answer_without_status_is_none():
    with pytest.raises(DecodeError):
        T0Interface().receive_response(READ, b"\x90")


@given(data=st.binary(min_size=1, max_size=600), sizes=st.lists(st.integers(1, 255), min_size=1))
def test_an_answer_fetched_in_any_pieces_is_whole(data: bytes, sizes: list[int]):
    interface = T0Interface()
    answer = interface.receive_response(WRITE, data + b"\x90\x00")
    fetched = answer[:-2]
    for number in range(len(data)):
        if answer[-2] != 0x61:
            break
        waiting = answer[-1] or 256
        wanted = min(sizes[number % len(sizes)], waiting)
        found = interface.receive_command(bytes((0, 0xC0, 0, 0, wanted)))
        assert found is not None
        answer = found
        fetched += answer[:-2]
    assert (fetched, answer[-2:]) == (data, b"\x90\x00")


@given(commands=st.lists(st.binary(max_size=12)), answers=st.binary(min_size=2, max_size=20))
def test_any_commands_get_answers_with_a_status(commands: list[bytes], answers: bytes):
    interface = T0Interface()
    for command in commands:
        answer = interface.receive_command(command)
        if answer is None:
            answer = interface.receive_response(command, answers)
        assert len(answer) >= 2
