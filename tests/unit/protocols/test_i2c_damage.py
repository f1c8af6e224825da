# SPDX-License-Identifier: Apache-2.0
"""Frames damaged in every order, on both ways: a command is carried out once, or not at all."""

from itertools import product

import pytest

from iose.protocols.i2c_blocks import BlockProtocol
from iose.protocols.i2c_exchange import FrameProtocol, Outcome, Read, Write
from iose.protocols.i2c_frames import I2cPeerError
from tests.support.i2c_bus import BOARD, PART, EchoChip
from tests.support.i2c_exchange import damaged
from tests.twins.control import Faults

TRANSFER_SIZE = 512
FRAMES = 9  # more than three tries on each way take
COMMANDS = (bytes.fromhex("00D8000000"), bytes.fromhex("00D8000001"))


class Wire:
    """A device behind a wire that damages the frames it is told to.

    Attributes:
        plan: For each frame on either way, whether it arrives damaged; then none does.
    """

    def __init__(self, kind, size):
        self.chip = EchoChip()
        self.device = kind(4, self.chip, Faults())
        self.device.information_size = size
        self.plan = []
        self._heard = b""

    def run(self, exchange):
        step = next(exchange)
        try:
            while True:
                step = exchange.send(Outcome(0.0, self._step(step)))
        except StopIteration as end:
            return end.value

    def _step(self, step):
        if isinstance(step, Write):
            self._heard = b""
            return self.device.write(self._pass(step.data))
        assert isinstance(step, Read)
        if not self._heard:
            self._heard = self._pass(self.device.read(TRANSFER_SIZE).rstrip(b"\xff"))
        data, self._heard = self._heard[: step.size], self._heard[step.size :]
        return data

    def _pass(self, frame):
        return damaged(frame) if self.plan and self.plan.pop(0) else frame


@pytest.mark.parametrize(
    ("kind", "protocol", "size"),
    [(BOARD, FrameProtocol, 254), (PART, BlockProtocol, 254), (PART, BlockProtocol, 3)],
    ids=["iose", "t1", "t1-chained"],
)
def test_no_damage_has_a_command_carried_out_twice_or_brings_the_answer_to_another(
    kind, protocol, size
):
    ends = set()
    for plan in product((False, True), repeat=FRAMES):
        wire, host = Wire(kind, size), protocol(TRANSFER_SIZE)
        wire.run(host.power_on(1.0))
        assert wire.run(host.exchange(COMMANDS[0], 1.0)) == COMMANDS[0] + b"\x90\x00"
        wire.plan = list(plan)
        try:
            assert wire.run(host.exchange(COMMANDS[1], 1.0)) == COMMANDS[1] + b"\x90\x00", plan
            ends.add("answer")
        except I2cPeerError:
            ends.add("error")
        assert wire.chip.commands.count(COMMANDS[0]) == 1, plan
        assert wire.chip.commands.count(COMMANDS[1]) <= 1, plan
    assert ends == {"answer", "error"}
