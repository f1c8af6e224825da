# SPDX-License-Identifier: Apache-2.0
"""One bus, shared by all the devices on it: a thread of its own does one transfer after the other.

Who wants a transfer waits for those asked for before it and for no more: a device that is slow
waits between its polls without the bus, and one that is stuck holds it for one transfer at a time.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar

from iose.transport.errors import NoReaderError, TransportError
from iose.transport.i2c.lines import (
    SOCKET_PREFIXES,
    Lines,
    NotAcknowledgedError,
    ResetPin,
)
from iose.transport.i2c.linux import LinuxLines
from iose.transport.i2c.remote import RemoteLines

T = TypeVar("T")
Job = Callable[[], None]

GAP_S: Final = 50e-6  # between two transfers (iose-server.md §8.4)
STOP_S: Final = 2.0  # a transfer that hangs is left to its thread


def open_lines(path: str) -> Lines:
    """Return an open bus: a device file, ``unix:PATH`` or ``tcp:HOST:PORT``.

    Raises:
        NoReaderError: It is not there, or may not be opened.
    """
    return RemoteLines(path) if path.startswith(SOCKET_PREFIXES) else LinuxLines(path)


class I2cBus:
    """One bus; opened by the first transfer, and again after it was gone.

    Args:
        path: As ``open_lines`` takes it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lines: Lines | None = None
        self._free_at = 0.0
        self._is_stopped = False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name=f"i2c {path}", daemon=True)
        self._thread.start()

    async def write(self, address: int, data: bytes) -> bytes | None:
        """Do one write transfer; returns b"", or None when it failed.

        Raises:
            TransportError: There is no bus.
        """

        def transfer(lines: Lines) -> bytes:
            lines.write(address, data)
            return b""

        return await self._do(transfer)

    async def read(self, address: int, size: int) -> bytes | None:
        """Return what one read transfer brings, None when it failed.

        Raises:
            TransportError: There is no bus.
        """
        return await self._do(lambda lines: lines.read(address, size))

    async def pulse(self, pin: ResetPin) -> None:
        """Pulse a reset line, with the bus held.

        Raises:
            TransportError: There is no bus, or no such line.
        """
        failures: list[TransportError] = []

        def pull(lines: Lines) -> bytes:
            try:
                lines.pulse(pin)
            except TransportError as error:
                if error.reader != pin.chip:
                    raise
                failures.append(error)  # the bus stays open, and with it the lines of others
            return b""

        await self._do(pull)
        if failures:
            raise failures[0]

    async def stop(self) -> None:
        """End the thread and close the bus; never raises."""
        self._is_stopped = True
        self._jobs.put(None)
        await asyncio.wait((asyncio.wrap_future(self._ended),), timeout=STOP_S)

    async def _do(self, work: Callable[[Lines], bytes]) -> bytes | None:
        if self._is_stopped:
            raise NoReaderError(self.path, "the bus is no longer used")
        done: Future[bytes | None] = Future()

        def job() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(self._transfer(work))
            except BaseException as error:  # noqa: BLE001  # to whoever waits for it
                done.set_exception(error)

        self._jobs.put(job)
        return await asyncio.wrap_future(done)

    def _transfer(self, work: Callable[[Lines], bytes]) -> bytes | None:
        if self._lines is None:
            self._lines = open_lines(self.path)
        time.sleep(max(0.0, self._free_at - time.monotonic()))
        try:
            return work(self._lines)
        except NotAcknowledgedError:
            return None
        except TransportError:
            self._close()
            raise
        finally:
            self._free_at = time.monotonic() + GAP_S

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
        self._close()
        self._ended.set_result(None)

    def _close(self) -> None:
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.close()


_shared: dict[str, tuple[I2cBus, int]] = {}  # the bus is one, whoever configures its devices
_guard = threading.Lock()


def acquire_bus(path: str) -> I2cBus:
    """Return the bus at ``path``, the same one for all who ask until the last has released it."""
    key = path if path.startswith(SOCKET_PREFIXES) else str(Path(path).resolve())
    with _guard:
        bus, users = _shared.get(key) or (I2cBus(key), 0)
        _shared[key] = bus, users + 1
        return bus


async def release_bus(bus: I2cBus) -> None:
    """Give back what ``acquire_bus`` gave; never raises."""
    with _guard:
        _, users = _shared.pop(bus.path)
        if users > 1:
            _shared[bus.path] = bus, users - 1
            return
    await bus.stop()
