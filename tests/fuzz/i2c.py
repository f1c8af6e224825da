# SPDX-License-Identifier: Apache-2.0
"""What devices on an I2C bus say, as bytes that come to whoever reads, transfer by transfer."""

from iose.protocols.i2c_blocks import BlockProtocol
from iose.protocols.i2c_exchange import Exchange, FrameProtocol, Outcome, Read
from iose.protocols.i2c_frames import I2cFrame

COMMAND = bytes.fromhex("00D8000000")
STEP_S = 0.01
DEADLINE_S = 10.0
PARAMETERS = bytes.fromhex("00A0000003960403E800FE020B03E80801000000006400000A4A434F5034204154504F")


def _device(pcb: int, inf: bytes = b"") -> bytes:
    return I2cFrame(0xA5, pcb, inf).encode()


FRAMES = (
    _device(0xC1, b"\x90\x00"),
    b"\0" + _device(0x83) + _device(0xC1, b"\x90\x00"),
    _device(0x82),
)
BLOCKS = (
    _device(0xEF, PARAMETERS) + _device(0x00, b"\x90\x00"),
    _device(0xEF, PARAMETERS) + b"\0\0\0" + _device(0xC3, b"\x01") + _device(0x20) + _device(0x40),
    _device(0xEF) + _device(0x81) + _device(0xC1, b"\x01") + _device(0x90) + _device(0, bytes(3)),
)


def _hear(exchange: Exchange, data: bytes) -> bytes:
    """Run an exchange with a device that says ``data``, then nothing; returns what it left."""
    now = 0.0
    try:
        step = next(exchange)
        while True:
            now += STEP_S
            said: bytes | None = b""
            if isinstance(step, Read):
                said = data[: step.size] if len(data) >= step.size else None
                data = data[step.size :]
            step = exchange.send(Outcome(now, said))
    except StopIteration:
        return data


def hear_frames(data: bytes) -> None:
    """Take the answer to one command of a board."""
    _hear(FrameProtocol(128).exchange(COMMAND, DEADLINE_S), data)


def hear_blocks(data: bytes) -> None:
    """Take the answers to a soft reset and a command of a part that speaks T=1."""
    protocol = BlockProtocol(128)
    data = _hear(protocol.power_on(DEADLINE_S), data)
    _hear(protocol.exchange(COMMAND, DEADLINE_S), data)
