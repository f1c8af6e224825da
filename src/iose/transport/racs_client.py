# SPDX-License-Identifier: Apache-2.0
"""An element behind a RACS server, as a reader (racs.md §6 to §8).

One TLS session per reader, kept from one connection to the next. RACS hands over no ATR, so one
is made of the element's name.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr, is_se_name
from iose.iso7816.instructions import INS_GET_RESPONSE
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.form import DEFAULT_PORT
from iose.protocols.racs.response import RacsRequest, RacsResponse, apdu_line, command_line
from iose.protocols.racs.status import StatusLine
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import CardRemovedError, RacsRefusedError, TransportError
from iose.transport.racs_link import RacsEndpoint, RacsLink
from iose.transport.stack import (
    CHANNEL_MASK,
    SW1_MORE_APPLET,
    SW1_MORE_ISO,
    transmit_batch,
)
from iose.wire.errors import DecodeError, LocalProtocolError

__all__ = [
    "DEFAULT_PORT",
    "RacsConnection",
    "RacsEndpoint",
    "RacsReader",
    "decode_apdu_text",
    "succeeded",
]

DEFAULT_LIMITS: Final = ApduLimits()
REQUEST_NAME: Final = "WINSCARD"  # racs.md §14 F: what readers call their requests


class RacsReader:
    """One element of a RACS server.

    Args:
        endpoint: The server, and who we are to it.
        seid: The element.
        limits: What the element takes at a time.
        sen: The element's name, for its ATR; "" when it is not known.
        keeps_session: Keep the TLS session when a connection is closed, for the next one; who
            wants that calls ``close`` at last.

    Raises:
        LocalProtocolError: The SEID is no word of a RACS line.
    """

    def __init__(
        self,
        endpoint: RacsEndpoint,
        seid: str,
        *,
        limits: ApduLimits = DEFAULT_LIMITS,
        sen: str = "",
        keeps_session: bool = True,
    ) -> None:
        self.endpoint = endpoint
        self.seid = command_line(seid)
        self._limits = limits
        self._atr = Atr(sen.encode() if is_se_name(sen) else b"").encode()
        self._keeps_session = keeps_session
        self._link: RacsLink | None = None
        self._holder: RacsConnection | None = None

    @property
    def name(self) -> str:
        """``HOST:PORT/SEID``."""
        return f"{self.endpoint.address}/{self.seid}"

    @property
    def limits(self) -> ApduLimits:
        """What the element takes at a time."""
        return self._limits

    @property
    def atr(self) -> bytes:
        """An ATR that holds the element's name."""
        return self._atr

    async def connect(self) -> "RacsConnection":
        """Power the element on and return a connection to it.

        Raises:
            TransportError: The server is not there, or refuses; ``RacsRefusedError`` says why.
        """
        if self._holder is not None:
            raise TransportError(self.name, "the element is held by another connection")
        connection = self._holder = RacsConnection(self)
        is_on = False
        try:
            await self._power_on()
            is_on = True
        finally:
            if not is_on:
                self._holder = None
                await self._end_session()
        return connection

    def is_held_by(self, connection: "RacsConnection") -> bool:
        """Say whether a connection is the one that powered the element on last."""
        return self._holder is connection

    async def close(self) -> None:
        """End the TLS session, which lets the element go; never raises."""
        self._holder = None
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def let_go(self) -> None:
        """Power the element off; never raises."""
        try:
            await self.ask(f"SHUTDOWN {self.seid}")
        except TransportError:  # the end of the session does the same
            await self.close()
        finally:
            self._holder = None
        await self._end_session()

    async def ask(self, line: str) -> StatusLine:
        """Return the status of one command line that was obeyed.

        Raises:
            RacsRefusedError: It was refused.
            CardRemovedError: The session is over.
            TransportError: There is no answer, or none that can be read.
        """
        if self._link is None:
            raise CardRemovedError(self.name, "the session is closed")
        try:
            request = RacsRequest((line,), REQUEST_NAME)
            return succeeded(self.name, await self._link.request(request))
        except (RacsPeerError, LocalProtocolError) as error:
            raise TransportError(self.name, str(error), hint=error.hint) from error

    async def _power_on(self) -> None:
        line = f"POWERON {self.seid}"
        if self._link is not None:
            with suppress(CardRemovedError):  # the server ended an idle session
                await self.ask(line)
                return
            await self._link.close()
        self._link = RacsLink(self.endpoint)
        await self._link.open()
        await self.ask(line)

    async def _end_session(self) -> None:
        if not self._keeps_session:
            await self.close()


