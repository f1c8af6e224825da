# SPDX-License-Identifier: Apache-2.0
"""The card OS: raw APDU in, raw APDU out (ISO/IEC 7816-4, tls-se.md §3).

It selects, dispatches, and keeps one transaction per command. It knows no applet: factories are
handed in by name. What a host sends can only ever cause a status word; the card stays found either
before or after a command, never in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from iose.applet_api import AppletFactory
from iose.card.answers import AnswerQueue
from iose.card.chaining import CHAINING_BIT, CommandChain
from iose.card.channels import BASIC_CHANNEL, Instance, LogicalChannels
from iose.card.context import HISTORICAL_BYTES_NAME, InstanceContext
from iose.card.memory import CardMemory
from iose.card.refusals import FaultListener, describe, status_of
from iose.card.registry import REGISTRY_NAME, LifeCycle, Privilege, Registry, RegistryEntry
from iose.card.store import NonVolatileStore
from iose.crypto.base import CryptoProvider, Rng
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr, TransmissionProtocol
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError, LocalProtocolError, StoreError

INS_SELECT: Final = 0xA4
P1_BY_AID: Final = 0x04
INS_MANAGE_CHANNEL: Final = 0x70
CHANNEL_MASK: Final = 0x03
FIRST_CLASSES: Final = 0xE0  # clear in the first interindustry classes (ISO/IEC 7816-4 §5.4.1)
PROPRIETARY_MASK: Final = 0xC0
PROPRIETARY: Final = 0x80  # 80 to BF code the channel likewise (GPCS 2.3.1 §11.1.4)


@dataclass(frozen=True, slots=True)
class CardSettings:
    """How a card behaves on its interface.

    Attributes:
        protocol: Manners of T=0 or T=1 (``answers``), announced in the ATR.
        is_class_checked: Hardened wire setting: any class but 00 to 03, chained or not, is
            answered 6E00. Otherwise the class is ignored (tls-se.md §3).
    """

    protocol: TransmissionProtocol = TransmissionProtocol.T1
    is_class_checked: bool = True


DEFAULT_SETTINGS: Final = CardSettings()


@dataclass(frozen=True, slots=True)
class CardServices:
    """What a card is made of; one value may serve many cards.

    Attributes:
        crypto: The primitives.
        rng: Source of random bytes.
        applets: What can be installed, by module name.
        on_fault: Told of every error that is not a refusal, for the host's log.
    """

    crypto: CryptoProvider
    rng: Rng
    applets: Mapping[str, AppletFactory]
    on_fault: FaultListener | None = None


class CardOs:
    """One software secure element; without power until ``power_on``.

    Args:
        store: Its persistent memory, which no other card uses meanwhile.
        services: Its hardware and its program memory.
        settings: Its interface.
    """

    __slots__ = (
        "_chain", "_channels", "_is_powered", "_memory", "_queue", "_services", "_settings",
    )  # fmt: skip

    def __init__(
        self,
        store: NonVolatileStore,
        services: CardServices,
        settings: CardSettings = DEFAULT_SETTINGS,
    ) -> None:
        self._memory = CardMemory(store)
        self._services = services
        self._settings = settings
        self._channels = LogicalChannels(self._build, self._report)
        self._chain = CommandChain()
        self._queue = AnswerQueue(settings.protocol)
        self._is_powered = False

    def power_on(self) -> bytes:
        """Read the store, select the default applet, and return the ATR (ISO/IEC 7816-3 §8).

        Raises:
            StoreError: The store cannot be read, or its registry is damaged.
        """
        self._load()
        self._is_powered = True
        return self._start()

    def reset(self) -> bytes:
        """Drop everything volatile, select the default applet, and return the ATR.

        Raises:
            LocalProtocolError: The card has no power.
        """
        self._check_power()
        self._memory.rollback()
        return self._start()

    def power_off(self) -> None:
        """Drop everything volatile; an unpowered card holds no secret in memory."""
        self._is_powered = False
        self._channels.reset()
        self._clear_exchange()
        self._memory.unload()

    def process(self, command: bytes) -> bytes:
        """Return the answer to one command, whatever its bytes; what it wrote is then stored.

        Raises:
            LocalProtocolError: The card has no power.
        """
        self._check_power()
        try:
            return self._exchange(command, _decode(command)).encode()
        except Exception as fault:  # noqa: BLE001  # the wall: every fault is a status word
            return self._refuse(fault, command).to_bytes(2, "big")

    def install(
        self, module: str, aid: Aid, parameters: bytes = b"", *, default_selected: bool = False
    ) -> None:
        """Add an instance together with its first state (GPCS 2.3.1 §11.5), powered or not.

        Args:
            module: Name of the applet among the card's modules.
            aid: Identifier of the instance.
            parameters: What the applet's ``install`` gets.
            default_selected: Whether a reset selects it, from the next one on.

        Raises:
            StatusWordError: 6A88, no such module; 6985, the AID or the default selection is
                taken; or the applet refuses. Nothing is stored.
            StoreError: The medium is full or broken. Nothing is stored.
        """
        if not self._is_powered:
            self._load()
        try:
            self._install(module, aid, parameters, is_default=default_selected)
        finally:
            self._memory.rollback()
            if not self._is_powered:
                self.power_off()

    def _load(self) -> None:
        self._memory.load()
        stored = self._memory.get(REGISTRY_NAME)
        try:
            self._channels.registry = Registry() if stored is None else Registry.decode(stored)
        except DecodeError as error:
            self._memory.unload()
            raise StoreError(f"the registry of the card is damaged: {error}") from error

    def _start(self) -> bytes:
        historical_bytes = self._memory.get(HISTORICAL_BYTES_NAME) or b""
        self._clear_exchange()
        self._channels.reset()
        self._channels.select_default(BASIC_CHANNEL)
        try:
            self._memory.commit()
        except StoreError as error:
            self._report(error)
            self._channels.reset()
        return Atr.for_card(historical_bytes, self._settings.protocol).encode()

    def _exchange(self, raw: bytes, command: CommandApdu) -> ResponseApdu:
        cla = command.cla
        if self._settings.is_class_checked and cla & ~(CHAINING_BIT | CHANNEL_MASK):
            raise StatusWordError(StatusWord.CLA_NOT_SUPPORTED)
        channel = _channel(cla)
        instance = self._channels.selected(channel)
        fetched = self._queue.fetch(command, channel)
        if fetched is not None:
            return fetched
        whole = self._chain.add(command)
        if whole is None:
            return ResponseApdu()
        response = self._dispatch(whole, channel, instance)
        self._memory.commit()
        return self._queue.send(raw, whole, response, channel) if response.data else response

    def _dispatch(
        self, command: CommandApdu, channel: int, instance: Instance | None
    ) -> ResponseApdu:
        if command.ins == INS_SELECT and command.p1 == P1_BY_AID:
            return self._channels.select(channel, command)
        if command.ins == INS_MANAGE_CHANNEL:
            return self._channels.manage(channel, command)
        if instance is None:
            raise StatusWordError(StatusWord.APPLET_SELECT_FAILED)
        return instance.applet.process(command)

    def _refuse(self, fault: Exception, raw: bytes) -> StatusWord:
        self._memory.rollback()
        self._clear_exchange()
        if not isinstance(fault, StatusWordError):
            self._report(fault)
            self._channels.restart(_channel(raw[0]))
            self._memory.rollback()
        return status_of(fault)

    def _install(self, module: str, aid: Aid, parameters: bytes, *, is_default: bool) -> None:
        registry = self._channels.registry
        if module not in self._services.applets:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND, f"no module {module}")
        if any(entry.aid == aid for entry in registry.entries):
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, f"{aid} is installed")
        if is_default and registry.with_privilege(Privilege.DEFAULT_SELECTED) is not None:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, "a default is installed")
        privileges = Privilege.DEFAULT_SELECTED if is_default else Privilege.NONE
        entry = RegistryEntry(aid, module, privileges, LifeCycle.SELECTABLE)
        extended = registry.with_entry(entry)
        self._build(entry).applet.install(parameters)
        self._memory.put(REGISTRY_NAME, extended.encode())
        self._memory.commit()
        self._channels.registry = extended

    def _build(self, entry: RegistryEntry) -> Instance:
        factory = self._services.applets.get(entry.module)
        if factory is None:
            raise StatusWordError(StatusWord.NOT_FOUND, f"no module {entry.module}")
        context = InstanceContext(
            self._memory, self._services.crypto, self._services.rng, entry.aid
        )
        return Instance(entry, context, factory(context))

    def _report(self, fault: Exception) -> None:
        if self._services.on_fault is not None:
            self._services.on_fault(describe(fault))

    def _clear_exchange(self) -> None:
        self._chain.clear()
        self._queue.clear()

    def _check_power(self) -> None:
        if not self._is_powered:
            raise LocalProtocolError("the card has no power")


def _decode(raw: bytes) -> CommandApdu:
    try:
        return CommandApdu.decode(raw)
    except DecodeError as error:
        raise StatusWordError(StatusWord.WRONG_LENGTH, str(error)) from error


def _channel(cla: int) -> int:
    """Return the logical channel a class byte names; other codings mean the basic channel."""
    if cla & FIRST_CLASSES == 0 or cla & PROPRIETARY_MASK == PROPRIETARY:
        return cla & CHANNEL_MASK
    return BASIC_CHANNEL
