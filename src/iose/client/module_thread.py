# SPDX-License-Identifier: Apache-2.0
"""An identity module for programs without an event loop: it gets one, in a thread of its own.

A thread, for the caller may be inside a loop of its own. It lives no longer than a handshake.
"""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from iose.client.module import ModuleSession
from iose.wire.errors import LocalProtocolError

T = TypeVar("T")


class ThreadedModule:
    """A module session whose coroutines never wait for the caller's loop (``ModuleSession``)."""

    def __init__(self, module: ModuleSession) -> None:
        self._module = module
        self._thread: ThreadPoolExecutor | None = None
        self._runner = asyncio.Runner()

    async def open(self) -> None:
        """Start the thread, and make the module ready.

        Raises:
            ModuleError: It cannot be reached, or refuses.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "iose-module")
            self._runner = asyncio.Runner()
        self._run(self._module.open())

    async def binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over the hash of the truncated ClientHello.

        Raises:
            ModuleError: It cannot be reached, or refuses.
        """
        return self._run(self._module.binder(transcript_hash))

    async def handshake_secret(self, shared_secret: bytes) -> bytes:
        """Return the handshake secret that follows from the ECDHE secret.

        Raises:
            ModuleError: It cannot be reached, or refuses.
        """
        return self._run(self._module.handshake_secret(shared_secret))

    async def close(self) -> None:
        """Let the module go, and end the thread."""
        if self._thread is None:
            return
        try:
            self._run(self._module.close())
        finally:
            thread, self._thread = self._thread, None
            thread.submit(self._runner.close).result()
            thread.shutdown()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            coroutine.close()
            raise LocalProtocolError("the module is not open")
        return self._thread.submit(self._runner.run, coroutine).result()
