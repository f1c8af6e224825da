# SPDX-License-Identifier: Apache-2.0
"""How the issuer security domain is selected, and how its channel opens, holds and ends."""

from dataclasses import replace

import pytest

from iose.applet_api import AppletContext
from iose.applets.security_domain import ISD_AID, DomainParameters, SecurityDomainApplet
from iose.applets.security_domain.state import DomainKeys
from iose.globalplatform.channel import ScpVariant, SecureChannelError
from iose.globalplatform.commands import Ins, get_data
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError
from tests.support.domain import DOMAIN, SELECT_DOMAIN, Issuer, ManagedCard

FCI = "6F108408A000000151000000A5049F6501FF9000"
WHO = "000D000000"
WRONG = 0x6300
GET_STATUS = "80F24002024F0000"
INITIALIZE = "8050000008" + "0011223344556677" + "00"
DEFINED = [ScpVariant(3, i) for i in (0x00, 0x10, 0x60, 0x70, 0x01, 0x11, 0x61, 0x71)]
LEVELS = {0x00: (1, 3), 0x60: (1, 3, 0x11, 0x13, 0x33)}


@pytest.fixture
def card() -> ManagedCard:
    return ManagedCard()


@pytest.mark.parametrize(
    "command",
    [SELECT_DOMAIN, SELECT_DOMAIN + "00", "00A4040005A000000151", "00A4040000", "00A40400"],
)
def test_the_domain_is_selected_by_its_aid_by_part_of_it_and_by_none(
    card: ManagedCard, command: str
):
    assert card.send(WHO) == "A000000001019000"
    assert card.send(command) == FCI


def test_a_domain_that_is_not_there_is_not_selected(card: ManagedCard):
    assert card.send("00A4040008A000000151000001") == "6A82"
    assert card.send(WHO) == "A000000001019000"


def test_a_hardened_card_takes_other_classes_only_while_the_domain_is_selected(card: ManagedCard):
    assert card.send("80CA006600") == "6E00"
    card.send(SELECT_DOMAIN)
    assert card.send("80CA006600").endswith("9000")
    assert card.send("00CA006600").endswith("9000")
    assert card.send("90CA006600") == "6E00"
    assert card.send("C0CA006600") == "6E00"
    card.send("00A4040006A00000000101")
    assert card.send("80CA006600") == "6E00"


@pytest.mark.parametrize(
    ("cla", "status"), [("20", "6E00"), ("60", "6E00"), ("80", "6D00"), ("84", "6982")]
)
def test_other_classes_reach_the_domain_and_not_the_card(card: ManagedCard, cla: str, status: str):
    card.send(SELECT_DOMAIN)
    assert card.send(f"{cla}A4040006A00000000101") == status
    assert card.send(f"{cla}70000001") == status
    assert card.send("80CA006600").endswith("9000")  # it is selected as before
    assert card.send("0070000001").endswith("019000")


def test_the_class_is_checked_for_each_channel(card: ManagedCard):
    card.send("0070000001")
    card.send("01" + SELECT_DOMAIN[2:])
    assert card.send("81CA006600").endswith("9000")
    assert card.send("80CA006600") == "6E00"
    assert card.send("82CA006600") == "6E00"


@pytest.mark.parametrize("variant", [*DEFINED, ScpVariant(2, 0x15), ScpVariant(2, 0x55)], ids=str)
def test_every_variant_opens_at_every_level_it_has(variant: ScpVariant):
    levels = (1, 3) if variant.protocol == 2 else LEVELS[variant.i & 0x60]
    card = ManagedCard(variant=variant)
    for level in levels:
        issuer = Issuer(card, level).open()
        assert issuer.status(get_data(0x66)) == "9000"
        assert issuer.raw(GET_STATUS).endswith("9000")


