# SPDX-License-Identifier: Apache-2.0
"""Every way round the rule of which applets may be used is closed (racs.md §7.1, §9.4)."""

import pytest

from iose.servers.racs.firewall import Firewall, Verdict, channel_of
from iose.servers.racs.policy import AccessPolicy, Rule
from tests.support.racs_server import canned

AID = "010203040500"
OTHER = "A0000000010101"
ISD = "A000000151000000"
ELEMENT = canned("key1")
PIN = "002000000430303030"


def grant(*aids, verbs=("APDU",), deny=(), more=()):
    rules = [Rule("u", ("*",), verbs, aids, deny), *more]
    return AccessPolicy(rules).check(frozenset({"u"}), ELEMENT)


def select(aid, cla="00", p2="00"):
    return f"{cla}A404{p2}{len(aid) // 2:02X}{aid}"


class Line:
    """A firewall with a user, and a card that answers what it is told."""

    def __init__(self, rights, *, is_reference=False):
        self.firewall = Firewall(is_reference=is_reference)
        self.rights = rights

    def verdict(self, command):
        return self.firewall.judge(self.firewall.rewrite(bytes.fromhex(command)), self.rights)

    def send(self, command, status=0x9000):
        assert self.verdict(command) is None, command
        self.firewall.note(bytes.fromhex(command), status)
        return self


def test_only_what_was_named_may_be_selected_and_used():
    line = Line(grant(AID))
    assert line.verdict("00B0000000") is Verdict.NO_APPLET
    assert line.verdict(select(OTHER)) is Verdict.AID
    line.send(select(AID)).send("00B0000000").send("00C0000010")
    line.firewall.clear()
    assert line.verdict("00B0000000") is Verdict.NO_APPLET


def test_nothing_may_be_selected_by_default():
    line = Line(grant())
    assert line.verdict(select(AID)) is Verdict.AID
    assert line.verdict("00B0000000") is Verdict.NO_APPLET


def test_what_a_reset_selects_is_called_default():
    line = Line(grant("default", AID))
    line.send("00B0000000").send(select(AID), 0x6A82).send("00B0000000")
    assert Line(grant(AID)).verdict("00B0000000") is Verdict.NO_APPLET


@pytest.mark.parametrize("status", [0x9000, 0x6110, 0x9F10, 0x6283, 0x6310])
def test_a_selection_counts_when_it_went_well_or_with_a_warning(status):
    line = Line(
        grant("default", more=[Rule("u", ("*",), ("APDU",), (AID,), ("00FF0000:00D80000",))])
    )
    line.send("00D8000000").send(select(AID), status)
    assert line.verdict("00D8000000") is Verdict.FILTERED


@pytest.mark.parametrize("status", [0x6A82, 0x6999, 0x6985, 0x6D00])
def test_a_selection_that_failed_changes_nothing(status):
    line = Line(grant(AID, "isd"))
    line.send(select(AID), status)
    assert line.verdict("00B0000000") is Verdict.NO_APPLET


@pytest.mark.parametrize(
    "command",
    [
        select(AID[:10]),  # partial: the card chooses
        select(AID + "00"),
        select(AID, p2="02"),  # the next of that name
        select(AID, p2="01"),
        select(AID, p2="03"),
        select(AID, p2="10"),
        "00A40000023F00",  # by identifier
        "00A4000C02DF01",
        "00A4020C020001",
        "00A4090C023F00",
        "00A4080C",
        select(AID, "10"),  # the first half of a chain
        select(AID, "04"),  # under secure messaging: what it names is not to be seen
        select(AID, "0C"),
        select(AID, "84"),
        select(AID[:-2], "00") + "00" * 5,  # Lc does not fit
        "00A4040006" + AID + "0000",
        "00A4040000",  # the issuer's domain
        "00A40400",
        select(ISD),
        select("A000000003000000"),
    ],
)
def test_a_select_that_is_not_exactly_the_one_allowed_is_refused(command):
    assert Line(grant(AID)).verdict(command) is Verdict.AID
    assert Line(grant(AID, "default")).verdict(command) is Verdict.AID
    assert Line(grant("*")).verdict(command) is None


