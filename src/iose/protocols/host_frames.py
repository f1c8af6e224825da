# SPDX-License-Identifier: Apache-2.0
"""Frames between a node and an element host: many elements, a batch per frame (design.md §4).

A frame is a 4-byte length, then a request number, a kind and a body. Answers carry the number of
their request and may come in any order; request 0 asks for no answer. One exchange can power an
element on, run a batch and power it off, so that what belongs together costs one round trip.
Commands and answers are opaque bytes here: this room has never heard of a card.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from iose.wire.errors import DecodeError, LocalProtocolError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

LENGTH_SIZE: Final = 4
FRAME_LIMIT: Final = 1 << 20  # an inventory of 8,000 elements, or any batch a front makes
COMMAND_PREFIX: Final = 3  # an extended command is up to 65 544 bytes
SEID_LIMIT: Final = 63
NO_ANSWER: Final = 0


class FrameKind(IntEnum):
    """What a frame is."""

    LIST = 0x01
    EXCHANGE = 0x02
    LIST_ANSWER = 0x81
    EXCHANGE_ANSWER = 0x82
    FAILURE = 0x83


class ExchangeFlag(IntFlag):
    """What an exchange does around its commands."""

    POWER_ON = 1  # before the commands; a powered element loses its power first
    RESET = 2  # before the commands, after POWER_ON
    POWER_OFF = 4  # after the commands, whatever they answered; the element is free again
    RAW = 8  # answers are not drained


class FailureCode(IntEnum):
    """Why a host could not carry out a request."""

    UNKNOWN_ELEMENT = 1
    HELD = 2
    NOT_POWERED = 3
    ELEMENT_FAULT = 4
    BAD_REQUEST = 5


@dataclass(frozen=True, slots=True)
class ElementInfo:
    """One element of a host's inventory.

    Attributes:
        seid: Its name on the administration plane, 1 to 63 bytes in UTF-8.
        sen: Its name on the service plane; empty when it has none.
        atr: Its answer to reset, as it is now.
        chunk_size: Largest command data it takes, in bytes.
        max_record: Largest TLS record it takes, header included; 0 when there is no limit.
    """

    seid: str
    sen: str
    atr: bytes
    chunk_size: int
    max_record: int


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Asks for the inventory."""

    request_id: int


@dataclass(frozen=True, slots=True)
class ListAnswer:
    """The inventory of a host."""

    request_id: int
    elements: tuple[ElementInfo, ...]


@dataclass(frozen=True, slots=True)
class ExchangeStep:
    """One command of an exchange.

    Attributes:
        command: The raw command.
        expected: The status word after which the exchange goes on; 0 goes on after any.
    """

    command: bytes
    expected: int


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """Power, commands, power: what one element has to do in one go."""

    request_id: int
    flags: ExchangeFlag
    seid: str
    steps: tuple[ExchangeStep, ...] = ()


@dataclass(frozen=True, slots=True)
class ExchangeAnswer:
    """What one element answered.

    Attributes:
        request_id: Number of the request.
        atr: The answer to reset, when the exchange made one; else empty.
        apdus: Commands the element has had, those that fetched the rest of an answer included.
        responses: Raw answers, up to and with the first unexpected status.
    """

    request_id: int
    atr: bytes
    apdus: int
    responses: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not carried out; what the node held of that element, it lost."""

    request_id: int
    code: int
    message: str


Request = ListRequest | ExchangeRequest
Answer = ListAnswer | ExchangeAnswer | Failure


class FrameSplitter:
    """Cuts a stream into frame bodies; bounded by ``FRAME_LIMIT``."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def receive_data(self, data: bytes) -> list[bytes]:
        """Return the frames that ``data`` completes, lengths removed.

        Raises:
            DecodeError: A frame is longer than the limit; the stream cannot be read on.
        """
        buffer = self._buffer + data if self._buffer else data
        frames = []
        position = 0
        while len(buffer) - position >= LENGTH_SIZE:
            start = position + LENGTH_SIZE
            length = int.from_bytes(buffer[position:start], "big")
            if length > FRAME_LIMIT:
                raise DecodeError(f"a frame of {length} bytes is over the limit", offset=position)
            if len(buffer) < start + length:
                break
            position = start + length
            frames.append(buffer[start:position])
        self._buffer = buffer[position:]
        return frames


def encode_request(request: Request) -> bytes:
    """Return the whole frame, length included.

    Raises:
        LocalProtocolError: A field or the frame is over its limit.
    """
    writer = ByteWriter()
    if isinstance(request, ListRequest):
        _write_header(writer, request.request_id, FrameKind.LIST)
        return _finished(writer)
    _write_header(writer, request.request_id, FrameKind.EXCHANGE)
    writer.write_uint8(request.flags)
    writer.write_opaque(request.seid.encode(), 1)
    writer.write_uint16(len(request.steps))
    for step in request.steps:
        writer.write_uint16(step.expected)
        writer.write_opaque(step.command, COMMAND_PREFIX)
    return _finished(writer)


