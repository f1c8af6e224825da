# SPDX-License-Identifier: Apache-2.0
"""Secure channels joined at both ends: order, refusals, replay, errors, and what closes them."""

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
from iose.globalplatform.keys import DEMO_KEYS, KeySet, KeyType
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.wire.errors import DecodeError, LocalProtocolError
from tests.support.channel_pair import (
    AID,
    BARE,
    CASES,
    COUNTER,
    CRYPTO,
    DIVERSIFICATION,
    LEVELS,
    PLAIN,
    RANDOM_S8,
    RANDOM_S16,
    S8,
    S16,
    SCP02,
    SCP02_COMPUTED,
    VARIANTS,
    VERSION,
    Pair,
    key_set,
    make_card,
)
from tests.support.rng import SeededRng

C_MAC = SecurityLevel.C_MAC
FULL = SecurityLevel(0x33)
OK = ResponseApdu()
APDU_CASES = [
    CommandApdu(0x80, 0xF2, 0x40, 0x02),
    CommandApdu(0x80, 0xCA, 0x00, 0x66, le=256),
    CommandApdu(0x80, 0xE2, 0x80, 0x00, b"\x80\x00"),
    PLAIN,
    CommandApdu(0x00, 0xCA, 0x00, 0x66, le=1),
    CommandApdu(0x81, 0xF2, 0x40, 0x02, bytes(16), 256),
]


def start(variant=S8, level=C_MAC, keys=None, **options) -> tuple[HostChannel, CardChannel]:
    """Return both ends just before EXTERNAL AUTHENTICATE."""
    keys = keys or key_set(variant.key_type)
    host = HostChannel(CRYPTO, SeededRng(), keys, level, **options)
    return host, make_card(host, variant, keys)


def open_card(variant=S8, level=C_MAC) -> CardChannel:
    return Pair.make(variant, level).card


# --- what goes through -----------------------------------------------------------------------


@pytest.mark.parametrize(("variant", "level"), CASES, ids=str)
def test_the_four_cases_of_apdus_go_through_both_ways(variant, level):
    pair = Pair.make(variant, level)
    assert pair.host.state is pair.card.state is ChannelState.OPEN
    assert pair.host.level == pair.card.level == level
    for command in APDU_CASES:
        for response in (OK, ResponseApdu(b"\x80\x00\x00"), ResponseApdu(bytes(16))):
            assert pair.exchange(command, response) == response


@pytest.mark.parametrize(("variant", "level"), CASES, ids=str)
def test_the_longest_data_fit_short_commands_and_answers(variant, level):
    pair = Pair.make(variant, level)
    longest = pair.host.max_command_data
    command = CommandApdu(0x80, 0xE8, 0x00, 0x00, bytes(longest), 256)
    assert len(pair.host.wrap(command).data) <= 255
    pair = Pair.make(variant, level)
    response = ResponseApdu(bytes(pair.card.max_response_data))
    assert pair.exchange(command, response) == response
    protected = pair.card.wrap(response)
    assert len(protected.data) <= 256
    with pytest.raises(LocalProtocolError, match=f"takes {longest}$"):
        pair.host.wrap(CommandApdu(0x80, 0xE8, 0x00, 0x00, bytes(longest + 1)))
    assert pair.exchange(PLAIN, OK) == OK


@pytest.mark.parametrize(("variant", "level"), [(S8, C_MAC), (S8, FULL), (S16, FULL)], ids=str)
def test_a_card_takes_extended_commands(variant, level):
    for command in (
        CommandApdu(0x80, 0xE8, 0x00, 0x00, bytes(255), 256),
        CommandApdu(0x80, 0xE8, 0x00, 0x00, bytes(65_500)),
        CommandApdu(0x80, 0xCA, 0x00, 0x66, le=65_536),
    ):
        pair = Pair.make(variant, level)
        wire = pair.host._session.protect_command(command).encode()
        assert pair.card.unwrap(CommandApdu.decode(wire)) == command


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize(("variant", "level"), [case for case in CASES if case[0].protocol == 3])
def test_every_size_of_aes_key_opens_a_channel(variant, level, size):
    pair = Pair.make(variant, level, key_set(KeyType.AES, size=size))
    assert pair.exchange(PLAIN, ResponseApdu(b"answer")) == ResponseApdu(b"answer")


