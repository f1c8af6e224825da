# SPDX-License-Identifier: Apache-2.0
"""One of our software cards as a PC/SC reader, so that programs of others can use it.

The reader is that of Debian's vsmartcard-vpcd: its driver, loaded by pcscd, listens on a TCP port
and takes what connects to it for a card. Every message is a 2-byte length and that many bytes: one
byte is an order to the card, more are a command APDU.
"""

import fcntl
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TextIO

import pytest

from iose.iso7816.atr import Atr, TransmissionProtocol
from iose.iso7816.t0 import T0Interface
from iose.protocols.vpcd import Order
from tests.support.pcsc import PCSC_SOCKET
from tests.support.peers import all_peers_expected, require_peer

SLOTS = 2  # of each reader, on ports that follow each other
PORTS = 8  # of one process's readers
PROCESSES = 64
FIRST_PORT = 27_963  # the driver's own, 35963, the kernel gives to whoever asks for any free port
DRIVER_CONFIGURATION = Path("/etc/reader.conf.d/vpcd")
DRIVER_LIBRARY = re.compile(r"^LIBPATH\s+(\S+)", re.MULTILINE)
READER = """FRIENDLYNAME "{name}"
DEVICENAME /dev/null:0x{port:04X}
LIBPATH {library}
CHANNELID 0x{port:04X}
"""
HAND_OVER = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""  # sd_listen_fds(3)
START_DEADLINE_S = 10.0
INSERTIONS = 3  # of one card: a busy service now and then misses one
INSERTION_S = 5.0
POLL_S = 0.02


def _is_listening(port: int) -> bool:
    """Return whether the driver listens, without connecting: it would take us for a card."""
    wanted = f"{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].rpartition(":")[2] == wanted and fields[3] == "0A":
                return True
    return False


def _own_ports() -> tuple[int, TextIO]:
    """Return ports that no other process of tests has, and what keeps them ours while we live."""
    folder = Path(tempfile.gettempdir())
    for number in range(PROCESSES):
        lock = (folder / f"iose-virtual-reader-{os.getuid()}-{number}").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        first = FIRST_PORT + number * PORTS
        if any(map(_is_listening, range(first, first + PORTS))):  # its tests were killed
            lock.close()
            continue
        return first, lock
    pytest.fail(f"{PROCESSES} processes have virtual readers", pytrace=False)


VPCD_PORT, _PORTS_LOCK = _own_ports()
VPCD_ADDRESS = ("127.0.0.1", VPCD_PORT)


class Card(Protocol):
    """A card as its contacts see it."""

    def power_on(self) -> bytes: ...
    def reset(self) -> bytes: ...
    def power_off(self) -> None: ...
    def process(self, command: bytes) -> bytes: ...


