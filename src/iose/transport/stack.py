# SPDX-License-Identifier: Apache-2.0
"""A batch of commands run on a card, each answer drained (tls-se.md §3, iose-server.md §6.2).

Used at the card's side of a wall: by the element host, by our card in the same process, and by
the worker thread of a blocking reader; and where a server takes one command at a time. It sends
commands through the callable it is given and knows nothing of what carries them.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from iose.iso7816.apdu import SHORT_LE_LIMIT, STATUS_SIZE, CommandApdu, ResponseApdu
from iose.iso7816.instructions import INS_GET_RESPONSE
from iose.iso7816.status import StatusWord
from iose.transport.base import BatchStep
from iose.transport.errors import TransportError
from iose.wire.errors import RemoteProtocolError

CHANNEL_MASK: Final = 0x03  # ISO/IEC 7816-4 §5.4.1: GET RESPONSE goes to the command's channel
SW1_MORE_ISO: Final = 0x61
SW1_MORE_APPLET: Final = 0x9F
SW1_WRONG_LE: Final = 0x6C
SW1_UNFINISHED: Final = (SW1_MORE_ISO, SW1_MORE_APPLET, SW1_WRONG_LE)
OUTPUT_LIMIT: Final = 65_536  # iose-server.md §6.5: an answer is one record, or a few
EXCHANGE_LIMIT: Final = 600  # 64 KiB in pieces of 240 bytes, twice: a card that never ends

Process = Callable[[bytes], bytes]
Transmit = Callable[[CommandApdu], Awaitable[ResponseApdu]]


@dataclass(slots=True)
class ApduMeter:
    """What went over the card's interface: the real cost of a handshake on a chip.

    Attributes:
        commands: Number of commands sent, GET RESPONSE included.
        bytes_sent: Size of those commands.
        bytes_received: Size of their answers, status words included.
    """

    commands: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def count(self, command: bytes, response: bytes) -> None:
        """Add one exchange."""
        self.commands += 1
        self.bytes_sent += len(command)
        self.bytes_received += len(response)


def run_batch(
    process: Process, steps: Sequence[BatchStep], meter: ApduMeter | None = None
) -> list[ResponseApdu]:
    """Return the drained answers of ``steps``, up to and with the first unexpected status.

    Args:
        process: Carries one raw command to the card and returns its raw answer.
        steps: The commands, each with the status that lets the batch go on.
        meter: Counts every exchange, if given.

    Raises:
        DecodeError: An answer has no status word.
        RemoteProtocolError: An answer never ends, or is longer than 64 KiB.
    """
    responses = []
    for step in steps:
        response = drain(process, step.command, meter)
        responses.append(response)
        if step.expected is not None and response.status != step.expected:
            break
    return responses


def drain(process: Process, command: CommandApdu, meter: ApduMeter | None = None) -> ResponseApdu:
    """Return the whole answer to one command: 61xx and 9Fxx fetched, 6Cxx repeated.

    6Cxx is a wrong Le only where a command brings no data; INS 85 uses 6C00 for bad data.

    Raises:
        DecodeError: An answer has no status word.
        RemoteProtocolError: An answer never ends, or is longer than 64 KiB.
    """
    return ResponseApdu.decode(drain_raw(process, command.encode(), meter))


def drain_raw(process: Process, command: bytes, meter: ApduMeter | None = None) -> bytes:
    """Return the whole answer to one raw command, drained as by ``drain``, status word last.

    Raises:
        DecodeError: An answer has no status word, or the command is none.
        RemoteProtocolError: An answer never ends, or is longer than 64 KiB.
    """
    answer = process(command)
    if meter is not None:
        meter.count(command, answer)
    if len(answer) > OUTPUT_LIMIT + STATUS_SIZE:
        raise RemoteProtocolError(f"an answer is longer than {OUTPUT_LIMIT} bytes")
    if len(answer) >= STATUS_SIZE and answer[-STATUS_SIZE] not in SW1_UNFINISHED:
        return answer
    return _drain_rest(process, CommandApdu.decode(command), answer, meter)


def _drain_rest(
    process: Process, asked: CommandApdu, answer: bytes, meter: ApduMeter | None
) -> bytes:
    data = b""
    for _ in range(EXCHANGE_LIMIT):
        response = ResponseApdu.decode(answer)
        data += response.data
        if len(data) > OUTPUT_LIMIT:
            raise RemoteProtocolError(f"an answer is longer than {OUTPUT_LIMIT} bytes")
        further = following(asked, response.status)
        if further is None:
            return ResponseApdu(data, response.status).encode()
        asked = further
        wire = asked.encode()
        answer = process(wire)
        if meter is not None:
            meter.count(wire, answer)
    raise RemoteProtocolError(f"an answer does not end after {EXCHANGE_LIMIT} exchanges")


async def transmit_batch(
    name: str, transmit: Transmit, steps: Sequence[BatchStep]
) -> list[ResponseApdu]:
    """Return what ``run_batch`` does, over a link that has to be waited for.

    Args:
        name: Of the element, for errors.
        transmit: Carries one command to the card and returns its raw answer.
        steps: The commands, each with the status that lets the batch go on.

    Raises:
        TransportError: An answer never ends, or is longer than 64 KiB.
    """
    responses = []
    for step in steps:
        response = await _transmit_drained(name, transmit, step.command)
        responses.append(response)
        if step.expected is not None and response.status != step.expected:
            break
    return responses


async def _transmit_drained(name: str, transmit: Transmit, command: CommandApdu) -> ResponseApdu:
    asked = command
    data = b""
    for _ in range(EXCHANGE_LIMIT):
        response = await transmit(asked)
        data += response.data
        if len(data) > OUTPUT_LIMIT:
            raise TransportError(name, f"an answer is longer than {OUTPUT_LIMIT} bytes")
        further = following(asked, response.status)
        if further is None:
            return ResponseApdu(data, response.status)
        asked = further
    raise TransportError(name, "an answer does not end")


def following(asked: CommandApdu, status: StatusWord) -> CommandApdu | None:
    """Return the command that brings the rest of an answer, None when it is whole.

    6Cxx is a wrong Le only where a command brings no data; INS 85 uses 6C00 for bad data.
    """
    size = status.sw2 or SHORT_LE_LIMIT
    sw1 = status.sw1
    if sw1 in (SW1_MORE_ISO, SW1_MORE_APPLET):
        return CommandApdu(asked.cla & CHANNEL_MASK, INS_GET_RESPONSE, 0, 0, le=size)
    if sw1 == SW1_WRONG_LE and not asked.data and asked.le != size:
        return CommandApdu(asked.cla, asked.ins, asked.p1, asked.p2, le=size)
    return None
