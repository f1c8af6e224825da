# SPDX-License-Identifier: Apache-2.0
"""Both ends of the secure channels against recorded and generated sessions, in both directions.

Most sessions come from other projects' test suites (their SOURCE is in each entry): these are read
beside the repository, and skipped where they are absent. Some that were generated are always there.
"""

from collections.abc import Callable
from typing import Any

import pytest

from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.card import CardChannel
from iose.globalplatform.channel import (
    ChannelState,
    InitiateAnswer,
    ScpVariant,
    SecureChannelError,
    SecurityLevel,
)
from iose.globalplatform.host import HostChannel
from iose.globalplatform.keys import KeySet, KeyType, check_value
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from tests.support.rng import ScriptedRng
from tests.support.shared import own_json, shared_json

CRYPTO = PycaCrypto()
FILE = "globalplatform_scp.json"
PROTOCOLS = {"scp02": 2, "scp03": 3}
COUNTS = {"scp02": 5, "scp03": 29}
OWN_FILE = "secure_channels.json"
OWN_COUNTS = {"scp02": 1, "scp03": 4}
CASES = [
    (read, file, name, number)
    for read, file, counts in (
        (own_json, OWN_FILE, OWN_COUNTS),
        (shared_json, FILE, COUNTS),
    )
    for name, count in counts.items()
    for number in range(count)
]
SCP02_DEFAULT = 0x15


def test_every_session_of_the_file_is_run():
    for vectors, counts in ((own_json(OWN_FILE), OWN_COUNTS), (shared_json(FILE), COUNTS)):
        assert {name: len(vectors[name]) for name in counts} == counts


Reader = Callable[[str], Any]


class Session:
    """One entry of the file as both ends see it."""

    def __init__(self, read: Reader, file: str, protocol: str, number: int) -> None:
        self.entry: dict[str, Any] = read(file)[protocol][number]
        i = self.entry["i"]
        self.variant = ScpVariant(PROTOCOLS[protocol], int(i, 16) if len(i) == 2 else SCP02_DEFAULT)
        self.level = SecurityLevel(int(self.entry["security_level"], 16))

    def value(self, name: str) -> bytes:
        return bytes.fromhex(self.entry[name])

    @property
    def keys(self) -> KeySet:
        key_type = KeyType.AES if self.variant.protocol == 3 else KeyType.DES3
        keys = {name: bytes.fromhex(key) for name, key in self.entry["keys"].items()}
        return KeySet(int(self.entry["key_version"], 16), **keys, key_type=key_type)

    def host(self) -> HostChannel:
        rng = ScriptedRng(self.value("host_challenge"))
        return HostChannel(CRYPTO, rng, self.keys, self.level, expected=self.variant)

    def card(self) -> CardChannel:
        is_random = self.variant.has_random_challenge
        aid = self.entry.get("security_domain_aid", "")
        return CardChannel(
            CRYPTO,
            self.variant,
            self.keys,
            sequence_counter=int(self.entry["sequence_counter"], 16),
            host_challenge=self.value("host_challenge"),
            card_challenge=self.value("card_challenge") if is_random else None,
            aid=bytes.fromhex(aid),
            diversification_data=self.value("initialize_update_response")[:10],
        )

    @property
    def answer(self) -> ResponseApdu:
        return ResponseApdu(self.value("initialize_update_response"))

    @property
    def external_authenticate(self) -> CommandApdu:
        return CommandApdu.decode(self.value("external_authenticate"))

    def exchanges(self):
        for one in self.entry["commands"]:
            command, wrapped = (bytes.fromhex(one[name]) for name in ("command", "wrapped"))
            yield command, wrapped, self._responses(one)

    def _responses(self, one: dict[str, str]) -> tuple[ResponseApdu, ResponseApdu] | None:
        if "response" not in one:
            return None
        status = StatusWord(int(one["sw"], 16))
        return (
            ResponseApdu(bytes.fromhex(one["response"]), status),
            ResponseApdu(bytes.fromhex(one["wrapped_response"]), status),
        )


@pytest.fixture(params=CASES, ids=lambda case: "-".join(str(part) for part in case[1:]))
def session(request) -> Session:
    return Session(*request.param)


def test_the_host_makes_the_commands_and_reads_the_answers(session):
    host = session.host()
    first = host.initialize_update().encode()
    if "initialize_update_command" in session.entry:
        recorded = session.value("initialize_update_command")
        # one card was asked for key version 20 and offered 70
        assert first[:2] + first[3:] == recorded[:2] + recorded[3:]
    assert host.authenticate(session.answer) == session.external_authenticate
    assert host.unwrap(ResponseApdu()) == ResponseApdu()
    assert host.state is ChannelState.OPEN
    for command, wrapped, responses in session.exchanges():
        assert host.wrap(CommandApdu.decode(command)).encode() == wrapped
        if responses:
            plain, protected = responses
            assert host.unwrap(protected) == plain
    assert host.diversification_data == session.answer.data[:10]
    assert host.key_version == int(session.entry["key_version"], 16)
    assert host.variant == session.variant


