# SPDX-License-Identifier: Apache-2.0
"""A session with a RACS Lite board: TLS 1.3 with a pre-shared key (racs.md §12.1).

One TLS session for each session with the board's element; each command is one line in one record,
and so is its answer. ``text_link`` knows what the lines say.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from iose.crypto.pyca import PycaCrypto
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.racsl import RacslLines
from iose.tls import ClientEngine
from iose.tls.config import ClientConfig, EngineConfig, PreSharedKey
from iose.tls.constants import CipherSuite, NamedGroup
from iose.tls.errors import AlertReceived, TlsPeerError
from iose.tls.events import ApplicationData, Event, PeerClosed
from iose.transport.addresses import format_address
from iose.transport.errors import (
    CardRemovedError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.link import reason, within
from iose.wire.errors import LocalProtocolError

DEFAULT_IDENTITY: Final = "Client_identity"
DEFAULT_SUITES: Final = (
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_AES_128_CCM_SHA256,
)
HANDSHAKE_S: Final = 10.0
CLOSE_S: Final = 1.0
LINE_END: Final = b"\r\n"
READ_SIZE: Final = 65_536
_ABSENT_HINT: Final = "is the board on, and is this its address? it is tried again by itself"
_PSK_HINT: Final = "check the PSK, its identity and the name"


class _SystemRng:
    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


_ENGINE: Final = EngineConfig(
    crypto=PycaCrypto(),
    rng=_SystemRng(),
    groups=(NamedGroup.SECP256R1,),
    middlebox_compatibility=False,
)


@dataclass(frozen=True, slots=True)
class RacslEndpoint:
    """A RACS Lite server and our key.

    Attributes:
        host: Name or address, without brackets.
        port: TCP port.
        psk: The key.
        sen: Name sent as SNI, and shown in the ATR.
        identity: PSK identity.
        suites: Cipher suites to offer.
    """

    host: str
    port: int
    psk: bytes = field(repr=False)
    sen: str
    identity: str = DEFAULT_IDENTITY
    suites: tuple[CipherSuite, ...] = DEFAULT_SUITES

    @property
    def address(self) -> str:
        """``HOST:PORT/NAME``, an IPv6 address in brackets."""
        return f"{format_address(self.host, self.port)}/{self.sen}"


class RacslLine:
    """One TLS session, a line at a time (``TextLine``)."""

    def __init__(self, endpoint: RacslEndpoint) -> None:
        self._endpoint = endpoint
        key = PreSharedKey(endpoint.identity.encode(), endpoint.psk)
        engine = replace(_ENGINE, suites=endpoint.suites)
        self._engine = ClientEngine(ClientConfig(engine, key, server_name=endpoint.sen))
        self._lines = RacslLines()
        self._answers: list[str] = []
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def name(self) -> str:
        """``HOST:PORT/NAME``."""
        return self._endpoint.address

    async def open(self) -> None:
        """Connect and shake hands.

        Raises:
            NoReaderError: Nothing answers there, or it refuses us.
            TransportTimeoutError: It takes too long.
        """
        self._reader, self._writer = await connect(self._endpoint)
        self._engine.start()
        try:
            await within(self.name, self._until(lambda: self._engine.is_open), HANDSHAKE_S)
        except CardRemovedError as error:
            raise NoReaderError(
                self.name, "the server refused the session", hint=_PSK_HINT
            ) from error

    async def ask(self, line: str) -> str:
        """Return the answer to a line, both without their ends.

        Raises:
            CardRemovedError: The session is over.
            TransportError: A line came unasked, or one that is none.
        """
        if self._writer is None:
            raise CardRemovedError(self.name, "the session is closed")
        await self._check_silence()
        try:
            self._engine.send_data(line.encode("ascii") + LINE_END)
        except LocalProtocolError as error:
            raise CardRemovedError(self.name, str(error)) from error
        await self._until(lambda: bool(self._answers))
        return self._answers.pop(0)

    async def close(self) -> None:
        """Say goodbye."""
        if self._writer is not None:
            self._engine.close()
            writer, self._writer = self._writer, None
            with suppress(OSError, TransportTimeoutError):
                writer.write(self._engine.data_to_send())
                writer.close()
                await within(self.name, writer.wait_closed(), CLOSE_S)
                return
            writer.transport.abort()

    def abort(self) -> None:
        """End the session at once."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()

    async def _until(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            if self._reader is None or self._writer is None:
                raise CardRemovedError(self.name, "the session is closed")
            self._writer.write(self._engine.data_to_send())
            self._take(await self._some(self._reader))
        if self._writer is not None:
            self._writer.write(self._engine.data_to_send())

    async def _check_silence(self) -> None:
        """Check that no line came unasked; it would be taken for the answer to the next command.

        Raises:
            CardRemovedError: The session is over.
            TransportError: There is such a line, or one that is none.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                if self._reader is not None:
                    self._take(await self._some(self._reader))
        if self._answers or self._lines.has_half:
            raise TransportError(self.name, "the server answers what it was not asked")

    async def _some(self, reader: asyncio.StreamReader) -> bytes:
        try:
            data = await reader.read(READ_SIZE)
        except OSError:
            data = b""
        if not data:
            raise CardRemovedError(self.name, "the server closed the session")
        return data

    def _take(self, data: bytes) -> None:
        try:
            self._engine.receive_data(data)
            while (event := self._engine.next_event()) is not None:
                self._take_event(event)
        except (TlsPeerError, RacsPeerError) as error:
            raise TransportError(self.name, str(error)) from error
        except AlertReceived as error:
            raise CardRemovedError(self.name, str(error)) from error

    def _take_event(self, event: Event) -> None:
        if isinstance(event, ApplicationData):
            self._answers += self._lines.receive_data(event.data)
        elif isinstance(event, PeerClosed):
            raise CardRemovedError(self.name, "the server closed the session")


async def connect(endpoint: RacslEndpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a TCP connection to a board.

    Raises:
        NoReaderError: Nothing answers there.
        TransportTimeoutError: It takes too long.
    """
    opening = asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        return await within(endpoint.address, opening, HANDSHAKE_S)
    except (OSError, UnicodeError) as error:
        text = f"cannot connect: {reason(error)}"
        raise NoReaderError(endpoint.address, text, hint=_ABSENT_HINT) from error
