# SPDX-License-Identifier: Apache-2.0
"""Exchanges on an I2C bus, driven by a script: each step is checked, and answered as it says."""

from collections.abc import Sequence

import pytest

from iose.protocols.i2c_exchange import Exchange, Outcome, Read, Step, Wait, Write
from iose.protocols.i2c_frames import crc16

FAILED = None  # a transfer that nobody acknowledges
Line = tuple[Step, bytes | None]


def host(pcb: int, inf: bytes = b"") -> bytes:
    """Return a frame of the host."""
    return _frame(0x5A, pcb, inf)


def device(pcb: int, inf: bytes = b"") -> bytes:
    """Return a frame of the device."""
    return _frame(0xA5, pcb, inf)


def damaged(frame: bytes) -> bytes:
    """Return it with a wrong CRC."""
    return frame[:-1] + bytes((frame[-1] ^ 1,))


def _frame(nad: int, pcb: int, inf: bytes) -> bytes:
    head = bytes((nad, pcb, len(inf))) + inf
    return head + crc16(head)


def says(frame: bytes) -> Line:
    """Return the line in which a frame is written."""
    return Write(frame), b""


def hears(frame: bytes, poll: int = 1) -> list[Line]:
    """Return the lines in which a frame is read; ``poll`` bytes come first."""
    head = [(Read(poll), frame[:poll])]
    if poll < 3:
        head.append((Read(3 - poll), frame[poll:3]))
    return [*head, (Read(len(frame) - 3), frame[3:])]


def waits(seconds: float) -> Line:
    """Return the line in which time passes."""
    return Wait(seconds), b""


def follow(exchange: Exchange, *script: Line | Sequence[Line], step_s: float = 0.0) -> bytes:
    """Return what an exchange ends with, after exactly these steps.

    Args:
        exchange: The exchange.
        script: Each step expected, and what comes of it; lines, and lists of lines.
        step_s: How long each step takes.
    """
    lines: list[Line] = []
    for part in script:
        lines += part if isinstance(part, list) else [part]  # type: ignore[list-item]
    now = 0.0
    try:
        step = next(exchange)
        for number, (expected, data) in enumerate(lines):
            assert step == expected, f"step {number}"
            now += step_s
            step = exchange.send(Outcome(now, data))
    except StopIteration as end:
        assert number == len(lines) - 1, "the exchange ended early"
        answer: bytes = end.value
        return answer
    pytest.fail(f"one more step: {step}")
