# SPDX-License-Identifier: Apache-2.0
"""Serial lines of this process alone: drivers that hang, boards that are late or babble."""

import asyncio
import errno
import os
import sys
import termios
import threading
import tty
from types import SimpleNamespace

import pytest

from iose.client.errors import ModuleError
from iose.client.module_place import ReaderModule
from iose.client.module_text import TextModule
from iose.transport.errors import (
    CardRemovedError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.serial_line import SerialLine, line, port

PATIENCE_S = 20.0


class OpenPort:
    """What a driver gives at last."""

    def __init__(self):
        self.closed = threading.Event()

    def reset_output_buffer(self):
        pass

    def close(self):
        self.closed.set()


@pytest.fixture
def hung(monkeypatch):
    """Make drivers hang until the event is set; then each gives the next of the ports."""
    go_on = threading.Event()
    ports = [OpenPort() for _ in range(port.OPENINGS_AT_MOST + 1)]
    left = list(ports)

    def open_late(*_):
        go_on.wait(PATIENCE_S)
        return left.pop()

    monkeypatch.setattr(port, "_open", open_late)
    yield go_on, ports
    go_on.set()


def test_a_driver_that_hangs_takes_a_few_threads_and_no_more(hung):
    go_on, ports = hung

    async def work():
        for _ in ports[1:]:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await port.open_port("/dev/hung", 9600)
        with pytest.raises(TransportTimeoutError, match="still being opened"):
            await port.open_port("/dev/hung", 9600)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await port.open_port("/dev/other", 9600)
        go_on.set()
        for late in ports:
            assert await asyncio.to_thread(late.closed.wait, PATIENCE_S)

    asyncio.run(work())


def test_what_was_written_is_dropped_before_a_port_is_closed():
    done = []

    class Port:
        def reset_output_buffer(self):
            done.append("drop")
            raise termios.error(errno.EIO, "Input/output error")

        def close(self):
            done.append("close")
            raise OSError(errno.EIO, "Input/output error")

    port.close_port(Port())
    assert done == ["drop", "close"]


def test_a_board_is_restarted_once_the_port_is_ours(monkeypatch):
    done = []

    class Serial:
        def __init__(self, device, baud, **given):
            done.append((device, baud, given["exclusive"]))

        def __setattr__(self, name, value):
            done.append((name, value))

    monkeypatch.setattr(port, "RESET_S", 0)
    monkeypatch.setitem(sys.modules, "serial", SimpleNamespace(Serial=Serial))
    opened = asyncio.run(port.open_port("/dev/board", 9600))
    assert isinstance(opened, Serial)
    assert done[0] == ("/dev/board", 9600, True)
    assert set(done[1:3]) == {("dtr", False), ("rts", False)}
    assert set(done[3:]) == {("dtr", True), ("rts", True)}


def test_a_module_whose_driver_hangs_is_given_up(hung, monkeypatch):
    monkeypatch.setattr("iose.client.module_text.OPEN_S", 0.01)
    module = TextModule(
        ReaderModule.decode("serial:/dev/hung-module", pin=b"0000"),
        pin_refused=lambda: pytest.fail("no board was asked"),
        timeout_s=5.0,
    )
    with pytest.raises(ModuleError, match="no answer within"):
        asyncio.run(module.open())


class Board:
    """The far end of a pseudo-terminal, in this process; ``answer`` gets each line."""

    def __init__(self, answer):
        self.far, self._near = os.openpty()
        tty.setraw(self._near)
        os.set_blocking(self.far, False)
        self.device = os.ttyname(self._near)
        self._answer = answer

    async def __aenter__(self):
        asyncio.get_running_loop().add_reader(self.far, self._read)
        return self

    async def __aexit__(self, *_):
        asyncio.get_running_loop().remove_reader(self.far)
        os.close(self.far)
        os.close(self._near)

    def say(self, text):
        os.write(self.far, text)

    async def babble(self, noise):
        for _ in range(5000):
            self.say(noise * 100)
            await asyncio.sleep(0)

    def _read(self):
        for one in os.read(self.far, 4096).decode().splitlines():
            self._answer(self, one)


@pytest.fixture
def patience(monkeypatch):
    pytest.importorskip("serial", reason="pyserial is an extra")
    monkeypatch.setattr(line, "PROBE_S", 0.3)
    monkeypatch.setattr(line, "QUIET_S", 0.001)
    monkeypatch.setattr(port, "RESET_S", 0.001)


def test_a_late_answer_to_a_probe_is_none_to_what_is_asked_next(patience):
    probes = []

    def answer(board, text):
        loop = asyncio.get_running_loop()
        if text:
            loop.call_later(0.2, board.say, b"OK\r\n")
            return
        probes.append(text)
        if len(probes) == 2:  # the first one is answered, too, and both late
            board.say(b"ERROR No Command!\r\n")
            loop.call_later(0.05, board.say, b"ERROR No Command!\r\n")

    async def work():
        async with Board(answer) as board:
            serial_line = SerialLine(board.device)
            await serial_line.open()
            assert await serial_line.ask("user 0000") == "OK"
            serial_line.shut()

    asyncio.run(work())


@pytest.mark.parametrize("first", [b"", b"Ready\r\n"])
def test_a_board_that_does_not_stop_talking_at_its_start_is_given_up(patience, first):
    noise = first + b"starting\r\n" * (line.NOISE_LIMIT + 50)

    async def work():
        async with Board(lambda board, _: board.say(noise)) as board:
            serial_line = SerialLine(board.device)
            with pytest.raises(TransportError, match="stop talking"):
                await serial_line.open()

    asyncio.run(work())


def test_a_device_that_fails_to_be_read_went_away(patience, monkeypatch):
    failing = []

    def read(number, size, read=os.read):
        if failing and number != failing[0]:
            raise OSError(errno.EIO, "Input/output error")
        return read(number, size)

    async def work():
        async with Board(lambda board, _: board.say(b"Ready\r\n")) as board:
            serial_line = SerialLine(board.device)
            await serial_line.open()
            failing.append(board.far)
            with pytest.raises(CardRemovedError, match="went away"):
                await serial_line.ask("on")
            with pytest.raises(NoReaderError, match="gone"):
                await serial_line.check()

    monkeypatch.setattr(line, "os", SimpleNamespace(read=read, write=os.write))
    asyncio.run(work())


@pytest.mark.parametrize(("noise", "match"), [(b"\n", "stop talking"), (b"\xff\n", "printable")])
def test_a_board_that_babbles_is_heard_no_more(patience, noise, match):
    async def work():
        async with Board(lambda board, _: board.say(b"Ready\r\n")) as board:
            serial_line = SerialLine(board.device)
            await serial_line.open()

            async def until_given_up():
                while True:  # a full line is no sign that nobody reads: the kernel may be behind
                    with pytest.raises(BlockingIOError):
                        await board.babble(noise)
                    await serial_line.check()

            with pytest.raises(TransportError, match=match) as caught:
                await until_given_up()
            assert not isinstance(caught.value, NoReaderError)

    asyncio.run(work())
