# SPDX-License-Identifier: Apache-2.0
"""The card OS: raw APDU in, raw APDU out (ISO/IEC 7816-4, tls-se.md §3).

It selects, dispatches, and keeps one transaction per command. It knows no applet: factories are
handed in by name. What a host sends can only ever cause a status word; the card stays found either
before or after a command, never in between.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from iose.card.answers import AnswerQueue
from iose.card.chaining import CHAINING_BIT, CommandChain
from iose.card.channels import BASIC_CHANNEL, Instance
from iose.card.contents import CardContents, CardServices
from iose.card.management import DomainManagement
from iose.card.memory import CardMemory
from iose.card.refusals import status_of
from iose.card.store import NonVolatileStore
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr, TransmissionProtocol
from iose.iso7816.instructions import INS_MANAGE_CHANNEL, INS_SELECT, P1_BY_AID
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError, LocalProtocolError, StoreError

__all__ = ["DEFAULT_SETTINGS", "CardOs", "CardServices", "CardSettings"]

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
            answered 6E00, unless a security domain is selected. Otherwise the class is
            ignored (tls-se.md §3).
    """

    protocol: TransmissionProtocol = TransmissionProtocol.T1
    is_class_checked: bool = True


DEFAULT_SETTINGS: Final = CardSettings()


class CardOs:
    """One software secure element; without power until ``power_on``.

    Args:
        store: Its persistent memory, which no other card uses meanwhile.
        services: Its hardware and its program memory.
        settings: Its interface.
    """

    __slots__ = (
        "_chain", "_channels", "_contents", "_is_powered", "_memory", "_queue", "_settings",
    )  # fmt: skip

    def __init__(
        self,
        store: NonVolatileStore,
        services: CardServices,
        settings: CardSettings = DEFAULT_SETTINGS,
    ) -> None:
        self._memory = CardMemory(store)
        self._settings = settings
        self._contents = CardContents(self._memory, services, DomainManagement)
        self._channels = self._contents.channels
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
        self._contents.forget()

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
        with self._maker():
            self._contents.install(module, aid, parameters, is_default=default_selected)

    def add_domain(
        self, module: str, aid: Aid, parameters: bytes = b"", *, loaded: Sequence[Aid] = ()
    ) -> None:
        """Make a card manageable, a new one or one with instances, powered or not.

        Args:
            module: Name of the security domain among the card's modules.
            aid: Identifier of the domain.
            parameters: What the domain's ``install`` gets.
            loaded: Load files among the card's packages that are there from the beginning.

        Raises:
            StatusWordError: The domain refuses its parameters. Nothing is stored.
            StoreError: The medium is full or broken. Nothing is stored.
        """
        with self._maker():
            self._contents.add_domain(module, aid, parameters, loaded)

    @contextmanager
    def _maker(self) -> Iterator[None]:
        """Give the contents to the card's maker, for one transaction."""
        if not self._is_powered:
            self._load()
        try:
            yield
            self._memory.commit()
        finally:
            self._memory.rollback()
            if not self._is_powered:
                self.power_off()

    def _load(self) -> None:
        self._memory.load()
        try:
            self._contents.check()
        except StoreError:
            self._memory.unload()
            raise

    def _start(self) -> bytes:
        historical_bytes = self._contents.historical_bytes
        self._clear_exchange()
        self._channels.reset()
        self._channels.select_default(BASIC_CHANNEL)
        try:
            self._memory.commit()
        except StoreError as error:
            self._contents.report(error)
            self._channels.reset()
        return Atr.for_card(historical_bytes, self._settings.protocol).encode()

    def _exchange(self, raw: bytes, command: CommandApdu) -> ResponseApdu:
        cla = command.cla
        channel = _channel(cla)
        if cla & ~(CHAINING_BIT | CHANNEL_MASK) and not self._takes_any_class(channel):
            raise StatusWordError(StatusWord.CLA_NOT_SUPPORTED)
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

    def _takes_any_class(self, channel: int) -> bool:
        return not self._settings.is_class_checked or self._channels.has_domain(channel)

    def _dispatch(
        self, command: CommandApdu, channel: int, instance: Instance | None
    ) -> ResponseApdu:
        if not self._settings.is_class_checked or not command.cla & ~CHANNEL_MASK:
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
            self._contents.report(fault)
            self._channels.restart(_channel(raw[0]))
            self._memory.rollback()
        return status_of(fault)

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
