# SPDX-License-Identifier: Apache-2.0
"""A board on a serial line, asked a line of text at a time (tls-im.md §5).

What the lines say is the caller's: APDUs of a card behind the board, or the commands of one that is
an identity module by itself. The line stays open from one session to the next, since opening it
restarts the board.
"""

import asyncio
import os
from collections import deque
from typing import Final

from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.racsl import RacslLines
from iose.transport.errors import (
    CardRemovedError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.link import within
from iose.transport.serial_line.port import MISSING_HINT, Port, close_port, open_port

DEFAULT_BAUD: Final = 19_200  # tls-im.md §5
ANSWER_S: Final = 6.0
LINE_LIMIT: Final = 2047  # of the published boards and clients
READ_SIZE: Final = 4096
PROBES: Final = 5
PROBE_S: Final = 1.0
QUIET_S: Final = 0.1  # a board that restarts says more than one line
NOISE_LIMIT: Final = 200  # lines of what a board says while it starts
ALIVE: Final = ("Ready", "!")
ALIVE_ERROR: Final = "ERROR"
ENDLESS: Final = "the board does not stop talking"
SILENT_HINT: Final = "is it the right device, with the board's speed, and is the board in order?"


class SerialLine:
    """A serial line with a board at its end.

    Args:
        device: Device file.
        baud: Speed.
        answer_s: Longest wait for an answer, in seconds.
    """

    def __init__(
        self, device: str, *, baud: int = DEFAULT_BAUD, answer_s: float = ANSWER_S
    ) -> None:
        self._device = device
        self._baud = baud
        self._answer_s = answer_s
        self._port: Port | None = None
        self._cutter = RacslLines(LINE_LIMIT)
        self._lines: deque[str] = deque()
        self._news = asyncio.Event()
        self._is_starting = False
        self._is_idle = True
        self._failure: TransportError | None = None

    @property
    def name(self) -> str:
        """The device file."""
        return self._device

    async def open(self) -> None:
        """Open the device and wait for its board; without effect while it is open and in order.

        Raises:
            NoReaderError: There is no such device.
            CardBusyError: Another program has it.
            TransportTimeoutError: Nobody answers.
            TransportError: It may not be opened, or is no serial line.
        """
        self._is_idle = False
        if self._port is not None and self._failure is None and self._is_silent:
            return
        self.shut()
        self._is_idle = False
        port = await open_port(self._device, self._baud)
        self._port, self._failure = port, None
        self._cutter = RacslLines(LINE_LIMIT)
        asyncio.get_running_loop().add_reader(port.fileno(), self._read, port)
        is_alive = False
        try:
            self._is_starting = True
            await self._probe()
            is_alive = True
        finally:
            self._is_starting = False
            if not is_alive:
                self.shut()

    async def ask(self, line: str) -> str:
        """Return the answer to a line, both without their ends.

        Raises:
            CardRemovedError: The device went away.
            TransportTimeoutError: No answer in time; the line is closed.
            TransportError: A line came unasked, or one that is none.
        """
        is_answered = False
        try:
            self._check_silence()
            answer = await within(self._device, self._exchange(line), self._answer_s)
            is_answered = True
        finally:
            if not is_answered:
                self.shut()
        return answer

    async def check(self) -> None:
        """Check that the device is still there, and quiet.

        Raises:
            NoReaderError: It was unplugged.
            TransportError: It says what no board says.
        """
        failure = self._failure
        if failure is not None:
            self.shut()
            if isinstance(failure, CardRemovedError):
                raise NoReaderError(self._device, "the device is gone", hint=MISSING_HINT)
            raise failure

    async def close(self) -> None:
        """End a session; the line stays open for the next."""
        self._is_idle = True

    def abort(self) -> None:
        """Close the line at once, unless its session has ended."""
        if not self._is_idle:
            self.shut()

    def shut(self) -> None:
        """Close the line at once, if it is open."""
        port, self._port = self._port, None
        self._lines.clear()
        self._is_idle = True
        if port is not None:
            self._fail(CardRemovedError(self._device, "the line was closed"))
            loop = asyncio.get_running_loop()
            loop.remove_reader(port.fileno())
            loop.remove_writer(port.fileno())
            close_port(port)

    async def _probe(self) -> None:
        quiet_s = QUIET_S
        for _ in range(PROBES):
            try:
                await within(self._device, self._wake(), PROBE_S)
            except TransportTimeoutError:
                quiet_s = PROBE_S  # its answer may be late, and is none to what is asked next
                continue
            await self._settle(quiet_s)
            return
        text = f"nobody answers at {self._baud} baud"
        raise TransportTimeoutError(self._device, text, hint=SILENT_HINT)

    async def _wake(self) -> None:
        await self._write(b"\r\n")
        for _ in range(NOISE_LIMIT):
            line = (await self._next()).strip()
            if line in ALIVE or line.startswith(ALIVE_ERROR):
                return
        raise TransportError(self._device, ENDLESS, hint=SILENT_HINT)

    async def _settle(self, quiet_s: float) -> None:
        """Wait until what else the board says about its start is over.

        Raises:
            TransportError: It never is.
        """
        for _ in range(NOISE_LIMIT):
            try:
                await within(self._device, self._next(), quiet_s)
            except TransportTimeoutError:
                return
        raise TransportError(self._device, ENDLESS, hint=SILENT_HINT)

    async def _exchange(self, line: str) -> str:
        await self._write(line.encode("ascii") + b"\r\n")
        return await self._next()

    async def _next(self) -> str:
        while not self._lines:
            self._check()
            self._news.clear()
            await self._news.wait()
        return self._lines.popleft()

    async def _write(self, data: bytes) -> None:
        while data:
            port = self._check()
            try:
                data = data[os.write(port.fileno(), data) :]
            except BlockingIOError:
                await self._wait_to_write(port)
            except OSError as error:
                self._fail(CardRemovedError(self._device, "the device went away"))
                raise CardRemovedError(self._device, "the device went away") from error

    async def _wait_to_write(self, port: Port) -> None:
        loop = asyncio.get_running_loop()
        self._news.clear()
        loop.add_writer(port.fileno(), self._news.set)
        try:
            await self._news.wait()
        finally:
            if self._port is port:
                loop.remove_writer(port.fileno())

    def _read(self, port: Port) -> None:
        try:
            data = os.read(port.fileno(), READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hear_no_more(
                port, CardRemovedError(self._device, "the device went away", hint=MISSING_HINT)
            )
            return
        try:
            self._lines += self._cutter.receive_data(data)
        except RacsPeerError as error:
            self._cutter = RacslLines(LINE_LIMIT)
            if not self._is_starting:  # boards make noise when they start, at any speed
                self._hear_no_more(port, TransportError(self._device, str(error), hint=SILENT_HINT))
        if len(self._lines) > NOISE_LIMIT:
            self._hear_no_more(port, TransportError(self._device, ENDLESS, hint=SILENT_HINT))
        self._news.set()

    def _hear_no_more(self, port: Port, error: TransportError) -> None:
        asyncio.get_running_loop().remove_reader(port.fileno())
        self._fail(error)

    @property
    def _is_silent(self) -> bool:
        return not self._lines and not self._cutter.has_half

    def _check_silence(self) -> None:
        if not self._is_silent:
            raise TransportError(self._device, "the board answers what it was not asked")

    def _check(self) -> Port:
        if self._failure is not None:
            raise self._failure
        if self._port is None:
            raise CardRemovedError(self._device, "the line is closed")
        return self._port

    def _fail(self, error: TransportError) -> None:
        self._failure = self._failure or error
        self._news.set()
