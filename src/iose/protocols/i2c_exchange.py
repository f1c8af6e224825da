# SPDX-License-Identifier: Apache-2.0
"""What a host does on an I2C bus to get an answer, and when it gives up (iose-server.md §8.4).

No bus and no clock here: an exchange is a generator that yields what to do next (write, read, wait)
and is sent what came of it and when. It returns the answer, or raises I2cPeerError. This file has
the rules for single frames, and boards that carry an APDU in one; ``i2c_blocks`` adds T=1.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from iose.protocols.i2c_frames import (
    CRC_SIZE,
    HEADER_SIZE,
    INF_LIMIT,
    NO_BYTE,
    NOT_READY,
    I2cFault,
    I2cFrame,
    I2cPeerError,
    Nad,
    Pcb,
    has_valid_crc,
)

# iose-server.md §8.4
POLL_S: Final = 0.010
WRITE_RETRY_S: Final = 0.001
READ_RETRY_S: Final = 0.010
RETRIES: Final = 2
STATUS_SIZE: Final = 2


@dataclass(frozen=True, slots=True)
class Write:
    """Write these bytes in one transfer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Read so many bytes in one transfer."""

    size: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave the bus to others for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step.

    Attributes:
        now: The time after it, in seconds.
        data: What was read; b"" after a write or a wait; None when the transfer failed.
    """

    now: float
    data: bytes | None = b""


Step = Write | Read | Wait
Exchange = Generator[Step, Outcome, bytes]
Frames = Generator[Step, Outcome, I2cFrame]


class FrameLink:
    """Frames to and from one device, up to a deadline; makes one exchange.

    Args:
        transfer_size: Largest transfer of the host's adapter, in bytes.
        deadline: When to give up.
        poll_size: Bytes asked for to see whether an answer is there, 1 to 3.
        is_silence_busy: Whether a read that nobody acknowledges says "not ready".
    """

    def __init__(
        self,
        transfer_size: int,
        deadline: float,
        *,
        poll_size: int = 1,
        is_silence_busy: bool = False,
    ) -> None:
        self._transfer_size = transfer_size
        self._deadline = deadline
        self._poll_size = min(poll_size, transfer_size)
        self._is_silence_busy = is_silence_busy

    def send(self, frame: I2cFrame) -> Exchange:
        """Write one frame.

        Raises:
            I2cPeerError: Nobody acknowledges, or time is over.
        """
        data = frame.encode()
        for start in range(0, len(data), self._transfer_size):
            yield from self._transfer(
                Write(data[start : start + self._transfer_size]), WRITE_RETRY_S
            )
        return b""

    def receive(self) -> Exchange:
        """Return one frame as it comes, its CRC not looked at.

        Raises:
            I2cPeerError: Nobody acknowledges, time is over, or what comes is no frame.
        """
        data = yield from self._first_bytes()
        data += yield from self._read(HEADER_SIZE - len(data))
        if NO_BYTE in data:
            raise I2cPeerError(I2cFault.MALFORMED, f"an answer begins with {data.hex().upper()}")
        data += yield from self._read(data[-1] + CRC_SIZE)
        return data

    def _first_bytes(self) -> Exchange:
        while True:
            if self._is_silence_busy:
                data = yield from self._step(Read(self._poll_size))
            else:
                data = yield from self._transfer(Read(self._poll_size), READ_RETRY_S)
            if data and data[0] == Nad.DEVICE:
                return data
            if data and data[0] != NOT_READY:
                raise I2cPeerError(
                    I2cFault.MALFORMED, f"an answer begins with {data[0]:02X}, not with A5"
                )
            yield from self._step(Wait(POLL_S))

    def _read(self, count: int) -> Exchange:
        data = b""
        while len(data) < count:
            size = min(count - len(data), self._transfer_size)
            data += yield from self._transfer(Read(size), READ_RETRY_S)
        return data

    def _transfer(self, step: Write | Read, retry_s: float) -> Exchange:
        for attempt in range(RETRIES + 1):
            if attempt:
                yield from self._step(Wait(retry_s))
            data = yield from self._step(step)
            if data is not None:
                return data
        verb = "read" if isinstance(step, Read) else "written"
        raise I2cPeerError(I2cFault.NOT_ACKNOWLEDGED, f"nothing can be {verb}: no acknowledgement")

    def _step(self, step: Step) -> Generator[Step, Outcome, bytes | None]:
        outcome = yield step
        if outcome.now >= self._deadline:
            raise I2cPeerError(I2cFault.NO_ANSWER, "no answer in time")
        if outcome.data is not None and len(outcome.data) != (
            step.size if isinstance(step, Read) else 0
        ):
            raise I2cPeerError(I2cFault.MALFORMED, "a transfer brought another number of bytes")
        return outcome.data


