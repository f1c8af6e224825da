# SPDX-License-Identifier: Apache-2.0
"""A bank whose slots a test fills and empties, with scripted elements in them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from iose.iso7816.atr import Atr
from iose.transport.bank import Slot, SlotState
from tests.support.scripted_connection import EchoElement, ScriptedReader


class NamedElement(EchoElement):
    """An element whose ATR says its name; without an applet, it refuses every TLS command."""

    def __init__(self, sen: str, *, has_applet: bool = True) -> None:
        super().__init__()
        self.atr = Atr(sen.encode()).encode()
        self.has_applet = has_applet

    def power_on(self) -> bytes:
        super().power_on()
        return self.atr

    def reset(self) -> bytes:
        super().reset()
        return self.atr

    def process(self, command: bytes) -> bytes:
        return super().process(command) if self.has_applet else b"\x6d\x00"


def filled(name: str, called: str = "", **given: Any) -> Slot:
    """Return a slot with an element of a name in it; its SEID is ``sim-<name>``."""
    has_applet = given.pop("has_applet", True)
    element = NamedElement(called, has_applet=has_applet)
    reader = ScriptedReader(element, name=name)
    slot = Slot(name, f"sim-{name}", SlotState.READY, reader, (), element.atr)
    return replace(slot, **given)


def empty(name: str, state: SlotState = SlotState.EMPTY, **given: Any) -> Slot:
    """Return the same slot with nothing in it."""
    return Slot(name, f"sim-{name}", state, **given)


class ScriptedBank:
    """A bank that says what a test says.

    Attributes:
        slots: What is there.
        gate: While it is closed, ``start`` does not return; nor does ``stop`` if ``is_stuck``.
        events: What was asked of the bank.
    """

    def __init__(self, *slots: Slot) -> None:
        self.slots: tuple[Slot, ...] = slots
        self.gate = asyncio.Event()
        self.gate.set()
        self.events: list[str] = []
        self.fault: Exception | None = None
        self._changed: Callable[[], None] = lambda: None

    async def start(self, changed: Callable[[], None]) -> None:
        self.events.append("start")
        self._changed = changed
        if self.fault is not None:
            raise self.fault
        await self.gate.wait()

    async def refresh(self) -> None:
        self.events.append("refresh")

    async def stop(self) -> None:
        self.events.append("stop")

    def put(self, *slots: Slot) -> None:
        """Change some slots, or add them, and say so."""
        known = {slot.name: slot for slot in self.slots}
        self.set(*(known | {slot.name: slot for slot in slots}).values())

    def set(self, *slots: Slot) -> None:
        """Replace all slots, and say so."""
        self.slots = slots
        self._changed()

    def element(self, name: str) -> NamedElement:
        """Return the element in a slot."""
        reader = self.reader(name)
        assert isinstance(reader.element, NamedElement)
        return reader.element

    def reader(self, name: str) -> ScriptedReader:
        """Return the reader of a slot."""
        (reader,) = [slot.reader for slot in self.slots if slot.name == name]
        assert isinstance(reader, ScriptedReader)
        return reader
