# SPDX-License-Identifier: Apache-2.0
"""Frames between a node and an element host: round trips, bounds, every truncation."""

import pytest

from iose.card.management import INSTANCE_LIMIT
from iose.protocols.host_frames import (
    FRAME_LIMIT,
    ElementInfo,
    ElementInstance,
    ExchangeAnswer,
    ExchangeFlag,
    ExchangeRequest,
    ExchangeStep,
    Failure,
    FailureCode,
    FrameSplitter,
    ListAnswer,
    ListRequest,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from iose.wire.errors import DecodeError, LocalProtocolError

REQUESTS = [
    ListRequest(1),
    ExchangeRequest(0, ExchangeFlag.POWER_OFF, "1"),
    ExchangeRequest(
        0xFFFF_FFFF,
        ExchangeFlag.POWER_ON | ExchangeFlag.RAW,
        "é" * 31,
        (ExchangeStep(b"\x00\xd8\x00\x00\x00", 0x9000), ExchangeStep(bytes(65_544), 0)),
    ),
]
ANSWERS = [
    ListAnswer(1, ()),
    ListAnswer(
        2,
        (
            ElementInfo("1", "key1.com", b"\x3b\x00", 240, 512),
            ElementInfo(
                "2",
                "",
                b"",
                65_535,
                0,
                (ElementInstance("a.com", b"12345"), ElementInstance("", b"123456")),
            ),
        ),
    ),
    ExchangeAnswer(3, b"\x3b\x00", 5, (b"\x90\x00", bytes(65_538))),
    ExchangeAnswer(4, b"", 0, ()),
    Failure(5, FailureCode.HELD, "held by another node"),
]


def body(frame):
    (whole,) = FrameSplitter().receive_data(frame)
    return whole


@pytest.mark.parametrize("request_", REQUESTS)
def test_decodes_the_request_it_encoded(request_):
    assert decode_request(body(encode_request(request_))) == request_


@pytest.mark.parametrize("answer", ANSWERS)
def test_decodes_the_answer_it_encoded(answer):
    assert decode_answer(body(encode_answer(answer))) == answer


def test_lays_an_exchange_out_as_documented():
    request = ExchangeRequest(7, 1, "ab", (ExchangeStep(b"\x00\xd8\x00\x00", 0x9000),))
    assert encode_request(request).hex() == ("000000140000000702010261620001900000000400d80000")
    answer = ExchangeAnswer(7, b"\x3b", 2, (b"\x90\x00",))
    assert encode_answer(answer).hex() == "000000120000000782000000020001013b0000029000"


@pytest.mark.parametrize(
    "value", [REQUESTS[0], REQUESTS[1], ExchangeRequest(1, 0, "1", (ExchangeStep(b"abcd", 0),))]
)
def test_refuses_every_truncated_request_and_one_byte_more(value):
    frame = body(encode_request(value))
    for wrong in [frame[:size] for size in range(len(frame))] + [frame + b"\x00"]:
        with pytest.raises(DecodeError):
            decode_request(wrong)


@pytest.mark.parametrize(
    "value", [ANSWERS[1], ANSWERS[4], ExchangeAnswer(4, b"\x3b", 1, (b"\x90\x00",))]
)
def test_refuses_every_truncated_answer_and_one_byte_more(value):
    frame = body(encode_answer(value))
    for wrong in [frame[:size] for size in range(len(frame))] + [frame + b"\x00"]:
        with pytest.raises(DecodeError):
            decode_answer(wrong)


def test_refuses_an_answer_where_a_request_belongs_and_the_reverse():
    with pytest.raises(DecodeError):
        decode_request(body(encode_answer(ANSWERS[3])))
    with pytest.raises(DecodeError):
        decode_answer(body(encode_request(REQUESTS[0])))


@pytest.mark.parametrize("seid", [b"", bytes(64), b"\xff"])
def test_refuses_a_seid_that_is_empty_too_long_or_not_text(seid):
    frame = b"\x00\x00\x00\x01\x02\x00" + bytes((len(seid),)) + seid + b"\x00\x00"
    with pytest.raises(DecodeError):
        decode_request(frame)


def test_refuses_an_info_whose_text_is_not_utf8():
    frame = bytearray(body(encode_answer(ANSWERS[1])))
    frame[frame.index(b"key1")] = 0xFF
    with pytest.raises(DecodeError):
        decode_answer(bytes(frame))


def test_splits_frames_one_byte_at_a_time():
    stream = b"".join(encode_request(request) for request in (*REQUESTS[:2], REQUESTS[0]))
    splitter = FrameSplitter()
    frames = [frame for byte in stream for frame in splitter.receive_data(bytes((byte,)))]
    assert [decode_request(frame) for frame in frames] == [*REQUESTS[:2], REQUESTS[0]]


def test_takes_a_frame_at_the_limit_and_refuses_one_byte_more():
    splitter = FrameSplitter()
    assert splitter.receive_data(FRAME_LIMIT.to_bytes(4, "big")) == []
    with pytest.raises(DecodeError):
        FrameSplitter().receive_data((FRAME_LIMIT + 1).to_bytes(4, "big"))


def test_refuses_to_encode_what_does_not_fit():
    with pytest.raises(LocalProtocolError):
        encode_request(ExchangeRequest(1, 0, "x" * 256))
    with pytest.raises(LocalProtocolError):
        encode_answer(ExchangeAnswer(1, bytes(256), 0, ()))
    with pytest.raises(LocalProtocolError):
        encode_answer(ExchangeAnswer(1, b"", 0, tuple([bytes(65_538)] * 512)))


def test_takes_the_longest_frame_some_bytes_at_a_time():
    frame = FRAME_LIMIT.to_bytes(4, "big") + bytes(FRAME_LIMIT)
    splitter = FrameSplitter()
    for start in range(0, len(frame) - 4, 128):
        assert splitter.receive_data(frame[start : min(start + 128, len(frame) - 4)]) == []
    assert splitter.receive_data(frame[-4:] + frame) == [frame[4:], frame[4:]]


def test_an_inventory_of_elements_that_hold_all_they_can_fits_a_frame():
    more = tuple(ElementInstance("x" * 15, bytes(16)) for _ in range(INSTANCE_LIMIT))
    one = ElementInfo("se-00000000", "x" * 15, bytes(32), 65_535, 65_535, more)
    size = len(encode_answer(ListAnswer(1, (one, one)))) - len(encode_answer(ListAnswer(1, (one,))))
    assert size * 8_000 < FRAME_LIMIT


def test_refuses_an_element_that_takes_no_data():
    frame = encode_answer(ListAnswer(1, (ElementInfo("1", "key1.com", b"", 0, 0),)))
    with pytest.raises(DecodeError, match="takes no data"):
        decode_answer(body(frame))


@pytest.mark.parametrize("message", ["x" + "é" * 512, "\ud800" * 9, "é" * 513])
def test_a_failure_message_of_any_text_can_be_read(message):
    answer = decode_answer(body(encode_answer(Failure(1, FailureCode.ELEMENT_FAULT, message))))
    assert len(answer.message.encode()) in (1023, 9, 1024)


def test_cuts_a_long_failure_message():
    answer = decode_answer(body(encode_answer(Failure(1, FailureCode.ELEMENT_FAULT, "x" * 5000))))
    assert answer.message == "x" * 1024