class FrameProtocol:
    """A board that carries a whole APDU in one frame (iose-server.md §8.4, tls-im.md §4.2).

    Args:
        transfer_size: Largest transfer of the host's adapter, in bytes.
    """

    apdu_limit: Final = INF_LIMIT

    def __init__(self, transfer_size: int) -> None:
        self._transfer_size = transfer_size

    def power_on(self, deadline: float) -> Exchange:
        """Start the element; returns its historical bytes.

        Raises:
            I2cPeerError: There is no answer, or not the right one.
        """
        reset = (Pcb.SOFT_RESET, Pcb.SOFT_RESET_ANSWER)
        return self._ask(I2cFrame(Nad.HOST, Pcb.SOFT_RESET), reset, deadline)

    def exchange(self, command: bytes, deadline: float) -> Exchange:
        """Carry one APDU of at most ``apdu_limit`` bytes; returns the answer, status word included.

        Raises:
            I2cPeerError: There is no answer, or not the right one.
            LocalProtocolError: The command is too long.
        """
        answer = yield from self._ask(I2cFrame(Nad.HOST, Pcb.APDU, command), (Pcb.APDU,), deadline)
        if len(answer) < STATUS_SIZE:
            raise I2cPeerError(I2cFault.MALFORMED, "an answer has no status word")
        return answer

    def probe(self, deadline: float) -> Exchange:
        """Ask for an echo, which changes nothing in the element.

        Raises:
            I2cPeerError: There is no answer, or not the right one.
        """
        return self._ask(I2cFrame(Nad.HOST, Pcb.ECHO), (Pcb.ECHO,), deadline)

    def _ask(self, question: I2cFrame, expected: tuple[int, ...], deadline: float) -> Exchange:
        link = FrameLink(self._transfer_size, deadline)
        said = question
        repeats = complaints = 0
        while repeats <= RETRIES and complaints <= RETRIES:
            yield from link.send(said)
            data = yield from link.receive()
            if not has_valid_crc(data):
                complaints += 1
                said = I2cFrame(Nad.HOST, Pcb.ERROR_CRC)
                continue
            frame = I2cFrame.decode(data)
            if frame.pcb in expected:
                return frame.inf
            if not frame.is_error:
                raise wrong_kind(frame)
            if frame.pcb != Pcb.ERROR_CRC:
                raise _refusal(frame)
            repeats += 1  # of what was said last: what has an answer is not carried out again
        raise I2cPeerError(I2cFault.BAD_CRC, _DAMAGED[complaints > RETRIES])


_DAMAGED: Final = {
    True: "every answer has a wrong CRC",
    False: "the device gets every frame with a wrong CRC",
}


def wrong_kind(frame: I2cFrame) -> I2cPeerError:
    """Return the error for a frame that is whole, and not the answer to what was asked."""
    return I2cPeerError(I2cFault.MALFORMED, f"an answer of another kind, {frame.pcb:02X}")


def _refusal(frame: I2cFrame) -> I2cPeerError:
    what = "an error of the element" if frame.pcb == Pcb.ERROR_ELEMENT else "an error"
    return I2cPeerError(I2cFault.REFUSED, f"the device reports {what}, {frame.pcb:02X}")
