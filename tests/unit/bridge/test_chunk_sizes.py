# SPDX-License-Identifier: Apache-2.0
"""Records in commands of every size that an element may take, short and extended."""

import pytest

from iose.bridge.stream import P2_FIRST, P2_LAST, BridgeState, EndReason, StreamBridge, record_steps
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.batch import ApduLimits
from iose.iso7816.status import StatusWord
from tests.support.client_hello import hello_record

RECORD_SIZES = (1, 2, 5, 239, 240, 241, 255, 256, 257, 510, 511, 512, 513, 1024, 4096, 16_645)
SHORT_HEADER, EXTENDED_HEADER = 5, 7
OVERFLOW_ALERT = bytes.fromhex("15030300020216")


class Buffer:
    """An applet's buffer of a record, as the published ones keep it."""

    def __init__(self) -> None:
        self.held = b""
        self.records: list[bytes] = []

    def process(self, wire: bytes) -> ResponseApdu:
        command = CommandApdu.decode(wire)
        if command.p2 & P2_FIRST:
            self.held = b""
        self.held += command.data
        if command.p2 & P2_LAST:
            self.records.append(self.held)
        return ResponseApdu(b"", StatusWord.OK)


@pytest.mark.parametrize("chunk_size", [*range(1, 256), 256, 1024, 4096, 16_645, 65_535])
def test_an_element_gets_the_record_whatever_it_takes_at_a_time(chunk_size: int):
    for size in RECORD_SIZES:
        record = bytes(index % 251 for index in range(size))
        element = Buffer()
        steps = record_steps(record, chunk_size)
        for step in steps:
            wire = step.command.encode()
            is_extended = len(step.command.data) > 255
            header = EXTENDED_HEADER if is_extended else SHORT_HEADER
            assert len(wire) == header + len(step.command.data)
            assert 0 < len(step.command.data) <= chunk_size
            element.process(wire)
        assert element.records == [record]
        assert len(steps) == -(-size // chunk_size)
        flags = [step.command.p2 for step in steps]
        assert sum(flag & P2_FIRST for flag in flags) == flags[0] & P2_FIRST == P2_FIRST
        assert flags[-1] & P2_LAST
        assert not any(flag & P2_LAST for flag in flags[:-1])


@pytest.mark.parametrize("chunk_size", [1, 2, 100, 240, 255, 256, 65_535])
def test_a_session_keeps_to_the_chunks_of_its_element(chunk_size: int):
    bridge = StreamBridge()
    hello = hello_record(b"key1.com")
    bridge.receive_data(hello)
    bridge.attach(ApduLimits(chunk_size, 512))
    batch = bridge.next_batch()
    assert b"".join(step.command.data for step in batch) == hello
    assert max(len(step.command.data) for step in batch) <= chunk_size
    bridge.receive_responses([ResponseApdu()] * len(batch))
    assert bridge.end is None


@pytest.mark.parametrize("chunk_size", [1, 240, 255, 65_535])
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "byte by byte"])
def test_a_hello_one_byte_too_long_ends_with_record_overflow_and_no_command(
    chunk_size: int, *, is_whole: bool
):
    hello = hello_record(b"key1.com")
    for limit, is_taken in ((len(hello), True), (len(hello) - 1, False)):
        bridge = StreamBridge()
        for piece in [hello] if is_whole else [hello[at : at + 1] for at in range(len(hello))]:
            bridge.receive_data(piece)
        assert bridge.state is BridgeState.ROUTING
        bridge.attach(ApduLimits(chunk_size, limit))
        assert bool(bridge.next_batch()) is is_taken
        if not is_taken:
            assert bridge.end is not None
            assert bridge.end.reason is EndReason.RECORD_OVERFLOW
            assert bridge.data_to_send() == OVERFLOW_ALERT
