# SPDX-License-Identifier: Apache-2.0
"""Logical channels and what is selected on each (ISO/IEC 7816-4 §5.4, GPCS 2.3.1 §6.4).

An instance is selected on one channel at most. Instances are built when first selected and live
until the next reset. Commands are dispatched in ``card_os``.
"""

from collections.abc import Callable, Sequence
from typing import Final

from iose.applet_api import Applet
from iose.card.context import InstanceContext
from iose.card.registry import Registry, RegistryEntry
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError

CHANNEL_COUNT: Final = 4
BASIC_CHANNEL: Final = 0
# P1 of MANAGE CHANNEL (ISO/IEC 7816-4 §11.1.2)
OPEN_CHANNEL: Final = 0x00
CLOSE_CHANNEL: Final = 0x80
# P2 of SELECT (ISO/IEC 7816-4 §11.1.1); what template it returns is the applet's business
FIRST_OCCURRENCE: Final = 0x00
NEXT_OCCURRENCE: Final = 0x02
CONTROL_INFORMATION: Final = 0x0C


class Instance:
    """One applet instance since the last reset: its registry entry, services and code."""

    __slots__ = ("applet", "context", "entry")

    def __init__(self, entry: RegistryEntry, context: InstanceContext, applet: Applet) -> None:
        self.entry = entry
        self.context = context
        self.applet = applet


