# SPDX-License-Identifier: Apache-2.0
"""An identity module for programs without an event loop: it gets one, in a thread of its own.

A thread, for the caller may be inside a loop of its own. It lives no longer than a handshake.
"""

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any, TypeVar

from iose.client.module import ModuleSession
from iose.wire.errors import LocalProtocolError

T = TypeVar("T")


class ThreadedModule:
    """A module session whose coroutines never wait for the caller's loop (``ModuleSession``)."""

    def __init__(self, module: ModuleSession) -> None:
        self._module = module
        self._thread: _LoopThread | None = None

    async def open(self) -> None:
        """Start the thread, and make the module ready.

        Raises:
            ModuleError: It cannot be reached, or refuses.
        """
        if self._thread is None:
            self._thread = _LoopThread()
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
            thread.end()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            coroutine.close()
            raise LocalProtocolError("the module is not open")
        return self._thread.run(coroutine)


class _LoopThread:
    """A thread with an event loop in it, until ``end``."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = Thread(target=self._serve, name="iose-module")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns; who interrupts the wait interrupts it too."""
        step = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return step.result()
        finally:
            step.cancel()  # nothing, when it is done

    def end(self) -> None:
        """Cancel what still runs, and end the thread."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._ended.wait())
