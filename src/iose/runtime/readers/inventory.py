# SPDX-License-Identifier: Apache-2.0
"""The elements behind the readers of a node: named, looked into once, watched, coming and going.

It takes what banks say of their slots and gives the node elements as an element host does. Two
elements of one SEID are both kept away, for nobody can tell which one is meant.
"""

import asyncio
from collections import defaultdict
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from typing import Any, Final

import structlog

from iose.protocols.host_frames import ElementInfo
from iose.runtime.config import ElementSettings
from iose.runtime.readers.place import LINES, LINES_RATE, Overrides, Place
from iose.runtime.readers.settings import ReaderSettings
from iose.servers.discovery import discover
from iose.servers.holders import Claim, ElementHolders
from iose.servers.sources import TokenBucket
from iose.transport.bank import ReaderBank, Slot, SlotState
from iose.transport.base import Reader
from iose.transport.errors import CardBusyError
from iose.transport.health import WatchedReader
from iose.wire.errors import IoseError

START_WAIT_S: Final = 1.0  # a node does not start later because of what is plugged in, or not
LOOK_S: Final = 5.0  # for an operator who waits for a fresh look
STOP_S: Final = 5.0
BUSY_S: Final = 10.0  # an element that somebody outside holds: nobody tells when it is free
PLACES_LIMIT: Final = 1024  # slots of one bank, those that are no more included
PROBE: Final = "probe"  # who holds an element that is looked into, beside the planes

MakeBank = Callable[[ReaderSettings], ReaderBank]
Gone = Mapping[str, SlotState]
"""SEIDs of elements that can be used no more, and what their slots are now."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.readers")


class RunningBank:
    """One bank, its table, and the places in it.

    Attributes:
        table: The table as it is now.
        places: Its slots, in the bank's order.
        looking: Its first look, or one that was asked for, while that lasts.
        fault: Why it cannot be used at all; "" when it can.
    """

    def __init__(self, table: ReaderSettings, bank: ReaderBank) -> None:
        self.table = table
        self.bank = bank
        self.places: list[Place] = []
        self.looking: asyncio.Task[None] | None = None
        self.fault = ""
        self._known: dict[str, Place] = {}
        self._complaint = ""
        self._lines = TokenBucket(LINES, 0.0)

    def look(self, overrides: Overrides) -> None:
        """Take the bank's slots as they are now; what was known of others is kept."""
        slots = {slot.name: slot for slot in self.bank.slots}
        for name, place in self._known.items():
            if name not in slots:
                gone = replace(place.slot, state=SlotState.ABSENT, reader=None)
                place.update(self.table, gone, overrides)
        for name, slot in slots.items():
            if name not in self._known:
                self._known[name] = Place(self.table, slot)
            self._known[name].update(self.table, slot, overrides)
        self.places = [self._known[name] for name in slots]
        if len(self._known) > PLACES_LIMIT:
            self._known = {place.slot.name: place for place in self.places}

    def log_complaint(self, now: float) -> None:
        """Write down why nothing of the bank can be used, or that it can again, when that changes.

        A bank that flaps gets a line now and then.
        """
        slots = self.bank.slots
        is_unusable = all(slot.state in (SlotState.ABSENT, SlotState.FAULT) for slot in slots)
        complaint = next((slot.fault for slot in slots if slot.fault), "") if is_unusable else ""
        if complaint == self._complaint or self.looking:
            return
        self._complaint = complaint
        if not self._lines.take(now, rate=LINES_RATE, burst=LINES):
            return
        if complaint:
            log.warning("reader.unusable", reader=self.table.label, error=complaint)
        else:
            log.info("reader.usable", reader=self.table.label)

    def view(self) -> list[dict[str, object]]:
        """Return what an operator sees: every slot, or why there is none."""
        if self.places:
            return [place.view() for place in self.places]
        fault = self.fault or ("it has not answered yet" if self.looking else "nothing is there")
        slot = Slot(self.table.label, "", SlotState.ABSENT, fault=fault)
        return [Place(self.table, slot).view()]

    async def stop(self) -> None:
        """End the bank, and what looks into its elements."""
        doing = [place.probe for place in self._known.values()] + [self.looking]
        for task in filter(None, doing):
            task.cancel()
        try:
            async with asyncio.timeout(STOP_S):
                await self.bank.stop()
        except Exception:  # the top of a bank: the others go on
            log.exception("reader.fault", reader=self.table.label)

    def is_made_of(self, table: ReaderSettings) -> bool:
        """Return whether the bank need not be started anew for a table."""
        return _wiring(self.table) == _wiring(table)


