# SPDX-License-Identifier: Apache-2.0
"""Devices of the I2C twin: what they hear and say byte by byte, and what befalls them.

Written against the documents (iose-server.md §8.4, ISO/IEC 7816-3 §11), with nothing of the
product's codec: a mistake made there is not made here too.
"""

from typing import Protocol

from tests.twins.control import Faults

HOST, DEVICE = 0x5A, 0xA5
RESET, RESET_ANSWER, ECHO, APDU = 0xCF, 0xEF, 0xC0, 0xC1
OTHER, ELEMENT, CRC = 0x81, 0x82, 0x83
INF_LIMIT = 254
SLOW_POLLS = 3
GARBAGE = bytes.fromhex("17FF00A5")
OUT_OF_ORDER = ("nack", "gone")


def crc16(data: bytes) -> bytes:
    """Return CRC-16/X-25, low byte first, a bit at a time."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return (crc ^ 0xFFFF).to_bytes(2, "little")


def frame(pcb: int, inf: bytes = b"") -> bytes:
    """Return a frame of a device."""
    head = bytes((DEVICE, pcb, len(inf))) + inf
    return head + crc16(head)


class Chip(Protocol):
    """What a device runs."""

    historical_bytes: bytes

    def restart(self) -> None: ...

    def process(self, command: bytes) -> bytes: ...


class Device:
    """A device: its pins, its buffers, its faults.

    Attributes:
        is_slow_nack: Whether it says "not ready" by no acknowledgement, as NXP parts do.
    """

    is_slow_nack = False

    def __init__(self, address: int, chip: Chip, faults: Faults) -> None:
        self.chip = chip
        self._address = address
        self._faults = faults
        self._heard = b""
        self._said = b""
        self._polls = 0

    def pulse(self) -> None:
        """Take a pulse on the reset line."""
        self._heard = self._said = b""
        self._polls = 0
        self.begin()
        self.chip.restart()

    def write(self, data: bytes) -> bytes | None:
        """Take one write transfer; None is no acknowledgement."""
        if self._befalls(*OUT_OF_ORDER):
            return None
        self._heard += data
        if len(self._heard) >= 3 and len(self._heard) >= 5 + self._heard[2]:
            heard, self._heard, self._said = self._heard, b"", b""
            self._take(heard)
        return b""

    def read(self, size: int) -> bytes | None:
        """Give one read transfer; None is no acknowledgement."""
        if self._befalls(*OUT_OF_ORDER):
            return None
        if not self._said or self._polls:
            self._polls -= bool(self._polls)
            return None if self.is_slow_nack else bytes(size)
        said, self._said = self._said[:size], self._said[size:]
        return said + b"\xff" * (size - len(said))

    def begin(self) -> None:
        """Forget the numbers of the protocol."""

    def hear(self, pcb: int, inf: bytes) -> bytes:
        """Return the frame that answers a good frame."""
        raise NotImplementedError

    def hear_damage(self) -> bytes:
        """Return the frame that answers a frame with a wrong CRC."""
        raise NotImplementedError

    def refuse(self, pcb: int) -> bytes:
        """Return the frame that says 81 or 82."""
        return frame(pcb)

    def _take(self, heard: bytes) -> None:
        self._polls = 0  # what it was slow with is over
        is_good = heard[0] == HOST and crc16(heard[:-2]) == heard[-2:]
        if is_good and not self._befalls("lost"):
            answer = self.hear(heard[1], heard[3:-2])
        else:
            answer = self.hear_damage()
        match self._fault():
            case "silence":
                answer = b""
            case "slow":
                self._polls = int(self._faults.order.get("polls", SLOW_POLLS))
            case "crc":
                answer = answer[:-1] + bytes((answer[-1] ^ 0xFF,))
            case "garbage":
                answer = GARBAGE
            case "partial":
                half = len(answer) // 2
                answer = answer[:half] + b"\xff" * (len(answer) - half)
            case "other":
                answer = self.refuse(OTHER)
            case "element":
                answer = self.refuse(ELEMENT)
            case "reset":
                self.pulse()
                answer = b""
        self._said = answer

    def _fault(self) -> str | None:
        if self._faults.kind in (*OUT_OF_ORDER, "lost", "waiting"):
            return None
        return self._faults.take(address=self._address)

    def _befalls(self, *kinds: str) -> bool:
        return self._faults.kind in kinds and bool(self._faults.take(address=self._address))


class Board(Device):
    """A card behind a controller: one frame carries one APDU."""

    _last = b""
    _rest = b""

    def hear(self, pcb: int, inf: bytes) -> bytes:
        if pcb == CRC:
            return self._last
        if pcb == RESET:
            self.chip.restart()
            self._rest = b""
            self._last = frame(RESET, self.chip.historical_bytes)
        elif pcb == ECHO:
            self._last = frame(ECHO, inf)
        elif pcb == APDU:
            self._last = frame(APDU, self._carry(inf))
        else:
            self._last = frame(OTHER)
        return self._last

    def hear_damage(self) -> bytes:
        self._last = frame(CRC)  # what was said last is repeated, not the answer before
        return self._last

    def _carry(self, command: bytes) -> bytes:
        """Return an answer that fits a frame; the controller keeps what does not."""
        if self._rest and command[1:4] == bytes.fromhex("C00000"):
            answer = self._rest
        else:
            answer = self.chip.process(command)
        self._rest = b""
        if len(answer) <= INF_LIMIT:
            return answer
        self._rest = answer[INF_LIMIT - 2 :]
        return answer[: INF_LIMIT - 2] + bytes((0x61, min(len(self._rest) - 2, 0xFF)))


class BlockPart(Device):
    """A part that speaks T=1 over I2C.

    Attributes:
        information_size: Largest INF it takes and gives.
    """

    is_slow_nack = True
    information_size = INF_LIMIT

    def __init__(self, address: int, chip: Chip, faults: Faults) -> None:
        super().__init__(address, chip, faults)
        self.begin()

    def begin(self) -> None:
        self._ns = 0
        self._nr = 0
        self._command = b""
        self._pieces: list[bytes] = []
        self._waits = b""
        self._last = b""

    def hear(self, pcb: int, inf: bytes) -> bytes:
        if pcb & 0xC0 == 0xC0:
            return self._hear_supervisory(pcb, inf)
        if pcb & 0x80:
            return self._hear_receive(pcb)
        if pcb >> 6 & 1 != self._nr:
            return self._receive(2)
        self._nr ^= 1
        self._command += inf
        if pcb & 0x20:
            return self._keep(self._receive(0))
        command, self._command = self._command, b""
        answer = self.chip.process(command)
        size = self.information_size
        self._pieces = [answer[i : i + size] for i in range(0, len(answer), size)]
        first = self._next_block()
        if self._befalls("waiting"):
            self._waits = first
            return self._keep(frame(0xC3, b"\x01"))
        return self._keep(first)

    def hear_damage(self) -> bytes:
        return self._receive(1)

    def refuse(self, pcb: int) -> bytes:
        return self._receive(2)

    def _hear_supervisory(self, pcb: int, inf: bytes) -> bytes:
        if pcb == 0xE3 and self._waits:
            return self._keep(self._waits)
        if pcb == 0xC0:
            self.begin()
            return frame(0xE0)
        if pcb == RESET:
            self.begin()
            self.chip.restart()
            return frame(RESET_ANSWER, self._parameters())
        return self._receive(2)

    def _hear_receive(self, pcb: int) -> bytes:
        if pcb >> 4 & 1 == self._ns and not pcb & 3 and self._pieces:
            return self._keep(self._next_block())
        return self._last

    def _next_block(self) -> bytes:
        piece = self._pieces.pop(0)
        pcb = self._ns << 6 | (0x20 if self._pieces else 0)
        self._ns ^= 1
        return frame(pcb, piece)

    def _receive(self, error: int) -> bytes:
        return frame(0x80 | self._nr << 4 | error)

    def _keep(self, answer: bytes) -> bytes:
        self._last = answer
        return answer

    def _parameters(self) -> bytes:
        """Return the ATR of an NXP part (UM11225), with the name as historical bytes."""
        name = self.chip.historical_bytes
        size = self.information_size.to_bytes(2, "big")
        physical = bytes.fromhex("03E8080100000000640000")
        return (
            bytes.fromhex("00A0000003960403E8") + size
            + b"\x02" + bytes((len(physical),)) + physical
            + bytes((len(name),)) + name
        )  # fmt: skip