@pytest.mark.parametrize("variant", [SCP02, S8], ids=str)
def test_demo_keys_serve_either_cipher_and_any_version(variant):
    host = HostChannel(CRYPTO, SeededRng(), DEMO_KEYS, C_MAC)
    card = make_card(host, variant, DEMO_KEYS)
    card.authenticate(host.authenticate(ResponseApdu(card.response_data())))
    assert host.unwrap(OK) == OK
    assert host.variant == variant


@pytest.mark.parametrize("variant", [S16, RANDOM_S16], ids=str)
def test_a_card_of_mode_s16_must_be_asked_for(variant):
    host, _ = start(S8)
    data = InitiateAnswer(DIVERSIFICATION, VERSION, variant, bytes(3), bytes(16), bytes(16))
    if variant.has_random_challenge:
        data = InitiateAnswer(DIVERSIFICATION, VERSION, variant, b"", bytes(16), bytes(16))
    with pytest.raises(SecureChannelError, match="longer challenge") as caught:
        host.authenticate(ResponseApdu(data.encode()))
    assert caught.value.hint == f"ask for {variant}"


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_counter_is_shown_where_the_challenge_is_computed(variant):
    answer = InitiateAnswer.decode(open_card(variant).response_data(), scp02_i=variant.i)
    shown = COUNTER.to_bytes(variant.counter_size, "big")
    assert answer.counter == (shown if variant.has_counter_field else b"")


@pytest.mark.parametrize("variant", [S8, S16, SCP02_COMPUTED], ids=str)
def test_a_computed_challenge_changes_with_counter_and_domain(variant):
    keys = key_set(variant.key_type)
    host = HostChannel(CRYPTO, SeededRng(), keys, C_MAC, expected=variant)
    first = make_card(host, variant, keys)
    host = HostChannel(CRYPTO, SeededRng(), keys, C_MAC, expected=variant)
    second = make_card(host, variant, keys, counter=COUNTER + 1)
    decoded = [
        InitiateAnswer.decode(card.response_data(), scp02_i=variant.i) for card in (first, second)
    ]
    assert decoded[0].card_challenge != decoded[1].card_challenge
    other = card_of(variant, keys, aid=AID + b"\x01").response_data()
    third = InitiateAnswer.decode(other, scp02_i=variant.i)
    assert third.card_challenge not in {one.card_challenge for one in decoded}


@pytest.mark.parametrize(
    ("variant", "size"), [(SCP02, 16), (SCP02, 24), (S8, 16), (S8, 24), (S8, 32)], ids=str
)
def test_keys_are_wrapped_and_opened(variant, size):
    pair = Pair.make(variant)
    key = bytes(range(size))
    wrapped = pair.host.encrypt_key(key)
    assert key not in wrapped
    assert pair.card.decrypt_key(wrapped)[:size] == key
    for bad in (b"", wrapped[:-1]):
        with pytest.raises(DecodeError, match="whole blocks"):
            pair.card.decrypt_key(bad)


def test_scp02_wraps_whole_blocks_only():
    with pytest.raises(LocalProtocolError, match="blocks of 8"):
        Pair.make(SCP02).host.encrypt_key(bytes(9))


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0x9000, 0x6283, 0x6310, 0x63C2])
def test_successes_and_warnings_are_protected(status):
    response = ResponseApdu(b"data", StatusWord(status))
    pair = Pair.make(S8, FULL)
    command = pair.host.wrap(PLAIN)
    pair.card.unwrap(command)
    protected = pair.card.wrap(response)
    assert len(protected.data) == 16 + 8
    assert pair.host.unwrap(protected) == response


