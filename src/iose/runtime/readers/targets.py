# SPDX-License-Identifier: Apache-2.0
"""One element behind a reader of this machine, opened without a node: ``pcsc:…`` or ``reader:…``.

The bank runs while it is looked at and while a connection lasts, so that nothing is kept from
others in between. The element is met as a node meets it: its SEID, its limits, its resets.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from iose.runtime.config import ElementSettings, load_config, settings_finder
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder
from iose.runtime.readers.banks import make_bank
from iose.runtime.readers.place import RENAME_HINT, Overrides, Place
from iose.runtime.readers.settings import PcscSettings, ReaderSettings
from iose.transport.bank import Slot, SlotState
from iose.transport.base import ApduLimits, Connection, Reader
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
)
from iose.transport.health import WatchedConnection, WatchedReader

PCSC: Final = "pcsc:"
CONFIGURED: Final = "reader:"
USABLE: Final = frozenset({SlotState.READY, SlotState.BUSY})
BUSY_HINT: Final = (
    "end the program that uses it; where a node serves it, name its SEN or SEID instead, or stop "
    "the node: iose node stop"
)
SERVED_HINT: Final = (
    "name the element by its SEN or SEID alone, or stop the node: iose node stop; a configuration "
    "of other readers has a folder 'data' of its own"
)
PART_HINT: Final = "write more of the name of one of them"
LIST_HINT: Final = "see what there is: iose reader list; for reader:SEID, with --config FILE"


def is_reader_target(target: str) -> bool:
    """Return whether a target names a reader of this machine, not an element of a server."""
    return target.lower().startswith((PCSC, CONFIGURED))


def find_reader(target: str, config_path: Path | None = None) -> "OpenedReader":
    """Return the reader of one element; it was looked at, and is not connected yet.

    Not for use inside a running event loop.

    Args:
        target: ``pcsc:NAME`` with part of the name of a PC/SC reader, its serial number or SEID;
            ``pcsc:`` where there is one card; or ``reader:SEID``, an element of a configuration.
        config_path: That configuration.

    Raises:
        ConfigurationError: The target is none of these, or there are several such elements.
        CardBusyError: A node runs on the configuration's data folder.
        NoReaderError: There is no such reader.
        TransportError: There is no card, or it does not work.
    """
    name = target.partition(":")[2]
    if target.lower().startswith(PCSC):
        if config_path is not None:
            raise ConfigurationError(
                f"a configuration says nothing of {target!r}", hint="name an element: reader:SEID"
            )
        places = asyncio.run(_look([PcscSettings("pcsc")], Path()))
        wanted = [place for place in places if name.lower() in place.name.lower()]
        exact = [one for one in places if name in (one.name, one.slot.seid, *one.slot.keys)]
        return _only(target, (exact if name else []) or wanted, places, PART_HINT)
    if not is_reader_target(target) or config_path is None or not name:
        raise ConfigurationError(
            f"{target!r} names no reader",
            hint="write pcsc:NAME for a PC/SC reader, or reader:SEID with --config FILE",
        )
    config = load_config(config_path)
    if DataFolder(config.folder).is_locked():  # few readers keep a second user away themselves
        raise CardBusyError(target, f"a node runs on {config.folder}", hint=SERVED_HINT)
    overrides = settings_finder(config.element)
    places = asyncio.run(_look(config.readers, config.folder, overrides))
    wanted = [place for place in places if name in place.seids]
    return _only(target, wanted, places, RENAME_HINT)


def _say_nothing(_seid: str, _sen: str) -> ElementSettings:
    """Return what is said of an element where there is no configuration."""
    return ElementSettings()


class OpenedReader:
    """A slot of a bank that runs only as long as a connection does.

    Args:
        settings: The bank's table.
        folder: From where its relative paths lead.
        slot: The slot as it was seen.
        overrides: Tells what the operator says of the element.

    Attributes:
        settings: The table.
        slot: The slot.
    """

    def __init__(
        self,
        settings: ReaderSettings,
        folder: Path,
        slot: Slot,
        overrides: Overrides = _say_nothing,
    ) -> None:
        self.settings = settings
        self.slot = slot
        self._folder = folder
        self._place = Place(settings, slot)
        self._place.update(settings, slot, overrides)

    @property
    def name(self) -> str:
        """Name of the reader."""
        return self.slot.name

    @property
    def seid(self) -> str:
        """What the element is called on a node with this table."""
        return self._place.seid or self.name

    @property
    def seids(self) -> tuple[str, ...]:
        """That name, and more that the operator gives it."""
        return (self._place.seid, *self._place.settings.seids)

    @property
    def limits(self) -> ApduLimits:
        """What the element takes at a time."""
        return self._place.reader.limits

    async def connect(self) -> "OpenedConnection":
        """Run the bank, power the card up and return a connection to it.

        Raises:
            CardBusyError: Another program uses it.
            TransportError: There is no reader, no card, or no answer.
        """
        async with AsyncExitStack() as stack:
            bank = make_bank(self.settings, self._folder)
            stack.push_async_callback(bank.stop)
            await bank.start(_ignore)
            slot = next((one for one in bank.slots if one.name == self.name), None)
            try:
                reader = _usable(self.name, slot)
                self._check_same(slot)
                inner = await reader.connect()
            except CardBusyError as error:
                if not isinstance(self.settings, PcscSettings):
                    raise
                raise CardBusyError(
                    self.name, "another program uses the card", hint=BUSY_HINT
                ) from error
            return OpenedConnection(self._place.reader, reader, inner, stack.pop_all())

    def _check_same(self, slot: Slot | None) -> None:
        """Check that the card was not changed since it was chosen: keys tried on another lock it.

        Raises:
            CardRemovedError: It was.
        """
        if slot is not None and slot.atr and self.slot.atr and slot.atr != self.slot.atr:
            raise CardRemovedError(
                self.name, "another card is in the reader now", hint="put the right one in, again"
            )


class OpenedConnection(WatchedConnection):
    """A connection whose end is the end of its bank, too."""

    def __init__(
        self, watched: WatchedReader, reader: Reader, inner: Connection, kept: AsyncExitStack
    ) -> None:
        super().__init__(watched, reader, inner)
        self._kept = kept

    async def close(self) -> None:
        """Power the card off, and stop the bank."""
        await super().close()
        await self._kept.aclose()


async def _look(
    tables: Sequence[ReaderSettings], folder: Path, overrides: Overrides = _say_nothing
) -> list[OpenedReader]:
    """Return every slot of all tables, as it is now; the banks run no more."""
    banks = [(table, make_bank(table, folder)) for table in tables]
    try:
        await asyncio.gather(*(bank.start(_ignore) for _, bank in banks))
        return [
            OpenedReader(table, folder, slot, overrides)
            for table, bank in banks
            for slot in bank.slots
        ]
    finally:
        await asyncio.gather(*(bank.stop() for _, bank in banks))


def _only(
    target: str, wanted: Sequence[OpenedReader], places: Sequence[OpenedReader], hint: str
) -> OpenedReader:
    """Return the one that has a card.

    Raises:
        ConfigurationError: There are several.
        NoReaderError: There is none.
        TransportError: There is one that cannot be used now.
    """
    usable = [place for place in wanted if place.slot.state in USABLE]
    if len(usable) > 1:
        names = ", ".join(place.name for place in usable)
        raise ConfigurationError(f"{target!r} may be any of {names}", hint=hint)
    if usable:
        return usable[0]
    for place in wanted or places:  # the fault of a whole bank stands in a slot without a SEID
        if wanted or (place.slot.fault and not place.slot.seid):
            _usable(place.name, place.slot)
    raise NoReaderError(target, "there is no such reader", hint=LIST_HINT)


def _usable(name: str, slot: Slot | None) -> Reader:
    """Return the reader of a slot.

    Raises:
        NoReaderError: It is not there.
        NoCardError: There is no card in it.
        CardBusyError: Somebody else holds it.
        TransportError: It does not work; the message says why.
    """
    if slot is not None and slot.state in USABLE and slot.reader is not None:
        return slot.reader
    if slot is None or slot.state is SlotState.ABSENT:
        fault = "" if slot is None else slot.fault
        hint = "" if slot is None else slot.hint
        raise NoReaderError(name, fault or "the reader is not there", hint=hint or LIST_HINT)
    if slot.state is SlotState.EMPTY:
        raise NoCardError(name, slot.fault or "there is no card", hint=slot.hint or "put one in")
    if slot.state is SlotState.BUSY:
        raise CardBusyError(name, slot.fault or "somebody else holds it", hint=slot.hint or None)
    raise TransportError(name, slot.fault or "it does not work", hint=slot.hint or LIST_HINT)


def _ignore() -> None:
    """Do nothing: what changes meanwhile is seen when it is used."""
