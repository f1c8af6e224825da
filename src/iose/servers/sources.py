# SPDX-License-Identifier: Apache-2.0
"""How many connections, and how often, one source address may make (iose-server.md §12.5)."""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

IPV6_SITE_BITS: Final = 64  # one customer's network: addresses inside it cost nothing
LOOPBACK_SITE: Final = "::/64"
IDLE_LIMIT: Final = 65_536  # sources remembered without a connection, about 16 MB of them


def source_of(address: str) -> str:
    """Return what shares one limit: an IPv4 address, or an IPv6 /64."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, IPV6_SITE_BITS), strict=False))


def is_loopback(source: str) -> bool:
    """Return whether a source is this machine itself."""
    return source.startswith("127.") or source == LOOPBACK_SITE


@dataclass(slots=True)
class TokenBucket:
    """So many at once, and so many more per second.

    Attributes:
        tokens: What is left at ``seen``.
        seen: When it was last asked.
    """

    tokens: float
    seen: float

    def take(self, now: float, *, rate: float, burst: float) -> bool:
        """Take one token, and say whether there was one."""
        self.tokens = min(burst, self.tokens + (now - self.seen) * rate)
        self.seen = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class _Source:
    connections: int
    bucket: TokenBucket


class SourceLimits:
    """A count of open connections and a token bucket of new ones, per source.

    The rate does not bind this machine itself, which has other ways to keep itself busy.

    Attributes:
        connections: Most connections at once.
        rate: New connections per second in the long run.
        burst: New connections at once after a pause.
    """

    def __init__(self, *, connections: int, rate: float, burst: int) -> None:
        self.connections = connections
        self.rate = rate
        self.burst = burst
        self._active: dict[str, _Source] = {}
        self._idle: OrderedDict[str, TokenBucket] = OrderedDict()  # longest idle first

    def admit(self, source: str, now: float) -> bool:
        """Say whether a new connection is within the limits, and count it if so."""
        entry = self._active.get(source)
        if entry is None:
            bucket = self._idle.pop(source, None) or TokenBucket(self.burst, now)
            entry = self._active[source] = _Source(0, bucket)
        is_admitted = entry.connections < self.connections and (
            is_loopback(source) or entry.bucket.take(now, rate=self.rate, burst=self.burst)
        )
        if is_admitted:
            entry.connections += 1
        self._settle(source, entry)
        return is_admitted

    def leave(self, source: str) -> None:
        """Count an admitted connection as closed."""
        entry = self._active[source]
        entry.connections -= 1
        self._settle(source, entry)

    def _settle(self, source: str, entry: _Source) -> None:
        """Put a source without connections among the idle ones, of which it keeps so many."""
        if entry.connections:
            return
        del self._active[source]
        self._idle[source] = entry.bucket
        if len(self._idle) > IDLE_LIMIT:
            self._idle.popitem(last=False)
