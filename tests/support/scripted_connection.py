# SPDX-License-Identifier: Apache-2.0
"""Elements that say what a test wants: from a transcript, or as a small echo behind a TLS face.

They stand where a card stands: ``process`` takes a raw command and gives a raw answer. A
``ScriptedReader`` puts one behind the Protocols of ``transport.base``.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.transport.errors import TransportError
from iose.transport.stack import ApduMeter, run_batch

ATR = bytes.fromhex("3B9895006B6579312E636F6D")
SERVER_HELLO = bytes.fromhex("160303000402000000")
OPEN_RECORD = b"\x17\x03\x03"


def record(payload: bytes, kind: int = 0x17) -> bytes:
    """Return one record around ``payload``."""
    return bytes((kind, 3, 3)) + len(payload).to_bytes(2, "big") + payload


class ScriptedElement:
    """Answers a fixed transcript; another command than the next one fails the test."""

    def __init__(self, transcript: Iterable[tuple[str, str]]) -> None:
        self.remaining = list(transcript)
        self.power: list[str] = []

    def power_on(self) -> bytes:
        self.power.append("on")
        return ATR

    def reset(self) -> bytes:
        self.power.append("reset")
        return ATR

    def power_off(self) -> None:
        self.power.append("off")

    def process(self, command: bytes) -> bytes:
        assert self.remaining, f"unexpected command {command.hex()}"
        expected, answer = self.remaining.pop(0)
        assert command.hex().upper() == expected.upper()
        return bytes.fromhex(answer)


class EchoElement:
    """Looks like a TLS-SE applet from outside: a hello, a finish, then echoes of each record.

    The first record is answered by ``SERVER_HELLO``; a change-cipher-spec by nothing; the first
    application record by 9001; later ones by themselves; ``?02`` by itself with 9002; ``!!`` by
    6D16.
    """

    def __init__(self) -> None:
        self.power: list[str] = []
        self.commands: list[bytes] = []
        self.records: list[bytes] = []
        self.on_record: Callable[[bytes], None] = lambda record: None
        self.faults: list[Exception] = []
        self._buffer = b""
        self._step = 0

    def power_on(self) -> bytes:
        self.power.append("on")
        if self.faults:
            raise self.faults.pop(0)
        self._step = 0
        return ATR

    def reset(self) -> bytes:
        self.power.append("reset")
        return ATR

    def power_off(self) -> None:
        self.power.append("off")

    def process(self, command: bytes) -> bytes:
        self.commands.append(command)
        apdu = CommandApdu.decode(command)
        if apdu.ins != 0xD8:
            return b"\x6a\x82"
        if not apdu.data:
            self._step = 0
            return b"\x90\x00"
        if apdu.p2 & 1:
            self._buffer = b""
        self._buffer += apdu.data
        return self._answer() if apdu.p2 & 2 else b"\x90\x00"

    def _answer(self) -> bytes:
        whole, self._buffer = self._buffer, b""
        self.records.append(whole)
        self.on_record(whole)
        if self._step == 0:
            self._step = 1
            return SERVER_HELLO + b"\x90\x00"
        if whole[0] != 0x17:
            return b"\x90\x00"
        if self._step == 1:
            self._step = 2
            return b"\x90\x01"
        if whole[5:] == b"!!":
            return b"\x6d\x16"
        return whole + (b"\x90\x02" if whole[5:] == b"?02" else b"\x90\x00")


class ScriptedReader:
    """A reader over one scripted element.

    Attributes:
        gate: While it is closed, no exchange goes on.
        closing: While it is closed, no connection closes.
    """

    def __init__(
        self,
        element: ScriptedElement | EchoElement,
        *,
        name: str = "1",
        limits: ApduLimits | None = None,
    ) -> None:
        self.element = element
        self.gate: asyncio.Event | None = None
        self.closing = asyncio.Event()
        self.closing.set()
        self.faults: list[Exception] = []
        self._name = name
        self._limits = limits or ApduLimits()

    @property
    def name(self) -> str:
        return self._name

    @property
    def limits(self) -> ApduLimits:
        return self._limits

    async def connect(self) -> "ScriptedConnection":
        if self.faults:
            raise self.faults.pop(0)
        return ScriptedConnection(self, self.element.power_on())


class ScriptedConnection:
    """A connection to a scripted element."""

    def __init__(self, reader: ScriptedReader, atr: bytes) -> None:
        self._reader = reader
        self._atr = atr
        self._meter = ApduMeter()

    @property
    def atr(self) -> bytes:
        return self._atr

    @property
    def apdus(self) -> int:
        return self._meter.commands

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu.decode(self._reader.element.process(command.encode()))

    async def transmit_raw(self, command: bytes) -> bytes:
        if self._reader.gate is not None:
            await self._reader.gate.wait()
        if self._reader.faults:
            raise self._reader.faults.pop(0)
        return self._reader.element.process(command)

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        if self._reader.gate is not None:
            await self._reader.gate.wait()
        if self._reader.faults:
            raise self._reader.faults.pop(0)
        return run_batch(self._reader.element.process, steps, self._meter)

    async def reset(self) -> bytes:
        return self._reader.element.reset()

    async def close(self) -> None:
        await self._reader.closing.wait()
        self._reader.element.power_off()


def removed(reader: str = "1") -> TransportError:
    """Return what a reader raises when its card is gone."""
    return TransportError(reader, "the card is gone")
