# SPDX-License-Identifier: Apache-2.0
"""All PC/SC readers of this machine whose names match, as one bank (iose-server.md §8.1)."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from typing import Final

from iose.transport.bank import Slot, SlotState
from iose.transport.errors import TransportError
from iose.transport.pcsc.entry import ReaderEntry
from iose.transport.pcsc.faults import START_SERVICE
from iose.transport.pcsc.monitor import Look, ReaderMonitor
from iose.transport.pcsc.reader import PcscReader
from iose.transport.pcsc.scard import ReaderLook, Scard, load_scard
from iose.transport.pcsc.worker import call_in_loop

FIRST_LOOK_S: Final = 5.0  # a service that is started by its first use
INSTALL: Final = "pip install 'iose[pcsc]' (or make setup-pcsc in a copy of the source)"
TAKE_AWAY: Final = "unplug the reader whose name, or serial number, is no text"
PLUG_IN: Final = "plug one in, or change readers in the configuration"


class PcscBank:
    """The readers of the machine's PC/SC service.

    Args:
        name: What the operator calls the bank.
        readers: Globs over names of readers.
        apdu_s: Longest wait for the answer to one command, in seconds.
        scard: The service; None loads pyscard when the bank starts.
    """

    def __init__(
        self,
        name: str,
        *,
        readers: Sequence[str] = ("*",),
        apdu_s: float,
        scard: Scard | None = None,
    ) -> None:
        self._name = name
        self._globs = tuple(readers)
        self._apdu_s = apdu_s
        self._scard = scard
        self._changed: Callable[[], None] = _ignore
        self._monitor: ReaderMonitor | None = None
        self._entries: dict[str, ReaderEntry] = {}
        self._names: tuple[str, ...] = ()  # of all readers, wanted or not
        self._is_served = False
        self._failure = ""
        self._looked = asyncio.Event()
        self._number = -1  # of the last look
        self._asking: set[asyncio.Task[None]] = set()
        self._slots: tuple[Slot, ...] = ()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The readers by name, or one slot that says why there are none."""
        return self._slots

    async def start(self, changed: Callable[[], None]) -> None:
        """Look, and keep looking; returns when every reader there is known, or has failed."""
        self._changed = changed
        self._scard = self._scard or load_scard()
        if self._scard is None:
            fault = "PC/SC support is not installed"
            self._slots = (self._no_slot(SlotState.FAULT, fault, INSTALL),)
            return
        loop = asyncio.get_running_loop()
        self._monitor = ReaderMonitor(
            self._scard, lambda look: call_in_loop(loop, partial(self._take, look))
        )
        self._monitor.start()
        await self._wait_for_look(0)

    async def refresh(self) -> None:
        """Look again now."""
        if self._monitor is not None:
            await self._wait_for_look(self._monitor.ask())

    async def stop(self) -> None:
        """Look no more; never raises. Cards in use are let go when their connections close."""
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None
        self._changed = _ignore
        for task in self._asking:
            task.cancel()
        await self._serials_asked()

    async def _wait_for_look(self, number: int) -> None:
        """Wait for a look, and for the serial numbers it asks for; both in bounded time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                while self._number < number:
                    await self._looked.wait()
        await self._serials_asked()
        if self._number < 0:
            self._update()  # the service has not answered at all

    async def _serials_asked(self) -> None:
        while self._asking:
            await asyncio.gather(*self._asking, return_exceptions=True)

    # --- what the monitor tells --------------------------------------------------------------

    def _take(self, look: Look) -> None:
        if self._monitor is None or self._scard is None:
            return  # stopped
        self._number = max(self._number, look.number)
        self._is_served = look.readers is not None
        self._failure = look.failure
        self._names = tuple(one.name for one in look.readers or ())
        seen = {one.name: one for one in look.readers or () if self._is_wanted(one.name)}
        for name in self._entries.keys() - seen.keys():
            del self._entries[name]
        for one in seen.values():
            self._see(self._scard, one)
        self._ask_serials()
        self._looked.set()
        self._looked = asyncio.Event()

    def _is_wanted(self, reader: str) -> bool:
        return any(fnmatchcase(reader, glob) for glob in self._globs)

    def _see(self, scard: Scard, look: ReaderLook) -> None:
        entry = self._entries.get(look.name)
        if entry is None or (entry.reader.stuck_since and entry.is_replaced(look)):
            reader = PcscReader(scard, look.name, apdu_s=self._apdu_s, changed=self._ask_serials)
            self._entries[look.name] = ReaderEntry(look, reader)
        else:
            entry.see(look)

    def _ask_serials(self) -> None:
        if self._monitor is None:
            return  # stopped; a stuck reader has come back since
        for entry in self._entries.values():
            if entry.can_ask_serial:
                entry.is_asking = True
                task = asyncio.get_running_loop().create_task(self._ask_serial(entry))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
        self._update()

    def _update(self) -> None:
        slots = self._slots_now()
        if slots != self._slots:
            self._slots = slots
            self._changed()

    async def _ask_serial(self, entry: ReaderEntry) -> None:
        try:
            with suppress(TransportError):  # it is stuck, and its slot says so
                entry.serial = await entry.reader.read_serial()
        finally:
            entry.is_asking = False
        self._update()

    def _slots_now(self) -> tuple[Slot, ...]:
        if self._failure:
            fault = f"pyscard cannot read the names of all readers ({self._failure})"
            return (self._no_slot(SlotState.FAULT, fault, TAKE_AWAY),)
        if not self._is_served:
            fault = "the PC/SC service does not answer"
            return (self._no_slot(SlotState.ABSENT, fault, START_SERVICE),)
        if not self._entries:
            fault = "no reader is there whose name matches " + ", ".join(self._globs)
            return (self._no_slot(SlotState.ABSENT, fault, PLUG_IN),)
        entries = [self._entries[name] for name in sorted(self._entries)]
        return tuple(entry.slot(self._names) for entry in entries if not entry.is_asking)

    def _no_slot(self, state: SlotState, fault: str, hint: str) -> Slot:
        return Slot(self._name, "", state, fault=fault, hint=hint)


def _ignore() -> None:
    """Be told of changes that nobody asks for any more."""
