# SPDX-License-Identifier: Apache-2.0
"""A bus of this machine: transfers by i2c-dev (smbus2), reset lines by the GPIO character device.

Both modules are an optional extra and are looked for when a bus is opened. A board whose reset
lines are behind a 4-to-16 decoder (address on four lines, an enable pin pulsed low) is not served:
it would be another ``pulse``, here, with another kind of ``ResetPin``.
"""

import errno
import importlib
import time
from contextlib import suppress
from types import ModuleType
from typing import Any, Final, Protocol

from iose.transport.errors import NoReaderError, TransportError
from iose.transport.i2c.lines import RESET_HELD_S, RESET_LOW_S, NotAcknowledgedError, ResetPin

CONSUMER: Final = "iose"
EXTRA_HINT: Final = "install the extra: pip install 'iose[i2c]'"
GONE: Final = (errno.ENODEV, errno.EBADF, errno.ESHUTDOWN)
_HINTS: Final = {
    errno.ENOENT: "is the bus enabled (modprobe i2c-dev; on a Raspberry Pi: raspi-config)? "
    "ls /dev/i2c-* shows the buses",
    errno.EACCES: "add the user that runs the node to the group of the device file (i2c, gpio)",
    errno.EBUSY: "another program holds it: gpioinfo shows which",
    errno.ENODEV: "the adapter is gone: plug it in again",
}
_PULSE_HINT: Final = "check the number of the reset line: gpioinfo shows them"


class _Request(Protocol):
    """A line that is ours, as gpiod gives it."""

    def set_value(self, line: int, value: object) -> None: ...

    def release(self) -> None: ...


class LinuxLines:
    """One i2c-dev bus and the reset lines used so far.

    Args:
        path: Device file, as ``/dev/i2c-1``.

    Raises:
        NoReaderError: It is not there, or may not be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._smbus = _module("smbus2", path)
        self._pins: dict[ResetPin, _Request] = {}
        try:
            self._bus: Any = self._smbus.SMBus(path)
        except OSError as error:
            raise _absent(path, error) from error

    def write(self, address: int, data: bytes) -> None:
        """Do one write transfer.

        Raises:
            NoReaderError: The adapter is gone.
            NotAcknowledgedError: It failed.
        """
        self._transfer(self._smbus.i2c_msg.write(address, data))

    def read(self, address: int, size: int) -> bytes:
        """Return what one read transfer brings.

        Raises:
            NoReaderError: The adapter is gone.
            NotAcknowledgedError: It failed.
        """
        message = self._smbus.i2c_msg.read(address, size)
        self._transfer(message)
        return bytes(message)

    def pulse(self, pin: ResetPin) -> None:
        """Pull a reset line low and let it go; it is held high from then on.

        Raises:
            NoReaderError: The chip is not there, or may not be opened, or the line is in use.
            TransportError: There is no such line.
        """
        self._pull(_module("gpiod", pin.chip), pin)
        time.sleep(RESET_HELD_S)

    def close(self) -> None:
        """Close the bus and let the reset lines go."""
        for pin in tuple(self._pins):
            self._release(pin)
        with suppress(OSError):
            self._bus.close()

    def _pull(self, gpiod: ModuleType, pin: ResetPin) -> None:
        value = gpiod.line.Value
        try:
            if pin not in self._pins:
                self._pins[pin] = _request(gpiod, pin)
            self._pins[pin].set_value(pin.line, value.INACTIVE)
            time.sleep(RESET_LOW_S)
            self._pins[pin].set_value(pin.line, value.ACTIVE)
        except (OSError, ValueError) as error:
            self._release(pin)
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise _absent(pin.chip, error) from error
            raise TransportError(pin.chip, f"no line {pin.line}", hint=_PULSE_HINT) from error

    def _transfer(self, message: object) -> None:
        try:
            self._bus.i2c_rdwr(message)
        except OSError as error:
            if error.errno in GONE:
                raise _absent(self._path, error) from error
            raise NotAcknowledgedError(error.errno, error.strerror) from error

    def _release(self, pin: ResetPin) -> None:
        request = self._pins.pop(pin, None)
        if request is not None:
            with suppress(OSError):
                request.release()


def _request(gpiod: ModuleType, pin: ResetPin) -> "_Request":
    """Return the line as an output, high: an element that runs is not disturbed by it."""
    settings = gpiod.LineSettings(
        direction=gpiod.line.Direction.OUTPUT, output_value=gpiod.line.Value.ACTIVE
    )
    request: _Request = gpiod.request_lines(
        pin.chip, consumer=CONSUMER, config={pin.line: settings}
    )
    return request


def _module(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NoReaderError(
            path, f"the Python module {name} is not installed", hint=EXTRA_HINT
        ) from error


def _absent(path: str, error: OSError) -> NoReaderError:
    code = errno.EACCES if error.errno == errno.EPERM else error.errno
    return NoReaderError(
        path, f"cannot be used: {error.strerror or error}", hint=_HINTS.get(code or 0)
    )