@pytest.mark.parametrize("status", [0x6A88, 0x6985, 0x6982, 0x6F00, 0x6400])
def test_errors_lose_their_data_and_are_not_protected(status):
    pair = Pair.make(S8, SecurityLevel(0x11))
    pair.card.unwrap(pair.host.wrap(PLAIN))
    protected = pair.card.wrap(ResponseApdu(b"data", StatusWord(status)))
    assert protected == ResponseApdu(b"", StatusWord(status))
    assert pair.host.unwrap(protected) == protected
    assert pair.exchange(PLAIN, OK) == OK


@pytest.mark.parametrize("level", [0x11, 0x13, 0x33])
@pytest.mark.parametrize("status", [0x9001, 0x90FF, 0x6110, 0x6100, 0x9F00])
def test_a_success_that_no_mac_covers_closes_the_channel(status, level):
    pair = Pair.make(S8, SecurityLevel(level))
    pair.host.wrap(PLAIN)
    with pytest.raises(SecureChannelError, match="without a MAC"):
        pair.host.unwrap(ResponseApdu(b"", StatusWord(status)))
    assert pair.host.state is ChannelState.CLOSED


def test_an_error_with_data_closes_the_channel():
    pair = Pair.make(S8, SecurityLevel(0x11))
    pair.host.wrap(PLAIN)
    with pytest.raises(SecureChannelError, match="without a MAC"):
        pair.host.unwrap(ResponseApdu(bytes(20), StatusWord.WRONG_DATA))
    assert pair.host.state is ChannelState.CLOSED


@pytest.mark.parametrize("size", [0, 7])
def test_an_answer_too_short_for_a_mac_closes_the_channel(size):
    pair = Pair.make(S8, SecurityLevel(0x11))
    pair.host.wrap(PLAIN)
    with pytest.raises(SecureChannelError, match="an answer without a MAC"):
        pair.host.unwrap(ResponseApdu(bytes(size)))


def test_the_answer_to_another_command_is_refused():
    pair = Pair.make(S8, SecurityLevel(0x11))
    pair.card.unwrap(pair.host.wrap(PLAIN))
    old = pair.card.wrap(ResponseApdu(b"answer"))
    assert pair.host.unwrap(old).data == b"answer"
    pair.host.wrap(PLAIN)
    with pytest.raises(SecureChannelError, match="MAC of the answer"):
        pair.host.unwrap(old)


def test_an_answer_is_taken_once():
    pair = Pair.make(S8)
    pair.host.wrap(PLAIN)
    pair.host.unwrap(OK)
    with pytest.raises(LocalProtocolError, match="no answer is due"):
        pair.host.unwrap(OK)


@pytest.mark.parametrize("size", [16, 15, 0])
def test_an_encrypted_answer_with_bad_padding_closes_the_channel(size):
    pair = Pair.make(S8, FULL)
    pair.card.unwrap(pair.host.wrap(PLAIN))
    session = pair.card._session
    session.level = SecurityLevel(0x11)  # a card that does not encrypt
    protected = pair.card.wrap(ResponseApdu(bytes(size)))
    if size:
        with pytest.raises(SecureChannelError, match="not padded"):
            pair.host.unwrap(protected)
        assert pair.host.state is ChannelState.CLOSED
    else:
        assert pair.host.unwrap(protected) == OK


# --- commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(("variant", "level"), CASES, ids=str)
def test_a_command_sent_twice_closes_the_channel(variant, level):
    pair = Pair.make(variant, level)
    wire = pair.host.wrap(PLAIN)
    assert pair.card.unwrap(wire) == PLAIN
    with pytest.raises(SecureChannelError, match="MAC of the command is wrong"):
        pair.card.unwrap(wire)
    assert (pair.card.state, pair.card.level) == (ChannelState.CLOSED, SecurityLevel(0))