def test_the_card_reads_the_commands_and_makes_the_answers(session):
    card = session.card()
    assert card.response_data() == session.answer.data
    assert card.level == SecurityLevel(0)
    card.authenticate(session.external_authenticate)
    assert (card.state, card.level) == (ChannelState.OPEN, session.level)
    for command, wrapped, responses in session.exchanges():
        assert card.unwrap(CommandApdu.decode(wrapped)).encode() == command
        if responses:
            plain, protected = responses
            assert card.wrap(plain) == protected


def test_the_answer_to_initialize_update_survives_decoding(session):
    answer = InitiateAnswer.decode(session.answer.data, scp02_i=session.variant.i)
    assert answer.encode() == session.answer.data
    assert answer.card_challenge == session.value("card_challenge")
    assert answer.card_cryptogram == session.value("card_cryptogram")


def test_session_keys_are_the_recorded_ones(session):
    channel = session.card()._session
    found = {"s_enc": channel._enc}
    if session.variant.protocol == 3:
        found |= {"s_mac": channel._mac, "s_rmac": channel._rmac}
    else:
        found |= {"c_mac": channel._mac, "s_dek": channel._dek}
    recorded = session.entry["session_keys"]
    assert {name: key.hex() for name, key in found.items()} == {n: recorded[n] for n in found}


def test_a_bit_of_external_authenticate_turned_closes_the_channel(session):
    wire = session.value("external_authenticate")
    for place in range(8 * len(wire)):
        if place // 8 == 4:  # Lc: another command altogether
            continue
        turned = bytearray(wire)
        turned[place // 8] ^= 1 << place % 8
        if turned[0] == wire[0] ^ 0x01 or turned[0] == wire[0] ^ 0x02:
            continue  # a logical channel, which no MAC covers
        card = session.card()
        with pytest.raises(SecureChannelError):
            card.authenticate(CommandApdu.decode(bytes(turned)))
        assert card.state is ChannelState.CLOSED


def test_a_bit_of_the_card_cryptogram_turned_closes_the_channel(session):
    answer = session.answer.data
    cryptogram = session.value("card_cryptogram")
    start = answer.index(cryptogram)
    for place in range(8 * len(cryptogram)):
        turned = bytearray(answer)
        turned[start + place // 8] ^= 1 << place % 8
        host = session.host()
        host.initialize_update()
        with pytest.raises(SecureChannelError, match="cryptogram"):
            host.authenticate(ResponseApdu(bytes(turned)))
        assert host.state is ChannelState.CLOSED


def test_a_bit_of_a_command_turned_closes_the_channel(session):
    _, wire, _ = next(iter(session.exchanges()))
    command = CommandApdu.decode(wire)
    fields = bytes((command.cla, command.ins, command.p1, command.p2)) + command.data
    for place in range(8 * len(fields)):
        turned = bytearray(fields)
        turned[place // 8] ^= 1 << place % 8
        if turned[0] in (fields[0] ^ 0x01, fields[0] ^ 0x02):
            continue
        card = session.card()
        card.authenticate(session.external_authenticate)
        with pytest.raises(SecureChannelError):
            card.unwrap(CommandApdu(*turned[:4], bytes(turned[4:]), command.le))
        assert (card.state, card.level) == (ChannelState.CLOSED, SecurityLevel(0))
        with pytest.raises(SecureChannelError, match="not open"):
            card.unwrap(command)


def test_a_bit_of_an_answer_turned_closes_the_channel(session):
    commands = list(session.exchanges())
    command, _, responses = commands[0]
    if not responses or not session.level & SecurityLevel.R_MAC:
        return
    wire = responses[1].encode()
    for place in range(8 * len(wire)):
        turned = bytearray(wire)
        turned[place // 8] ^= 1 << place % 8
        host = session.host()
        host.initialize_update()
        host.authenticate(session.answer)
        host.unwrap(ResponseApdu())
        host.wrap(CommandApdu.decode(command))
        with pytest.raises(SecureChannelError):
            host.unwrap(ResponseApdu.decode(bytes(turned)))
        assert host.state is ChannelState.CLOSED


def test_key_check_values_are_the_recorded_ones():
    for one in shared_json(FILE)["aes_key_check_values"]:
        value = check_value(CRYPTO, bytes.fromhex(one["key"]), KeyType.AES)
        assert value.hex() == one["kcv"]