class LogicalChannels:
    """The open channels, each with the instance selected on it, or None.

    Args:
        build: Makes an instance of a registry entry.
        registry: Returns the registry as it is now.
        report: Told of an error inside an applet that no answer can carry.
    """

    __slots__ = ("_build", "_instances", "_registry", "_report", "_selected")

    def __init__(
        self,
        build: Callable[[RegistryEntry], Instance],
        registry: Callable[[], Registry],
        report: Callable[[Exception], None],
    ) -> None:
        self._build = build
        self._registry = registry
        self._report = report
        self._instances: dict[bytes, Instance] = {}
        self._selected: dict[int, Instance | None] = {}

    def reset(self) -> None:
        """Drop every instance and close every channel but the basic one."""
        self._instances = {}
        self._selected = {BASIC_CHANNEL: None}

    def selected(self, channel: int) -> Instance | None:
        """Return the instance selected on an open channel.

        Raises:
            StatusWordError: 6881, the channel is not open.
        """
        try:
            return self._selected[channel]
        except KeyError:
            raise StatusWordError(StatusWord.CHANNEL_NOT_SUPPORTED) from None

    def has_domain(self, channel: int) -> bool:
        """Return whether a security domain is selected on a channel, which may be closed."""
        instance = self._selected.get(channel)
        return instance is not None and instance.entry.is_domain

    def instance(self, entry: RegistryEntry) -> Instance:
        """Return the running instance of an entry; it is built when it does not run yet.

        Raises:
            StatusWordError: 6A82, its module is gone.
        """
        instance = self._instances.get(entry.aid.value)
        if instance is None:
            instance = self._instances[entry.aid.value] = self._build(entry)
        return instance

    def drop(self, aid: Aid) -> None:
        """Deselect an instance wherever it is selected, and forget its volatile state."""
        for channel, instance in self._selected.items():
            if instance is not None and instance.entry.aid == aid:
                self._deselect(channel)
        self._instances.pop(aid.value, None)

    def drop_applications(self) -> None:
        """Deselect and forget everything but security domains."""
        for instance in [*self._instances.values()]:
            if not instance.entry.is_domain:
                self.drop(instance.entry.aid)

    def select_default(self, channel: int) -> None:
        """Select the default instance, if there is one and it is free; its refusal leaves none."""
        entry = self._registry().default
        if entry is None or self._is_selected_elsewhere(entry, channel):
            return
        try:
            self._switch(channel, entry)
        except Exception as fault:  # noqa: BLE001  # the card starts whatever an applet does
            self._report(fault)

    def select(self, channel: int, command: CommandApdu) -> ResponseApdu:
        """Return the applet's answer to SELECT by AID (ISO/IEC 7816-4 §11.1.1).

        Raises:
            StatusWordError: 6A82, no instance matches, or 6985, it is selected on another
                channel, or 6A86: the selection is unchanged. Or the applet refuses: nothing is
                selected any more.
        """
        entry = self._find(channel, command)
        if self._is_selected_elsewhere(entry, channel):
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        return self._switch(channel, entry)

    def manage(self, channel: int, command: CommandApdu) -> ResponseApdu:
        """Return the answer to MANAGE CHANNEL (ISO/IEC 7816-4 §11.1.2).

        Raises:
            StatusWordError: 6A86, 6A81 or 6700, the channels are unchanged; 6200, the channel to
                close is not open.
        """
        if command.data:
            raise StatusWordError(StatusWord.WRONG_LENGTH)
        if command.p1 == OPEN_CHANNEL:
            return self._open(command.p2)
        if command.p1 == CLOSE_CHANNEL:
            return self._close(command.p2 or channel)
        raise StatusWordError(StatusWord.WRONG_P1P2)

    def restart(self, channel: int) -> None:
        """Replace the instance of a channel by a new one, as after a reset: it may be broken."""
        broken = self._selected.get(channel)
        if broken is None:
            return
        self._selected[channel] = None
        del self._instances[broken.entry.aid.value]
        try:
            self._switch(channel, broken.entry)
        except Exception as fault:  # noqa: BLE001  # then nothing is selected
            self._report(fault)

    def _find(self, channel: int, command: CommandApdu) -> RegistryEntry:
        occurrence = command.p2 & ~CONTROL_INFORMATION
        if occurrence not in (FIRST_OCCURRENCE, NEXT_OCCURRENCE):
            raise StatusWordError(StatusWord.WRONG_P1P2)
        if command.data:
            matches = self._registry().matching(command.data)
        else:
            issuer = self._registry().issuer
            matches = [] if issuer is None else [issuer]
        if occurrence == NEXT_OCCURRENCE:
            matches = self._after_current(channel, matches)
        if not matches:
            raise StatusWordError(StatusWord.NOT_FOUND)
        return matches[0]

    def _after_current(
        self, channel: int, matches: Sequence[RegistryEntry]
    ) -> Sequence[RegistryEntry]:
        current = self._selected[channel]
        aids = [entry.aid for entry in matches]
        if current is None or current.entry.aid not in aids:
            return matches
        return matches[aids.index(current.entry.aid) + 1 :]

    def _is_selected_elsewhere(self, entry: RegistryEntry, channel: int) -> bool:
        return any(
            instance is not None and instance.entry.aid == entry.aid
            for number, instance in self._selected.items()
            if number != channel
        )

    def _switch(self, channel: int, entry: RegistryEntry) -> ResponseApdu:
        self._deselect(channel)
        instance = self.instance(entry)
        response = instance.applet.select()
        self._selected[channel] = instance
        return response

    def _deselect(self, channel: int) -> None:
        instance, self._selected[channel] = self._selected[channel], None
        if instance is None:
            return
        instance.context.invalidate_pins()
        try:
            instance.applet.deselect()
        except Exception as fault:  # noqa: BLE001  # an applet cannot refuse to be deselected
            self._report(fault)

    def _open(self, number: int) -> ResponseApdu:
        free = [channel for channel in range(1, CHANNEL_COUNT) if channel not in self._selected]
        if number >= CHANNEL_COUNT or not free:
            raise StatusWordError(StatusWord.FUNCTION_NOT_SUPPORTED)
        if number and number not in free:
            raise StatusWordError(StatusWord.WRONG_P1P2)
        opened = number or free[0]
        self._selected[opened] = None
        self.select_default(opened)
        return ResponseApdu(b"" if number else bytes((opened,)))

    def _close(self, number: int) -> ResponseApdu:
        if number == BASIC_CHANNEL or number >= CHANNEL_COUNT:
            raise StatusWordError(StatusWord.FUNCTION_NOT_SUPPORTED)
        if number not in self._selected:
            raise StatusWordError(StatusWord.CHANNEL_NOT_OPEN)
        self._deselect(number)
        del self._selected[number]
        return ResponseApdu()
