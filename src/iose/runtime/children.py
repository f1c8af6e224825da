# SPDX-License-Identifier: Apache-2.0
"""Processes kept running by the supervisor: started by exec, started again when they die.

A child gets a control channel over an inherited socket pair as its only argument. When the
channel closes the child leaves: no child outlives its supervisor, however that one ends.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from iose.runtime.channel import LINE_LIMIT, EventSink, JsonChannel, ignore_events
from iose.runtime.errors import ConfigurationError, ControlError
from iose.wire.errors import IoseError

FIRST_DELAY_S: Final = 0.05
LAST_DELAY_S: Final = 10.0
STEADY_S: Final = 30.0  # a child that lived this long is started again at once
START_TIMEOUT_S: Final = 60.0  # a host may have to read a thousand stores anew
STOP_TIMEOUT_S: Final = 10.0
STDERR: Final = 2  # standard output belongs to the one line of --json
OWN_VARIABLES: Final = "IOSE_"  # they name keys and passphrases, which are the owner's commands'
FAULT_HINT: Final = "its last words are above, or in the log file"

Report = Callable[[str, str, int], None]


def ignore_report(_name: str, _what: str, _number: int) -> None:
    """Do nothing with the news of a child."""


def python_module(module: str) -> tuple[str, ...]:
    """Return the command that runs a module of ours, deaf to what lies in the current folder."""
    return (sys.executable, "-P", "-m", module)


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start; doubles while starts fail soon."""

    delay_s: float = 0.0

    def next_delay_s(self, uptime_s: float) -> float:
        """Return the wait after a child that lived ``uptime_s``."""
        if uptime_s >= STEADY_S:
            self.delay_s = 0.0
        waited = self.delay_s
        self.delay_s = min(max(2 * waited, FIRST_DELAY_S), LAST_DELAY_S)
        return waited


class Child:
    """One process of the node.

    Args:
        name: For logs and the status.
        command: What to run; descriptor numbers are added to its arguments.
        inherited: More descriptors the child keeps; their numbers follow the channel's.
        on_start: Asks the fresh child to start its work, on every start.
        sink: Receiver of the child's events.
        report: Told of ends and new starts, for the log: (name, what, a number).
    """

    def __init__(
        self,
        name: str,
        command: tuple[str, ...],
        *,
        on_start: Callable[[JsonChannel], Awaitable[None]],
        inherited: tuple[int, ...] = (),
        sink: EventSink = ignore_events,
        report: Report = ignore_report,
    ) -> None:
        self.name = name
        self.restarts = 0
        self._command = command
        self._on_start = on_start
        self._inherited = inherited
        self._sink = sink
        self._report = report
        self._backoff = Backoff()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: JsonChannel | None = None
        self._serving: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._is_ready = False

    @property
    def pid(self) -> int | None:
        """Process number; None while it is down."""
        return self._process.pid if self._process is not None else None

    @property
    def uptime_s(self) -> float:
        """Seconds since the last start; 0 while it is down."""
        return asyncio.get_running_loop().time() - self._started_at if self._process else 0.0

    @property
    def channel(self) -> JsonChannel:
        """The channel to the running child.

        Raises:
            ControlError: The child is down at the moment.
        """
        if self._channel is None or not self._is_ready:
            raise ControlError(f"the {self.name} is being started again", hint="try again")
        return self._channel

    async def start(self) -> None:
        """Start the child, wait until its work is started, and keep it running from then on.

        Raises:
            ConfigurationError: The child refused to work so; nothing is left running.
            ControlError: It did not start, or died at once; nothing is left running.
        """
        try:
            await self._start_once()
        except ConfigurationError:
            await self.stop()
            raise
        except (IoseError, OSError) as error:
            await self.stop()
            raise ControlError(
                f"the {self.name} did not start: {error}", hint=FAULT_HINT
            ) from error
        self._keeper = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """End the child: hang up; one that does not leave gets SIGTERM, then SIGKILL."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        await self._end()

    async def _keep_running(self) -> None:
        while True:
            if self._process is not None:
                await _wait_exit(self._process)
                uptime_s = self.uptime_s
                status = self._process.returncode or 0
                await self._end()
                self._report(self.name, "ended", status)
            else:
                uptime_s = 0.0
            await asyncio.sleep(self._backoff.next_delay_s(uptime_s))
            self.restarts += 1
            try:
                await self._start_once()
                self._report(self.name, "restarted", self.restarts)
            except Exception as error:  # noqa: BLE001  # whatever a start met, the next one may not
                await self._end()
                self._report(self.name, f"failed to start: {error}", self.restarts)

    async def _start_once(self) -> None:
        ours, theirs = socket.socketpair()
        numbers = (theirs.fileno(), *self._inherited)
        names = (name for name in os.environ if not name.startswith(OWN_VARIABLES))
        try:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # our own module; exec is quick
                [*self._command, *map(str, numbers)],
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=STDERR,
                env={name: os.environ[name] for name in names},
                start_new_session=True,  # the terminal's Ctrl-C is the supervisor's to handle
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._started_at = asyncio.get_running_loop().time()
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_LIMIT)
        except BaseException:
            ours.close()  # the child leaves
            raise
        channel = JsonChannel(reader, writer, sink=self._sink)
        self._channel = channel
        self._serving = asyncio.create_task(channel.serve())
        await self._on_start(channel)
        self._is_ready = True

    async def _end(self) -> None:
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        self._is_ready = False
        if process is None:
            return
        if channel is not None and self._serving is not None:
            channel.close()
            await self._serving
        for insist in (None, process.terminate, process.kill):
            if insist is not None:
                insist()
            if await _wait_exit(process, STOP_TIMEOUT_S):
                return


async def run_together(*jobs: Coroutine[None, None, None]) -> None:
    """Await all jobs; the first failure cancels the others, and is raised when they have ended."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_exit(process: subprocess.Popen[bytes], timeout_s: float | None = None) -> bool:
    """Wait for the end of a process without a thread; return whether it came."""
    if process.poll() is not None:
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    process.wait()
    return True