@pytest.mark.parametrize(("p1", "p2"), [(0, 0), (2, 0), (0x30, 0), (0x13, 0), (0x33, 0), (1, 1)])
def test_a_level_the_protocol_does_not_have_is_refused_and_nothing_compared(p1: int, p2: int):
    card = ManagedCard(variant=ScpVariant(3, 0x00))
    issuer = Issuer(card).select()
    before = dict(card.store.contents)
    command = issuer.host.authenticate(card.transmit(issuer.host.initialize_update()))
    assert card.transmit(replace(command, p1=p1, p2=p2)).status == 0x6A86
    assert card.transmit(command).status == 0x6985
    assert card.store.contents == before


@pytest.mark.parametrize("way", ["another level", "not due", "right keys of another version"])
def test_no_command_without_the_keys_gives_a_try_back(card: ManagedCard, way: str):
    for _ in range(9):
        assert guess(card) == WRONG
    match way:
        case "another level":
            initialize(card)
            card.transmit(CommandApdu(0x84, 0x82, 0x02, 0, bytes(16)))
        case "not due":
            card.transmit(CommandApdu(0x84, 0x82, 0x01, 0, bytes(16)))
        case _:
            assert card.send("80503100080011223344556677") == "6A88"
    assert guess(card) == WRONG
    assert guess(card) == 0x6983


def sign(card: ManagedCard, command: CommandApdu) -> int:
    """Return the answer to an EXTERNAL AUTHENTICATE whose MAC is made right."""
    session = card.card._channels.selected(0).applet._channel._session
    session._chaining = bytes(16)
    signed = session.sign_command(replace(command, cla=0x80, data=command.data[:-8]))
    session._chaining = bytes(16)
    return card.transmit(signed).status


@pytest.mark.parametrize("ins", [Ins.INSTALL, Ins.LOAD, Ins.DELETE, Ins.PUT_KEY, Ins.GET_STATUS])
@pytest.mark.parametrize("cla", [0x80, 0x84, 0x00, 0x04])
def test_management_without_a_channel_is_refused(card: ManagedCard, cla: int, ins: int):
    card.send(SELECT_DOMAIN)
    assert card.send(f"{cla:02X}{ins:02X}400002{'4F00'}00") == "6982"


def test_an_unknown_instruction_is_refused_in_clear_and_in_the_channel(card: ManagedCard):
    card.send(SELECT_DOMAIN)
    assert card.send("8011000000") == "6D00"
    issuer = Issuer(card).open()
    assert issuer.raw("8011000000") == "6D00"
    assert issuer.status(get_data(0x66)) == "9000"


def test_a_class_of_management_is_wanted_inside_the_channel(card: ManagedCard):
    issuer = Issuer(card).open()
    assert issuer.raw("00F24002024F0000") == "6E00"
    assert issuer.raw("00CA006600").endswith("9000")


def test_a_clear_command_ends_the_channel(card: ManagedCard):
    issuer = Issuer(card).open()
    assert card.send(GET_STATUS) == "6982"
    assert issuer.status(CommandApdu.decode(bytes.fromhex(GET_STATUS))) == "6982"


def test_what_is_free_to_read_leaves_the_channel_alone(card: ManagedCard):
    issuer = Issuer(card).open()
    assert card.send("80CA006600").endswith("9000")
    assert issuer.raw(GET_STATUS).endswith("9000")