@pytest.mark.parametrize(("variant", "level"), CASES, ids=str)
def test_a_command_left_out_closes_the_channel(variant, level):
    pair = Pair.make(variant, level)
    pair.host.wrap(PLAIN)
    wire = pair.host.wrap(PLAIN)
    with pytest.raises(SecureChannelError):
        pair.card.unwrap(wire)


@pytest.mark.parametrize(("variant", "level"), CASES, ids=str)
def test_a_command_cut_at_any_byte_closes_the_channel(variant, level):
    wire = Pair.make(variant, level).host.wrap(PLAIN)
    for size in range(len(wire.data)):
        card = open_card(variant, level)
        cut = CommandApdu(wire.cla, wire.ins, wire.p1, wire.p2, wire.data[:size], wire.le)
        with pytest.raises(SecureChannelError):
            card.unwrap(cut)
        assert card.state is ChannelState.CLOSED


@pytest.mark.parametrize("cla", [0x80, 0x00, 0x88, 0x8C, 0xC4, 0xE0])
def test_a_command_without_secure_messaging_closes_the_channel(cla):
    card = open_card()
    with pytest.raises(SecureChannelError, match="without secure messaging"):
        card.unwrap(CommandApdu(cla, 0xF2, 0x40, 0x02, bytes(16)))
    assert card.state is ChannelState.CLOSED


@pytest.mark.parametrize("variant", [SCP02, S8], ids=str)
@pytest.mark.parametrize("cla", [0x84, 0x88, 0x8C, 0x0C, 0xC0, 0x40])
def test_a_command_that_is_secured_already_is_not_wrapped(variant, cla):
    pair = Pair.make(variant)
    with pytest.raises(LocalProtocolError, match="cannot be protected"):
        pair.host.wrap(CommandApdu(cla, 0xF2, 0x40, 0x02))
    assert pair.exchange(PLAIN, OK) == OK


@pytest.mark.parametrize("variant", [S8, SCP02], ids=str)
@pytest.mark.parametrize("size", [16, 8, 5])
def test_what_was_not_encrypted_is_refused_at_a_level_that_encrypts(variant, size):
    pair = Pair.make(variant, SecurityLevel(0x03))
    pair.host._session.level = C_MAC
    with pytest.raises(SecureChannelError):
        pair.card.unwrap(pair.host.wrap(CommandApdu(0x80, 0xE2, 0, 0, bytes(size))))
    assert pair.card.state is ChannelState.CLOSED


# --- before the channel is open --------------------------------------------------------------


def test_a_host_keeps_to_its_order():
    host, card = start()
    with pytest.raises(LocalProtocolError, match="not open yet"):
        host.wrap(PLAIN)
    with pytest.raises(LocalProtocolError, match="no answer is due"):
        host.unwrap(OK)
    with pytest.raises(LocalProtocolError, match="initialized once"):
        host.initialize_update()
    for name in ("variant", "key_version", "diversification_data"):
        with pytest.raises(LocalProtocolError, match="did not answer"):
            getattr(host, name)
    host.authenticate(ResponseApdu(card.response_data()))
    with pytest.raises(LocalProtocolError, match="no answer to INITIALIZE UPDATE is due"):
        host.authenticate(ResponseApdu(card.response_data()))
    with pytest.raises(LocalProtocolError, match="not open yet"):
        host.wrap(PLAIN)
    with pytest.raises(LocalProtocolError, match="not open yet"):
        host.encrypt_key(bytes(16))


def test_an_answer_before_the_question_is_refused():
    host = HostChannel(CRYPTO, SeededRng(), key_set(KeyType.AES), C_MAC)
    with pytest.raises(LocalProtocolError, match="no answer to INITIALIZE UPDATE is due"):
        host.authenticate(OK)
    assert host.state is ChannelState.START


def test_a_card_that_is_not_open_does_nothing():
    _, card = start()
    for attempt in (
        lambda: card.unwrap(PLAIN),
        lambda: card.wrap(OK),
        lambda: card.decrypt_key(bytes(16)),
        lambda: card.max_response_data,
    ):
        with pytest.raises(SecureChannelError, match="not open"):
            attempt()
    assert card.state is ChannelState.CHALLENGED


