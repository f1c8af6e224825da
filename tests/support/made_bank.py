# SPDX-License-Identifier: Apache-2.0
"""A bank in the place of any that a command makes, which counts whether it runs."""

from collections.abc import Callable

from iose.runtime.readers.settings import ReaderSettings
from iose.transport.bank import Slot, SlotState
from tests.support.scripted_connection import ATR, EchoElement, ScriptedReader


def ready_slot(name: str, *, seid: str = "", keys: tuple[str, ...] = ()) -> Slot:
    """Return a slot with an echo element in it."""
    reader = ScriptedReader(EchoElement(), name=name)
    return Slot(name, seid or f"pcsc-{name}", SlotState.READY, reader, keys, ATR)


class MadeBank:
    """A bank of a test."""

    def __init__(self, *slots: Slot) -> None:
        self.slots: tuple[Slot, ...] = slots
        self.running = 0
        self.looks = 0
        self.made_of: list[ReaderSettings] = []
        self.changed: Callable[[], None] = lambda: None

    async def start(self, changed: Callable[[], None]) -> None:
        self.running += 1
        self.looks += 1
        self.changed = changed

    async def refresh(self) -> None:
        self.looks += 1
        self.changed()

    async def stop(self) -> None:
        self.running -= 1

    def make(self, settings: ReaderSettings, _folder: object = None) -> "MadeBank":
        """Stand in the place of what makes banks."""
        self.made_of.append(settings)
        return self
