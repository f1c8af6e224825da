# SPDX-License-Identifier: Apache-2.0
"""i2c-dev and GPIO lines, with smbus2 and gpiod that say what a kernel would: no wires here."""

import errno
import os
import sys
from types import SimpleNamespace

import pytest

from iose.transport.bank import SlotState
from iose.transport.errors import NoReaderError, TransportError
from iose.transport.i2c import I2cBank, linux
from iose.transport.i2c.lines import NotAcknowledgedError, ResetPin
from iose.transport.i2c.linux import LinuxLines

PIN = ResetPin("/dev/gpiochip0", 17)
gpiod = pytest.importorskip("gpiod")
smbus2 = pytest.importorskip("smbus2")


def failure(code):
    return OSError(code, os.strerror(code))


class Kernel:
    """What the modules reach.

    Attributes:
        log: What was done, in order.
        errors: Raised by the next call of that name.
    """

    def __init__(self):
        self.log = []
        self.errors = {}

    def do(self, name, *what):
        self.log.append((name, *what))
        if name in self.errors:
            raise self.errors[name]


class Bus:
    def __init__(self, kernel, path):
        self._kernel = kernel
        kernel.do("open", path)

    def i2c_rdwr(self, message):
        is_read = bool(message.flags & 1)
        self._kernel.do("read" if is_read else "write", message.addr, bytes(message))
        if is_read:
            for place in range(message.len):
                message.buf[place] = bytes((0xA5 + place,))

    def close(self):
        self._kernel.do("close")


class Request:
    def __init__(self, kernel):
        self._kernel = kernel

    def set_value(self, line, value):
        self._kernel.do("set", line, value.name)

    def release(self):
        self._kernel.do("release")


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()

    def request_lines(chip, *, consumer, config):
        ((line, settings),) = config.items()
        kernel.do("request", chip, consumer, line, settings.direction, settings.output_value)
        return Request(kernel)

    monkeypatch.setitem(
        sys.modules,
        "smbus2",
        SimpleNamespace(SMBus=lambda path: Bus(kernel, path), i2c_msg=smbus2.i2c_msg),
    )
    monkeypatch.setitem(
        sys.modules,
        "gpiod",
        SimpleNamespace(
            line=gpiod.line, LineSettings=gpiod.LineSettings, request_lines=request_lines
        ),
    )
    monkeypatch.setattr(linux.time, "sleep", lambda seconds: kernel.do("sleep", seconds))
    return kernel


def test_transfers_are_single_messages_to_the_address(kernel):
    lines = LinuxLines("/dev/i2c-1")
    lines.write(0x48, b"\x5a\xcf\0")
    assert lines.read(0x48, 3) == b"\xa5\xa6\xa7"
    lines.close()
    assert kernel.log == [
        ("open", "/dev/i2c-1"),
        ("write", 0x48, b"\x5a\xcf\0"),
        ("read", 0x48, bytes(3)),
        ("close",),
    ]


@pytest.mark.parametrize("code", [errno.ENXIO, errno.EREMOTEIO, errno.EIO, errno.ETIMEDOUT])
def test_a_transfer_that_fails_may_be_tried_again(kernel, code):
    lines = LinuxLines("/dev/i2c-1")
    kernel.errors = {"write": failure(code), "read": failure(code)}
    with pytest.raises(NotAcknowledgedError):
        lines.write(0x48, b"\x5a")
    with pytest.raises(NotAcknowledgedError):
        lines.read(0x48, 1)


def test_an_adapter_that_is_unplugged_is_no_reader(kernel):
    lines = LinuxLines("/dev/i2c-1")
    kernel.errors = {"read": failure(errno.ENODEV)}
    with pytest.raises(NoReaderError, match="No such device") as caught:
        lines.read(0x48, 1)
    assert "plug it in" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOENT, "modprobe i2c-dev"),
        (errno.EACCES, "group"),
        (errno.EPERM, "group"),
        (errno.EBUSY, "another program"),
    ],
)
def test_a_device_file_that_cannot_be_opened_comes_with_the_next_step(kernel, code, hint):
    kernel.errors = {"open": failure(code)}
    with pytest.raises(NoReaderError, match="/dev/i2c-1: cannot be used") as caught:
        LinuxLines("/dev/i2c-1")
    assert hint in caught.value.hint


def test_a_pulse_is_low_for_a_moment_and_holds_the_bus_a_little_longer(kernel):
    lines = LinuxLines("/dev/i2c-1")
    lines.pulse(PIN)
    lines.pulse(PIN)
    lines.close()
    output, high = gpiod.line.Direction.OUTPUT, gpiod.line.Value.ACTIVE
    pulse = [
        ("set", 17, "INACTIVE"), ("sleep", 100e-6), ("set", 17, "ACTIVE"), ("sleep", 0.010)
    ]  # fmt: skip
    assert kernel.log[1:] == [
        ("request", "/dev/gpiochip0", "iose", 17, output, high),
        *pulse,
        *pulse,
        ("release",),
        ("close",),
    ]


@pytest.mark.parametrize("name", ["request", "set"])
@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (failure(errno.ENOENT), NoReaderError, "modprobe"),
        (failure(errno.EACCES), NoReaderError, "gpio"),
        (failure(errno.EBUSY), NoReaderError, "gpioinfo"),
        (failure(errno.EINVAL), TransportError, "gpioinfo"),
        (ValueError("no such offset"), TransportError, "gpioinfo"),
    ],
)
def test_a_line_that_cannot_be_had_comes_with_the_next_step(kernel, name, error, kind, words):
    lines = LinuxLines("/dev/i2c-1")
    kernel.errors = {name: error}
    with pytest.raises(TransportError) as caught:
        lines.pulse(PIN)
    assert type(caught.value) is kind
    assert words in caught.value.hint
    kernel.errors = {}
    lines.pulse(PIN)
    lines.close()


@pytest.mark.parametrize("name", ["close", "release"])
def test_to_close_never_fails(kernel, name):
    lines = LinuxLines("/dev/i2c-1")
    lines.pulse(PIN)
    kernel.errors = {name: failure(errno.EIO)}
    lines.close()


@pytest.mark.anyio
@pytest.mark.parametrize("module", ["smbus2", "gpiod"])
async def test_an_extra_that_is_not_installed_is_named(kernel, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    lines = {"reset_chip": "/dev/gpiochip0", "reset_line": 17}
    bank = I2cBank("i2c", bus="/dev/i2c-1", address=4, apdu_s=1.0, **lines)
    kernel.errors = {"write": failure(errno.ENXIO)}
    await bank.start(lambda: None)
    (slot,) = bank.slots
    await bank.stop()
    assert (slot.state, slot.hint) == (
        SlotState.FAULT,
        "install the extra: pip install 'iose[i2c]'",
    )
    assert module in slot.fault


@pytest.mark.anyio
async def test_a_machine_without_the_bus_says_so(tmp_path):
    bank = I2cBank("i2c", bus=str(tmp_path / "i2c-9"), address=4, apdu_s=1.0)
    await bank.start(lambda: None)
    (slot,) = bank.slots
    await bank.stop()
    assert slot.state is SlotState.ABSENT
    assert "No such file" in slot.fault
    assert "modprobe" in slot.hint
