# SPDX-License-Identifier: Apache-2.0
"""A serial port, opened and set up: what pyserial does, off the event loop (tls-im.md §5).

Drivers may take their time to open a device, and for ever with one that hangs: each opening has a
thread of its own that nothing waits for at the end; a device has a few such threads at most.
"""

import asyncio
import errno
import termios
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Final, Protocol

from iose.transport.errors import (
    CardBusyError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)

RESET_S: Final = 0.1  # both lines low: boards restart when DTR or RTS rises
MISSING: Final = (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOTDIR)
FORBIDDEN: Final = (errno.EACCES, errno.EPERM)
TAKEN: Final = (errno.EBUSY, errno.EAGAIN)
MISSING_HINT: Final = "is it plugged in? it is tried again by itself"
FORBIDDEN_HINT: Final = "add the user of this process to the group dialout, then log in again"
TAKEN_HINT: Final = "another program has it open: fuser shows which"
NO_TTY_HINT: Final = "a serial line is meant, such as /dev/ttyACM0"
INSTALL_HINT: Final = "pip install 'iose[serial]'"
STUCK_HINT: Final = "its driver hangs: unplug it and plug it in again"

OPENINGS_AT_MOST: Final = 3  # of one device, at a time

_openings: Final[Counter[str]] = Counter()  # under way in this process, by device
_counting: Final = threading.Lock()


class Port(Protocol):
    """An open serial port."""

    def fileno(self) -> int:
        """Return its descriptor, which does not block."""

    def reset_output_buffer(self) -> None:
        """Drop what was written and has not gone out."""

    def close(self) -> None:
        """Close it; waits until what was written has gone out."""


async def open_port(device: str, baud: int) -> Port:
    """Return the port, held by nobody else, its board restarted.

    Raises:
        NoReaderError: There is no such device.
        CardBusyError: Another program has it.
        TransportTimeoutError: Its driver has not done yet what it was asked for before.
        TransportError: It may not be opened, or is no serial line.
    """
    if _openings[device] >= OPENINGS_AT_MOST:
        text = "the device is still being opened"
        raise TransportTimeoutError(device, text, hint=STUCK_HINT)
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[Port] = loop.create_future()

    def work() -> None:
        try:
            result: Port | TransportError = _open(device, baud)
        except TransportError as error:
            result = error
        finally:
            with _counting:
                _openings[device] -= 1
        try:
            loop.call_soon_threadsafe(_hand_over, opened, result)
        except RuntimeError:  # the loop has ended meanwhile
            if not isinstance(result, TransportError):
                close_port(result)

    with _counting:
        _openings[device] += 1
    threading.Thread(target=work, name=f"open {device}", daemon=True).start()
    return await opened


def close_port(port: Port) -> None:
    """Close a port at once, whatever its device has become."""
    with suppress(OSError, termios.error):
        port.reset_output_buffer()  # or closing waits until a board that hangs has taken it
    with suppress(OSError, termios.error):
        port.close()


def _hand_over(opened: asyncio.Future[Port], result: Port | TransportError) -> None:
    if isinstance(result, TransportError):
        if not opened.done():
            opened.set_exception(result)
    elif opened.done():  # nobody waits any more
        close_port(result)
    else:
        opened.set_result(result)


def _open(device: str, baud: int) -> Port:
    try:
        import serial  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise TransportError(device, "pyserial is missing", hint=INSTALL_HINT) from error
    try:
        port = serial.Serial(device, baud, timeout=0, write_timeout=0, exclusive=True)
    except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError
        raise _fault(device, error) from error
    with suppress(OSError, termios.error):  # pseudo-terminals have no such lines
        port.dtr = port.rts = False
        time.sleep(RESET_S)
        port.dtr = port.rts = True
    opened: Port = port
    return opened


def _fault(device: str, error: Exception) -> TransportError:
    number = error.errno if isinstance(error, OSError) else None
    if number in MISSING:
        return NoReaderError(device, "there is no such device", hint=MISSING_HINT)
    if number in FORBIDDEN:
        return TransportError(device, "we may not open it", hint=FORBIDDEN_HINT)
    if number in TAKEN:
        return CardBusyError(device, "another program has it", hint=TAKEN_HINT)
    return TransportError(device, f"it is no serial line: {error}", hint=NO_TTY_HINT)
