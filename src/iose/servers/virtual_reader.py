# SPDX-License-Identifier: Apache-2.0
"""One element as the card in a virtual PC/SC reader, for as long as it is exposed.

We are a TCP client of the reader's driver, which gives orders to the card as a reader does to its
contacts. Whoever exposes an element holds its lock; nothing here knows holders, names or rights.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from iose.iso7816.apdu import HEADER_SIZE, STATUS_SIZE
from iose.iso7816.atr import HISTORICAL_LIMIT, Atr, TransmissionProtocol
from iose.iso7816.status import StatusWord
from iose.iso7816.t0 import T0Interface
from iose.protocols.vpcd import MESSAGE_LIMIT, Order
from iose.servers.driver_link import DriverAddress, DriverLink, DriverTimes
from iose.transport.base import Connection
from iose.transport.errors import CardRemovedError, NotSentError, TransportError
from iose.wire.errors import DecodeError, IoseError

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.virtual_reader")

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_LAST_S: Final = 2.0  # a service that starts again is not kept waiting for longer
LASTED_S: Final = 5.0  # a connection that lasted so long was a good one
NOT_DONE: Final = StatusWord.UNKNOWN.to_bytes(STATUS_SIZE, "big")
WRONG_LENGTH: Final = StatusWord.WRONG_LENGTH.to_bytes(STATUS_SIZE, "big")
Connect = Callable[[], Awaitable[Connection]]


@dataclass(frozen=True, slots=True)
class ExposureStatus:
    """What is said of one exposed element.

    Attributes:
        element: Its SEID.
        sen: Its name, "" when it has none.
        address: Of the driver.
        protocol: ``T=0`` or ``T=1``.
        connected: Whether the driver has the card.
        for_s: Since when it is exposed.
        apdus: Commands that programs have sent it.
        fault: Why it is not connected; "" when it is.
        hint: What to do about that.
    """

    element: str
    sen: str
    address: str
    protocol: str
    connected: bool
    for_s: float
    apdus: int
    fault: str
    hint: str


class VirtualCard:
    """An element behind the orders of a driver.

    Args:
        connect: Powers the element up.
        protocol: What the card pretends to speak.
        name: Historical bytes for an element whose own ATR has none.
    """

    def __init__(self, connect: Connect, protocol: TransmissionProtocol, name: str = "") -> None:
        self._connect = connect
        self._protocol = protocol
        self._name = name.encode("ascii", "replace")[:HISTORICAL_LIMIT]
        self._t0 = T0Interface() if protocol is TransmissionProtocol.T0 else None
        self._connection: Connection | None = None
        self._atr = b""
        self._lost: TransportError | None = None
        self.apdus = 0

    async def probe(self) -> None:
        """Power the element up and off again: it answers, and its ATR is known.

        Raises:
            TransportError: It does not answer.
        """
        try:
            await self._power_on()
        finally:
            await self.power_off()

    async def answer(self, message: Order | bytes) -> bytes | None:
        """Return what goes back to the driver, None for nothing.

        Raises:
            TransportError: The element does not answer, or is gone.
        """
        if self._lost is not None:
            raise self._lost
        try:
            return await self._obey(message)
        except TransportError as fault:
            self._lost = fault
            raise

    async def _obey(self, message: Order | bytes) -> bytes | None:
        match message:
            case bytes():
                self.apdus += 1
                return await self._exchange(message)
            case Order.ATR:
                return self._atr
            case Order.POWER_ON:
                await self._power_on()
            case Order.RESET:
                await self._reset()
            case Order.POWER_OFF:
                await self.power_off()
        return None

    @property
    def is_known(self) -> bool:
        """Whether the element has answered, and nothing is known against it."""
        return bool(self._atr) and self._lost is None

    def lose(self, fault: TransportError) -> None:
        """Be told that the element is gone, until it has power again."""
        self._lost = fault

    async def power_off(self) -> None:
        """Take the element's power."""
        connection, self._connection = self._connection, None
        self._clear()
        if connection is not None:
            await connection.close()

    async def _power_on(self) -> Connection:
        await self.power_off()
        connection = await self._connect()
        try:
            await connection.transmit_batch(())  # power comes on with the first exchange
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._lost = None
        self._take_atr(connection.atr)
        return connection

    async def _reset(self) -> None:
        if self._connection is None:
            await self._power_on()
            return
        self._clear()
        self._take_atr(await self._connection.reset())

    async def _exchange(self, command: bytes) -> bytes:
        if len(command) < HEADER_SIZE:
            return WRONG_LENGTH
        interface = self._t0
        if interface is not None:
            at_once = interface.receive_command(command)
            if at_once is not None:
                return at_once
        connection = self._connection or await self._power_on()
        try:
            answer = await connection.transmit_raw(command)
        except NotSentError:
            answer = WRONG_LENGTH
        try:
            if interface is not None:
                answer = interface.receive_response(command, answer)
        except DecodeError:
            return NOT_DONE
        return answer if STATUS_SIZE <= len(answer) <= MESSAGE_LIMIT else NOT_DONE

    def _clear(self) -> None:
        if self._t0 is not None:
            self._t0.clear()

    def _take_atr(self, atr: bytes) -> None:
        """Show the name in the element's ATR, with the protocol that the card is to speak."""
        historical_bytes = b""
        with suppress(DecodeError):  # of a reader that gives none
            historical_bytes = Atr.decode(atr).historical_bytes
        self._atr = Atr.for_contacts(historical_bytes or self._name, self._protocol).encode()


class Exposure:
    """An element in a virtual reader, from ``start`` to ``stop``.

    Args:
        element: Its SEID.
        sen: Its name, "" when it has none.
        connect: Powers it up.
        address: Where the driver listens.
        protocol: What the card pretends to speak.
        times: How long the driver may take.

    Attributes:
        element: Its SEID.
    """

    def __init__(
        self,
        element: str,
        sen: str,
        connect: Connect,
        address: DriverAddress,
        protocol: TransmissionProtocol,
        *,
        times: DriverTimes | None = None,
    ) -> None:
        self.element = element
        self._sen = sen
        self._address = address
        self._times = times or DriverTimes()
        self._protocol = protocol
        self._card = VirtualCard(connect, protocol, sen)
        self._link: DriverLink | None = None
        self._fault: IoseError | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()

    def status(self) -> ExposureStatus:
        """Return what is said of it now."""
        fault = self._fault
        return ExposureStatus(
            self.element,
            self._sen,
            str(self._address),
            f"T={self._protocol:d}",
            self._link is not None,
            round(self._loop.time() - self._since, 1),
            self._card.apdus,
            "" if fault is None else str(fault),
            "" if fault is None else fault.hint or "",
        )

    async def start(self) -> None:
        """Put the element into the reader, and keep it there from now on.

        Raises:
            NoReaderError: Nothing listens at the address.
            CardBusyError: The driver does not take the card: another one is in.
            TransportError: The element does not answer.
        """
        self._link = await self._insert()
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Take it out of the reader, and its power; a second call changes nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._take_out()

    def lose(self) -> None:
        """Take the card out when the driver next looks, and until the element is there again."""
        self._card.lose(CardRemovedError(self.element, "the element is gone"))

    async def _insert(self) -> DriverLink:
        """Return a link to a driver that has taken the card.

        Raises:
            TransportError: There is no driver, it has another card, or the element is not there.
        """
        if not self._card.is_known:
            await self._card.probe()
        link = DriverLink(self._address, self._times)
        try:
            await link.open()
        except BaseException:
            link.close()
            raise
        return link

    async def _keep(self) -> None:
        """Serve the driver; when it or the element goes away, try again, less and less often."""
        delay = 0.0
        while True:
            started = self._loop.time()
            try:
                if self._link is None:
                    self._link = await self._insert()
                self._fault = None
                await self._serve(self._link)
            except IoseError as fault:
                self._note(fault)
            except Exception as fault:  # the top of a task
                log.exception("exposure.failed", seid=self.element)
                self._fault = IoseError(f"a fault of iose: {type(fault).__name__}")
            await self._take_out()
            lasted = self._loop.time() - started > LASTED_S
            delay = BACKOFF_FIRST_S if lasted or not delay else min(2 * delay, BACKOFF_LAST_S)
            await asyncio.sleep(delay)

    async def _serve(self, link: DriverLink) -> None:
        """Carry what the driver says until it, or the element, goes away.

        Raises:
            TransportError: One did.
        """
        while True:
            answer = await self._card.answer(await link.next_message())
            if answer is not None:
                await link.send(answer)
            await asyncio.sleep(0)  # what is there already is read without waiting: others, too

    async def _take_out(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
        await self._card.power_off()

    def _note(self, fault: IoseError) -> None:
        if self._fault is None or str(self._fault) != str(fault):  # not the same again and again
            kind = "element" if isinstance(fault, TransportError) else "driver"
            log.warning("exposure.interrupted", seid=self.element, by=kind, error=str(fault))
        self._fault = fault
