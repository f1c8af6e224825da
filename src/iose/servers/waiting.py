# SPDX-License-Identifier: Apache-2.0
"""How the task of a connection waits for the connection's callbacks, one wait at a time."""

import asyncio


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
