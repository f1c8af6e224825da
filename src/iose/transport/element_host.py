# SPDX-License-Identifier: Apache-2.0
"""The node's end of an element host: one Unix socket, many elements (docs/architecture.md).

A link keeps one connection to a host and makes it again when the host comes back. Its readers are
the elements of the host's inventory; what one of them waits for fails when the host dies.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.protocols.host_frames import (
    NO_ANSWER,
    Answer,
    ElementInfo,
    ExchangeAnswer,
    ExchangeFlag,
    ExchangeRequest,
    ExchangeStep,
    Failure,
    FailureCode,
    ListAnswer,
    ListRequest,
)
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import CardRemovedError, NoCardError, NoReaderError, TransportError
from iose.transport.host_channel import HostChannel
from iose.wire.errors import DecodeError

APDU_TIMEOUT_S: Final = 30.0  # a batch on a slow card; a software element answers in milliseconds
RECONNECT_WAIT_S: Final = 5.0  # a host starts in a second, or a few where everything starts
BACKOFF_FIRST_S: Final = 0.02
BACKOFF_LAST_S: Final = 1.0
NO_FLAGS: Final = ExchangeFlag(0)


class ElementHostLink:
    """One host, over one connection at a time.

    Args:
        path: The host's Unix socket.
        apdu_timeout_s: Longest wait for the answer to one batch.
        reconnect_wait_s: Longest wait of a request for a host that is being started again.
    """

    def __init__(
        self,
        path: Path,
        *,
        apdu_timeout_s: float = APDU_TIMEOUT_S,
        reconnect_wait_s: float = RECONNECT_WAIT_S,
    ) -> None:
        self.path = path
        self.apdu_timeout_s = apdu_timeout_s
        self._reconnect_wait_s = reconnect_wait_s
        self._elements: dict[str, ElementInfo] = {}
        self._channel: HostChannel | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the host is there."""
        return self._up.is_set()

    @property
    def elements(self) -> tuple[ElementInfo, ...]:
        """The host's inventory, as last asked for, with the ATRs seen since."""
        return tuple(self._elements.values())

    async def start(self) -> None:
        """Keep a connection from now on, and wait for the first one.

        Raises:
            NoReaderError: The host did not come up in time; the link goes on trying.
        """
        self._keeper = asyncio.get_running_loop().create_task(self._keep_connected())
        await self.channel()

    async def stop(self) -> None:
        """Give the connection up; the host powers off what was held over it."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    async def refresh(self) -> tuple[ElementInfo, ...]:
        """Ask the host for its inventory and return it.

        Raises:
            TransportError: The host is not there, or does not answer.
        """
        self._take_inventory(await _list_elements(await self.channel()))
        return self.elements

    def reader(self, seid: str) -> "HostReader":
        """Return the reader of one element; whether it exists is seen when it is used."""
        return HostReader(self, seid)

    def info(self, seid: str) -> ElementInfo | None:
        """Return what the inventory says of one element."""
        return self._elements.get(seid)

    def note_atr(self, seid: str, atr: bytes) -> None:
        """Remember the ATR an element answered when it was started."""
        known = self._elements.get(seid)
        if known is not None and known.atr != atr:
            self._elements[seid] = replace(known, atr=atr)

    async def channel(self) -> HostChannel:
        """Return the connection to the host, waiting a little for one that is being started.

        Raises:
            NoReaderError: The host is not there.
        """
        if not self._up.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._up.wait(), self._reconnect_wait_s)
        if self._channel is None:
            raise NoReaderError(str(self.path), "the element host is not there")
        return self._channel

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        delay = 0.0
        while True:
            started = loop.time()
            with suppress(OSError, TransportError):
                await self._connect_once()
            delay = next_delay(delay, loop.time() - started)
            await asyncio.sleep(delay)

    async def _connect_once(self) -> None:
        """Connect, and return when the connection has ended."""
        loop = asyncio.get_running_loop()
        channel = HostChannel(str(self.path), self.apdu_timeout_s)
        try:
            await loop.create_unix_connection(lambda: channel, str(self.path))
            self._take_inventory(await _list_elements(channel))
            self._channel = channel
            self._up.set()
            await channel.closed.wait()
        finally:
            self._up.clear()
            self._channel = None
            channel.abort()

    def _take_inventory(self, elements: tuple[ElementInfo, ...]) -> None:
        self._elements = {element.seid: element for element in elements}


class HostReader:
    """One element of a host, as a reader."""

    def __init__(self, link: ElementHostLink, seid: str) -> None:
        self._link = link
        self._seid = seid

    @property
    def name(self) -> str:
        """The element's SEID."""
        return self._seid

    @property
    def limits(self) -> ApduLimits:
        """What the host says the element takes; the published sizes while it is not there."""
        info = self._link.info(self._seid)
        return ApduLimits() if info is None else ApduLimits(info.chunk_size, info.max_record)

    async def connect(self) -> "HostConnection":
        """Return a connection; power comes on with its first exchange, an empty batch included.

        That way the start of a session costs no round trip of its own.

        Raises:
            NoReaderError: The host is not there.
        """
        return HostConnection(self._link, await self._link.channel(), self._seid)