@pytest.mark.parametrize("bit", [0, 30, 47])
def test_a_command_with_a_bit_turned_ends_the_channel(card: ManagedCard, bit: int):
    issuer = Issuer(card, 0x03).open()
    wrapped = issuer.host.wrap(CommandApdu.decode(bytes.fromhex(GET_STATUS)))
    data = bytearray(wrapped.data)
    data[bit // 8] ^= 1 << bit % 8
    assert str(card.transmit(replace(wrapped, data=bytes(data))).status) == "6982"
    assert str(card.transmit(wrapped).status) == "6982"


def test_a_command_sent_twice_ends_the_channel(card: ManagedCard):
    issuer = Issuer(card).open()
    wrapped = issuer.host.wrap(CommandApdu.decode(bytes.fromhex(GET_STATUS)))
    assert card.transmit(wrapped).status == 0x9000
    assert card.transmit(wrapped).status == 0x6982
    assert card.transmit(wrapped).status == 0x6982


@pytest.mark.parametrize("way", ["select", "empty select", "other", "reset", "crash"])
def test_a_selection_a_reset_or_a_crash_ends_the_channel(card: ManagedCard, way: str):
    issuer = Issuer(card).open()
    match way:
        case "select":
            card.send(SELECT_DOMAIN)
        case "empty select":
            card.send("00A40400")
        case "other":
            card.send("00A4040006A00000000101")
            card.send(SELECT_DOMAIN)
        case "reset":
            card.card.reset()
            card.send(SELECT_DOMAIN)
        case _:
            domain = card.card._channels.selected(0).applet
            domain._content._commands[Ins.GET_STATUS] = lambda *_: {}["a bug"]
            assert issuer.raw(GET_STATUS) == "6F00"
    assert issuer.status(get_data(0x66)) == "6982"


def test_a_refused_command_leaves_the_channel_open(card: ManagedCard):
    issuer = Issuer(card, 0x33).open()
    assert issuer.raw("80E400000A4F08A000000099000000") == "6A88"
    assert issuer.raw(GET_STATUS).endswith("9000")


def test_initialize_update_names_what_is_in_use(card: ManagedCard):
    card.send(SELECT_DOMAIN)
    answer = card.send(INITIALIZE)
    assert answer.startswith("0001020304050607080930" + "0370")
    assert answer.endswith("0000009000")
    assert len(answer) == 2 * (29 + 3 + 2)
    assert card.send(INITIALIZE) == answer


def test_initialize_update_answers_at_random_where_the_protocol_says_so():
    card = ManagedCard(variant=ScpVariant(3, 0x60))
    card.send(SELECT_DOMAIN)
    first = card.send(INITIALIZE)
    assert len(first) == 2 * (29 + 2)
    assert card.send(INITIALIZE) != first


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("80503000080011223344556677", ""),
        ("80500000080011223344556677", ""),
        ("80503100080011223344556677", "6A88"),
        ("80500001080011223344556677", "6A86"),
        ("805000000700112233445566", "6700"),
        ("8050000010" + "00" * 16, "6700"),
        ("8050000000", "6700"),
    ],
)
def test_initialize_update_is_read_strictly(card: ManagedCard, command: str, status: str):
    card.send(SELECT_DOMAIN)
    answer = card.send(command)
    assert answer.endswith("9000") if not status else answer == status


def test_external_authenticate_is_due_once_after_initialize_update(card: ManagedCard):
    issuer = Issuer(card).select()
    command = issuer.host.authenticate(card.transmit(issuer.host.initialize_update()))
    assert card.transmit(command).status == 0x9000
    assert card.transmit(command).status == 0x6985
    assert card.transmit(command).status == 0x6985
    assert f"{DOMAIN}failures" not in card.store.contents


def guess(card: ManagedCard) -> int:
    """Return the answer to one EXTERNAL AUTHENTICATE made without the keys."""
    answer = initialize(card)
    if answer != 0x9000:
        return answer
    answer = card.transmit(CommandApdu(0x84, 0x82, 1, 0, bytes(16))).status
    return WRONG if answer in {0x6300, 0x6982} else answer


def initialize(card: ManagedCard) -> int:
    """Return the status of SELECT and INITIALIZE UPDATE."""
    card.send(SELECT_DOMAIN)
    return int(card.send(INITIALIZE)[-4:], 16)


def test_ten_wrong_authentications_block_the_domain_until_its_owner_unlocks_it(card: ManagedCard):
    assert [guess(card) for _ in range(11)] == [WRONG] * 10 + [0x6983]
    again = card.again()
    assert guess(again) == 0x6983
    assert again.send("80CA006600").endswith("9000")
    del again.store.contents[f"{DOMAIN}failures"]
    assert Issuer(again.again()).open()


