# SPDX-License-Identifier: Apache-2.0
"""Whatever a host sends, a card answers; whenever the power goes, it is before or after."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iose.iso7816.atr import Atr, TransmissionProtocol
from tests.support.memory_store import PowerFailure
from tests.support.probe import PROBE, SECOND, ProbeCard

HEADERS = st.tuples(
    st.sampled_from([0x00, 0x01, 0x02, 0x03, 0x10, 0x11, 0x80]) | st.integers(0, 255),
    st.sampled_from([0xA4, 0x70, 0xC0, 0x20, 0x24, *range(1, 16)]) | st.integers(0, 255),
    st.sampled_from([0x00, 0x04, 0x80]) | st.integers(0, 255),
    st.sampled_from([0x00, 0x02]) | st.integers(0, 255),
)
DATA = st.sampled_from([PROBE.value, SECOND.value, PROBE.value[:5]]) | st.binary(max_size=40)
BODIES = st.one_of(
    st.just(b""),
    st.builds(lambda le: bytes((le,)), st.integers(0, 255)),
    st.builds(lambda data: bytes((len(data),)) + data, DATA),
    st.builds(
        lambda data, le: bytes((len(data),)) + data + bytes((le,)), DATA, st.integers(0, 255)
    ),
    st.builds(lambda data: b"\x00" + len(data).to_bytes(2, "big") + data, DATA),
    st.binary(max_size=20),
)
COMMANDS = st.builds(lambda header, body: bytes(header) + body, HEADERS, BODIES)
ANY = COMMANDS | st.binary(max_size=300)


@given(st.lists(ANY, max_size=30), st.sampled_from(TransmissionProtocol), st.booleans())
def test_any_bytes_get_an_answer(commands: list[bytes], protocol: TransmissionProtocol, checked):
    card = ProbeCard(protocol=protocol, is_class_checked=checked).on()
    for command in commands:
        answer = card.card.process(command)
        assert 2 <= len(answer) <= 65_538
    Atr.decode(card.card.reset())


@given(st.lists(COMMANDS, min_size=1, max_size=8), st.data())
def test_power_lost_anywhere_leaves_a_state_that_was(commands: list[bytes], data: st.DataObject):
    whole = ProbeCard().on()
    start = whole.store.steps
    states = [dict(whole.store.contents)]
    steps = [start]
    for command in commands:
        whole.card.process(command)
        states.append(dict(whole.store.contents))
        steps.append(whole.store.steps)
    if steps[-1] == start:
        return
    cut = ProbeCard().on()
    cut.store.cut_at = data.draw(st.integers(start, steps[-1] - 1))
    with pytest.raises(PowerFailure):
        process_all(cut, commands)
    number = next(index for index, step in enumerate(steps) if step > cut.store.cut_at)
    kept = {name: value for name, value in cut.store.contents.items() if not is_counter(name)}
    assert kept in [
        {name: value for name, value in state.items() if not is_counter(name)}
        for state in states[number - 1 : number + 1]
    ]
    Atr.decode(cut.again().card.reset())


def process_all(card: ProbeCard, commands: list[bytes]) -> None:
    for command in commands:
        card.card.process(command)


def is_counter(name: str) -> bool:
    return name.endswith("/tries")  # stored before the comparison, whatever follows


class ChannelMachine(RuleBasedStateMachine):
    """A model of the channels: which are open, and what is selected on each."""

    @initialize()
    def power(self):
        self.card = ProbeCard().on()
        self.selected: dict[int, bytes | None] = {0: PROBE.value}

    @rule(channel=st.integers(0, 3), aid=st.sampled_from([PROBE.value, SECOND.value]))
    def select(self, channel: int, aid: bytes):
        answer = self.card.card.process(bytes((channel, 0xA4, 4, 0, len(aid))) + aid)
        if channel not in self.selected:
            assert answer == b"\x68\x81"
        elif any(other == aid for number, other in self.selected.items() if number != channel):
            assert answer == b"\x69\x85"
        else:
            assert answer == aid[-1:] + b"\x90\x00"
            self.selected[channel] = aid

    @rule()
    def open(self):
        answer = self.card.send("0070000001")
        free = [number for number in range(4) if number not in self.selected]
        if not free:
            assert answer == "6A81"
            return
        assert answer == f"{free[0]:02X}9000"
        default_is_free = PROBE.value not in self.selected.values()
        self.selected[free[0]] = PROBE.value if default_is_free else None

    @rule(channel=st.integers(1, 3))
    def close(self, channel: int):
        answer = self.card.send(f"007080{channel:02X}")
        assert answer == ("9000" if channel in self.selected else "6200")
        self.selected.pop(channel, None)

    @rule()
    def reset(self):
        self.card.card.reset()
        self.selected = {0: PROBE.value}

    @invariant()
    def each_channel_answers_for_its_own_applet(self):
        for channel in range(4):
            answer = self.card.card.process(bytes((channel, 0x0D, 0, 0, 0)))
            if channel not in self.selected:
                assert answer == b"\x68\x81"
            elif self.selected[channel] is None:
                assert answer == b"\x69\x99"
            else:
                assert answer == self.selected[channel] + b"\x90\x00"


TestChannels = ChannelMachine.TestCase
