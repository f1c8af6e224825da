# SPDX-License-Identifier: Apache-2.0
"""One TCP connection to the driver of a virtual reader: bounded in size and in time.

The driver sends a length and what it announces in two writes, and waits with the second until the
first is acknowledged; each acknowledgement therefore goes out at once.
"""

import asyncio
import errno
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from iose.protocols.vpcd import DriverMessage, DriverStream, encode_answer
from iose.transport.addresses import format_address
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoReaderError,
    TransportTimeoutError,
)
from iose.transport.link import reason
from iose.wire.errors import DecodeError

RECEIVE_SIZE: Final = 65_536
# Linux alone has it; elsewhere an APDU takes some 40 ms longer
QUICK_ACKNOWLEDGEMENT: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
# struct linger: on, no time; a closed connection does not keep the driver off its port for a minute
LEAVE_NOTHING: Final = struct.pack("ii", 1, 0)
NO_DRIVER_HINT: Final = (
    "install Debian's vsmartcard-vpcd and start the service, 'systemctl start pcscd': the driver "
    "listens only while pcscd runs; --port names another port"
)
UNANSWERED_HINT: Final = (
    "is that machine up, and does its firewall let us through? A tunnel needs no open port (ssh "
    "-L, and no --host). If other cards wait for this reader, withdraw them"
)
TAKEN_HINT: Final = (
    "another card is in this reader: withdraw it, or take the next reader with --port (the driver "
    "has two, on ports that follow each other)"
)


@dataclass(frozen=True, slots=True)
class DriverAddress:
    """Where a driver listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it is written."""
        return format_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class DriverTimes:
    """How long a driver may take.

    Attributes:
        connect_s: To accept a connection.
        greeting_s: To give its first order; it looks for a card two or three times a second.
        message_s: From the first byte of a message to its last, and to take a whole answer.
    """

    connect_s: float = 2.0
    greeting_s: float = 3.0
    message_s: float = 10.0


class DriverLink:
    """A connection to one driver; of no more use after an error.

    Args:
        address: Where it listens.
        times: How long it may take.
    """

    def __init__(self, address: DriverAddress, times: DriverTimes) -> None:
        self._address = address
        self._times = times
        self._stream = DriverStream()
        self._socket: socket.socket | None = None
        self._first: DriverMessage | None = None

    @property
    def name(self) -> str:
        """The driver, for errors."""
        return f"virtual reader at {self._address}"

    async def open(self) -> None:
        """Connect, and wait until the driver speaks: it has taken us for its card.

        Raises:
            NoReaderError: Nothing listens there, or nobody answers from another machine.
            CardBusyError: It says nothing, since another card is in.
            CardRemovedError: It hung up, or talks nonsense.
        """
        try:
            async with asyncio.timeout(self._times.connect_s):
                await self._connect()
        except TimeoutError:
            if self._is_here():  # as many cards wait as the driver's queue takes
                raise self._taken() from None
            raise NoReaderError(self.name, "nobody answers there", hint=UNANSWERED_HINT) from None
        except (OSError, UnicodeError) as error:
            raise NoReaderError(
                self.name, f"no driver listens there: {reason(error)}", hint=NO_DRIVER_HINT
            ) from error
        try:
            async with asyncio.timeout(self._times.greeting_s):
                self._first = await self.next_message()
        except TimeoutError:
            raise self._taken() from None

    async def next_message(self) -> DriverMessage:
        """Return the next order or command APDU, however long the driver has nothing to say.

        Raises:
            CardRemovedError: It hung up, or talks nonsense.
            TransportTimeoutError: It began a message and does not end it.
        """
        first, self._first = self._first, None
        if first is not None:
            return first
        try:
            message = self._stream.next_message()
            if message is None:
                if not self._stream.is_inside_message:
                    await self._receive()
                async with asyncio.timeout(self._times.message_s):
                    while (message := self._stream.next_message()) is None:
                        await self._receive()
        except DecodeError as error:
            raise CardRemovedError(self.name, str(error)) from error
        except TimeoutError:
            raise TransportTimeoutError(self.name, "a message of the driver does not end") from None
        except OSError as error:
            raise self._gone(error) from error
        return message

    async def send(self, answer: bytes) -> None:
        """Send the answer to an APDU or to the order for the ATR.

        Raises:
            CardRemovedError: The driver hung up.
            TransportTimeoutError: It does not read.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._times.message_s):
                await loop.sock_sendall(self._open_socket(), encode_answer(answer))
        except TimeoutError:
            raise TransportTimeoutError(self.name, "the driver does not take an answer") from None
        except OSError as error:
            raise self._gone(error) from error

    def close(self) -> None:
        """Hang up: the card leaves the reader."""
        link, self._socket = self._socket, None
        if link is not None:
            link.close()

    async def _connect(self) -> None:
        """Connect to the first address of the host that answers.

        Raises:
            OSError: None does.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            self._address.host, self._address.port, type=socket.SOCK_STREAM
        )
        fault: OSError | None = None
        for family, kind, number, _, address in found:
            self.close()
            self._socket = link = socket.socket(family, kind, number)
            link.setblocking(False)  # noqa: FBT003  # how sockets are told
            try:
                await loop.sock_connect(link, address)
            except OSError as error:
                fault = error
                continue
            if link.getsockname() == link.getpeername():
                # the port is one that the kernel gives out, and it gave us the driver's own
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LEAVE_NOTHING)
                fault = OSError(errno.ECONNREFUSED, "we met ourselves")
                continue
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine may vanish
            self._acknowledge_at_once()
            return
        self.close()
        raise fault or OSError(f"{self._address.host} has no address")

    def _is_here(self) -> bool:
        """Say whether the address that was tried last is this machine's own."""
        return self._socket is not None and ip_address(self._socket.getsockname()[0]).is_loopback

    async def _receive(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self._open_socket(), RECEIVE_SIZE)
        if not data:
            raise ConnectionResetError("the driver hung up")
        self._acknowledge_at_once()
        self._stream.receive_data(data)

    def _acknowledge_at_once(self) -> None:
        """Ask for it again: the kernel forgets it as it likes (tcp(7))."""
        if QUICK_ACKNOWLEDGEMENT is not None:
            with suppress(OSError):
                self._open_socket().setsockopt(socket.IPPROTO_TCP, QUICK_ACKNOWLEDGEMENT, 1)

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionResetError("the connection to the driver is closed")
        return self._socket

    def _gone(self, error: OSError) -> CardRemovedError:
        message = f"the driver is gone: {reason(error)}"
        return CardRemovedError(self.name, message, hint=NO_DRIVER_HINT)

    def _taken(self) -> CardBusyError:
        return CardBusyError(self.name, "the driver does not take the card", hint=TAKEN_HINT)
