# SPDX-License-Identifier: Apache-2.0
"""A thread for the calls to one reader: made when it is used, gone when it is idle.

A call that never returns keeps its thread and nothing else: who waits is told so in time. Threads
are daemons, so that such a call does not keep the process either.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, TypeVar

T = TypeVar("T")

IDLE_S: Final = 5.0  # one session follows another at once, or much later

Job = Callable[[], None]


class ReaderThread:
    """Runs jobs one after the other, in a thread of their own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_running = False
        self._called_at: float | None = None

    def post(self, job: Job) -> None:
        """Run a job, which raises nothing, after those that wait already."""
        with self._lock:
            self._jobs.put(job)
            if self._is_running:
                return
            self._is_running = True
        threading.Thread(target=self._run, name=f"pcsc {self._name}", daemon=True).start()

    @contextmanager
    def call(self) -> Iterator[None]:
        """In a job: mark one blocking call, whose length is bounded on the other side."""
        self._called_at = time.monotonic()
        try:
            yield
        finally:
            self._called_at = None

    async def run(self, work: Callable[[], T], call_s: float) -> T:
        """Return what work returns, or raise what it raises.

        Args:
            work: Runs in the thread, every blocking call of it in ``call``.
            call_s: Longest time that one call may take, in seconds.

        Raises:
            TimeoutError: A call has taken longer; the thread is still in it.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self.post(lambda: _deliver(loop, done, work))
        left = call_s
        try:
            while left > 0:
                await asyncio.wait((done,), timeout=left)
                if done.done():
                    return done.result()
                called_at = self._called_at
                left = call_s if called_at is None else called_at + call_s - time.monotonic()
        finally:
            if not done.cancel() and not done.cancelled():
                done.exception()  # seen, even where the wait was broken off at this instant
        raise TimeoutError

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._is_running = False
                        return
                continue
            job()


def _deliver(
    loop: asyncio.AbstractEventLoop, done: "asyncio.Future[T]", work: Callable[[], T]
) -> None:
    settle: Callable[[], None]
    try:
        settle = partial(done.set_result, work())
    except Exception as error:  # noqa: BLE001 - raised again where it is waited for
        settle = partial(done.set_exception, error)
    call_in_loop(loop, lambda: None if done.done() else settle())


def call_in_loop(loop: asyncio.AbstractEventLoop, callback: Job) -> None:
    """Call back in the loop, from another thread, unless the loop has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
