# SPDX-License-Identifier: Apache-2.0
"""The elements of one host: a record each, and a few of them open (docs/architecture.md).

An idle element is its record alone. Its store is opened when it is powered and stays open for a
while after, as sessions come in bursts. What changes a record passes through here and is told.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

import structlog

from iose.protocols.host_frames import ElementInfo
from iose.runtime.elements.record import MARK_NAME, ElementRecord, ElementState, Mark
from iose.runtime.elements.shelf import ElementStore, StoreShelf
from iose.servers.element_host import HostedElement
from iose.wire.errors import IoseError

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.element_host")

OPEN_LIMIT: Final = 32  # stores kept open behind idle elements: about 3 descriptors each


class CardMaker(Protocol):
    """What the rack needs of the card: handed in by ``compose``, the only one who knows cards."""

    def build(self, store: ElementStore, seid: str) -> HostedElement:
        """Return the card on the store of an element, without power."""

    def describe(self, seid: str, objects: Mapping[str, bytes]) -> ElementRecord:
        """Return what is known of an element from its objects.

        Raises:
            IoseError: They are not those of an element.
        """

    def is_descriptive(self, name: str) -> bool:
        """Return whether an object's change changes the record."""


class OpenElement:
    """One element whose store is open: its card, and a copy of its objects for the next start."""

    def __init__(
        self, seid: str, store: ElementStore, maker: CardMaker, changed: Callable[[str], None]
    ) -> None:
        self.seid = seid
        self._maker = maker
        self._changed = changed
        self._store = store
        self._objects: dict[str, bytes] | None = None
        self.card = maker.build(self, seid)

    def load(self) -> dict[str, bytes]:
        """Return every object, read once while the store is open.

        Raises:
            IoseError: The store cannot be read.
        """
        if self._objects is None:
            self._objects = self._store.load()
        return dict(self._objects)

    def write(self, changes: Mapping[str, bytes | None]) -> None:
        """Apply all changes or none, durable on return.

        Raises:
            IoseError: Nothing was written.
        """
        try:
            self._store.write(changes)
        except IoseError as error:  # the card refuses the command; an operator must see why
            log.error("store.refused", seid=self.seid, error=str(error))  # noqa: TRY400  # no bug
            raise
        if self._objects is not None:
            for name, value in changes.items():
                if value is None:
                    self._objects.pop(name, None)
                else:
                    self._objects[name] = value
        if MARK_NAME in changes or any(map(self._maker.is_descriptive, changes)):
            self._changed(self.seid)

    def close(self) -> None:
        """Let the store go; the objects are forgotten."""
        self._objects = None
        self._store.close()


class Rack:
    """``ElementRack`` over a data folder's stores.

    Args:
        shelf: The stores.
        maker: Builds cards.
        tell: Receiver of every record that changed, for the index.
    """

    def __init__(
        self,
        shelf: StoreShelf,
        maker: CardMaker,
        tell: Callable[[ElementRecord], None],
    ) -> None:
        self.records: dict[str, ElementRecord] = {}
        self._maker = maker
        self._shelf = shelf
        self._tell = tell
        self._in_use: dict[str, OpenElement] = {}
        self._idle: OrderedDict[str, OpenElement] = OrderedDict()

    def adopt(self, records: Sequence[ElementRecord]) -> None:
        """Take elements over; those not known yet are opened and read."""
        for record in records:
            self.records[record.seid] = record
            if not record.is_known:
                self._read(record.seid)

    def list_elements(self) -> list[ElementInfo]:
        """Return the usable elements, in the order of their SEIDs."""
        return [
            ElementInfo(
                seid,
                record.sen,
                record.atr,
                record.chunk_size,
                record.max_record,
                record.instances,
            )
            for seid, record in sorted(self.records.items())
            if record.state is ElementState.READY
        ]

    def open(self, seid: str) -> HostedElement | None:
        """Return the card of an element, in use until ``release``; None when there is none.

        Raises:
            IoseError: Its store cannot be opened.
        """
        record = self.records.get(seid)
        if record is None or record.state is not ElementState.READY:
            return None
        element = self._idle.pop(seid, None) or self._open(seid)
        self._in_use[seid] = element
        return element.card

    def release(self, seid: str) -> None:
        """Take an element back, and close those that were idle longest."""
        element = self._in_use.pop(seid, None)
        if element is not None:
            self._put_idle(seid, element)

    def is_in_use(self, seid: str) -> bool:
        """Return whether a session holds the element."""
        return seid in self._in_use

    def visit(self, seid: str) -> OpenElement:
        """Return an element with its store open, for the owner's work.

        Raises:
            IoseError: It cannot be opened.
        """
        if seid in self._in_use:
            return self._in_use[seid]
        element = self._idle.get(seid) or self._open(seid)
        self._put_idle(seid, element)
        return element

    def forget(self, seid: str) -> None:
        """Close an element's store and drop its record."""
        self._drop_idle(seid)
        self.records.pop(seid, None)

    def mark_broken(self, seid: str, error: IoseError) -> None:
        """Use an element no more that cannot be read, and say why; others must not suffer."""
        log.error("element.broken", seid=seid, error=str(error))
        self._drop_idle(seid)
        self._keep(replace(self.records[seid], state=ElementState.BROKEN, stamp=0))

    def settle(self, seid: str) -> ElementRecord:
        """Close an idle element's store, and return its record with the file's new stamp."""
        self._drop_idle(seid)
        return self.records[seid]

    def close(self) -> None:
        """Close every store; cards must have no power any more."""
        for seid in [*self._in_use]:
            self.release(seid)
        while self._idle:
            self._drop_idle(next(iter(self._idle)))

    def _open(self, seid: str) -> OpenElement:
        return OpenElement(seid, self._shelf.open(seid), self._maker, self._refresh)

    def _put_idle(self, seid: str, element: OpenElement) -> None:
        self._idle[seid] = element
        self._idle.move_to_end(seid)
        while len(self._idle) > OPEN_LIMIT:
            self._drop_idle(next(iter(self._idle)))

    def _drop_idle(self, seid: str) -> None:
        element = self._idle.pop(seid, None)
        if element is None:
            return
        element.close()
        record = self.records.get(seid)
        if record is not None and record.state is not ElementState.BROKEN:
            self._keep(replace(record, stamp=self._shelf.stamp(seid)))

    def _refresh(self, seid: str) -> None:
        element = self._in_use.get(seid) or self._idle.get(seid)
        if element is not None:
            self._keep(self._describe(seid, element.load()))

    def _read(self, seid: str) -> None:
        try:
            self.records[seid] = self._describe(seid, self.visit(seid).load())
            self._drop_idle(seid)
        except IoseError as error:
            self.mark_broken(seid, error)

    def _describe(self, seid: str, objects: Mapping[str, bytes]) -> ElementRecord:
        record = self._maker.describe(seid, objects)
        mark = Mark.decode(objects.get(MARK_NAME))
        return replace(record, state=mark.state, is_copy=mark.is_copy)

    def _keep(self, record: ElementRecord) -> None:
        if self.records.get(record.seid) != record:
            self.records[record.seid] = record
            self._tell(record)