def test_a_right_authentication_gives_the_tries_back(card: ManagedCard):
    for _ in range(9):
        guess(card)
    Issuer(card).open()
    assert [guess(card) for _ in range(10)] == [WRONG] * 10
    assert guess(card) == 0x6983


def test_a_wrong_cryptogram_under_a_right_mac_is_a_wrong_authentication(card: ManagedCard):
    issuer = Issuer(card).select()
    command = issuer.host.authenticate(card.transmit(issuer.host.initialize_update()))
    wrong = replace(command, data=bytes(8) + command.data[8:])
    assert sign(card, wrong) == 0x6300
    assert card.store.contents[f"{DOMAIN}failures"] == b"\x01"


def test_a_wrong_key_is_noticed_by_the_host_first(card: ManagedCard):
    with pytest.raises(SecureChannelError):
        Issuer(card, key=bytes(16)).open()


def test_the_sequence_counter_moves_with_every_attempt_and_outlives_the_power(card: ManagedCard):
    def counter(card: ManagedCard) -> str:
        return card.send("80CA00C100")

    Issuer(card).open()
    assert counter(card) == "C1030000019000"
    guess(card)
    assert counter(card) == "C1030000029000"
    again = card.again()
    again.send(SELECT_DOMAIN)
    assert counter(again) == "C1030000029000"
    Issuer(again).open()
    assert counter(again) == "C1030000039000"


@pytest.mark.parametrize(("variant", "size"), [(ScpVariant(3, 0x70), 3), (ScpVariant(2, 0x15), 2)])
def test_keys_are_used_up_at_the_end_of_their_counter(variant: ScpVariant, size: int):
    card = ManagedCard(variant=variant)
    last = (1 << 8 * size) - 1
    card.store.contents[f"{DOMAIN}counter.30"] = last.to_bytes(3, "big")
    card = card.again()
    Issuer(card).open()
    assert initialize(card) == 0x6985
    assert card.send("80CA00C100").endswith("FF9000")


def test_a_counter_that_cannot_be_stored_lets_nothing_be_compared(card: ManagedCard):
    issuer = Issuer(card).select()
    command = issuer.host.authenticate(card.transmit(issuer.host.initialize_update()))
    card.store.full = True
    assert card.transmit(command).status == 0x6581
    card.store.full = False
    assert card.transmit(command).status == 0x9000


def test_a_domain_is_made_with_parameters_that_make_sense():
    assert DomainParameters.decode(b"") == DomainParameters()
    given = DomainParameters(ScpVariant(2, 0x55), uses_demo_keys=True)
    assert DomainParameters.decode(given.encode()) == given
    for wrong in ("03", "037001FF", "037002", "047000", "021400", "038000"):
        with pytest.raises(DecodeError):
            DomainParameters.decode(bytes.fromhex(wrong))


def test_a_card_refuses_a_domain_of_an_unknown_protocol_and_stores_nothing():
    card = ManagedCard({})
    before = dict(card.store.contents)
    with pytest.raises(StatusWordError) as caught:
        card.card.add_domain("security_domain", ISD_AID, b"\x04\x00\x00")
    assert caught.value.status == StatusWord.WRONG_DATA
    assert card.store.contents == before


def test_an_applet_without_management_is_no_domain():
    class Context:
        management = None

    context: AppletContext = Context()
    with pytest.raises(StatusWordError):
        SecurityDomainApplet(context)


def test_keys_of_a_new_domain_are_random():
    contents = ManagedCard().store.contents
    card = ManagedCard({})
    card.card.add_domain("security_domain", ISD_AID)
    keys = DomainKeys.decode(card.store.contents[f"{DOMAIN}keys"])
    assert keys != DomainKeys.decode(contents[f"{DOMAIN}keys"])
    assert len({keys.sets[0].enc, keys.sets[0].mac, keys.sets[0].dek}) == 3
    for wrong in ("30", "3002", "3001" + "10"):
        with pytest.raises(DecodeError):
            DomainKeys.decode(bytes.fromhex(wrong))