class RacsConnection:
    """One element, powered on and held until ``close``."""

    def __init__(self, reader: RacsReader) -> None:
        self._reader = reader
        self._is_open = True
        self._apdus = 0
        self._more = SW1_MORE_ISO

    @property
    def atr(self) -> bytes:
        """An ATR that holds the element's name: RACS does not tell the real one."""
        return self._reader.atr

    @property
    def apdus(self) -> int:
        """Commands sent; what the server fetched by itself is not seen here."""
        return self._apdus

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return self._decoded(await self.transmit_raw(command.encode()))

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to a command sent as it is; the server may clear its channel.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await self._exchange(apdu_line(self._reader.seid, command))

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        One request per command: a server that stops in the middle of several forgets the answers
        before. What is left of an answer it fetches itself.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await transmit_batch(self._reader.name, self._transmit_fetching, steps)

    async def reset(self) -> bytes:
        """Reset the element, by a cut of its power, and return its ATR.

        Raises:
            TransportError: The element is gone.
        """
        self._check_open()
        await self._reader.ask(f"RESET {self._reader.seid}")
        return self.atr

    async def close(self) -> None:
        """Power the element off and let it go; never raises."""
        is_ours = self._is_open and self._reader.is_held_by(self)
        self._is_open = False
        if is_ours:
            await self._reader.let_go()

    async def _transmit_fetching(self, command: CommandApdu) -> ResponseApdu:
        response = self._decoded(await self._exchange(self._draining_line(command)))
        if response.status.sw1 in (SW1_MORE_ISO, SW1_MORE_APPLET):
            self._more = response.status.sw1  # the element's way, for next time
        return response

    def _draining_line(self, command: CommandApdu) -> str:
        seid, wire = self._reader.seid, command.encode()
        if self._reader.endpoint.is_legacy:  # it gives up, and the session, above 4096 bytes
            return apdu_line(seid, wire)
        channel = command.cla & CHANNEL_MASK
        fetch = bytes((channel, INS_GET_RESPONSE, 0, 0)) if channel else None
        return apdu_line(seid, wire, more=self._more, fetch=fetch)

    async def _exchange(self, line: str) -> bytes:
        self._check_open()
        self._apdus += 1
        status = await self._reader.ask(line)
        try:
            return decode_apdu_text(status)
        except DecodeError as error:
            raise CardRemovedError(self._reader.name, str(error)) from error

    def _decoded(self, answer: bytes) -> ResponseApdu:
        try:
            return ResponseApdu.decode(answer)
        except DecodeError as error:
            raise CardRemovedError(self._reader.name, str(error)) from error

    def _check_open(self) -> None:
        if not self._is_open or not self._reader.is_held_by(self):
            raise TransportError(self._reader.name, "the connection is closed")


def succeeded(name: str, response: RacsResponse) -> StatusLine:
    """Return the last status of a response.

    Raises:
        RacsRefusedError: One of its lines tells of a failure.
    """
    if response.failure is not None:
        raise RacsRefusedError(name, response.failure)
    return response.last


def decode_apdu_text(status: StatusLine) -> bytes:
    """Return the raw answer in the text of a status line (racs.md §7.1).

    Raises:
        DecodeError: It is not hex, or has no status word.
    """
    word = status.text.strip().partition(" ")[0]
    try:
        answer = bytes.fromhex(word)
    except ValueError:
        raise DecodeError("the answer to an APDU is not in hex") from None
    ResponseApdu.decode(answer)
    return answer
