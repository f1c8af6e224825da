# SPDX-License-Identifier: Apache-2.0
"""What stands in for ``smartcard.scard`` in tests: a PC/SC service that does what it is told."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from iose.transport.bank import Slot, SlotState
from iose.transport.pcsc import PcscBank
from iose.transport.pcsc.codes import NEW_READER, Disposition, ReaderFlag, ScardCode, ShareMode
from iose.transport.pcsc.scard import Scard

NAMED_ATR = bytes.fromhex("3B08") + b"key1.com"
OK = ScardCode.SUCCESS
COUNT = 0x1_0000  # one insertion or removal, in the state of a reader
FIRST_HANDLE = 1000
PATIENCE_S = 10.0


@dataclass
class ScriptedReader:
    """One reader and what is in it.

    Attributes:
        atr: The card's; b"" for no card.
        protocol: What is spoken with it, as a flag.
        serial: What the driver tells; None for nothing.
        answer: What the card answers.
        flags: Flags of its state that do not follow from the rest.
        transaction: Of another program, which shares the card; set at its end.
        commands: What the card was sent.
    """

    atr: bytes = NAMED_ATR
    protocol: int = 2
    serial: bytes | None = None
    answer: Callable[[bytes], bytes] = lambda command: b"\x90\x00"
    flags: int = 0
    count: int = 0
    holder: int | None = None
    transaction: threading.Event | None = None
    commands: list[bytes] = field(default_factory=list)

    @property
    def state(self) -> int:
        there = ReaderFlag.PRESENT if self.atr else ReaderFlag.EMPTY
        held = ReaderFlag.EXCLUSIVE | ReaderFlag.INUSE if self.holder else 0
        held |= ReaderFlag.INUSE if self.transaction else 0
        return self.count * COUNT | there | held | self.flags


class ScriptedScard:
    """The service, as pyscard shows it.

    Attributes:
        readers: Its readers, by name.
        is_down: Whether there is no service.
        failures: Codes that the next calls of a name return instead.
        calls: Every call but those of a monitor, with what tells it apart.
        contexts: Contexts that nobody has released.
    """

    def __init__(self, **readers: ScriptedReader) -> None:
        self.readers = {name.replace("_", " "): one for name, one in readers.items()}
        self.is_down = False
        self.failures: defaultdict[str, list[int]] = defaultdict(list)
        self.calls: list[tuple[object, ...]] = []
        self.contexts: set[int] = set()
        self.others: set[int] = set()
        self._handles: dict[int, tuple[ScriptedReader, str]] = {}
        self._next = FIRST_HANDLE
        self._changed = threading.Condition()

    def change(self, work: Callable[[], object]) -> None:
        """Do something, and wake who waits for a change."""
        with self._changed:
            work()
            self._changed.notify_all()

    def insert(self, name: str, atr: bytes = NAMED_ATR) -> None:
        reader = self.readers[name]

        def put() -> None:
            reader.atr, reader.count = atr, reader.count + 1

        self.change(put)

    def remove(self, name: str) -> None:
        self.insert(name, b"")

    # --- what pyscard has ---------------------------------------------------------------------

    def SCardEstablishContext(self, scope: int):  # noqa: N802
        if self.is_down or (code := self._failure("establish")):
            return (ScardCode.NO_SERVICE if self.is_down else code, 0)
        self._next += 1
        self.contexts.add(self._next)
        return OK, self._next

    def SCardReleaseContext(self, context: int):  # noqa: N802
        self.contexts.discard(context)
        return OK

    def SCardListReaders(self, context: int, groups: list[str]):  # noqa: N802
        if self.is_down:
            return ScardCode.NO_SERVICE, []
        return (OK if self.readers else ScardCode.NO_READERS_AVAILABLE), list(self.readers)

    def SCardGetStatusChange(  # noqa: N802
        self, context: int, timeout_ms: int, known: Sequence[tuple[str, int]]
    ):
        names = [name for name, _ in known if name != NEW_READER]
        for name in names:
            name.encode("ascii")  # raises what pyscard 2.3.1 raises
        before = set(self.readers)

        def has_changed() -> bool:
            if self.is_down or set(self.readers) != before:
                return True
            return any(self.readers[name].state != state for name, state in known if name in names)

        with self._changed:
            is_other = self._changed.wait_for(has_changed, timeout_ms / 1000)
            if self.is_down:
                return ScardCode.NO_SERVICE, []
            if set(names) - set(self.readers):
                return ScardCode.UNKNOWN_READER, []
            looks = [
                (name, self.readers[name].state, list(self.readers[name].atr)) for name in names
            ]
            if is_other:
                looks = [(name, state | ReaderFlag.CHANGED, atr) for name, state, atr in looks]
            return (OK if is_other else ScardCode.TIMEOUT), [*looks, (NEW_READER, 0, [])]

    def SCardConnect(self, context: int, name: str, mode: int, protocols: int):  # noqa: N802
        self.calls.append(("connect", name, mode, int(protocols)))
        reader = self.readers.get(name)
        if reader is not None and reader.transaction is not None:  # as pcscd does
            assert reader.transaction.wait(PATIENCE_S)
        code = self._failure("connect") or self._why_not(reader, mode)
        if code or reader is None:
            return code, 0, 0
        self._next += 1
        self._handles[self._next] = reader, name
        if mode == ShareMode.EXCLUSIVE:
            handle = self._next
            self.change(lambda: setattr(reader, "holder", handle))
        return OK, self._next, reader.protocol

    def SCardReconnect(self, handle: int, mode: int, protocols: int, how: int):  # noqa: N802
        self.calls.append(("reconnect", mode, int(protocols), how))
        return self._failure("reconnect") or self._gone(handle), self._reader(handle).protocol

    def SCardStatus(self, handle: int):  # noqa: N802
        reader = self._reader(handle)
        return self._failure("status") or self._gone(handle), "", 0, 0, list(reader.atr)

    def SCardTransmit(self, handle: int, protocol: int, command: list[int]):  # noqa: N802
        reader = self._reader(handle)
        assert protocol == reader.protocol
        reader.commands.append(bytes(command))
        answer = reader.answer(bytes(command))
        return self._failure("transmit") or self._gone(handle), list(answer)

    def SCardGetAttrib(self, handle: int, number: int):  # noqa: N802
        serial = self._reader(handle).serial
        code = self._failure("attribute") or (OK if serial is not None else 0x8010001F)
        return code, list(serial or b"")

    def SCardDisconnect(self, handle: int, how: int):  # noqa: N802
        reader, name = self._handles.pop(handle)
        self.calls.append(("disconnect", name, Disposition(how)))
        if reader.holder == handle:
            self.change(lambda: setattr(reader, "holder", None))
        return OK

    # --- what they have in common ---------------------------------------------------------------

    def _why_not(self, reader: ScriptedReader | None, mode: int) -> int:
        if self.is_down:
            return ScardCode.NO_SERVICE
        if reader is None:
            return ScardCode.UNKNOWN_READER
        if reader.holder is not None:
            return ScardCode.SHARING_VIOLATION
        return ScardCode.NO_SMARTCARD if mode != ShareMode.DIRECT and not reader.atr else OK

    def _failure(self, name: str) -> int:
        waiting = self.failures[name]
        return waiting.pop(0) if waiting else OK

    def _reader(self, handle: int) -> ScriptedReader:
        return self._handles[handle][0]

    def _gone(self, handle: int) -> int:
        if self.is_down:
            return ScardCode.NO_SERVICE
        return OK if self._reader(handle).atr else ScardCode.REMOVED_CARD


class Watched:
    """A running bank whose changes can be waited for."""

    def __init__(self, service: ScriptedScard, **given) -> None:
        self.service = service
        self.bank = PcscBank("cards", scard=Scard(service), **{"apdu_s": PATIENCE_S, **given})
        self._event = asyncio.Event()

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self.bank.slots

    def changed(self) -> None:
        self._event.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._event.clear()
                await self._event.wait()

    async def until_state(self, state: SlotState, index: int = 0) -> Slot:
        await self.until(lambda: len(self.slots) > index and self.slots[index].state is state)
        return self.slots[index]


@asynccontextmanager
async def running(service: ScriptedScard, **given):
    watched = Watched(service, **given)
    await watched.bank.start(watched.changed)
    try:
        yield watched
    finally:
        await watched.bank.stop()