class ReaderInventory:
    """Every bank of a node and what is in it.

    Args:
        make_bank: Makes the bank of a table.
        holders: The locks of the node's elements.
        overrides: Tells what the operator says of single elements.
        foreign: Tells SEIDs that no element may have here, and whose they are.
        changed: Told, in the loop, that ``elements`` are others now, and which went away.
    """

    def __init__(
        self,
        make_bank: MakeBank,
        holders: ElementHolders,
        *,
        overrides: Overrides,
        foreign: Callable[[], Mapping[str, str]],
        changed: Callable[[Gone], None],
    ) -> None:
        self._make_bank = make_bank
        self._holders = holders
        self._overrides = overrides
        self._foreign = foreign
        self._changed = changed
        self._banks: list[RunningBank] = []
        self._served: dict[str, Place] = {}
        self._visits: dict[str, tuple[Place, int]] = {}
        self._shown: tuple[tuple[ElementInfo, str], ...] = ()
        self._clashes: set[str] = set()
        self._next_look: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def elements(self) -> tuple[ElementInfo, ...]:
        """The elements that can be used, in the order of the tables."""
        return tuple(info for info, _ in self._shown)

    def reader(self, seid: str) -> Reader:
        """Return the reader of one element; whether it exists is seen when it is used."""
        place = self._served.get(seid)
        return WatchedReader(seid) if place is None else place.reader

    def aid(self, seid: str) -> str:
        """Return what was found to be selected before TLS, in hex; "" for the card's default."""
        place = self._served.get(seid)
        return "" if place is None else place.found_aid

    def own_sen(self, seid: str) -> str:
        """Return what one element calls itself; "" for nothing."""
        place = self._served.get(seid)
        return "" if place is None else place.own_sen

    def settings(self, seid: str) -> ElementSettings | None:
        """Return what the operator says of one element; None when it is not behind a reader."""
        place = self._served.get(seid)
        return None if place is None else self._overrides(place.seid, place.own_sen)

    def view(self) -> list[dict[str, object]]:
        """Return what an operator sees: every slot, and every bank that has none."""
        return [row for running in self._banks for row in running.view()]

    async def start(self, tables: Sequence[ReaderSettings], *, wait_s: float | None = None) -> None:
        """Start a bank for each table; what is not there in about a second appears later.

        Args:
            tables: The tables.
            wait_s: How long to wait for elements instead.

        Raises:
            ConfigurationError: A table cannot be made a bank of; none is started.
        """
        await self.take(self.prepare(tables))
        await self._wait(START_WAIT_S if wait_s is None else wait_s)
        self.look()

    def prepare(self, tables: Iterable[ReaderSettings]) -> list[tuple[ReaderSettings, RunningBank]]:
        """Return the bank of each table, for ``take``: one that runs already, or a new one.

        Raises:
            ConfigurationError: A table cannot be made a bank of; nothing is changed.
        """
        prepared = []
        for table in tables:
            known = [running for running in self._banks if running.is_made_of(table)]
            running = known[0] if known else RunningBank(table, self._make_bank(table))
            prepared.append((table, running))
        return prepared

    async def take(self, prepared: Iterable[tuple[ReaderSettings, RunningBank]]) -> None:
        """Stop the banks that are not among these, and start those that do not run yet."""
        former, self._banks = self._banks, []
        for table, running in prepared:
            running.table = table
            self._banks.append(running)
        await asyncio.gather(*(one.stop() for one in former if one not in self._banks))
        for running in self._banks:
            if running not in former:
                running.looking = self._run(
                    self._look_at(running, running.bank.start(self._look_soon))
                )
        self.look()

    async def refresh(self) -> None:
        """Look at every bank now, and into elements that had nothing to serve."""
        for place in self._places():
            place.forget_failure()
        for running in self._banks:
            if running.looking is None:
                running.looking = self._run(self._look_at(running, running.bank.refresh()))
        await self._wait(LOOK_S)
        self.look()

    async def stop(self) -> None:
        """End every bank; a second call does nothing."""
        banks, self._banks = self._banks, []
        for task in self._tasks:
            task.cancel()
        if self._tasks:  # an element that is being looked into is powered off first
            await asyncio.wait(self._tasks, timeout=STOP_S)
        await asyncio.gather(*(running.stop() for running in banks))
        if self._next_look is not None:
            self._next_look.cancel()

    def look(self) -> None:
        """Take what the banks say now, and tell the node if its elements are others."""
        now = asyncio.get_running_loop().time()
        for running in self._banks:
            running.look(self._overrides)
            running.log_complaint(now)
        present = [place for place in self._places() if place.is_present]
        self._keep_away_clashes(present)
        usable = [place for place in present if not place.clash]
        for place in usable:
            if place.wants_probe:
                place.probe = self._run(self._probe(place))
            place.is_settled |= place.probe is None
        served = {place.seid: place for place in usable if place.is_settled}
        shown = tuple((place.info, place.found_aid) for place in served.values())
        visits = {seid: (place, place.visit) for seid, place in served.items()}
        gone = {
            seid: visit[0].slot.state
            for seid, visit in self._visits.items()
            if visits.get(seid) != visit
        }
        self._log_changes(
            gone, [info for info, _ in shown if info.seid not in self._served], served
        )
        is_same = shown == self._shown and not gone
        self._served, self._shown, self._visits = served, shown, visits
        if not is_same:
            self._changed(gone)

    def _log_changes(
        self, gone: Gone, new: Iterable[ElementInfo], served: Mapping[str, Place]
    ) -> None:
        """Write down who came and went; a reader that flaps gets a line now and then."""
        now = asyncio.get_running_loop().time()
        for seid, state in gone.items():
            if self._visits[seid][0].may_log(now):
                log.info("element.gone", seid=seid, state=state.value)
        for info in new:
            if served[info.seid].may_log(now):
                log.info("element.found", seid=info.seid, sen=info.sen)

    def _places(self) -> Iterator[Place]:
        return (place for running in self._banks for place in running.places)

    def _keep_away_clashes(self, present: Iterable[Place]) -> None:
        """Say of each place whether its element must be kept away, and log what is new."""
        by_seid: defaultdict[str, list[Place]] = defaultdict(list)
        for place in self._places():
            place.clash = ""
        for place in present:
            place.clash = "" if place.has_seid else f"{place.seid!r} is no SEID"
            by_seid[place.seid].append(place)
        foreign = self._foreign()
        clashes = set()
        for seid, places in by_seid.items():
            for place in places:
                others = [one.reader.name for one in places if one is not place]
                if seid in foreign:
                    others = [foreign[seid]]
                if others and not place.clash:
                    place.clash = f"{', '.join(others)} has the SEID {seid}, too"
                    clashes.add(seid)
        for seid in sorted(clashes - self._clashes):
            names = [place.reader.name for place in by_seid[seid]]
            log.error("reader.repeated_seid", seid=seid, readers=names)
        self._clashes = clashes

    async def _look_at(self, running: RunningBank, look: Awaitable[None]) -> None:
        try:
            await look
            running.fault = ""
        except Exception as error:  # the top of a bank: the others go on
            running.fault = f"it has a bug: {error}"
            log.exception("reader.fault", reader=running.table.label)
        finally:
            running.looking = None
        self.look()

    async def _probe(self, place: Place) -> None:
        """Look into an element in its turn; what cannot be found out is as published."""
        visit = place.visit
        try:
            await self._look_into(place, visit)
        except CardBusyError as error:
            if not place.is_settled:
                log.warning("reader.probe_failed", reader=place.reader.name, error=str(error))
            asyncio.get_running_loop().call_later(BUSY_S, self._probe_again, place, visit)
        except (IoseError, TimeoutError) as error:
            log.warning("reader.probe_failed", reader=place.reader.name, error=str(error))
        except Exception:  # the top of a look: the element is as published, and others go on
            log.exception("reader.fault", reader=place.reader.name)
        finally:
            place.probe = None
            place.is_tried = place.visit == visit
            self._look_soon()

    def _probe_again(self, place: Place, visit: int) -> None:
        if place.visit == visit:
            place.is_tried = False
            self._look_soon()

    async def _look_into(self, place: Place, visit: int) -> None:
        lock = self._holders.lock(place.seid)
        loop, probe = asyncio.get_running_loop(), place.probe

        def evict() -> None:
            if probe is not None:
                probe.cancel()

        claim = Claim(PROBE, 0, PROBE, loop.time(), evict)
        await lock.acquire(claim)
        try:
            async with asyncio.timeout(place.table.apdu_s):
                connection = await place.reader.connect()
                try:
                    found = await discover(connection, known=place.known_limits)
                    if place.visit == visit:
                        place.note_probe(connection.atr, found)
                finally:
                    await connection.close()
        finally:
            lock.release(claim, loop.time())

    def _look_soon(self) -> None:
        if self._next_look is None and self._banks:
            self._next_look = asyncio.get_running_loop().call_soon(self._look_now)

    def _look_now(self) -> None:
        self._next_look = None
        self.look()

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _wait(self, seconds: float) -> None:
        """Wait until everything that runs is done, but not for too long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._tasks and (left := until - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
            await asyncio.sleep(0)  # what has ended may have asked for another look


def _wiring(table: ReaderSettings) -> ReaderSettings:
    """Return what of a table the bank is made of; the rest is the inventory's."""
    return replace(table, seids={}, max_record=None, chunk_size=None, warm_reset=None)
