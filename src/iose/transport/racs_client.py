# SPDX-License-Identifier: Apache-2.0
"""An element behind a RACS server, as a reader (racs.md §6 to §8, iose-server.md §8.2).

Each connection has a TLS session for itself, kept for the next one where a pool is given. RACS
hands over no ATR, so one is made of the element's name. What was sent once is never sent again:
whoever has no answer cannot know whether the element had the command.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr, is_se_name
from iose.iso7816.instructions import INS_GET_RESPONSE
from iose.iso7816.status import StatusWord
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.form import DEFAULT_PORT
from iose.protocols.racs.response import RacsRequest, RacsResponse, apdu_line, command_line
from iose.protocols.racs.status import EventClass, StatusLine, Verb
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    RacsRefusedError,
    TransportError,
)
from iose.transport.racs_link import RacsEndpoint
from iose.transport.racs_pool import PooledLink, RacsPool
from iose.transport.stack import (
    CHANNEL_MASK,
    SW1_MORE_APPLET,
    SW1_MORE_ISO,
    SW1_UNFINISHED,
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
FAREWELL_S: Final = 10.0  # a power-off; the end of the session does the same
JOINED_LIMIT: Final = 8  # commands of one request: a deadline is for all of them together
_STATUS: Final = re.compile("[0-9A-Fa-f]{4}")
_LOST_LEGACY: Final = {EventClass.HARDWARE: "the element does not answer over there"}
_LOST: Final = {
    **_LOST_LEGACY,
    EventClass.ILLEGAL: "the element was taken away over there",
    EventClass.IN_USE: "the element was taken away over there",
    EventClass.BAD_PARAMETER: "the element is gone over there, or may not be used any more",
}
_BUSY_HINT: Final = "another session holds the element: on that node, iose node status shows it"


class RacsReader:
    """One element of a RACS server.

    Args:
        endpoint: The server, and who we are to it.
        seid: The element.
        limits: What the element takes at a time.
        sen: The element's name, for its ATR; "" when it is not known.
        pool: Where sessions with the server come from; None for one that ends with its connection.
        failed: Told when the element gave no answer that can be used.

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
        pool: RacsPool | None = None,
        failed: Callable[["RacsReader", TransportError], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.seid = command_line(seid)
        self.sen = sen
        self.more = SW1_MORE_ISO
        self._limits = limits
        self._atr = Atr(sen.encode() if is_se_name(sen) else b"").encode()
        self._pool = pool or RacsPool(endpoint, kept=0)
        self._failed = failed

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
            CardBusyError: Another session of the server holds it.
            NoCardError: The server has no such element for us, or it does not start.
            TransportError: The server is not there, or refuses; ``RacsRefusedError`` says why.
        """
        try:
            return await self._power_on()
        except RacsRefusedError as error:
            fault = _power_error(self.name, error)
            raise fault from error

    def report(self, error: TransportError) -> None:
        """Tell whoever watches the server that the element failed."""
        if self._failed is not None:
            self._failed(self, error)

    async def _power_on(self) -> "RacsConnection":
        pooled = await self._pool.take()
        if pooled.is_used:
            try:
                return await self._power_on_over(pooled)
            except CardRemovedError:  # the server ended it meanwhile; nothing was held in it
                pooled = await self._pool.open()
        return await self._power_on_over(pooled)

    async def _power_on_over(self, pooled: PooledLink) -> "RacsConnection":
        connection = RacsConnection(self, self._pool, pooled)
        try:
            await connection.ask(f"POWERON {self.seid}")
        except RacsRefusedError:
            await self._pool.give_back(pooled)
            raise
        except BaseException:
            pooled.link.abort()
            raise
        return connection


class RacsConnection:
    """One element, powered on and held until ``close``, by a TLS session of its own."""

    def __init__(self, reader: RacsReader, pool: RacsPool, pooled: PooledLink) -> None:
        self._reader = reader
        self._pool = pool
        self._pooled = pooled
        self._is_open = True
        self._is_doubtful = False
        self._apdus = 0

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
        return ResponseApdu.decode(await self.transmit_raw(command.encode()))

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to a command sent as it is; the server may clear its channel.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        self._apdus += 1
        return self._answer(await self._obey(apdu_line(self._reader.seid, command)))

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        A server that stops in the middle of a request forgets the answers before, so only
        commands whose data nobody waits for travel in one request with the next one. What is left
        of an answer the server fetches itself.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        responses: list[ResponseApdu] = []
        while len(responses) < len(steps):
            joined = self._joinable(steps[len(responses) :])
            answered = await self._transmit_joined(joined)
            responses += answered
            step, response = joined[len(answered) - 1], answered[-1]
            if step.expected is not None and response.status != step.expected:
                break
        return responses

    async def reset(self) -> bytes:
        """Reset the element, with its power on where the server can do that; return its ATR.

        Raises:
            TransportError: The element is gone.
        """
        line = f"RESET {self._reader.seid}"
        try:
            await self.ask(f"{line} WARM")
        except RacsRefusedError as error:
            if error.status.event_class not in {EventClass.BAD_PARAMETER, EventClass.SYNTAX}:
                raise self._fault(error) from error
            await self._obey(line)  # by a cut of its power
        return self.atr

    async def close(self) -> None:
        """Power the element off and let it go; never raises."""
        if not self._is_open:
            return
        self._is_open = False
        link = self._pooled.link
        try:
            # the published server would power off an element that is somebody else's by now
            if link.is_open and not self._is_doubtful:
                line = f"SHUTDOWN {self._reader.seid}"
                response = await link.request(RacsRequest((line,), REQUEST_NAME), FAREWELL_S)
                succeeded(self._reader.name, response)
            else:
                await link.close()
        except (TransportError, RacsPeerError):  # the end of the session does the same
            await link.close()
        finally:
            await self._pool.give_back(self._pooled)

    async def ask(self, line: str) -> StatusLine:
        """Return the status of one command line that was obeyed.

        Raises:
            RacsRefusedError: It was refused.
            TransportError: There is no answer, or none that can be read.
        """
        return succeeded(self._reader.name, await self._request((line,)))

    async def _obey(self, line: str) -> StatusLine:
        """Return what ``ask`` does, a refusal said in words of readers.

        Raises:
            TransportError: No answer, or a refusal.
        """
        try:
            return await self.ask(line)
        except RacsRefusedError as error:
            raise self._fault(error) from error

    async def _request(self, lines: tuple[str, ...]) -> RacsResponse:
        reader = self._reader
        if not self._is_open:
            raise TransportError(reader.name, "the connection is closed")
        try:
            request = RacsRequest(lines, REQUEST_NAME)
            answer_s = reader.endpoint.answer_s * len(lines)
            return await self._pooled.link.request(request, answer_s)
        except LocalProtocolError as error:  # nothing was sent
            raise TransportError(reader.name, str(error), hint=error.hint) from error
        except RacsPeerError as error:
            fault = TransportError(reader.name, str(error), hint=error.hint)
            reader.report(fault)
            raise fault from error
        except TransportError as error:
            reader.report(error)
            raise

    def _fault(self, error: RacsRefusedError) -> TransportError:
        """Return what a refusal in the middle of a session means for it."""
        self._is_doubtful = self._reader.endpoint.is_legacy
        lost = _LOST_LEGACY if self._is_doubtful else _LOST
        message = lost.get(error.status.event_class)
        if message is None:
            return error  # the element is ours, and as it was
        self._pooled.link.abort()
        return CardRemovedError(self._reader.name, f"{message}: {error.status}", hint=error.hint)

    def _joinable(self, steps: Sequence[BatchStep]) -> Sequence[BatchStep]:
        """Return the first steps that may travel in one request."""
        count = 0
        if not self._reader.endpoint.is_legacy:  # it does not tell the status that stopped it
            while count < min(len(steps), JOINED_LIMIT) - 1 and _is_joinable(steps[count]):
                count += 1
        return steps[: count + 1]

    async def _transmit_joined(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers to the first steps: all, or up to one that was unexpected.

        Raises:
            TransportError: No answer, or a refusal.
        """
        if len(steps) == 1:
            return await transmit_batch(self._reader.name, self._transmit_fetching, steps)
        lines = [f"{self._draining_line(step.command, step.expected)} APPEND" for step in steps]
        lines[-1] = self._draining_line(steps[-1].command)
        response = await self._request(tuple(lines))
        failure = response.failure
        if failure is None:
            if len(response.lines) != len(steps):
                self._pooled.link.abort()
                raise TransportError(self._reader.name, "expected an answer to each command")
            self._apdus += len(steps)
            answers = [ResponseApdu.decode(self._answer(line)) for line in response.lines]
        else:
            stopped = _stopped(failure, len(steps))
            if stopped is None:
                raise self._fault(RacsRefusedError(self._reader.name, failure))
            self._apdus += failure.line
            answers = [ResponseApdu(b"", step.expected or StatusWord.OK) for step in steps]
            answers[failure.line - 1 :] = [ResponseApdu(b"", stopped)]
        answers[-1] = await self._drained(steps[len(answers) - 1].command, answers[-1])
        return answers

    async def _drained(self, command: CommandApdu, first: ResponseApdu) -> ResponseApdu:
        """Return the whole answer to a command whose first part has come."""
        first_parts = [first]

        async def transmit(asked: CommandApdu) -> ResponseApdu:
            if not first_parts:
                return await self._transmit_fetching(asked)
            self._learn(first)
            return first_parts.pop()

        step = BatchStep(command, None)
        return (await transmit_batch(self._reader.name, transmit, (step,)))[0]

    async def _transmit_fetching(self, command: CommandApdu) -> ResponseApdu:
        self._apdus += 1
        status = await self._obey(self._draining_line(command))
        response = ResponseApdu.decode(self._answer(status))
        self._learn(response)
        return response

    def _learn(self, response: ResponseApdu) -> None:
        if response.status.sw1 in (SW1_MORE_ISO, SW1_MORE_APPLET):
            self._reader.more = response.status.sw1  # the element's way, for next time

    def _draining_line(self, command: CommandApdu, expected: StatusWord | None = None) -> str:
        seid, wire = self._reader.seid, command.encode()
        if self._reader.endpoint.is_legacy:  # it gives up, and the session, above 4096 bytes
            return apdu_line(seid, wire)
        channel = command.cla & CHANNEL_MASK
        fetch = bytes((channel, INS_GET_RESPONSE, 0, 0)) if channel else None
        return apdu_line(seid, wire, more=self._reader.more, fetch=fetch, expected=expected)

    def _answer(self, status: StatusLine) -> bytes:
        try:
            return decode_apdu_text(status)
        except DecodeError as error:
            self._pooled.link.abort()
            raise CardRemovedError(self._reader.name, str(error)) from error


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


def _is_joinable(step: BatchStep) -> bool:
    return (
        step.expected is not None
        and step.expected.sw1 not in SW1_UNFINISHED  # an answer is drained before it is compared
        and not step.wants_data
    )


def _stopped(failure: StatusLine, count: int) -> StatusWord | None:
    """Return the status word that stopped a request of several commands (racs.md §7.2)."""
    is_mismatch = failure.event_class is EventClass.EXECUTION and failure.verb is Verb.APDU
    word = failure.text.partition(" ")[0]
    if not is_mismatch or not 0 < failure.line < count or not _STATUS.fullmatch(word):
        return None
    return StatusWord(int(word, 16))


def _power_error(name: str, error: RacsRefusedError) -> TransportError:
    match error.status.event_class:
        case EventClass.IN_USE:
            return CardBusyError(name, f"in use over there: {error.status}", hint=_BUSY_HINT)
        case EventClass.BAD_PARAMETER:
            return NoCardError(name, f"no such element over there: {error.status}", hint=error.hint)
        case EventClass.HARDWARE | EventClass.SYSTEM:
            return NoCardError(name, f"it does not start: {error.status}", hint=error.hint)
        case _:
            return error
