# SPDX-License-Identifier: Apache-2.0
"""One device on a bus: exchanges run step by step, power by its reset line (iose-server.md §8.4).

What to do next comes from ``protocols.i2c_exchange``; here it is done, in time, and what goes wrong
becomes a TransportError. Who may use the device, and when, is the reader's and the bank's matter.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from iose.iso7816.atr import HISTORICAL_LIMIT, Atr, TransmissionProtocol
from iose.protocols.i2c_blocks import BlockProtocol
from iose.protocols.i2c_exchange import Exchange, FrameProtocol, Outcome, Read, Step, Wait, Write
from iose.protocols.i2c_frames import I2cFault, I2cPeerError
from iose.transport.errors import (
    CardRemovedError,
    NoCardError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.i2c.bus import I2cBus
from iose.transport.i2c.lines import RESET_START_S, ResetPin

T = TypeVar("T")

FRAMES: Final = "iose"
BLOCKS: Final = "t1"
RESET_ANSWER_S: Final = 10.0  # iose-server.md §8.4
CLOSE_S: Final = 1.0
TRANSFER_GRACE_S: Final = 2.0  # for a transfer that hangs in the bus when time is over
_HINTS: Final = {
    I2cFault.NOT_ACKNOWLEDGED: "is it wired and powered, and is its address right? "
    "i2cdetect shows who is there",
    I2cFault.NO_ANSWER: "power it off and on if it stays so",
    I2cFault.MALFORMED: "is the flavour right? check the wires, and power it off and on",
    I2cFault.BAD_CRC: "check the wires, their length and the speed of the bus",
    I2cFault.REFUSED: "is there a card on the board? power it off and on",
}


class _Protocol(Protocol):
    @property
    def apdu_limit(self) -> int: ...

    def power_on(self, deadline: float) -> Exchange: ...

    def exchange(self, command: bytes, deadline: float) -> Exchange: ...

    def probe(self, deadline: float) -> Exchange: ...


@dataclass(frozen=True, slots=True)
class DeviceAddress:
    """Where a device is, and how it is spoken to.

    Attributes:
        address: 7-bit address.
        flavour: ``iose`` or ``t1``.
        transfer_size: Largest transfer of the host's adapter, in bytes.
        pin: Its reset line, if it has one.
    """

    address: int
    flavour: str = FRAMES
    transfer_size: int = 128
    pin: ResetPin | None = None

    @property
    def name(self) -> str:
        """As the published servers name such readers (iose-server.md §8)."""
        return f"i2c{self.address:03d}"


class I2cDevice:
    """One device; its caller sees to it that there is one exchange at a time."""

    def __init__(self, bus: I2cBus, place: DeviceAddress) -> None:
        self.place = place
        self._bus = bus
        self._is_blocks = place.flavour == BLOCKS
        kind: Callable[[int], _Protocol] = BlockProtocol if self._is_blocks else FrameProtocol
        self._protocol = kind(place.transfer_size)
        self._listens_at = 0.0

    @property
    def name(self) -> str:
        """Name of the reader."""
        return self.place.name

    @property
    def apdu_limit(self) -> int:
        """Longest command, in bytes."""
        return self._protocol.apdu_limit

    @property
    def takes_le_with_data(self) -> bool:
        """Whether a command may have data and Le: not with the manners of T=0."""
        return self._is_blocks

    async def power_on(self, *, wait_s: float = RESET_ANSWER_S, is_pulsed: bool = True) -> bytes:
        """Reset the device and return its ATR.

        Args:
            wait_s: Longest wait for its answer.
            is_pulsed: Whether the reset line is used, if there is one.

        Raises:
            NoReaderError: There is no bus, or no reset line.
            NoCardError: Nobody acknowledges the address.
            TransportError: It does not answer as it should.
        """
        if is_pulsed:
            await self._pulse()
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._listens_at - loop.time()))
        try:
            inf = await self._run(self._protocol.power_on, wait_s)
        except CardRemovedError as error:
            raise NoCardError(
                self.name, "nobody acknowledges the address", hint=error.hint
            ) from error
        if self._is_blocks:
            return Atr.for_card(inf[:HISTORICAL_LIMIT], TransmissionProtocol.T1).encode()
        if len(inf) > HISTORICAL_LIMIT:
            raise TransportError(
                self.name,
                f"a name of {len(inf)} bytes, at most {HISTORICAL_LIMIT} are possible",
                hint=_HINTS[I2cFault.MALFORMED],
            )
        return Atr(inf).encode()

    async def exchange(self, command: bytes, wait_s: float) -> bytes:
        """Return the answer to one command of at most ``apdu_limit`` bytes.

        Raises:
            TransportError: There is none.
        """
        return await self._run(lambda deadline: self._protocol.exchange(command, deadline), wait_s)

    async def probe(self, wait_s: float) -> None:
        """Check that the device is there, and change nothing in its element.

        Raises:
            TransportError: It is not, or does not answer as it should.
        """
        await self._run(self._protocol.probe, wait_s)

    async def power_off(self) -> None:
        """Make the element forget what it holds; never raises."""
        with suppress(TransportError):
            if self.place.pin is None:
                await self._run(self._protocol.power_on, CLOSE_S)
            else:
                await self._pulse()

    async def _pulse(self) -> None:
        pin = self.place.pin
        if pin is not None:
            await self._within(self._bus.pulse(pin), CLOSE_S + TRANSFER_GRACE_S)
            self._listens_at = asyncio.get_running_loop().time() + RESET_START_S

    async def _run(self, begin: Callable[[float], Exchange], wait_s: float) -> bytes:
        exchange = begin(asyncio.get_running_loop().time() + wait_s)
        try:
            return await self._within(self._steps(exchange), wait_s + TRANSFER_GRACE_S)
        except I2cPeerError as error:
            raise self._failure(error) from error
        finally:
            exchange.close()

    async def _steps(self, exchange: Exchange) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            step = next(exchange)
            while True:
                data = await self._step(step)
                step = exchange.send(Outcome(loop.time(), data))
        except StopIteration as end:
            answer: bytes = end.value
            return answer

    async def _step(self, step: Step) -> bytes | None:
        match step:
            case Write(data):
                return await self._bus.write(self.place.address, data)
            case Read(size):
                return await self._bus.read(self.place.address, size)
            case Wait(seconds):
                await asyncio.sleep(seconds)
                return b""

    async def _within(self, work: Awaitable[T], wait_s: float) -> T:
        try:
            async with asyncio.timeout(wait_s):
                return await work
        except TimeoutError:
            raise TransportTimeoutError(
                self.name, "the bus does nothing", hint="another device may hold its lines low"
            ) from None

    def _failure(self, error: I2cPeerError) -> TransportError:
        kind: type[TransportError] = TransportError
        if error.fault is I2cFault.NOT_ACKNOWLEDGED:
            kind = CardRemovedError
        elif error.fault is I2cFault.NO_ANSWER:
            kind = TransportTimeoutError
        return kind(self.name, str(error), hint=_HINTS[error.fault])
