# SPDX-License-Identifier: Apache-2.0
"""A bus behind a socket: its framing byte by byte, and programs that do not keep to it."""

import socket
import threading
import time
from contextlib import suppress
from itertools import chain

import pytest

from iose.transport.errors import NoReaderError, TransportError
from iose.transport.i2c import remote
from iose.transport.i2c.lines import NotAcknowledgedError, ResetPin
from iose.transport.i2c.remote import RemoteLines


class Program:
    """Answers what a test says, request by request.

    Attributes:
        heard: All that it was sent.
    """

    def __init__(self, listener, answers):
        self.heard = b""
        self._answers = answers
        self._listener = listener
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        connection, _ = self._listener.accept()
        with connection, suppress(OSError):
            for size, answer in self._answers:
                heard = connection.recv(size, socket.MSG_WAITALL)
                self.heard += heard
                if answer is None:
                    return
                connection.sendall(answer)
            connection.recv(1)


@pytest.fixture(params=["unix", "tcp"])
def start(request, tmp_path):
    programs = []
    kind = socket.AF_UNIX if request.param == "unix" else socket.AF_INET
    with socket.socket(kind) as listener:
        listener.bind(str(tmp_path / "bus") if request.param == "unix" else ("127.0.0.1", 0))
        listener.listen()

        def serve(*answers, then=()):
            programs.append(Program(listener, chain(answers, then)))
            if request.param == "unix":
                return programs[-1], RemoteLines(f"unix:{tmp_path / 'bus'}")
            return programs[-1], RemoteLines(f"tcp:127.0.0.1:{listener.getsockname()[1]}")

        yield serve
        for program in programs:
            program.thread.join(5.0)


def test_transfers_and_pulses_are_framed(start):
    program, lines = start((8, b"\0"), (5, b"\0\xa5\xc1\x02"), (5, b"\0"))
    lines.write(0x48, b"\x5a\xcf\0")
    assert lines.read(0x48, 3) == b"\xa5\xc1\x02"
    lines.pulse(ResetPin("x", 300))
    lines.close()
    assert program.heard.hex() == "57004800035acf00520048000350012c0000"


def test_what_failed_brings_no_bytes(start):
    _, lines = start((6, b"\1"), (5, b"\1"), (5, b"\0\0"))
    with pytest.raises(NotAcknowledgedError):
        lines.write(4, b"\x5a")
    with pytest.raises(NotAcknowledgedError):
        lines.read(4, 1)
    assert lines.read(4, 1) == b"\0"
    lines.close()


@pytest.mark.parametrize(("answer", "words"), [(b"\2", "no line 7"), (b"\x7f", "answers 7F")])
def test_a_line_that_is_none_and_an_answer_that_is_none(start, answer, words):
    _, lines = start((5, answer))
    with pytest.raises(TransportError, match=words) as caught:
        lines.pulse(ResetPin("x", 7))
    assert type(caught.value) is TransportError
    assert caught.value.hint
    lines.close()


def test_a_program_that_says_nothing_is_given_up(start, monkeypatch):
    monkeypatch.setattr(remote, "TRANSFER_S", 0.05)
    _, lines = start((5, b""))
    with pytest.raises(NoReaderError, match="the bus is gone"):
        lines.read(4, 1)
    lines.close()


def test_a_program_that_says_a_byte_now_and_then_is_given_up_too(start, monkeypatch):
    def drip():
        for _ in range(200):
            time.sleep(0.05)
            yield 0, b"\0"

    monkeypatch.setattr(remote, "TRANSFER_S", 0.2)
    _, lines = start((5, b"\0"), then=drip())
    with pytest.raises(NoReaderError, match="the bus is gone"):
        lines.read(4, 100)
    lines.close()


def test_a_program_may_take_its_time_for_each_answer(start):
    def think():
        for number in range(3):
            heard = 5 if number else 0
            time.sleep(0.05)
            yield heard, b"\0\xa5"

    _, lines = start((5, b""), then=think())
    for _ in range(3):
        assert lines.read(4, 1) == b"\xa5"
    lines.close()


def test_what_a_program_says_unasked_is_no_answer_to_what_is_asked_next(start):
    _, lines = start((5, b"\0\xa5\0\0\0"), (5, b"\0\xc1"))
    assert lines.read(4, 1) == b"\xa5"
    with pytest.raises(TransportError, match="unasked") as caught:
        lines.read(4, 1)
    assert type(caught.value) is TransportError
    lines.close()


def test_a_program_that_ends_in_the_middle_is_gone(start):
    program, lines = start((5, b"\0\xa5\xc1"), (5, None))
    assert lines.read(4, 2) == b"\xa5\xc1"
    for _ in range(2):
        with pytest.raises(NoReaderError, match="the bus is gone"):
            lines.read(4, 5)
        program.thread.join(5.0)
    lines.close()


@pytest.mark.parametrize("path", ["unix:/nowhere/bus", "tcp:127.0.0.1:1", "tcp:x", "tcp:[::1]:x"])
def test_nobody_there_is_no_reader(path):
    with pytest.raises(NoReaderError, match="cannot connect") as caught:
        RemoteLines(path)
    assert "running" in caught.value.hint
