# SPDX-License-Identifier: Apache-2.0
"""Elements that the node process has put into virtual PC/SC readers, and the orders to do so.

An exposed element is held under its lock like by any session, until it is withdrawn, taken away
by an administrator who may do that, or the command that waits for it in the foreground is gone.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Final

import structlog

from iose.iso7816.atr import TransmissionProtocol
from iose.protocols.vpcd import DEFAULT_PORT
from iose.runtime.channel import Arguments, Result, read_int, read_text
from iose.runtime.errors import ConfigurationError
from iose.servers.driver_link import DriverAddress
from iose.servers.holders import Claim, ElementHolders, ElementLock, QueueFullError
from iose.servers.virtual_reader import Exposure, ExposureStatus
from iose.transport.base import Connection, Reader
from iose.transport.errors import NoReaderError, TransportTimeoutError

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.exposures")

PLANE: Final = "pcsc"
EXPOSE: Final = "reader.expose"
WITHDRAW: Final = "reader.withdraw"
EXPOSED: Final = "reader.exposed"
LOCK_WAIT_S: Final = 3.0  # who holds it may take minutes, and who asks sits at a terminal
START_LIMIT_S: Final = 6.0  # with the wait for the lock, less than the supervisor waits
GONE_HINT: Final = (
    "it is put in again when it is back; if it is not to be, 'iose reader withdraw' with its SEID"
)
PORT_LIMIT: Final = 0xFFFF
HOST_LIMIT: Final = 255  # of a DNS name
DEFAULT_HOST: Final = "127.0.0.1"
PROTOCOLS: Final = {f"T={protocol:d}": protocol for protocol in TransmissionProtocol}


@dataclass(frozen=True, slots=True)
class FoundElement:
    """An element of the node, and the way to it now."""

    seid: str
    sen: str
    reader: Reader


Find = Callable[[str], FoundElement | None]
Note = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ExposeRequest:
    """What an operator asks for.

    Attributes:
        element: SEN or SEID.
        address: Where the driver listens.
        protocol: What the card is to speak.
        owner: Process without which the exposure ends; 0 for none.
    """

    element: str
    address: DriverAddress
    protocol: TransmissionProtocol
    owner: int = 0

    @classmethod
    def from_arguments(cls, arguments: Arguments) -> "ExposeRequest":
        """Return the request in the arguments of an operation.

        Raises:
            ConfigurationError: There is no such port or protocol.
            ControlError: An argument is missing, or of another kind.
        """
        defaults = {"host": DEFAULT_HOST, "port": DEFAULT_PORT, "protocol": "T=0", "owner": 0}
        given = {**defaults, **arguments}
        host, port = read_text(given, "host"), read_int(given, "port")
        if not 0 < len(host) <= HOST_LIMIT or not 0 < port <= PORT_LIMIT:
            raise ConfigurationError(
                f"no driver can listen at {host[:HOST_LIMIT]!r}, port {port}",
                hint=f"a port is a number from 1 to {PORT_LIMIT}",
            )
        protocol = PROTOCOLS.get(read_text(given, "protocol"))
        if protocol is None:
            raise ConfigurationError(
                f"no card speaks {given['protocol']!r}",
                hint=f"give {' or '.join(PROTOCOLS)}",
            )
        address = DriverAddress(host, port)
        return cls(read_text(given, "element"), address, protocol, read_int(given, "owner"))

    def to_arguments(self) -> dict[str, object]:
        """Return the request as arguments of an operation."""
        return {
            "element": self.element,
            "host": self.address.host,
            "port": self.address.port,
            "protocol": f"T={self.protocol:d}",
            "owner": self.owner,
        }


class Exposures:
    """What the node exposes now.

    Args:
        holders: The locks of all planes.
        find: Finds an element by SEN or SEID.
        note: Writes down what the owner of the data folder did.
    """

    def __init__(self, holders: ElementHolders, find: Find, note: Note) -> None:
        self._holders = holders
        self._find = find
        self._note = note
        self._numbers = count(1)
        self._held: dict[str, _Held] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def operations(self) -> dict[str, Callable[[Arguments], Awaitable[Result]]]:
        """What may be asked for, by name."""
        return {EXPOSE: self.expose, WITHDRAW: self.withdraw, EXPOSED: self.list_exposed}

    async def list_exposed(self, _arguments: Arguments) -> Result:
        """Return what is exposed now."""
        return {"exposed": self.snapshot()}

    def snapshot(self) -> list[dict[str, object]]:
        """Return what is said of each exposed element."""
        return [asdict(self._status(held)) for held in self._held.values()]

    def look(self) -> None:
        """Look which elements are gone: programs are to see that, too."""
        for held in self._held.values():
            if self._is_gone(held):
                held.exposure.lose()

    async def stop(self) -> None:
        """Withdraw everything."""
        await asyncio.gather(*(held.end() for held in tuple(self._held.values())))

    async def expose(self, arguments: Arguments) -> Result:
        """Put an element into a virtual reader, and return how that does.

        Raises:
            ConfigurationError: There is no such element, it is in use, or exposed already.
            TransportError: The element or the driver is not there.
            ControlError: An argument is missing, or of another kind.
        """
        request = ExposeRequest.from_arguments(arguments)
        found = self._find_free(request.element)
        seid = found.seid

        async def connect() -> Connection:
            now = self._find(seid)  # another reader may lead to it by now
            if now is None:
                raise NoReaderError(seid, "the element is not there any more", hint=GONE_HINT)
            return await now.reader.connect()

        exposure = Exposure(seid, found.sen, connect, request.address, request.protocol)
        async with AsyncExitStack() as stack:
            held = _Held(exposure, found.sen, stack, lambda: self._held.pop(seid, None))
            await self._hold(request, seid, held)
            stack.push_async_callback(exposure.stop)
            await self._start(exposure)
            self._watch(request.owner, held)
            if held.is_over:
                raise ConfigurationError(f"{request.element} was taken away meanwhile")
            self._held[seid] = held
            held.keep(stack.pop_all())
        status = exposure.status()
        log.info("exposure.begins", seid=seid, address=status.address, protocol=status.protocol)
        await self._note("EXPOSE", f"{seid} {status.address} {status.protocol}")
        return {"exposed": asdict(status)}

    async def withdraw(self, arguments: Arguments) -> Result:
        """Take an element out of its reader, and return how its exposure did.

        Raises:
            ConfigurationError: It is not exposed.
            ControlError: An argument is missing, or of another kind.
        """
        name = read_text(arguments, "element")
        held = self._find_held(name)
        if held is None:
            raise ConfigurationError(f"{name} is not exposed", hint="'iose reader list' shows it")
        status = asdict(self._status(held))
        await held.end()
        await self._note("WITHDRAW", held.exposure.element)
        return {"withdrawn": status}

    def _find_free(self, name: str) -> FoundElement:
        """Return an element that is not exposed.

        Raises:
            ConfigurationError: There is none of this name, or it is.
        """
        found = self._find(name)
        if found is None:
            raise ConfigurationError(
                f"there is no element {name!r} now",
                hint="'iose node status' shows those there are, 'iose reader list' what is missing",
            )
        held = self._held.get(found.seid)
        if held is not None:
            raise ConfigurationError(
                f"{name} is exposed already, at {held.exposure.status().address}",
                hint=f"iose reader withdraw {name}",
            )
        return found

    def _find_held(self, name: str) -> "_Held | None":
        """Return an exposure by a name that leads to its element, or did before that was gone."""
        found = self._find(name)
        if found is not None:
            return self._held.get(found.seid)
        for seid, held in self._held.items():
            if self._is_gone(held) and (name == seid or name.lower() == held.sen.lower()):
                return held
        return None

    def _is_gone(self, held: "_Held") -> bool:
        """Say whether an exposed element is gone; if it is not, note what it is called now."""
        found = self._find(held.exposure.element)
        if found is not None:
            held.sen = found.sen
        return found is None

    def _status(self, held: "_Held") -> ExposureStatus:
        """Return how an exposure does, with the name that its element has, or had last."""
        self._is_gone(held)
        return replace(held.exposure.status(), sen=held.sen)

    async def _hold(self, request: ExposeRequest, seid: str, held: "_Held") -> None:
        """Take the element, to be let go when ``held`` ends.

        Raises:
            ConfigurationError: Somebody has it, and does not give it up soon.
        """
        lock = self._holders.lock(seid)
        loop = asyncio.get_running_loop()
        claim = Claim(
            PLANE,
            next(self._numbers),
            str(request.address),
            loop.time(),
            lambda: self._begin(self._taken_away(held)),
        )
        try:
            async with asyncio.timeout(LOCK_WAIT_S):
                await lock.acquire(claim)
        except (TimeoutError, QueueFullError):
            raise ConfigurationError(
                f"{request.element} is in use{_holder_of(lock)}",
                hint="'iose node status' shows by whom; try again when it is free",
            ) from None
        held.stack.callback(lambda: lock.release(claim, loop.time()))

    async def _start(self, exposure: Exposure) -> None:
        """Put an element into its reader, in the time that who asks waits for the answer.

        Raises:
            TransportTimeoutError: That is over.
            TransportError: The element or the driver is not there.
        """
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await exposure.start()
        except TimeoutError:
            raise TransportTimeoutError(exposure.element, "it does not start in time") from None

    def _watch(self, owner: int, held: "_Held") -> None:
        """End an exposure when the process that wants it is gone, killed for instance.

        Raises:
            ConfigurationError: There is no such process here.
        """
        if not owner:
            return
        try:
            number = os.pidfd_open(owner)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"process {owner} cannot be seen from the node",
                hint="let it be exposed on its own: --detach",
            ) from error
        held.stack.callback(os.close, number)
        loop = asyncio.get_running_loop()
        loop.add_reader(number, lambda: self._begin(self._abandoned(held, number)))
        held.stack.callback(loop.remove_reader, number)

    async def _taken_away(self, held: "_Held") -> None:
        log.warning("exposure.taken_away", seid=held.exposure.element)
        await held.end()

    async def _abandoned(self, held: "_Held", number: int) -> None:
        asyncio.get_running_loop().remove_reader(number)  # it stays readable
        log.info("exposure.abandoned", seid=held.exposure.element)
        await held.end()
        await self._note("WITHDRAW", held.exposure.element)

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Held:
    """One exposure, and what ends with it.

    Attributes:
        sen: What its element was last called, "" for nothing.
        stack: What ends with it.
        is_over: It has ended, or is to end before it has begun.
    """

    def __init__(
        self, exposure: Exposure, sen: str, stack: AsyncExitStack, forget: Callable[[], object]
    ) -> None:
        self.exposure = exposure
        self.sen = sen
        self.stack = stack
        self.is_over = False
        self._forget = forget
        self._is_kept = False
        self._ending: asyncio.Task[None] | None = None

    def keep(self, stack: AsyncExitStack) -> None:
        """Own from now on what ends with the exposure."""
        self.stack = stack
        self._is_kept = True

    async def end(self) -> None:
        """Take the element out of the reader and let it go, once; return when that is done."""
        self.is_over = True
        if not self._is_kept:  # who makes it sees that
            return
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        try:
            await self.stack.aclose()
        finally:
            self._forget()


def _holder_of(lock: ElementLock) -> str:
    holder = lock.holder
    return "" if holder is None else f" by {holder.plane} {holder.source}"
