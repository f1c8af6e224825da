# SPDX-License-Identifier: Apache-2.0
"""The bridge for any input: chunking changes nothing, nothing but its own end comes out."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from iose.bridge.client_hello import read_server_name
from iose.bridge.stream import RESET_TLS, BridgeState, StreamBridge
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.transport.stack import run_batch
from iose.wire.errors import DecodeError
from tests.support.client_hello import client_hello, hello_record
from tests.support.scripted_connection import EchoElement, record

payloads = st.one_of(st.binary(max_size=600), st.sampled_from([b"?02", b"!!", b""]))
sessions = st.lists(st.builds(record, payloads, st.sampled_from([0x14, 0x15, 0x17])), max_size=6)


def run_session(chunks, chunk_size):
    """Return what the client sees of a session, how it ended, and the element's records."""
    bridge, element, output = StreamBridge(), EchoElement(), b""
    element.power_on()
    for chunk in chunks:
        bridge.receive_data(chunk)
        if bridge.state is BridgeState.ROUTING:
            bridge.attach(ApduLimits(chunk_size, 0), (BatchStep(RESET_TLS),))
        while batch := bridge.next_batch():
            bridge.receive_responses(run_batch(element.process, batch))
        output += bridge.data_to_send()
    return output, bridge.end, element.records


@given(sessions, st.integers(1, 700), st.integers(1, 1000))
def test_chunking_changes_nothing(records, size, chunk_size):
    stream = hello_record(b"key1.com") + b"".join(records)
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert run_session(chunks, chunk_size) == run_session([stream], 240)


@given(st.binary(max_size=2000))
def test_any_bytes_end_in_a_state_and_never_in_an_exception(data):
    bridge = StreamBridge()
    bridge.receive_data(data)
    assert (bridge.end is None) == (bridge.state is not BridgeState.CLOSED)


@given(st.integers(0, 200), st.integers(0, 7))
def test_a_hello_with_one_bit_wrong_is_read_or_refused(offset, bit):
    hello = bytearray(hello_record(b"key1.com"))
    hello[offset % len(hello)] ^= 1 << bit
    bridge = StreamBridge()
    bridge.receive_data(bytes(hello))
    assert bridge.end is not None or bridge.state in (BridgeState.HELLO, BridgeState.ROUTING)


@given(st.binary(max_size=300))
def test_reading_a_name_raises_the_declared_error_only(data):
    with contextlib.suppress(DecodeError):
        read_server_name(client_hello(extensions=data))
