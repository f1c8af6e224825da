# SPDX-License-Identifier: Apache-2.0
"""Limits per source address."""

import pytest

from iose.servers import sources
from iose.servers.sources import SourceLimits, source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_takes_an_ipv6_site_for_one_source(address, source):
    assert source_of(address) == source


def test_bounds_connections_at_once():
    limits = SourceLimits(connections=2, rate=100, burst=100)
    assert [limits.admit("a", 0.0) for _ in range(3)] == [True, True, False]
    assert limits.admit("b", 0.0)
    limits.leave("a")
    assert limits.admit("a", 0.0)


def test_bounds_the_rate_and_gives_it_back_with_time():
    limits = SourceLimits(connections=100, rate=2, burst=3)
    assert [limits.admit("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [limits.admit("a", 0.5) for _ in range(2)] == [True, False]
    assert [limits.admit("a", 100.0) for _ in range(4)] == [True, True, True, False]


def test_counts_a_refused_connection_for_nothing():
    limits = SourceLimits(connections=1, rate=1, burst=5)
    assert limits.admit("a", 0.0)
    assert not any(limits.admit("a", 0.0) for _ in range(9))
    limits.leave("a")
    assert [limits.admit("a", 0.0), limits._active["a"].bucket.tokens] == [True, 3]


def test_forgets_the_sources_that_were_idle_longest(monkeypatch):
    monkeypatch.setattr(sources, "IDLE_LIMIT", 2)
    limits = SourceLimits(connections=2, rate=0.001, burst=1)
    assert limits.admit("busy", 0.0)
    for source in "abcb":
        limits.admit(source, 0.0)
        if source in limits._active:
            limits.leave(source)
    assert list(limits._active) == ["busy"]
    assert list(limits._idle) == ["c", "b"]
    assert [limits.admit(source, 1.0) for source in "abc"] == [True, False, False]


def test_remembers_no_more_than_it_may_however_many_sources_come():
    limits = SourceLimits(connections=2, rate=0.001, burst=1)
    for number in range(sources.IDLE_LIMIT + 100):
        source = str(number)
        assert limits.admit(source, 0.0)
        limits.leave(source)
        assert not limits.admit(source, 0.0)
    assert (len(limits._idle), len(limits._active)) == (sources.IDLE_LIMIT, 0)


def test_obeys_new_limits_at_once_and_counts_on():
    limits = SourceLimits(connections=2, rate=1, burst=2)
    assert [limits.admit("a", 0.0) for _ in range(3)] == [True, True, False]
    limits.connections, limits.burst, limits.rate = 3, 9, 7
    assert not limits.admit("a", 0.0)
    assert [limits.admit("a", 1.0) for _ in range(2)] == [True, False]
    limits.connections = 1
    limits.leave("a")
    limits.leave("a")
    assert not limits.admit("a", 2.0)


@pytest.mark.parametrize("source", ["127.0.0.1", "127.1.2.3", source_of("::1")])
def test_does_not_ask_this_machine_for_patience(source):
    limits = SourceLimits(connections=10, rate=1, burst=1)
    assert [limits.admit(source, 0.0) for _ in range(11)] == [True] * 10 + [False]
