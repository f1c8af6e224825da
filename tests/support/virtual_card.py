# SPDX-License-Identifier: Apache-2.0
"""One of our software cards as a PC/SC reader, so that programs of others can use it.

The reader is that of Debian's vsmartcard-vpcd: its driver, loaded by pcscd, listens on a TCP port
and takes what connects to it for a card. Every message is a 2-byte length and that many bytes: one
byte is an order to the card, more are a command APDU.
"""

import fcntl
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.peers import all_peers_expected, require_peer

VPCD_PORT = 27_963  # the driver's own, 35963, the kernel gives to whoever asks for any free port
VPCD_ADDRESS = ("127.0.0.1", VPCD_PORT)
DRIVER_CONFIGURATION = Path("/etc/reader.conf.d/vpcd")
DRIVER_PORT = re.compile(r"0x[0-9A-Fa-f]+")
DAEMON_SOCKET = Path("/run/pcscd/pcscd.comm")
START_DEADLINE_S = 10.0
POLL_S = 0.05


class Order(IntEnum):
    """What one byte tells the card."""

    POWER_OFF = 0
    POWER_ON = 1
    RESET = 2
    ATR = 4


class Card(Protocol):
    """A card as its contacts see it."""

    def power_on(self) -> bytes: ...
    def reset(self) -> bytes: ...
    def power_off(self) -> None: ...
    def process(self, command: bytes) -> bytes: ...


class VirtualCard:
    """A card in the virtual reader until ``remove``.

    Attributes:
        commands: The commands it was sent.
    """

    def __init__(self, card: Card, address: tuple[str, int] = VPCD_ADDRESS) -> None:
        self.commands: list[bytes] = []
        self._card = card
        self._atr = card.power_on()
        self._socket = socket.create_connection(address)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        is_seen = False
        try:
            _wait_until("the service sees the card", has_card)
            is_seen = True
        finally:
            if not is_seen:
                self._disconnect()

    def remove(self) -> None:
        """Take the card out of the reader."""
        self._disconnect()
        _wait_until("the service sees that the card is gone", lambda: not has_card())

    def _disconnect(self) -> None:
        with suppress(OSError):  # the reader went first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while (message := self._receive()) is not None:
            answer = self._answer(message)
            if answer is not None:
                self._socket.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, message: bytes) -> bytes | None:
        if len(message) > 1:
            self.commands.append(message)
            return self._card.process(message)
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
            except OSError:
                return None
            if not piece:
                return None
            data += piece
        return data


@contextmanager
def virtual_reader(folder: Path) -> Iterator[None]:
    """Give a PC/SC service with an empty virtual reader; skip where it cannot be.

    Only root starts the service, and one machine has one: a lock makes tests wait for each other.
    """
    require_peer("pcscd")
    require_peer("opensc-tool")
    if not DRIVER_CONFIGURATION.exists():
        _miss("the driver of the virtual reader is not installed (Debian package vsmartcard-vpcd)")
    if os.geteuid() != 0:
        _miss("only root can start pcscd")
    # the same file for all: what is shared is the service of the whole machine
    with Path("/run/lock/iose-virtual-reader").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if DAEMON_SOCKET.exists() and _is_served():
            pytest.skip("another PC/SC service runs on this machine")
        with (folder / "pcscd.log").open("wb") as log:
            service = subprocess.Popen(
                [require_peer("pcscd"), "--foreground", "--config", str(_configure(folder))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                _wait_until("pcscd opens the virtual reader", _is_listening)
                yield
            finally:
                service.terminate()
                service.wait(START_DEADLINE_S)


def _configure(folder: Path) -> Path:
    """Write the driver's configuration with our port, and return the folder it is in."""
    readers = folder / "readers"
    readers.mkdir()
    given = DRIVER_CONFIGURATION.read_text()
    (readers / "vpcd").write_text(DRIVER_PORT.sub(f"0x{VPCD_PORT:04X}", given))
    return readers


def _miss(reason: str) -> None:
    if all_peers_expected():
        pytest.fail(reason)
    pytest.skip(reason)


def _is_served() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(DAEMON_SOCKET)) == 0


def has_card() -> bool:
    """Return whether a program that asks PC/SC finds a card in the first reader."""
    listed = subprocess.run(
        [require_peer("opensc-tool"), "--list-readers"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    readers = [line.split() for line in listed.stdout.splitlines()]
    return any(fields[:2] == ["0", "Yes"] for fields in readers)


def _wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not in time: {what}")
        time.sleep(POLL_S)


def _is_listening() -> bool:
    """Return whether the driver listens, without connecting: it would take us for a card."""
    wanted = f"{VPCD_PORT:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].rpartition(":")[2] == wanted and fields[3] == "0A":
                return True
    return False
