# SPDX-License-Identifier: Apache-2.0
"""How the task of a connection waits: for the connection's callbacks, and for other tasks' turns.

Commands that never wait must not keep others waiting.
"""

import asyncio
from typing import Final

TURN_S: Final = 0.002  # some dozens of ordinary commands, or one that is costly


class Wakeup:
    """What a task sleeps on until somebody wakes it; waking one that is awake does nothing."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether the task sleeps."""
        return self._future is not None

    async def wait(self) -> None:
        """Sleep."""
        self._future = asyncio.get_running_loop().create_future()
        try:
            await self._future
        finally:
            self._future = None

    def wake(self) -> None:
        """Wake the task if it sleeps."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


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
