# SPDX-License-Identifier: Apache-2.0
"""A bus behind a socket: a program that does the transfers, for simulation and for bus servers.

One request, one answer, in turn; integers are big-endian.

    request   kind (1), address or line (2), size (2), then the bytes of a write
    kind      57 write, 52 read, 50 pulse a reset line; size is 0 for a pulse
    answer    state (1), then as many bytes as were asked for if a read succeeded
    state     00 done, 01 not acknowledged, 02 there is no such line

Nothing is encrypted and nobody is asked for a name: a TCP bus belongs on a loopback address.
"""

import select
import socket
import time
from contextlib import suppress
from enum import IntEnum
from typing import Final

from iose.transport.errors import NoReaderError, TransportError
from iose.transport.i2c.lines import RESET_HELD_S, NotAcknowledgedError, ResetPin

TRANSFER_S: Final = 1.0  # as adapters of Linux wait; for all of an answer
LEAST_S: Final = 1e-6  # 0 would be no wait at all, and another error
FIELD_SIZE: Final = 2
PROGRAM_HINT: Final = "is the program of the bus running?"
SPEECH_HINT: Final = "is it a program that does the transfers of a bus?"


class Kind(IntEnum):
    """What is asked for."""

    PULSE = 0x50
    READ = 0x52
    WRITE = 0x57


class State(IntEnum):
    """What came of it."""

    DONE = 0
    NOT_ACKNOWLEDGED = 1
    NO_LINE = 2


class RemoteLines:
    """One bus behind a socket.

    Args:
        path: ``unix:PATH`` or ``tcp:HOST:PORT``.

    Raises:
        NoReaderError: Nobody answers there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        kind, _, address = path.partition(":")
        try:
            if kind == "unix":
                self._socket = _connect_unix(address)
            else:
                host, _, port = address.rpartition(":")
                self._socket = socket.create_connection((host.strip("[]"), int(port)), TRANSFER_S)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ValueError, OverflowError) as error:
            raise NoReaderError(path, f"cannot connect: {error}", hint=PROGRAM_HINT) from error
        self._deadline = 0.0
        self._unread = select.poll()
        self._unread.register(self._socket, select.POLLIN)

    def write(self, address: int, data: bytes) -> None:
        """Do one write transfer.

        Raises:
            NoReaderError: The program is gone.
            NotAcknowledgedError: It failed.
            TransportError: The program says what it may not.
        """
        self._ask(Kind.WRITE, address, len(data), data)

    def read(self, address: int, size: int) -> bytes:
        """Return what one read transfer brings.

        Raises:
            NoReaderError: The program is gone.
            NotAcknowledgedError: It failed.
            TransportError: The program says what it may not.
        """
        self._ask(Kind.READ, address, size)
        return self._receive(size)

    def pulse(self, pin: ResetPin) -> None:
        """Have a reset line pulled low and let go.

        Raises:
            NoReaderError: The program is gone.
            TransportError: There is no such line.
        """
        self._ask(Kind.PULSE, pin.line, 0)
        time.sleep(RESET_HELD_S)

    def close(self) -> None:
        """Close the socket."""
        with suppress(OSError):
            self._socket.close()

    def _ask(self, kind: Kind, number: int, size: int, data: bytes = b"") -> None:
        head = (
            bytes((kind,)) + number.to_bytes(FIELD_SIZE, "big") + size.to_bytes(FIELD_SIZE, "big")
        )
        if self._unread.poll(0) and self._receive(1):
            raise TransportError(
                self._path, "the program of the bus speaks unasked", hint=SPEECH_HINT
            )
        self._deadline = time.monotonic() + TRANSFER_S
        try:
            self._socket.settimeout(TRANSFER_S)
            self._socket.sendall(head + data)
        except OSError as error:
            raise self._gone(error) from error
        state = self._receive(1)[0]
        if state == State.NOT_ACKNOWLEDGED:
            raise NotAcknowledgedError
        if state == State.NO_LINE:
            raise TransportError(self._path, f"no line {number}", hint="check reset_line")
        if state != State.DONE:
            raise TransportError(
                self._path, f"the program of the bus answers {state:02X}", hint=SPEECH_HINT
            )

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                self._socket.settimeout(max(LEAST_S, self._deadline - time.monotonic()))
                some = self._socket.recv(size - len(data))
            except OSError as error:
                raise self._gone(error) from error
            if not some:
                raise self._gone(EOFError("end of stream"))
            data += some
        return data

    def _gone(self, error: Exception) -> NoReaderError:
        return NoReaderError(self._path, f"the bus is gone: {error}", hint=PROGRAM_HINT)


def _connect_unix(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(TRANSFER_S)
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection
