# SPDX-License-Identifier: Apache-2.0
"""An element behind RACS Lite, as a reader: TLS 1.3 with a pre-shared key (racs.md §12.1).

For boards that host one element. One TLS session per connection; each command is one line in one
record, and so is its answer.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from iose.crypto.pyca import PycaCrypto
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr, is_se_name
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.racsl import (
    RacslAnswer,
    RacslCommand,
    RacslLines,
    RacslVerb,
    decode_answer,
    encode_command,
)
from iose.tls import ClientEngine
from iose.tls.config import ClientConfig, EngineConfig, PreSharedKey
from iose.tls.constants import CipherSuite, NamedGroup
from iose.tls.errors import AlertReceived, TlsPeerError
from iose.tls.events import ApplicationData, Event, PeerClosed
from iose.transport.addresses import format_address
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import (
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.stack import transmit_batch
from iose.wire.errors import DecodeError, LocalProtocolError

T = TypeVar("T")

DEFAULT_PORT: Final = 444  # of the shipped configurations
DEFAULT_IDENTITY: Final = "Client_identity"
DEFAULT_LIMITS: Final = ApduLimits()
HANDSHAKE_S: Final = 10.0
ANSWER_S: Final = 60.0
CLOSE_S: Final = 1.0
READ_SIZE: Final = 65_536
_PSK_HINT: Final = "check the PSK, its identity and the name"


class _SystemRng:
    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


_ENGINE: Final = EngineConfig(
    crypto=PycaCrypto(),
    rng=_SystemRng(),
    suites=(CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_128_CCM_SHA256),
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
        answer_s: Longest wait for an answer.
    """

    host: str
    port: int
    psk: bytes = field(repr=False)
    sen: str
    identity: str = DEFAULT_IDENTITY
    answer_s: float = ANSWER_S

    @property
    def address(self) -> str:
        """``HOST:PORT/NAME``, an IPv6 address in brackets."""
        return f"{format_address(self.host, self.port)}/{self.sen}"


class RacslReader:
    """The one element of a RACS Lite server."""

    def __init__(self, endpoint: RacslEndpoint, *, limits: ApduLimits = DEFAULT_LIMITS) -> None:
        self._endpoint = endpoint
        self._limits = limits

    @property
    def name(self) -> str:
        """``HOST:PORT/NAME``."""
        return self._endpoint.address

    @property
    def limits(self) -> ApduLimits:
        """What the element takes at a time."""
        return self._limits

    async def connect(self) -> "RacslConnection":
        """Open a session, power the element on, and return a connection to it.

        Raises:
            NoReaderError: Nothing answers there, or it refuses our key.
            NoCardError: The element does not start, or is in use.
            TransportError: There is no answer, or it cannot be understood.
        """
        link = _Link(self._endpoint)
        is_on = False
        try:
            await link.open()
            answer = await link.ask(RacslCommand(RacslVerb.ON))
            if not answer.is_ok or answer.apdu:
                raise NoCardError(self.name, "the element was refused", hint="is it in use?")
            is_on = True
        finally:
            if not is_on:
                link.abort()
        return RacslConnection(link)