def decode_request(frame: bytes) -> Request:
    """Return the request in one frame body.

    Raises:
        DecodeError: Not a request, or malformed.
    """
    reader = ByteReader(frame)
    request_id = reader.read_uint(4)
    kind = reader.read_uint8()
    if kind == FrameKind.LIST:
        reader.finish()
        return ListRequest(request_id)
    if kind != FrameKind.EXCHANGE:
        raise DecodeError(f"expected a request, found kind {kind:02X}")
    flags = ExchangeFlag(reader.read_uint8())
    seid = _read_text(reader, 1, low=1, high=SEID_LIMIT)
    steps = []
    for _ in range(reader.read_uint16()):
        expected = reader.read_uint16()
        steps.append(ExchangeStep(reader.read_opaque(COMMAND_PREFIX), expected))
    reader.finish()
    return ExchangeRequest(request_id, flags, seid, tuple(steps))


def encode_answer(answer: Answer) -> bytes:
    """Return the whole frame, length included.

    Raises:
        LocalProtocolError: A field or the frame is over its limit.
    """
    writer = ByteWriter()
    match answer:
        case ExchangeAnswer():
            _write_header(writer, answer.request_id, FrameKind.EXCHANGE_ANSWER)
            writer.write_opaque(answer.atr, 1)
            writer.write_uint(answer.apdus, 4)
            writer.write_uint16(len(answer.responses))
            for response in answer.responses:
                writer.write_opaque(response, COMMAND_PREFIX)
        case ListAnswer():
            _write_header(writer, answer.request_id, FrameKind.LIST_ANSWER)
            writer.write_uint16(len(answer.elements))
            for element in answer.elements:
                _write_element(writer, element)
        case Failure():
            _write_header(writer, answer.request_id, FrameKind.FAILURE)
            writer.write_uint8(answer.code)
            writer.write_opaque(answer.message.encode(), 2)
    return _finished(writer)


def decode_answer(frame: bytes) -> Answer:
    """Return the answer in one frame body.

    Raises:
        DecodeError: Not an answer, or malformed.
    """
    reader = ByteReader(frame)
    request_id = reader.read_uint(4)
    kind = reader.read_uint8()
    answer: Answer
    if kind == FrameKind.EXCHANGE_ANSWER:
        atr = reader.read_opaque(1)
        apdus = reader.read_uint(4)
        count = reader.read_uint16()
        responses = tuple(reader.read_opaque(COMMAND_PREFIX) for _ in range(count))
        answer = ExchangeAnswer(request_id, atr, apdus, responses)
    elif kind == FrameKind.LIST_ANSWER:
        count = reader.read_uint16()
        answer = ListAnswer(request_id, tuple(_read_element(reader) for _ in range(count)))
    elif kind == FrameKind.FAILURE:
        answer = Failure(request_id, reader.read_uint8(), _read_text(reader, 2))
    else:
        raise DecodeError(f"expected an answer, found kind {kind:02X}")
    reader.finish()
    return answer


def _write_header(writer: ByteWriter, request_id: int, kind: FrameKind) -> None:
    writer.write_uint(request_id, 4)
    writer.write_uint8(kind)


def _finished(writer: ByteWriter) -> bytes:
    frame = writer.to_bytes()
    if len(frame) > FRAME_LIMIT:
        raise LocalProtocolError(f"a frame of {len(frame)} bytes is over the limit")
    return len(frame).to_bytes(LENGTH_SIZE, "big") + frame


def _write_element(writer: ByteWriter, element: ElementInfo) -> None:
    writer.write_opaque(element.seid.encode(), 1)
    writer.write_opaque(element.sen.encode(), 1)
    writer.write_opaque(element.atr, 1)
    writer.write_uint16(element.chunk_size)
    writer.write_uint(element.max_record, 4)


def _read_element(reader: ByteReader) -> ElementInfo:
    return ElementInfo(
        _read_text(reader, 1, low=1, high=SEID_LIMIT),
        _read_text(reader, 1),
        reader.read_opaque(1),
        reader.read_uint16(),
        reader.read_uint(4),
    )


def _read_text(reader: ByteReader, prefix: int, *, low: int = 0, high: int | None = None) -> str:
    offset = reader.offset
    try:
        return reader.read_opaque(prefix, low=low, high=high).decode()
    except UnicodeDecodeError as error:
        raise DecodeError("expected text in UTF-8", offset=offset) from error