class T0Card:
    """A card of ours with the manners of T=0: what it answers has to be fetched.

    Attributes:
        card: The card, which is asked whole APDUs.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self._interface = T0Interface()

    def power_on(self) -> bytes:
        return self._start(self.card.power_on())

    def reset(self) -> bytes:
        return self._start(self.card.reset())

    def power_off(self) -> None:
        self.card.power_off()

    def process(self, command: bytes) -> bytes:
        at_once = self._interface.receive_command(command)
        if at_once is not None:
            return at_once
        return self._interface.receive_response(command, self.card.process(command))

    def _start(self, atr: bytes) -> bytes:
        self._interface.clear()
        named = Atr.decode(atr).historical_bytes
        return Atr.for_contacts(named, TransmissionProtocol.T0).encode()


class MuteCard:
    """A card that cannot be started: its answer to reset is longer than any (33 bytes)."""

    def power_on(self) -> bytes:
        return bytes(40)

    def reset(self) -> bytes:
        return self.power_on()

    def power_off(self) -> None: ...

    def process(self, command: bytes) -> bytes:
        raise AssertionError(command.hex())


class VirtualCard:
    """A card in the virtual reader until ``remove``.

    Args:
        card: What is in it.
        address: Where the driver of its reader listens.
        reader: Name of its reader.

    Attributes:
        commands: The commands it was sent.
        orders: The orders of one byte it was given.
        asked: Set when a command comes.
    """

    def __init__(
        self,
        card: Card,
        address: tuple[str, int] = VPCD_ADDRESS,
        reader: str = "Virtual PCD 00 00",
    ) -> None:
        self.commands: list[bytes] = []
        self.orders: list[int] = []
        self.asked = threading.Event()
        self.reader = reader
        self._card = card
        self._atr = card.power_on()
        self._answers = threading.Event()
        self._answers.set()
        for _ in range(INSERTIONS):
            self._socket = socket.create_connection(address)
            self._thread = threading.Thread(target=self._serve, daemon=True)
            self._thread.start()
            if self._is_seen():
                return
            self.pull()
        pytest.fail("not in time: the service sees the card")

    def _is_seen(self) -> bool:
        """Wait until the service sees the card, and say whether it did while the driver held it."""
        deadline = time.monotonic() + INSERTION_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            if has_card(self.reader):
                return True
            time.sleep(POLL_S)
        return False

    def hold(self) -> None:
        """Answer no command until ``answer``."""
        self.asked.clear()
        self._answers.clear()

    def answer(self) -> None:
        """Answer what waits, and again from now on."""
        self._answers.set()

    def remove(self) -> None:
        """Take the card out of the reader, and wait until the service has seen it."""
        self.pull()
        _wait_until("the service sees that the card is gone", lambda: not has_card(self.reader))

    def pull(self) -> None:
        """Take the card out of the reader; a second time changes nothing."""
        with suppress(OSError):  # the reader went first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._answers.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while (message := self._receive()) is not None:
            answer = self._answer(message)
            if answer is not None:
                self._answers.wait()
                with suppress(OSError):  # it is being taken out
                    self._socket.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, message: bytes) -> bytes | None:
        if len(message) > 1:
            self.commands.append(message)
            self.asked.set()
            return self._card.process(message)
        self.orders.append(message[0])
        match message[0]:
            case Order.ATR:
                return self._atr
            case Order.POWER_ON | Order.RESET:
                self._atr = self._card.reset()
            case Order.POWER_OFF:
                pass  # the next power-on is a reset: nothing volatile survives it
        return None

    def _receive(self) -> bytes | None:
        head = self._exactly(2)
        return None if head is None else self._exactly(int.from_bytes(head, "big"))

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            try:
                piece = self._socket.recv(size - len(data))
                # the driver writes a length and waits for its acknowledgement
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            except OSError:
                return None
            if not piece:
                return None
            data += piece
        return data


class VirtualService:
    """A PC/SC service of our own, with virtual readers.

    Args:
        folder: For its configuration and its log.
        readers: How many readers there are; each has two slots, and is never in the way of another.
    """

    def __init__(self, folder: Path, readers: int = 1) -> None:
        self._log = folder / "pcscd.log"
        self._configuration = folder / "readers"
        self._configuration.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self._cards: list[VirtualCard] = []
        self.ports = [VPCD_PORT + SLOTS * number for number in range(readers)]
        found = DRIVER_LIBRARY.search(DRIVER_CONFIGURATION.read_text())
        assert found, DRIVER_CONFIGURATION
        for number, port in enumerate(self.ports):
            library = Path(found[1])
            if number:  # one library keeps one lock, and the sockets of one reader
                library = shutil.copy(library.resolve(), folder / f"vpcd-{number}.so")
            text = READER.format(name=reader_name(number), port=port, library=library)
            (self._configuration / f"vpcd-{number}").write_text(text)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not been ended."""
        return self._process is not None

    def start(self) -> None:
        """Start it, and return when its readers are there."""
        taken = [port for port in self.ports if _is_listening(port)]
        assert not taken, f"another service of this process has the ports {taken}"
        with self._listen() as listener:
            self._hand_over(listener)
        for port in self.ports:
            _wait_until("pcscd opens the virtual reader", lambda port=port: _is_listening(port))

    def start_by_use(self) -> threading.Thread:
        """Listen in its place, and let it start when a program wants it, as systemd does.

        Returns:
            A thread that ends when it has been started.
        """
        listener = self._listen()

        def wait() -> None:
            with listener:
                select.select([listener], [], [], START_DEADLINE_S)
                self._hand_over(listener)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    def _listen(self) -> socket.socket:
        PCSC_SOCKET.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(PCSC_SOCKET))
        listener.listen()
        return listener

    def _hand_over(self, listener: socket.socket) -> None:
        number = listener.fileno()
        service = [require_peer("pcscd"), "--foreground", "--config", str(self._configuration)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", HAND_OVER, str(number), *service],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(number,),
            )

    def stop(self) -> None:
        """End it in order; a second time changes nothing."""
        self._end(subprocess.Popen.terminate)
        PCSC_SOCKET.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill it without warning."""
        self._end(subprocess.Popen.kill)

    def insert(self, card: Card, reader: int = 0, slot: int = 0) -> VirtualCard:
        """Put a card into a slot of a reader."""
        name = f"{reader_name(reader)} 00 {slot:02X}"
        inserted = VirtualCard(card, ("127.0.0.1", self.ports[reader] + slot), name)
        self._cards.append(inserted)
        return inserted

    def remove_all(self) -> None:
        """Take every card out."""
        cards, self._cards = self._cards, []
        for card in cards:
            card.pull()
        if self._process is not None:
            for card in cards:
                card.remove()

    def _end(self, how: "Callable[[subprocess.Popen[bytes]], None]") -> None:
        process, self._process = self._process, None
        if process is None:
            return
        how(process)
        try:
            process.wait(START_DEADLINE_S)
        except subprocess.TimeoutExpired:  # it waits for a card that does not answer
            process.kill()
            process.wait()


def reader_name(number: int) -> str:
    """Return the name of a virtual reader, without the digits of the service."""
    return f"Virtual PCD {number}" if number else "Virtual PCD"


@contextmanager
def virtual_reader(folder: Path, readers: int = 1) -> Iterator[VirtualService]:
    """Give a PC/SC service with empty virtual readers; skip where it cannot be.

    Only root starts the service. Each process of tests has its own, beside that of the machine,
    and nobody else knows it: what a card is sent comes from the test.
    """
    require_peer("pcscd")
    require_peer("opensc-tool")
    if not DRIVER_CONFIGURATION.exists():
        _miss("the driver of the virtual reader is not installed (Debian package vsmartcard-vpcd)")
    if os.geteuid() != 0:
        _miss("only root can start pcscd")
    service = VirtualService(folder, readers)
    try:
        service.start()
        yield service
    finally:
        service.stop()


def _miss(reason: str) -> None:
    if all_peers_expected():
        pytest.fail(reason)
    pytest.skip(reason)


def has_card(reader: str = "Virtual PCD 00 00") -> bool:
    """Return whether a program that asks PC/SC finds a card in a reader."""
    listed = subprocess.run(
        [require_peer("opensc-tool"), "--list-readers"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=START_DEADLINE_S,
    )
    rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return any(row[1] == "Yes" and row[2].strip() == reader for row in rows if len(row) > 2)


def _wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not in time: {what}")
        time.sleep(POLL_S)