@pytest.mark.parametrize("cla", ["00", "80", "A0", "90", "B0"])
@pytest.mark.parametrize("p2", ["00", "04", "08", "0C"])
def test_a_select_is_one_in_every_class_and_with_every_kind_of_answer(cla, p2):
    assert Line(grant(AID)).verdict(select(OTHER, cla, p2)) in (Verdict.AID,)
    if cla not in {"90", "B0"}:  # these have the bit of chaining
        assert Line(grant(AID)).verdict(select(AID, cla, p2)) is None


def test_a_select_of_extended_length_is_for_who_may_select_anything():
    for command in ("00A40400000006" + AID, "00A40400000006" + AID + "0000"):
        assert Line(grant(AID)).verdict(command) is Verdict.AID  # may be read as an empty SELECT
        assert Line(grant("*")).verdict(command) is None
    assert Line(grant("isd")).verdict("00A40400000000") is None


@pytest.mark.parametrize(
    "command", [select(ISD), "00A40400", "00A4040000", select("A000000003000000")]
)
@pytest.mark.parametrize("aid", ["isd", ISD, "A000000003000000"])
def test_an_empty_select_is_the_issuers_domain(command, aid):
    Line(grant(aid)).send(command).send("80F21C0000")


@pytest.mark.parametrize(
    ("cla", "channel"),
    [(0x00, 0), (0x01, 1), (0x83, 3), (0x87, 3), (0x40, 4), (0x4F, 19), (0x7F, 19), (0xC0, 4)],
)
def test_channels_are_read_in_both_codings(cla, channel):
    assert channel_of(cla) == channel


@pytest.mark.parametrize(
    "cla", ["01", "02", "03", "40", "4F", "61", "7F", "81", "87", "C0", "E1", "FF"]
)
def test_other_channels_are_refused_unless_allowed(cla):
    assert Line(grant("*")).verdict(cla + "B0000000") is Verdict.CHANNEL
    assert Line(grant("*")).verdict(select(AID, cla)) is Verdict.CHANNEL
    assert Line(grant("*", verbs=("APDU", "logical_channels"))).verdict(cla + "B0000000") is None


def test_each_channel_has_its_own_selection():
    line = Line(grant(AID, "default", verbs=("APDU", "logical_channels")))
    assert line.verdict("01B0000000") is Verdict.NO_APPLET
    assert line.verdict(select(OTHER, "01")) is Verdict.AID
    line.send(select(AID, "01")).send("01B0000000")
    assert line.verdict("02B0000000") is Verdict.NO_APPLET


@pytest.mark.parametrize("command", ["0070000001", "80700000", "0070800100", "A070000001"])
def test_channels_are_not_opened_unless_allowed(command):
    assert Line(grant("*")).verdict(command) is Verdict.MANAGE_CHANNEL
    assert Line(grant("*", verbs=("APDU", "manage_channel"))).verdict(command) is None


@pytest.mark.parametrize("cla", ["00", "80", "A0", "10", "04", "0C", "84"])
@pytest.mark.parametrize("ins", ["20", "21", "24", "25", "2C", "2D"])
def test_a_pin_in_clear_needs_its_own_right(cla, ins):
    command = cla + ins + PIN[4:]
    assert Line(grant("*")).verdict(command) is Verdict.VERIFY
    assert Line(grant("*", verbs=("APDU", "VERIFY"))).verdict(command) is None
    apart = [Rule("u", ("*",), ("VERIFY",))]
    assert Line(grant("*", more=apart)).verdict(command) is None


def test_the_right_to_show_a_pin_ends_with_the_selection_it_belongs_to():
    line = Line(grant("default", more=[Rule("u", ("*",), ("APDU", "VERIFY"), (AID,))]))
    assert line.verdict(PIN) is Verdict.VERIFY
    line.send(select(AID)).send(PIN)


UPDATE = "8050000008" + "00" * 8
AUTHENTICATE = "8482030010" + "00" * 16


def test_a_pin_under_an_open_secure_channel_is_not_in_clear():
    line = Line(grant("default", "isd"))
    assert line.verdict("04200000") is Verdict.VERIFY
    line.send(UPDATE, 0x611C).send(AUTHENTICATE, 0x6300)
    assert line.verdict("04200000") is Verdict.VERIFY
    line.send(UPDATE).send(AUTHENTICATE).send("04200000")
    assert line.verdict("00200000") is Verdict.VERIFY
    line.send("00A40400")
    assert line.verdict("04200000") is Verdict.VERIFY
    line.send(UPDATE).send(AUTHENTICATE).send(UPDATE, 0x6A88)
    assert line.verdict("04200000") is Verdict.VERIFY