def test_a_channel_is_authenticated_once():
    pair = Pair.make()
    again = pair.host.wrap(CommandApdu(0x80, 0x82, 0x01, 0x00, bytes(8)))
    with pytest.raises(SecureChannelError, match="not due") as caught:
        pair.card.authenticate(again)
    assert caught.value.status == StatusWord.CONDITIONS_NOT_SATISFIED
    assert pair.card.state is ChannelState.CLOSED


@pytest.mark.parametrize("end", ["host", "card"])
def test_a_closed_channel_stays_closed(end):
    pair = Pair.make(S8, FULL)
    channel = getattr(pair, end)
    channel.close()
    assert channel.state is ChannelState.CLOSED
    with pytest.raises(SecureChannelError):
        channel.wrap(PLAIN if end == "host" else OK)
    with pytest.raises(SecureChannelError):
        channel.unwrap(OK if end == "host" else PLAIN)


@pytest.mark.parametrize("variant", [SCP02, S8, S16], ids=str)
def test_a_host_with_other_keys_is_refused_with_6300(variant):
    other = KeySet(VERSION, *[bytes([value]) * 16 for value in (1, 2, 3)], variant.key_type)
    host, card = start(variant, expected=variant)
    _, impostor = start(variant, keys=other, expected=variant)
    with pytest.raises(SecureChannelError, match="cryptogram is wrong") as caught:
        host.authenticate(ResponseApdu(impostor.response_data()))
    assert "ten failures" in caught.value.hint
    wrong = CommandApdu(0x84, 0x82, 0x01, 0x00, bytes(2 * variant.mac_size))
    with pytest.raises(SecureChannelError, match="cryptogram is wrong") as caught:
        card.authenticate(wrong)
    assert caught.value.status == 0x6300
    assert card.state is ChannelState.CLOSED


@pytest.mark.parametrize("ins", [0x82, 0x84])
@pytest.mark.parametrize("p2", [0, 1])
@pytest.mark.parametrize("extra", [b"", b"\x00"])
def test_external_authenticate_is_exactly_that(ins, p2, extra):
    host, card = start()
    host.authenticate(ResponseApdu(card.response_data()))
    session = host._session
    session._chaining = bytes(16)
    data = session.host_cryptogram + extra
    command = session.sign_command(CommandApdu(0x80, ins, 0x01, p2, data))
    if (ins, p2, extra) == (0x82, 0, b""):
        card.authenticate(command)
        assert card.state is ChannelState.OPEN
        return
    with pytest.raises(SecureChannelError, match="not EXTERNAL AUTHENTICATE"):
        card.authenticate(command)
    assert card.state is ChannelState.CLOSED


@pytest.mark.parametrize("level", [0x00, 0x02, 0x10, 0x11, 0x20, 0x21, 0x23, 0x31, 0x81])
def test_a_card_refuses_levels_it_does_not_have(level):
    host, card = start(BARE)
    host.authenticate(ResponseApdu(card.response_data()))
    session = host._session
    session._chaining = bytes(16)
    command = session.sign_command(CommandApdu(0x80, 0x82, level, 0, session.host_cryptogram))
    with pytest.raises(SecureChannelError, match=f"no level {level:02X}") as caught:
        card.authenticate(command)
    assert caught.value.status == StatusWord.WRONG_P1P2
    assert card.state is ChannelState.CLOSED


@pytest.mark.parametrize("response", [ResponseApdu(b"", StatusWord(0x6300)), ResponseApdu(b"x")])
def test_a_refused_external_authenticate_closes_the_channel(response):
    host, card = start()
    host.authenticate(ResponseApdu(card.response_data()))
    with pytest.raises(SecureChannelError, match="refused EXTERNAL AUTHENTICATE") as caught:
        host.unwrap(response)
    assert caught.value.status == response.status
    assert host.state is ChannelState.CLOSED


