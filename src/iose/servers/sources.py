# SPDX-License-Identifier: Apache-2.0
"""How many connections, and how often, one source address may make (iose-server.md §12.5)."""

import ipaddress
from dataclasses import dataclass
from typing import Final

IPV6_SITE_BITS: Final = 64  # one customer's network: addresses inside it cost nothing
TABLE_LIMIT: Final = 65_536  # sources remembered; beyond it the idle ones are forgotten


def source_of(address: str) -> str:
    """Return what shares one limit: an IPv4 address, or an IPv6 /64."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, IPV6_SITE_BITS), strict=False))


@dataclass(slots=True)
class _Source:
    connections: int
    tokens: float
    seen: float


class SourceLimits:
    """A count of open connections and a token bucket of new ones, per source.

    Args:
        connections: Most connections at once.
        rate: New connections per second in the long run.
        burst: New connections at once after a pause.
    """

    def __init__(self, *, connections: int, rate: float, burst: int) -> None:
        self._connections = connections
        self._rate = rate
        self._burst = float(burst)
        self._sources: dict[str, _Source] = {}

    def admit(self, source: str, now: float) -> bool:
        """Say whether a new connection is within the limits, and count it if so."""
        entry = self._sources.get(source)
        if entry is None:
            if len(self._sources) >= TABLE_LIMIT:
                self._forget_idle(now)
            entry = self._sources[source] = _Source(0, self._burst, now)
        entry.tokens = min(self._burst, entry.tokens + (now - entry.seen) * self._rate)
        entry.seen = now
        if entry.connections >= self._connections or entry.tokens < 1:
            return False
        entry.tokens -= 1
        entry.connections += 1
        return True

    def leave(self, source: str) -> None:
        """Count an admitted connection as closed."""
        entry = self._sources.get(source)
        if entry is not None:
            entry.connections -= 1

    def _forget_idle(self, now: float) -> None:
        refill_s = self._burst / self._rate
        self._sources = {
            source: entry
            for source, entry in self._sources.items()
            if entry.connections or now - entry.seen < refill_s
        }
