# SPDX-License-Identifier: Apache-2.0
"""Draining: what is fetched, what is repeated, what ends a batch, and what never ends."""

import pytest

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.batch import BatchStep
from iose.iso7816.status import StatusWord
from iose.transport.stack import EXCHANGE_LIMIT, ApduMeter, drain, run_batch
from iose.wire.errors import DecodeError, RemoteProtocolError

SEND = CommandApdu.decode(bytes.fromhex("00D8000301AA"))
RECEIVE = CommandApdu.decode(bytes.fromhex("00C0000010"))


class Script:
    """A card that answers from a list; what it was sent is checked command by command."""

    def __init__(self, *exchanges: tuple[str, str]) -> None:
        self.exchanges = list(exchanges)

    def __call__(self, command: bytes) -> bytes:
        expected, answer = self.exchanges.pop(0)
        assert command.hex().upper() == expected
        return bytes.fromhex(answer)


def drained(command: CommandApdu, *exchanges: tuple[str, str]) -> ResponseApdu:
    script = Script(*exchanges)
    response = drain(script, command)
    assert not script.exchanges
    return response


def test_a_final_answer_is_left_as_it_is():
    assert drained(SEND, ("00D8000301AA", "BB9001")) == ResponseApdu(b"\xbb", StatusWord.TLS_OPEN)


def test_9fxx_is_fetched_while_its_length_changes():
    assert drained(
        SEND,
        ("00D8000301AA", "11229F1C"),
        ("00C000001C", "33449F3A"),
        ("00C000003A", "559000"),
    ) == ResponseApdu(bytes.fromhex("1122334455"))


def test_61xx_is_fetched_and_the_real_status_comes_with_the_data():
    assert drained(
        SEND, ("00D8000301AA", "6102"), ("00C0000002", "11229F01"), ("00C0000001", "339002")
    ) == ResponseApdu(bytes.fromhex("112233"), StatusWord.TLS_CLOSED)


def test_zero_announces_256_bytes():
    assert drained(SEND, ("00D8000301AA", "9F00"), ("00C0000000", "9000")) == ResponseApdu()


def test_get_response_goes_to_the_channel_of_the_command():
    command = CommandApdu(0x12, 0xD8, 0, 3, b"\xaa")
    assert drained(command, ("12D8000301AA", "6101"), ("02C0000001", "119000")).data == b"\x11"


def test_6cxx_repeats_a_command_that_brought_no_data():
    assert drained(RECEIVE, ("00C0000010", "6C02"), ("00C0000002", "11229000")).data == b"\x11\x22"


def test_6cxx_on_a_fetch_repeats_the_fetch():
    assert drained(
        SEND, ("00D8000301AA", "9F10"), ("00C0000010", "6C01"), ("00C0000001", "119000")
    ) == ResponseApdu(b"\x11")


def test_6cxx_is_an_answer_to_a_command_with_data():
    command = CommandApdu(0, 0x85, 0, 0x0C, b"\xaa")
    assert drained(command, ("0085000C01AA", "6C00")).status == StatusWord.WRONG_LE


def test_6cxx_that_asks_for_what_was_asked_is_an_answer():
    assert drained(RECEIVE, ("00C0000010", "6C10")).status == StatusWord(0x6C10)


def test_a_batch_stops_with_the_first_unexpected_status():
    script = Script(("00D8000301AA", "9000"), ("00C0000010", "6D16"))
    steps = [BatchStep(SEND), BatchStep(RECEIVE), BatchStep(SEND)]
    assert [response.status for response in run_batch(script, steps)] == [0x9000, 0x6D16]
    assert not script.exchanges


def test_a_step_without_expectation_goes_on_after_any_status():
    script = Script(("00D8000301AA", "6D16"), ("00D8000301AA", "9001"))
    steps = [BatchStep(SEND, None), BatchStep(SEND, StatusWord.TLS_OPEN)]
    assert [response.status for response in run_batch(script, steps)] == [0x6D16, 0x9001]


def test_an_empty_batch_sends_nothing():
    assert run_batch(Script(), []) == []


def test_every_exchange_is_counted():
    meter = ApduMeter()
    script = Script(("00D8000301AA", "9F02"), ("00C0000002", "11229000"), ("00C0000010", "9000"))
    run_batch(script, [BatchStep(SEND), BatchStep(RECEIVE)], meter)
    assert meter == ApduMeter(commands=3, bytes_sent=16, bytes_received=8)


def test_an_answer_without_status_word_is_refused():
    with pytest.raises(DecodeError):
        drain(lambda _: b"\x90", SEND)


@pytest.mark.parametrize("answer", ["9F01", "6101"])
def test_an_answer_that_never_ends_is_refused(answer: str):
    meter = ApduMeter()
    with pytest.raises(RemoteProtocolError, match="does not end"):
        drain(lambda _: bytes.fromhex(answer), SEND, meter)
    assert meter.commands == EXCHANGE_LIMIT + 1


def test_two_wrong_lengths_in_turn_are_refused():
    with pytest.raises(RemoteProtocolError, match="does not end"):
        drain(lambda command: bytes((0x6C, command[-1] ^ 3)), RECEIVE)


def test_an_answer_of_64_kib_is_taken_and_one_byte_more_refused():
    def card(total: int):
        sent = 0

        def process(_: bytes) -> bytes:
            nonlocal sent
            sent += 256
            more = b"\x9f\x00" if sent < total else b"\x90\x00"
            return bytes(256 - max(0, sent - total)) + more

        return process

    assert len(drain(card(65_536), SEND).data) == 65_536
    with pytest.raises(RemoteProtocolError, match="longer than 65536"):
        drain(card(65_537), SEND)
    with pytest.raises(RemoteProtocolError, match="longer than 65536"):
        drain(lambda _: bytes(65_537) + b"\x90\x00", SEND)