# --- a card that is not what was asked for ---------------------------------------------------


def test_a_refused_initialize_update_closes_the_channel():
    host, _ = start()
    with pytest.raises(SecureChannelError, match="with 6A88") as caught:
        host.authenticate(ResponseApdu(b"", StatusWord.REFERENCED_DATA_NOT_FOUND))
    assert caught.value.status == StatusWord.REFERENCED_DATA_NOT_FOUND
    assert host.state is ChannelState.CLOSED


@pytest.mark.parametrize("variant", [SCP02, S8, S16, RANDOM_S8], ids=str)
def test_an_answer_of_any_other_size_closes_the_channel(variant):
    _, card = start(variant, expected=variant)
    data = card.response_data()
    for wrong in [data[:size] for size in range(len(data))] + [data + b"\x00"]:
        host, _ = start(variant, expected=variant)
        with pytest.raises(SecureChannelError, match="the answer to INITIALIZE UPDATE"):
            host.authenticate(ResponseApdu(wrong))
        assert host.state is ChannelState.CLOSED


@pytest.mark.parametrize(
    ("expected", "found"), [(S8, RANDOM_S8), (S8, SCP02), (SCP02, S8), (RANDOM_S8, BARE)], ids=str
)
def test_a_card_of_another_variant_is_refused(expected, found):
    keys = DEMO_KEYS
    host = HostChannel(CRYPTO, SeededRng(), keys, C_MAC, expected=expected)
    card = make_card(host, found, keys)
    with pytest.raises(SecureChannelError, match=f"expected {expected}, the card has {found}"):
        host.authenticate(ResponseApdu(card.response_data()))


def test_a_card_without_the_level_is_refused():
    host, card = start(BARE, SecurityLevel(0x11))
    with pytest.raises(SecureChannelError, match="SCP03 i=00 has no level 11"):
        host.authenticate(ResponseApdu(card.response_data()))


@pytest.mark.parametrize("variant", [SCP02, S8], ids=str)
def test_keys_of_the_other_cipher_are_refused(variant):
    other = KeyType.DES3 if variant.key_type is KeyType.AES else KeyType.AES
    host = HostChannel(CRYPTO, SeededRng(), key_set(other), C_MAC)
    card = make_card(host, variant, key_set(variant.key_type))
    with pytest.raises(SecureChannelError, match=f"for which {other.name} keys are no use"):
        host.authenticate(ResponseApdu(card.response_data()))


def test_a_card_with_another_key_version_is_refused():
    host = HostChannel(CRYPTO, SeededRng(), key_set(KeyType.AES, version=0x31), C_MAC)
    card = make_card(host, S8, key_set(KeyType.AES))
    with pytest.raises(SecureChannelError, match="expected key version 31, the card has 30"):
        host.authenticate(ResponseApdu(card.response_data()))


@pytest.mark.parametrize("info", ["3001", "3004", "30FF", "300302", "300340", "300380"])
def test_protocols_and_options_not_spoken_are_refused(info):
    data = DIVERSIFICATION + bytes.fromhex(info) + bytes(40)
    with pytest.raises(DecodeError, match="not supported"):
        InitiateAnswer.decode(data)


# --- what our own callers may not ask for ----------------------------------------------------


def test_a_host_asks_for_what_exists():
    keys = key_set(KeyType.AES)
    for level in (0x00, 0x02, 0x10, 0x23, 0x31):
        with pytest.raises(LocalProtocolError, match="no level"):
            HostChannel(CRYPTO, SeededRng(), keys, SecurityLevel(level))
    with pytest.raises(LocalProtocolError, match="SCP03 i=40 is not supported"):
        HostChannel(CRYPTO, SeededRng(), keys, C_MAC, expected=ScpVariant(3, 0x40))
    with pytest.raises(LocalProtocolError, match="SCP02 i=15 has no level 11"):
        HostChannel(CRYPTO, SeededRng(), keys, SecurityLevel(0x11), expected=SCP02)


