# SPDX-License-Identifier: Apache-2.0
"""What a virtual reader's driver says, whole, in pieces and wrong."""

import pytest

from iose.protocols.vpcd import DriverMessage, DriverStream, Order, encode_answer
from iose.wire.errors import DecodeError, LocalProtocolError

COMMAND = bytes.fromhex("00A4040000")
WIRE = bytes.fromhex("000104000101000500A40400000001020001000002ABCD")
MESSAGES = [Order.ATR, Order.POWER_ON, COMMAND, Order.RESET, Order.POWER_OFF, b"\xab\xcd"]


def drain(stream: DriverStream) -> list[DriverMessage]:
    found = []
    while (message := stream.next_message()) is not None:
        found.append(message)
    return found


def test_orders_and_commands_come_out_as_they_were_sent():
    stream = DriverStream()
    stream.receive_data(WIRE)
    assert drain(stream) == MESSAGES
    assert not stream.is_inside_message


def test_orders_and_commands_come_out_of_single_bytes():
    stream = DriverStream()
    found = []
    for byte in WIRE:
        stream.receive_data(bytes((byte,)))
        found += drain(stream)
    assert found == MESSAGES


def test_a_message_that_has_begun_is_seen():
    stream = DriverStream()
    assert not stream.is_inside_message
    stream.receive_data(b"\x00")
    assert stream.next_message() is None
    assert stream.is_inside_message


@pytest.mark.parametrize("order", [3, 5, 0x90, 0xFF])
def test_an_order_nobody_knows_is_refused(order: int):
    stream = DriverStream()
    stream.receive_data(bytes((0, 1, order)))
    with pytest.raises(DecodeError, match="order"):
        stream.next_message()


def test_an_empty_message_is_refused():
    stream = DriverStream()
    stream.receive_data(b"\x00\x00")
    with pytest.raises(DecodeError, match="empty"):
        stream.next_message()


def test_the_longest_message_is_taken():
    stream = DriverStream()
    stream.receive_data(b"\xff\xff" + bytes(0xFFFF))
    assert stream.next_message() == bytes(0xFFFF)


def test_an_answer_has_its_length_before_it():
    assert encode_answer(b"\x90\x00") == b"\x00\x02\x90\x00"
    assert encode_answer(bytes(0xFFFF))[:2] == b"\xff\xff"


def test_an_answer_one_byte_too_long_is_refused():
    with pytest.raises(LocalProtocolError):
        encode_answer(bytes(0x1_0000))
