# SPDX-License-Identifier: Apache-2.0
"""A bus in this process: the devices of the I2C twin where lines of copper would be."""

import threading

from iose.transport.errors import NoReaderError
from iose.transport.i2c.lines import NotAcknowledgedError, ResetPin
from tests.twins.control import Faults
from tests.twins.i2c_device import BlockPart, Board, Device


class EchoChip:
    """Answers each command with itself and 9000.

    Attributes:
        restarts: How often it lost its power or was reset.
        answers: What it says instead, one by one.
    """

    def __init__(self, name: bytes = b"key1.com") -> None:
        self.historical_bytes = name
        self.restarts = 0
        self.commands: list[bytes] = []
        self.answers: list[bytes] = []

    def restart(self) -> None:
        self.restarts += 1

    def process(self, command: bytes) -> bytes:
        self.commands.append(command)
        return self.answers.pop(0) if self.answers else command + b"\x90\x00"


class DeviceLines:
    """The lines of a bus, as the thread of a bus uses them.

    Attributes:
        faults: What befalls the devices.
        log: Every transfer, as ``("w", address, data)``, ``("r", address, size)``, ``("p", line)``.
        absent: Why the bus cannot be opened or used; None when it can.
        held: A transfer to ``held_by`` lasts until this is set.
        is_open: Whether somebody uses it.
    """

    def __init__(self, **kinds: type[Device]) -> None:
        self.faults = Faults()
        self.chips = {int(name[1:]): EchoChip() for name in kinds or {"a4": Board}}
        classes = {int(name[1:]): kind for name, kind in (kinds or {"a4": Board}).items()}
        self.devices = {
            address: kind(address, self.chips[address], self.faults)
            for address, kind in classes.items()
        }
        self.log: list[tuple[object, ...]] = []
        self.threads: set[int] = set()
        self.absent: str | None = None
        self.held = threading.Event()
        self.entered = threading.Event()
        self.held_by = 0
        self.is_open = False

    def open(self, path: str) -> "DeviceLines":
        self._check()
        self.is_open = True
        return self

    def write(self, address: int, data: bytes) -> None:
        self._enter(address, "w", address, data)
        if address not in self.devices or self.devices[address].write(data) is None:
            raise NotAcknowledgedError

    def read(self, address: int, size: int) -> bytes:
        self._enter(address, "r", address, size)
        data = self.devices[address].read(size) if address in self.devices else None
        if data is None:
            raise NotAcknowledgedError
        return data

    def pulse(self, pin: ResetPin) -> None:
        self._enter(0, "p", pin.line)
        self.devices[pin.line].pulse()

    def close(self) -> None:
        self.is_open = False

    def _enter(self, address: int, *entry: object) -> None:
        self._check()
        self.log.append(entry)
        self.threads.add(threading.get_ident())
        if address and address == self.held_by:
            self.entered.set()
            self.held.wait(10.0)

    def _check(self) -> None:
        if self.absent is not None:
            raise NoReaderError("bus", self.absent, hint="plug it in")


BOARD, PART = Board, BlockPart