def card_of(variant=S8, keys=None, **changes) -> CardChannel:
    arguments = {
        "sequence_counter": 0,
        "host_challenge": bytes(variant.host_challenge_size),
        "card_challenge": None,
        "aid": AID,
        "diversification_data": DIVERSIFICATION,
    } | changes
    return CardChannel(CRYPTO, variant, keys or key_set(variant.key_type), **arguments)


@pytest.mark.parametrize(("variant", "limit"), [(S8, 0xFFFFFF), (SCP02_COMPUTED, 0xFFFF)], ids=str)
def test_a_counter_does_not_begin_again(variant, limit):
    assert card_of(variant, sequence_counter=limit).state is ChannelState.CHALLENGED
    for counter in (limit + 1, -1):
        with pytest.raises(LocalProtocolError, match="at its end"):
            card_of(variant, sequence_counter=counter)


def test_a_card_is_given_what_its_variant_needs():
    with pytest.raises(LocalProtocolError, match="SCP03 i=02 is not supported"):
        card_of(ScpVariant(3, 0x02))
    with pytest.raises(LocalProtocolError, match="SCP01 i=05 is not supported"):
        card_of(ScpVariant(1, 0x05))
    with pytest.raises(LocalProtocolError, match="needs AES keys"):
        card_of(S8, key_set(KeyType.DES3))
    with pytest.raises(LocalProtocolError, match="random, or none"):
        card_of(S8, card_challenge=bytes(8))
    with pytest.raises(LocalProtocolError, match="random, or none"):
        card_of(RANDOM_S8)
    with pytest.raises(LocalProtocolError, match="has 8 bytes"):
        card_of(RANDOM_S8, card_challenge=bytes(7))
    with pytest.raises(LocalProtocolError, match="10 bytes"):
        card_of(S8, diversification_data=bytes(9))


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_a_host_challenge_of_another_size_is_malformed(size):
    with pytest.raises(DecodeError, match=f"of 8 bytes, found {size}"):
        card_of(S8, host_challenge=bytes(size))


def test_levels_follow_the_options_of_a_variant():
    offered = {
        str(variant): [int(level) for level in LEVELS if variant.supports(level)]
        for variant in (SCP02, BARE, ScpVariant(3, 0x20), S8)
    }
    assert offered == {
        "SCP02 i=15": [0x01, 0x03],
        "SCP03 i=00": [0x01, 0x03],
        "SCP03 i=20": [0x01, 0x03, 0x11, 0x13],
        "SCP03 i=70": [0x01, 0x03, 0x11, 0x13, 0x33],
    }


class CountingCrypto(PycaCrypto):
    """Primitives that count comparisons of secrets."""

    comparisons = 0

    def constant_time_equal(self, left: bytes, right: bytes) -> bool:
        self.comparisons += 1
        return super().constant_time_equal(left, right)


@pytest.mark.parametrize(("variant", "level"), CASES, ids=str)
def test_every_secret_is_compared_in_constant_time(variant, level):
    crypto, keys = CountingCrypto(), key_set(variant.key_type)
    host = HostChannel(crypto, SeededRng(), keys, level, expected=variant)
    is_random = variant.has_random_challenge
    card = CardChannel(
        crypto,
        variant,
        keys,
        sequence_counter=1,
        host_challenge=host.initialize_update().data,
        card_challenge=bytes(variant.card_challenge_size) if is_random else None,
        aid=AID,
        diversification_data=DIVERSIFICATION,
    )
    command = host.authenticate(ResponseApdu(card.response_data()))
    assert crypto.comparisons == 1  # the card's cryptogram
    card.authenticate(command)
    assert crypto.comparisons == 3  # the host's, and the MAC
    host.unwrap(OK)
    card.unwrap(host.wrap(PLAIN))
    assert crypto.comparisons == 4
    host.unwrap(card.wrap(OK))
    assert crypto.comparisons == (5 if level & SecurityLevel.R_MAC else 4)
