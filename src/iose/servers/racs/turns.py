# SPDX-License-Identifier: Apache-2.0
"""Turns of sessions in one event loop: commands that never wait must not keep others waiting."""

import asyncio
from typing import Final

TURN_S: Final = 0.002  # some dozens of ordinary commands, or one that is costly


class Turn:
    """One session's turn after the other.

    Args:
        loop: The loop that sessions share.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ends = loop.time() + TURN_S

    async def next(self, *, is_over: bool = False) -> None:
        """Let other sessions have theirs, if this one is over."""
        if is_over or self._loop.time() >= self._ends:
            await asyncio.sleep(0)
            self._ends = self._loop.time() + TURN_S
