# SPDX-License-Identifier: Apache-2.0
"""Host frames for any input: decode after encode is identity, and only DecodeError comes out."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iose.protocols.host_frames import (
    ElementInfo,
    ElementInstance,
    ExchangeAnswer,
    ExchangeRequest,
    ExchangeStep,
    Failure,
    FrameSplitter,
    ListAnswer,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from iose.wire.errors import DecodeError

ids = st.integers(0, 2**32 - 1)
words = st.integers(0, 0xFFFF)
seids = st.text(min_size=1, max_size=15)
requests = st.builds(
    ExchangeRequest,
    ids,
    st.integers(0, 255),
    seids,
    st.lists(st.builds(ExchangeStep, st.binary(max_size=300), words), max_size=5).map(tuple),
)
infos = st.builds(
    ElementInfo,
    seids,
    st.text(max_size=15),
    st.binary(max_size=33),
    st.integers(1, 0xFFFF),
    ids,
    st.lists(
        st.builds(ElementInstance, st.text(max_size=15), st.binary(max_size=16)), max_size=3
    ).map(tuple),
)
answers = st.one_of(
    st.builds(
        ExchangeAnswer,
        ids,
        st.binary(max_size=33),
        ids,
        st.lists(st.binary(max_size=300), max_size=5).map(tuple),
    ),
    st.builds(ListAnswer, ids, st.lists(infos, max_size=5).map(tuple)),
    st.builds(Failure, ids, st.integers(0, 255), st.text(max_size=100)),
)


@given(st.lists(requests, max_size=4), st.integers(1, 50))
def test_requests_survive_any_chunking(sent, size):
    stream = b"".join(map(encode_request, sent))
    splitter = FrameSplitter()
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    frames = [frame for chunk in chunks for frame in splitter.receive_data(chunk)]
    assert list(map(decode_request, frames)) == sent


@given(answers)
def test_answers_decode_to_what_was_encoded(answer):
    assert decode_answer(encode_answer(answer)[4:]) == answer


@pytest.mark.parametrize("decode", [decode_request, decode_answer])
@given(data=st.data())
def test_only_the_declared_error_comes_out(decode, data):
    kind = data.draw(st.sampled_from([1, 2, 0x81, 0x82, 0x83]))
    with contextlib.suppress(DecodeError):
        decode(bytes(4) + bytes((kind,)) + data.draw(st.binary(max_size=200)))
