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


def test_forgets_idle_sources_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(sources, "TABLE_LIMIT", 2)
    limits = SourceLimits(connections=2, rate=1, burst=1)
    for source in ("idle", "busy"):
        assert limits.admit(source, 0.0)
    limits.leave("idle")
    assert limits.admit("new", 100.0)
    assert set(limits._sources) == {"busy", "new"}
    limits.leave("idle")
