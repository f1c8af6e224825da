# SPDX-License-Identifier: Apache-2.0
"""The card's persistent objects while it is powered, and the one transaction over them.

The store is read once, at power-on. Writes wait until ``commit``; then they reach the store all
together or not at all, so that a power cut leaves the state before or after a command.
"""

from iose.card.store import NonVolatileStore, StoreError
from iose.iso7816.status import StatusWord, StatusWordError


class CardMemory:
    """Every persistent object of a card by name, with pending writes on top."""

    __slots__ = ("_objects", "_pending", "_store")

    def __init__(self, store: NonVolatileStore) -> None:
        self._store = store
        self._objects: dict[str, bytes] = {}
        self._pending: dict[str, bytes | None] = {}

    def load(self) -> None:
        """Read the store, as a card finds its memory at power-on.

        Raises:
            StoreError: The medium cannot be read.
        """
        self._objects = self._store.load()
        self._pending = {}

    def unload(self) -> None:
        """Forget the image of the store and all pending writes: the power is off."""
        self._objects = {}
        self._pending = {}

    def get(self, name: str) -> bytes | None:
        """Return an object, pending writes included; None when there is none."""
        if self._pending and name in self._pending:
            return self._pending[name]
        return self._objects.get(name)

    def names(self, prefix: str) -> list[str]:
        """Return the names of all objects that begin so, pending writes included."""
        names = [name for name in self._objects if name.startswith(prefix)]
        names += [name for name in self._pending if name.startswith(prefix)]
        return [name for name in dict.fromkeys(names) if self.get(name) is not None]

    def put(self, name: str, value: bytes | None) -> None:
        """Write an object in the running transaction, or remove it with None."""
        if self._objects.get(name) == value:
            self._pending.pop(name, None)
        else:
            self._pending[name] = value

    def commit(self) -> None:
        """Store the pending writes, durably; without any, do nothing.

        Raises:
            StoreError: Nothing was stored, and the writes are forgotten.
        """
        if not self._pending:
            return
        pending, self._pending = self._pending, {}
        self._store.write(pending)
        self._apply(pending)

    def write_through(self, name: str, value: bytes) -> None:
        """Store one object now, outside the running transaction.

        Raises:
            StoreError: It was not stored.
        """
        self._pending.pop(name, None)
        change: dict[str, bytes | None] = {name: value}
        self._store.write(change)
        self._apply(change)

    def rollback(self) -> None:
        """Forget the pending writes."""
        self._pending.clear()

    def _apply(self, changes: dict[str, bytes | None]) -> None:
        for name, value in changes.items():
            if value is None:
                self._objects.pop(name, None)
            else:
                self._objects[name] = value


class InstanceStore:
    """The objects of one applet instance: ``AppletStore`` over a part of the card's memory."""

    __slots__ = ("_memory", "_prefix")

    def __init__(self, memory: CardMemory, prefix: str) -> None:
        self._memory = memory
        self._prefix = prefix

    def get(self, name: str) -> bytes | None:
        """Return the object, pending writes included; None when there is none."""
        return self._memory.get(self._prefix + name)

    def put(self, name: str, value: bytes) -> None:
        """Write an object as part of the running transaction."""
        self._memory.put(self._prefix + name, bytes(value))

    def delete(self, name: str) -> None:
        """Remove an object as part of the running transaction; an absent one is no error."""
        self._memory.put(self._prefix + name, None)

    def commit(self) -> None:
        """Store the pending writes now, durably, and go on with an empty transaction.

        Raises:
            StatusWordError: 6581, the writes could not be stored; none of them was.
        """
        try:
            self._memory.commit()
        except StoreError as error:
            raise StatusWordError(StatusWord.MEMORY_FAILURE, str(error)) from error