class RacslConnection:
    """A powered element, held until ``close``."""

    def __init__(self, link: "_Link") -> None:
        self._link = link
        self._apdus = 0
        sen = link.endpoint.sen
        self._atr = Atr(sen.encode() if is_se_name(sen) else b"").encode()

    @property
    def atr(self) -> bytes:
        """An ATR that holds the element's name: RACS Lite does not tell the real one."""
        return self._atr

    @property
    def apdus(self) -> int:
        """Commands the element has had on this connection, GET RESPONSE included."""
        return self._apdus

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return ResponseApdu.decode(await self.transmit_raw(command.encode()))

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to a command sent as it is.

        Raises:
            TransportError: The element refused; as published clients do, the session is closed.
            CardRemovedError: No answer, or one that is none; the connection is of no more use.
        """
        name = self._link.endpoint.address
        self._apdus += 1
        answer = await self._link.ask(RacslCommand(RacslVerb.APDU, command))
        if not answer.is_ok:
            self._link.abort()
            raise TransportError(name, "the server refused the command")
        try:
            ResponseApdu.decode(answer.apdu)
        except DecodeError as error:
            self._link.abort()
            raise CardRemovedError(name, str(error)) from error
        return answer.apdu

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await transmit_batch(self._link.endpoint.address, self.transmit, steps)

    async def reset(self) -> bytes:
        """Power the element off and on, and return its ATR.

        Raises:
            CardRemovedError: It does not start again.
            TransportError: No answer; the connection is of no more use.
        """
        for verb in (RacslVerb.OFF, RacslVerb.ON):
            if not (await self._link.ask(RacslCommand(verb))).is_ok:
                raise CardRemovedError(self._link.endpoint.address, "the reset was refused")
        return self.atr

    async def close(self) -> None:
        """Power the element off and end the session; never raises."""
        with suppress(TransportError):
            await self._link.ask(RacslCommand(RacslVerb.OFF))
        await self._link.close()


class _Link:
    """One TLS session, a line at a time; tasks that share it wait for each other."""

    def __init__(self, endpoint: RacslEndpoint) -> None:
        self.endpoint = endpoint
        key = PreSharedKey(endpoint.identity.encode(), endpoint.psk)
        self._engine = ClientEngine(ClientConfig(_ENGINE, key, server_name=endpoint.sen))
        self._lines = RacslLines()
        self._answers: list[str] = []
        self._lock = asyncio.Lock()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect and shake hands.

        Raises:
            NoReaderError: Nothing answers there, or it refuses us.
            TransportTimeoutError: It takes too long.
        """
        endpoint = self.endpoint
        try:
            self._reader, self._writer = await self._within(
                asyncio.open_connection(endpoint.host, endpoint.port), HANDSHAKE_S
            )
        except OSError as error:
            raise NoReaderError(
                endpoint.address, f"cannot connect: {error.strerror or error}"
            ) from error
        self._engine.start()
        try:
            await self._within(self._until(lambda: self._engine.is_open), HANDSHAKE_S)
        except CardRemovedError as error:
            raise NoReaderError(
                endpoint.address, "the server refused the session", hint=_PSK_HINT
            ) from error

    async def ask(self, command: RacslCommand) -> RacslAnswer:
        """Return the answer to one command; without one, the session is closed.

        Raises:
            CardRemovedError: The session is over, or the answer is none.
            TransportTimeoutError: No answer in time.
        """
        async with self._lock:
            return await self._ask(command)

    async def _ask(self, command: RacslCommand) -> RacslAnswer:
        if self._writer is None:
            raise CardRemovedError(self.endpoint.address, "the session is closed")
        is_answered = False
        try:
            await self._check_silence()
            self._engine.send_data(encode_command(command))
            await self._within(self._until(lambda: bool(self._answers)), self.endpoint.answer_s)
            answer = decode_answer(self._answers.pop(0))
            is_answered = not self._answers
        except (RacsPeerError, LocalProtocolError) as error:
            raise CardRemovedError(self.endpoint.address, str(error)) from error
        finally:
            if not is_answered:
                self.abort()
        return answer

    async def close(self) -> None:
        """Say goodbye."""
        if self._writer is not None:
            self._engine.close()
            writer, self._writer = self._writer, None
            with suppress(OSError, TransportTimeoutError):
                writer.write(self._engine.data_to_send())
                writer.close()
                await self._within(writer.wait_closed(), CLOSE_S)
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
                raise CardRemovedError(self.endpoint.address, "the session is closed")
            self._writer.write(self._engine.data_to_send())
            self._take(await self._some(self._reader))
        if self._writer is not None:
            self._writer.write(self._engine.data_to_send())

    async def _check_silence(self) -> None:
        """Check that no line came unasked; it would be taken for the answer to the next command.

        Raises:
            CardRemovedError: The session is over.
            RacsPeerError: There is such a line.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                if self._reader is not None:
                    self._take(await self._some(self._reader))
        if self._answers:
            raise RacsPeerError("the server answers what it was not asked")

    async def _some(self, reader: asyncio.StreamReader) -> bytes:
        try:
            data = await reader.read(READ_SIZE)
        except OSError:
            data = b""
        if not data:
            raise CardRemovedError(self.endpoint.address, "the server closed the session")
        return data

    def _take(self, data: bytes) -> None:
        try:
            self._engine.receive_data(data)
            while (event := self._engine.next_event()) is not None:
                self._take_event(event)
        except (AlertReceived, TlsPeerError, RacsPeerError) as error:
            raise CardRemovedError(self.endpoint.address, str(error)) from error

    def _take_event(self, event: Event) -> None:
        if isinstance(event, ApplicationData):
            self._answers += self._lines.receive_data(event.data)
        elif isinstance(event, PeerClosed):
            raise CardRemovedError(self.endpoint.address, "the server closed the session")

    async def _within(self, work: Awaitable[T], wait_s: float) -> T:
        try:
            async with asyncio.timeout(wait_s):
                return await work
        except TimeoutError:
            raise TransportTimeoutError(
                self.endpoint.address, f"no answer within {wait_s:g} s"
            ) from None
