# SPDX-License-Identifier: Apache-2.0
"""Card management: what is encoded is decoded; a channel carries everything, once and in order."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iose.globalplatform.channel import ChannelState, SecureChannelError, SecurityLevel
from iose.globalplatform.commands import (
    Delete,
    DeleteKey,
    GetStatus,
    LoadBlock,
    SetStatus,
    StatusScope,
    StoreData,
    load_blocks,
    read_delete,
)
from iose.globalplatform.data_objects import (
    CardCapability,
    CardData,
    KeyInformation,
    StatusEntry,
    decode_key_template,
    encode_key_template,
)
from iose.globalplatform.install import (
    InstallForInstall,
    InstallForLoad,
    InstallForPersonalization,
    MakeSelectable,
    RegistryUpdate,
    decode_install,
)
from iose.globalplatform.life_cycle import Privilege
from iose.globalplatform.load_file import LoadFile, ModuleMark
from iose.globalplatform.packages import build_package
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError, LocalProtocolError
from tests.support.channel_pair import BARE, CASES, PLAIN, S8, S16, Pair

BYTE = st.integers(0, 255)
AIDS = st.builds(Aid, st.binary(min_size=5, max_size=16))
PRIVILEGES = st.builds(Privilege, st.integers(0, 0xFFFFFF))
SHORT = st.binary(max_size=20)
VARIANTS = st.lists(st.sampled_from([S8, S16, BARE]), unique=True).map(tuple)
INSTALLS = st.one_of(
    st.builds(InstallForLoad, AIDS, st.none() | AIDS, st.sampled_from([b"", bytes(32)])),
    st.builds(
        InstallForInstall,
        AIDS,
        AIDS,
        AIDS,
        PRIVILEGES,
        st.binary(max_size=300),
        SHORT,
        st.booleans(),
        SHORT,
    ),
    st.builds(MakeSelectable, AIDS, PRIVILEGES),
    st.builds(InstallForPersonalization, AIDS),
    st.builds(RegistryUpdate, st.none() | AIDS, st.none() | PRIVILEGES, st.none() | AIDS),
)
COMMANDS = st.one_of(
    st.tuples(
        st.just(LoadBlock.from_command),
        st.builds(LoadBlock, BYTE, st.binary(min_size=1, max_size=99), st.booleans()),
    ),
    st.tuples(
        st.just(StoreData.from_command),
        st.builds(StoreData, BYTE, SHORT, st.booleans(), st.integers(0, 0x7F)),
    ),
    st.tuples(st.just(read_delete), st.builds(Delete, AIDS, st.booleans())),
    st.tuples(st.just(read_delete), st.builds(DeleteKey, BYTE, st.none() | BYTE)),
    st.tuples(
        st.just(SetStatus.from_command),
        st.builds(SetStatus, st.just(StatusScope.APPLICATIONS), BYTE, AIDS),
    ),
    st.tuples(
        st.just(GetStatus.from_command),
        st.builds(
            GetStatus,
            st.sampled_from(sorted(set(StatusScope) - {StatusScope.DOMAIN_AND_APPLICATIONS})),
            st.binary(max_size=16),
            st.booleans(),
            st.booleans(),
            SHORT,
        ),
    ),
    st.tuples(st.just(decode_install), INSTALLS),
)


@given(COMMANDS)
def test_a_card_reads_what_a_host_writes(case):
    decode, value = case
    command = CommandApdu.decode(value.to_command().encode())
    assert decode(command) == value


@given(COMMANDS, st.integers(0, 200), BYTE)
def test_a_changed_command_is_another_one_or_none(case, place, byte):
    decode, value = case
    wire = bytearray(value.to_command().encode())
    place %= len(wire)
    is_same = wire[place] == byte
    wire[place] = byte
    with contextlib.suppress(DecodeError):
        found = decode(CommandApdu.decode(bytes(wire)))
        assert (found == value) <= (is_same or place < 4 or place == len(wire) - 1)


ENTRIES = st.builds(
    StatusEntry,
    AIDS,
    BYTE,
    st.none() | PRIVILEGES,
    st.none() | AIDS,
    st.lists(AIDS, max_size=3).map(tuple),
    st.binary(max_size=2),
    st.none() | AIDS,
)


@given(st.lists(ENTRIES, max_size=5))
def test_a_host_reads_the_registry_a_card_writes(entries):
    data = b"".join(entry.encode() for entry in entries)
    assert StatusEntry.decode_all(data) == tuple(entries)


@given(
    st.lists(
        st.builds(
            KeyInformation,
            BYTE,
            BYTE,
            st.lists(st.tuples(st.integers(0, 254), BYTE), max_size=3).map(tuple),
        ),
        max_size=4,
    )
)
def test_a_host_reads_the_key_information_a_card_writes(keys):
    assert decode_key_template(encode_key_template(keys)) == tuple(keys)


@given(VARIANTS, PRIVILEGES, PRIVILEGES, st.lists(BYTE, max_size=4).map(tuple))
def test_a_host_reads_the_capabilities_a_card_writes(variants, domain, application, hashes):
    data = CardData(variants)
    assert CardData.decode(data.encode()) == data
    capability = CardCapability(variants, domain, application, hashes)
    assert CardCapability.decode(capability.encode()) == capability


@given(
    AIDS,
    st.lists(AIDS, max_size=3),
    st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=30),
    st.tuples(BYTE, BYTE),
    st.binary(min_size=32, max_size=32),
    st.integers(1, 247),
)
def test_a_package_survives_the_blocks_it_is_loaded_in(  # its parts
    package_aid, applet_aids, module, version, digest, block_size
):
    package = build_package(
        package_aid=package_aid,
        applet_aids=applet_aids,
        module=module,
        version=version,
        digest=digest,
    )
    try:
        blocks = list(load_blocks(package.stream, block_size))
    except LocalProtocolError:
        assert len(package.stream) > 256 * block_size
        return
    loaded = LoadFile.decode(Tlv.decode(b"".join(block.data for block in blocks)).value)
    assert loaded == package
    assert loaded.mark == ModuleMark(module, digest)


@given(
    st.sampled_from(CASES),
    st.lists(
        st.tuples(
            st.builds(
                CommandApdu,
                st.sampled_from([0x80, 0x00, 0x81]),
                BYTE,
                BYTE,
                BYTE,
                st.binary(max_size=223),
                st.none() | st.integers(1, 256),
            ),
            st.builds(
                ResponseApdu,
                st.binary(max_size=223),
                st.sampled_from([0x9000, 0x6310, 0x6283]).map(StatusWord),
            ),
        ),
        max_size=5,
    ),
)
def test_a_channel_gives_back_everything(case, exchanges):
    pair = Pair.make(*case)
    for command, response in exchanges:
        assert pair.exchange(command, response) == response


class Tampering(RuleBasedStateMachine):
    """Somebody between host and card: what is not the next thing closes the end that gets it."""

    @initialize(case=st.sampled_from(CASES))
    def start(self, case) -> None:
        self.open(case)

    def open(self, case) -> None:
        self.pair = Pair.make(*case)
        self.level = case[1]
        self.commands: list[CommandApdu] = []
        self.next_command: CommandApdu | None = None
        self.next_answer: ResponseApdu | None = None

    def _is_open(self) -> bool:
        return self.pair.card.state is self.pair.host.state is ChannelState.OPEN

    @precondition(lambda self: self._is_open() and self.next_command is None)
    @rule(data=st.binary(max_size=40))
    def send(self, data: bytes) -> None:
        plain = CommandApdu(PLAIN.cla, PLAIN.ins, PLAIN.p1, PLAIN.p2, data, PLAIN.le)
        self.next_command = self.pair.host.wrap(plain)
        self.plain = plain

    @precondition(lambda self: self._is_open() and self.next_command is not None)
    @rule(data=st.binary(max_size=40))
    def deliver(self, data: bytes) -> None:
        assert self.next_command is not None
        assert self.pair.card.unwrap(self.next_command) == self.plain
        self.commands.append(self.next_command)
        self.next_command = None
        answer = self.pair.card.wrap(ResponseApdu(data))
        assert self.pair.host.unwrap(answer) == ResponseApdu(data)
        self.next_answer = answer

    @precondition(lambda self: self._is_open() and self.commands)
    @rule(index=st.integers(0, 50))
    def replay(self, index: int) -> None:
        old = self.commands[index % len(self.commands)]
        with pytest.raises(SecureChannelError):
            self.pair.card.unwrap(old)
        assert self.pair.card.state is ChannelState.CLOSED

    @precondition(lambda self: self._is_open() and self.next_command is not None)
    @rule(bit=st.integers(0, 400))
    def turn(self, bit: int) -> None:
        assert self.next_command is not None
        data = bytearray(self.next_command.data)
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        one = self.next_command
        with pytest.raises(SecureChannelError):
            self.pair.card.unwrap(CommandApdu(one.cla, one.ins, one.p1, one.p2, bytes(data)))

    @precondition(
        lambda self: (
            self._is_open()
            and self.next_command is not None
            and self.next_answer is not None
            and self.level & SecurityLevel.R_MAC
        )
    )
    @rule()
    def answer_with_an_old_answer(self) -> None:
        assert self.next_answer is not None
        with pytest.raises(SecureChannelError):
            self.pair.host.unwrap(self.next_answer)
        assert self.pair.host.state is ChannelState.CLOSED

    @precondition(lambda self: not self._is_open())
    @rule(case=st.sampled_from(CASES))
    def open_again(self, case) -> None:
        self.open(case)

    @invariant()
    def closed_is_closed(self) -> None:
        card = self.pair.card
        if card.state is ChannelState.CLOSED:
            assert card.level == SecurityLevel(0)
            with pytest.raises(SecureChannelError):
                card.wrap(ResponseApdu())


TestTampering = Tampering.TestCase
TestTampering.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
