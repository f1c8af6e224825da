# SPDX-License-Identifier: Apache-2.0
"""TLS sessions with one RACS server, kept from one user to the next (iose-server.md §8.2).

A session is used by one element at a time, so that a slow command delays nobody else. Kept ones
hold no element; they end before the server would end them.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from iose.transport.racs_link import RacsEndpoint, RacsLink

KEPT_LIMIT: Final = 8
KEPT_S: Final = 60.0  # servers end silent sessions after 600 s, racs.md §11
LEGACY_LIFE_S: Final = 300.0  # the published server ends a session of 600 s, silent or not


@dataclass(frozen=True, slots=True)
class PooledLink:
    """A session on loan.

    Attributes:
        link: The session; it is open, as far as is known.
        since: When it began, in the loop's time.
        is_used: Whether somebody had it before; the server may have ended it meanwhile.
    """

    link: RacsLink
    since: float
    is_used: bool


class RacsPool:
    """Sessions with one server, to be had and given back.

    Args:
        endpoint: The server, and who we are to it.
        kept: Most sessions that are kept for the next one; 0 ends each with its use.
    """

    def __init__(self, endpoint: RacsEndpoint, *, kept: int = KEPT_LIMIT) -> None:
        self.endpoint = endpoint
        self._limit = kept
        self._kept: list[tuple[PooledLink, asyncio.TimerHandle]] = []
        self._is_closed = False

    async def take(self) -> PooledLink:
        """Return a session that nobody else uses: the one kept last, or a new one.

        Raises:
            TransportError: There is none to be had.
        """
        while self._kept:
            pooled, timer = self._kept.pop()
            timer.cancel()
            if pooled.link.is_open:
                return pooled
            pooled.link.abort()
        return await self.open()

    async def open(self) -> PooledLink:
        """Return a new session.

        Raises:
            TransportError: There is none to be had.
        """
        link = RacsLink(self.endpoint)
        await link.open()
        return PooledLink(link, asyncio.get_running_loop().time(), is_used=False)

    async def give_back(self, pooled: PooledLink) -> None:
        """Keep a session that holds no element any more, or end it; never raises."""
        loop = asyncio.get_running_loop()
        is_old = self.endpoint.is_legacy and loop.time() - pooled.since > LEGACY_LIFE_S
        is_full = len(self._kept) >= self._limit
        if self._is_closed or is_full or is_old or not pooled.link.is_open:
            await pooled.link.close()
            return
        kept = PooledLink(pooled.link, pooled.since, is_used=True)
        self._kept.append((kept, loop.call_later(KEPT_S, self._expire, kept)))

    def forget(self) -> None:
        """End the sessions that are kept; those on loan go on."""
        kept, self._kept = self._kept, []
        for pooled, timer in kept:
            timer.cancel()
            pooled.link.abort()

    def close(self) -> None:
        """End the sessions that are kept, and keep no more."""
        self._is_closed = True
        self.forget()

    def _expire(self, pooled: PooledLink) -> None:
        self._kept = [one for one in self._kept if one[0] is not pooled]
        pooled.link.abort()
