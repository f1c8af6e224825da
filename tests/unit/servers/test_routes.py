# SPDX-License-Identifier: Apache-2.0
"""Names to elements, the start of a session, and how an element has been doing."""

import pytest

from iose.iso7816.aid import Aid
from iose.servers.errors import RoutingError
from iose.servers.routes import (
    ElementHealth,
    ElementRoute,
    RoutingTable,
    start_sequence,
)
from tests.support.scripted_connection import EchoElement, ScriptedReader

READER = ScriptedReader(EchoElement())


def route(sen, *aliases, seid="1"):
    return ElementRoute(seid, sen, READER, aliases)


def test_finds_names_in_any_case_and_keeps_their_spelling():
    table = RoutingTable([route("Key1.com", "a.example")])
    assert table.find("KEY1.COM").sen == "Key1.com"
    assert table.find("A.Example").sen == "Key1.com"
    assert table.find("key1.co") is None
    assert table.find(None) is None


def test_has_a_default_only_where_one_is_named():
    assert RoutingTable([route("key1.com")], default_sen="KEY1.com").find(None).sen == "key1.com"
    with pytest.raises(RoutingError):
        RoutingTable([route("key1.com")], default_sen="key2.com")


@pytest.mark.parametrize("name", ["", "a" * 16, "a b", "key\x7f", "kéy"])
def test_refuses_what_is_no_name(name):
    with pytest.raises(RoutingError):
        RoutingTable([route(name)])


def test_takes_names_of_15_and_aliases_of_255_characters():
    assert RoutingTable([route("a" * 15, "b" * 255)]).find("B" * 255)
    with pytest.raises(RoutingError):
        RoutingTable([route("a", "b" * 256)])


def test_refuses_two_elements_of_one_name():
    with pytest.raises(RoutingError, match=r"1 and 2 share the name .KEY1\.com"):
        RoutingTable([route("key1.com"), route("KEY1.com", seid="2")])
    with pytest.raises(RoutingError):
        RoutingTable([route("key1.com"), route("key2.com", "key1.com", seid="2")])


def test_starts_with_reset_alone_or_after_select():
    assert [step.command.encode().hex() for step in start_sequence()] == ["00d8000000"]
    select, reset = start_sequence(Aid.from_hex("010203040500"))
    assert select.command.encode().hex() == "00a4040006010203040500"
    assert reset.command.encode().hex() == "00d8000000"


def test_leaves_an_element_alone_for_longer_and_longer():
    health = ElementHealth()
    waits = []
    for _ in range(11):
        health.note_failure(100.0)
        waits.append(max(0.0, health.retry_at - 100.0))
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert health.is_degraded
    assert not health.may_try(163.9)
    assert health.may_try(164.0)
    assert health.note_success()
    assert (health.may_try(0.0), health.is_degraded, health.note_success()) == (True, False, False)