class HostConnection:
    """One element held for one session."""

    def __init__(self, link: ElementHostLink, channel: HostChannel, seid: str) -> None:
        self._link = link
        self._channel = channel
        self._seid = seid
        self._atr = b""
        self._apdus = 0
        self._has_power = False

    @property
    def atr(self) -> bytes:
        """The answer to the last reset; the inventory's until power is on."""
        info = self._link.info(self._seid)
        return self._atr or (info.atr if info is not None else b"")

    @property
    def apdus(self) -> int:
        """Commands the element has had on this connection."""
        return self._apdus

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return (await self._exchange(ExchangeFlag.RAW, (BatchStep(command, None),)))[0]

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to raw bytes, carried as they are; nothing is drained.

        Raises:
            CardRemovedError: The host answered something else.
            TransportError: No answer; the connection is of no more use.
        """
        answer = await self._exchange_wire(ExchangeFlag.RAW, (ExchangeStep(command, 0),))
        if len(answer.responses) != 1:
            count = len(answer.responses)
            raise CardRemovedError(self._seid, f"{count} answers to 1 command")
        return answer.responses[0]

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await self._exchange(NO_FLAGS, steps)

    async def reset(self) -> bytes:
        """Reset the card and return its ATR.

        Raises:
            TransportError: The element is gone.
        """
        await self._exchange(ExchangeFlag.RESET if self._has_power else NO_FLAGS, ())
        return self._atr

    async def close(self) -> None:
        """Power the element off and let it go; never raises, never waits."""
        had_power, self._has_power = self._has_power, False
        if had_power:
            self._channel.send(ExchangeRequest(NO_ANSWER, ExchangeFlag.POWER_OFF, self._seid))

    async def _exchange(
        self, flags: ExchangeFlag, steps: Sequence[BatchStep]
    ) -> list[ResponseApdu]:
        wire = tuple([ExchangeStep(step.command.encode(), step.expected or 0) for step in steps])
        return _decode_responses(self._seid, await self._exchange_wire(flags, wire), steps)

    async def _exchange_wire(
        self, flags: ExchangeFlag, wire: tuple[ExchangeStep, ...]
    ) -> ExchangeAnswer:
        if not self._has_power:
            flags |= ExchangeFlag.POWER_ON
            self._has_power = True
        channel = self._channel
        answer = await channel.request(
            ExchangeRequest(channel.next_id(), flags, self._seid, wire), self._seid
        )
        if not isinstance(answer, ExchangeAnswer):
            _refuse(self._seid, answer)
        self._apdus += answer.apdus
        if answer.atr:
            self._atr = answer.atr
            self._link.note_atr(self._seid, answer.atr)
        return answer


def next_delay(delay: float, lasted_s: float) -> float:
    """Return how long to wait before connecting again: longer and longer, until it has lasted."""
    if lasted_s > BACKOFF_LAST_S:
        return BACKOFF_FIRST_S
    return min(max(2 * delay, BACKOFF_FIRST_S), BACKOFF_LAST_S)


async def _list_elements(channel: HostChannel) -> tuple[ElementInfo, ...]:
    answer = await channel.request(ListRequest(channel.next_id()), channel.name)
    if not isinstance(answer, ListAnswer):
        _refuse(channel.name, answer)
    return answer.elements


def _decode_responses(
    reader: str, answer: ExchangeAnswer, steps: Sequence[BatchStep]
) -> list[ResponseApdu]:
    """Return the responses, of which there is one for each step up to the first unexpected.

    Raises:
        CardRemovedError: The host does not keep to that.
    """
    try:
        responses = [ResponseApdu.decode(response) for response in answer.responses]
    except DecodeError as error:
        raise CardRemovedError(reader, f"an answer is malformed: {error}") from error
    count = len(responses)
    if count != len(steps):
        expected = steps[count - 1].expected if 0 < count < len(steps) else None
        if expected is None or responses[-1].status == expected:
            raise CardRemovedError(reader, f"{count} answers to {len(steps)} commands")
    return responses


def _refuse(reader: str, answer: Answer) -> NoReturn:
    if not isinstance(answer, Failure):
        raise CardRemovedError(reader, "the element host answered something else")
    if answer.code == FailureCode.UNKNOWN_ELEMENT:
        raise NoCardError(reader, answer.message)
    if answer.code in (FailureCode.NOT_POWERED, FailureCode.ELEMENT_FAULT):
        raise CardRemovedError(reader, answer.message)
    raise TransportError(reader, answer.message)