@pytest.mark.parametrize(
    "command", ["0087000000", "0082000000", "8486000000", "84870000", AUTHENTICATE]
)
def test_a_command_of_an_applet_that_looks_like_one_opens_no_secure_channel(command):
    line = Line(grant("*", deny=("FFFF0000:00240000",))).send(command)
    assert line.verdict("0C" + PIN[2:]) is Verdict.VERIFY
    both = ("APDU", "VERIFY")
    line = Line(grant("*", verbs=both, deny=("FFFF0000:00240000",))).send(command)
    assert line.verdict("0C240000") is Verdict.FILTERED


def test_after_a_failed_update_no_secure_channel_is_open():
    line = Line(grant("*")).send(UPDATE, 0x6D00).send(AUTHENTICATE)
    assert line.verdict("84200000") is Verdict.VERIFY


@pytest.mark.parametrize("close", ["0070800100", "01708000"])
@pytest.mark.parametrize("status", [0x9000, 0x6200])
def test_a_channel_that_was_closed_is_known_no_more(close, status):
    verbs = ("APDU", "logical_channels", "manage_channel")
    line = Line(grant(AID, "default", verbs=verbs)).send("0070000001").send(select(AID, "01"))
    line.send("01B0000000").send(close, status).send("0070000001")
    assert line.verdict("01B0000000") is Verdict.NO_APPLET
    line.send("00B0000000")


@pytest.mark.parametrize(
    "command", ["00D8000000", "80D8000000", "10D8000000", "04D8000000", "A0D8010200"]
)
def test_a_filter_refuses_a_header(command):
    assert Line(grant("*", deny=("00FF0000:00D80000",))).verdict(command) is Verdict.FILTERED
    assert Line(grant("*", deny=("00FF0000:00D90000",))).verdict(command) is None


@pytest.mark.parametrize("cla", ["00", "10", "04", "0C", "1C"])
def test_a_filter_of_one_class_is_not_escaped_by_bits_that_change_nothing(cla):
    line = Line(grant("*", verbs=("APDU", "VERIFY"), deny=("FFFF0000:00200000",)))
    assert line.verdict(cla + PIN[2:]) is Verdict.FILTERED
    assert line.verdict("80" + PIN[2:]) is None


@pytest.mark.parametrize("cla", ["01", "03", "13", "40", "6F"])
def test_a_filter_holds_on_every_channel(cla):
    verbs = ("APDU", "VERIFY", "logical_channels")
    line = Line(grant("*", verbs=verbs, deny=("FFFF0000:00200000",)))
    assert line.verdict(cla + PIN[2:]) is Verdict.FILTERED


def test_a_filter_holds_while_its_aid_is_selected_whatever_else_is_allowed():
    more = [Rule("u", ("*",), ("APDU",), ("*",))]
    line = Line(grant(AID, deny=("00FF0000:00D80000",), more=more))
    line.send("00D8000000").send(select(AID))
    assert line.verdict("00D8000000") is Verdict.FILTERED
    line.send(select(OTHER)).send("00D8000000")


def test_the_published_server_wants_a_select_first_and_keeps_it_over_a_reset():
    line = Line(grant("*"), is_reference=True)
    assert line.verdict("00B0000000") is Verdict.NO_APPLET
    assert line.verdict("00A40000023F00") is Verdict.NO_APPLET
    line.send(select(AID), 0x6A82)
    line.firewall.clear()
    line.send("00B0000000")
    line.firewall.clear(is_power_on=True)
    assert line.verdict("00B0000000") is Verdict.NO_APPLET


def test_the_published_server_clears_the_channel_and_we_do_not():
    command = bytes.fromhex("03B0000000")
    assert Firewall(is_reference=True).rewrite(command) == bytes.fromhex("00B0000000")
    assert Firewall().rewrite(command) is command
    further = bytes.fromhex("41B0000000")
    assert Firewall(is_reference=True).rewrite(further) is further
