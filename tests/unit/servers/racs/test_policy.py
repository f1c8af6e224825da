# SPDX-License-Identifier: Apache-2.0
"""Rules, and the elements they speak of (racs.md §9, §10)."""

import pytest

from iose.servers.errors import RoutingError
from iose.servers.racs.elements import ElementTable
from iose.servers.racs.policy import AccessPolicy, Right, Rule, RuleError
from tests.support.racs_server import canned

ALICE = frozenset({"alice", "*", "sha256:" + "0" * 64})
KEY1 = canned("key1", aliases=("0", "999"), sen="key1.com")
KEY2 = canned("key2", aliases=("1",), sen="key2.com")
TABLE = ElementTable([KEY1, KEY2])


def grant(*rules, element=KEY1):
    return AccessPolicy(rules).check(ALICE, element)


def test_nothing_is_allowed_without_a_rule():
    assert grant() is None
    assert grant(Rule("bob", ("*",), ("*",), ("*",))) is None
    assert grant(Rule("alice", ("key2",), ("*",))) is None
    assert grant(Rule("alice", ("*",), ())) is None


@pytest.mark.parametrize("name", ["key1", "0", "999", "key1.com", "key1*", "99?", "*.com", "*"])
def test_a_rule_holds_for_the_element_under_each_of_its_names(name):
    assert grant(Rule("alice", (name,), ("POWERON",))).rights == {Right.POWERON}


@pytest.mark.parametrize("name", ["key", "KEY1", "1", "key2*", "9", ""])
def test_a_rule_holds_for_nothing_else(name):
    assert grant(Rule("alice", (name,), ("POWERON",))) is None


@pytest.mark.parametrize("user", ["alice", "*", "sha256:" + "0" * 64])
def test_a_user_is_named_by_certificate_or_fingerprint(user):
    assert grant(Rule(user, ("*",), ("RESET",))) is not None


def test_all_commands_are_all_but_sen_and_the_rights():
    rights = grant(Rule("alice", ("*",), ("*",))).rights
    assert {str(right) for right in rights} == {
        "LIST",
        "POWERON",
        "RESET",
        "APDU",
        "SHUTDOWN",
        "GET-SEN",
    }


def test_rules_add_up():
    one, two = Rule("alice", ("0",), ("POWERON",)), Rule("*", ("*",), ("RESET", "QUIT"))
    assert grant(one, two).rights == {Right.POWERON, Right.RESET}


def test_a_pin_in_clear_goes_with_the_aids_of_its_rule():
    assert Right.VERIFY not in grant(Rule("alice", ("*",), ("*", "VERIFY"), ("isd",))).rights
    assert Right.VERIFY in grant(Rule("alice", ("*",), ("VERIFY",))).rights


def test_the_list_is_in_the_order_of_the_rules():
    rules = [Rule("bob", ("*",), ("*",)), Rule("alice", ("1", "key1"), ("APDU",), ("*",))]
    assert AccessPolicy(rules).visible(ALICE, TABLE) == ("1", "key1")
    rules = [Rule("*", ("key2",), ("LIST",)), Rule("alice", ("*", "0", "gone"), ("*",))]
    assert AccessPolicy(rules).visible(ALICE, TABLE) == ("key2", "key1", "0")
    assert AccessPolicy(rules).visible(frozenset({"eve"}), TABLE) == ()
    assert AccessPolicy([Rule("alice", ("*",), ())]).visible(ALICE, TABLE) == ()


@pytest.mark.parametrize(
    "rule",
    [
        Rule("", ("*",), ("*",)),
        Rule("alice", (), ("*",)),
        Rule("alice", ("*",), ("PowerOn",)),
        Rule("alice", ("*",), ("admin",)),
        Rule("sha256:00", ("*",), ("*",)),
        Rule("sha256:" + "A" * 64, ("*",), ("*",)),
        Rule("alice", ("*",), ("*",), ("zz",)),
        Rule("alice", ("*",), ("*",), ("",)),
        Rule("alice", ("*",), ("*",), ("00" * 17,)),
        Rule("alice", ("*",), ("*",), ("*",), ("FFFF0000",)),
        Rule("alice", ("*",), ("*",), ("*",), ("FFFF0000:002000",)),
        Rule("alice", ("*",), ("*",), ("*",), ("FFFF0000:0020000g",)),
        Rule("alice", ("*",), ("*",), (), ("FFFF0000:00200000",)),
        Rule("alice", ("*",), ("LIST",), ("*",), ("FFFF0000:00200000",)),
    ],
)
def test_a_rule_that_means_nothing_is_refused(rule):
    with pytest.raises(RuleError):
        AccessPolicy([rule])


def test_a_name_leads_to_one_element():
    assert TABLE.find("999") is KEY1
    assert TABLE.find("key1.com") is None
    with pytest.raises(RoutingError, match="two elements, key1 and key3"):
        ElementTable([KEY1, canned("key3", aliases=("999",))])


@pytest.mark.parametrize("seid", ["", "a b", "é", "s" * 64, "a\n"])
def test_a_seid_is_a_short_token(seid):
    with pytest.raises(RoutingError):
        ElementTable([canned(seid)])
    with pytest.raises(RoutingError):
        ElementTable([canned("1", aliases=(seid,))])
