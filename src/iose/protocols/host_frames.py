# SPDX-License-Identifier: Apache-2.0
"""Frames between a node and an element host: many elements, a batch each (docs/architecture.md).

A frame is a 4-byte length, then a request number, a kind and a body. Answers carry the number of
their request and may come in any order; request 0 asks for no answer. One exchange can power an
element on, run a batch and power it off, so that what belongs together costs one round trip.
Commands and answers are opaque bytes here: this room has never heard of a card.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from iose.wire.errors import DecodeError, LocalProtocolError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

LENGTH_SIZE: Final = 4
FRAME_LIMIT: Final = 1 << 25  # an inventory of 8,000 elements, each with all it can hold
SEID_LIMIT: Final = 63
MESSAGE_LIMIT: Final = 1024
NO_ANSWER: Final = 0

# Every record of every session is an exchange, so these are laid out by hand; commands and
# answers have 3-byte lengths, since an extended command is up to 65 544 bytes.
HEADER: Final = struct.Struct(">IB")  # request number, kind
EXCHANGE_HEADER: Final = struct.Struct(">BB")  # flags, size of the SEID that follows
COUNT: Final = struct.Struct(">H")
STEP_HEADER: Final = struct.Struct(">HBH")  # expected status, size
ANSWER_HEADER: Final = struct.Struct(">IHB")  # commands, answers, size of the ATR that follows
RESPONSE_HEADER: Final = struct.Struct(">BH")  # size


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
class ElementInstance:
    """One more TLS server on an element, besides the one that a reset selects.

    Attributes:
        sen: Its name on the service plane; empty when it has none.
        aid: Identifier it is selected by, at most 255 bytes.
    """

    sen: str
    aid: bytes


@dataclass(frozen=True, slots=True)
class ElementInfo:
    """One element of a host's inventory.

    Attributes:
        seid: Its name on the administration plane, 1 to 63 bytes in UTF-8.
        sen: Its name on the service plane; empty when it has none.
        atr: Its answer to reset, as it is now.
        chunk_size: Largest command data it takes, 1 to 65 535 bytes.
        max_record: Largest TLS record it takes, header included; 0 when there is no limit.
        instances: More TLS servers on it, each of which can be selected.
    """

    seid: str
    sen: str
    atr: bytes
    chunk_size: int
    max_record: int
    instances: tuple[ElementInstance, ...] = ()


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
    """Power, commands, power: what one element has to do in one go; flags are ``ExchangeFlag``."""

    request_id: int
    flags: int
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

    __slots__ = ("_buffer", "_wanted")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = LENGTH_SIZE  # of the first frame, before it is worth another look

    def receive_data(self, data: bytes) -> list[bytes]:
        """Return the frames that ``data`` completes, lengths removed.

        Raises:
            DecodeError: A frame is longer than the limit; the stream cannot be read on.
        """
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        frames = []
        position = 0
        self._wanted = LENGTH_SIZE
        while len(data) - position >= LENGTH_SIZE:
            start = position + LENGTH_SIZE
            length = int.from_bytes(data[position:start], "big")
            if length > FRAME_LIMIT:
                raise DecodeError(f"a frame of {length} bytes is over the limit", offset=position)
            if len(data) < start + length:
                self._wanted = LENGTH_SIZE + length
                break
            position = start + length
            frames.append(data[start:position])
        self._buffer += data[position:]
        return frames


def encode_request(request: Request) -> bytes:
    """Return the whole frame, length included.

    Raises:
        LocalProtocolError: A field or the frame is over its limit.
    """
    if isinstance(request, ListRequest):
        return _framed([HEADER.pack(request.request_id, FrameKind.LIST)])
    seid = request.seid.encode()
    try:
        parts = [
            HEADER.pack(request.request_id, FrameKind.EXCHANGE),
            EXCHANGE_HEADER.pack(request.flags, len(seid)),
            seid,
            COUNT.pack(len(request.steps)),
        ]
        for step in request.steps:
            size = len(step.command)
            parts.append(STEP_HEADER.pack(step.expected, size >> 16, size & 0xFFFF))
            parts.append(step.command)
    except struct.error as error:
        raise LocalProtocolError(f"a request does not fit its frame: {error}") from error
    return _framed(parts)


def decode_request(frame: bytes) -> Request:
    """Return the request in one frame body.

    Raises:
        DecodeError: Not a request, or malformed.
    """
    try:
        return _decode_request(frame)
    except (struct.error, UnicodeDecodeError) as error:
        raise DecodeError(f"a request is malformed: {error}") from error


def _decode_request(frame: bytes) -> Request:
    request_id, kind = HEADER.unpack_from(frame)
    if kind == FrameKind.LIST and len(frame) == HEADER.size:
        return ListRequest(request_id)
    if kind != FrameKind.EXCHANGE:
        raise DecodeError(f"expected a request, found kind {kind:02X}")
    flags, seid_size = EXCHANGE_HEADER.unpack_from(frame, HEADER.size)
    position = HEADER.size + EXCHANGE_HEADER.size + seid_size
    seid = frame[position - seid_size : position].decode()
    (count,) = COUNT.unpack_from(frame, position)
    position += COUNT.size
    steps = []
    for _ in range(count):
        expected, high, low = STEP_HEADER.unpack_from(frame, position)
        start = position + STEP_HEADER.size
        position = start + (high << 16) + low
        steps.append(ExchangeStep(frame[start:position], expected))
    if position != len(frame) or not 1 <= seid_size <= SEID_LIMIT:
        raise DecodeError("a request does not fit its lengths", offset=len(frame))
    return ExchangeRequest(request_id, flags, seid, tuple(steps))


def encode_answer(answer: Answer) -> bytes:
    """Return the whole frame, length included.

    Raises:
        LocalProtocolError: A field or the frame is over its limit.
    """
    if isinstance(answer, ExchangeAnswer):
        return _encode_exchange_answer(answer)
    writer = ByteWriter()
    if isinstance(answer, ListAnswer):
        writer.write_bytes(HEADER.pack(answer.request_id, FrameKind.LIST_ANSWER))
        writer.write_uint16(len(answer.elements))
        for element in answer.elements:
            _write_element(writer, element)
    else:
        writer.write_bytes(HEADER.pack(answer.request_id, FrameKind.FAILURE))
        writer.write_uint8(answer.code)
        writer.write_opaque(_cut(answer.message, MESSAGE_LIMIT), 2)
    return _framed([writer.to_bytes()])


def _encode_exchange_answer(answer: ExchangeAnswer) -> bytes:
    try:
        parts = [
            HEADER.pack(answer.request_id, FrameKind.EXCHANGE_ANSWER),
            ANSWER_HEADER.pack(answer.apdus, len(answer.responses), len(answer.atr)),
            answer.atr,
        ]
        for response in answer.responses:
            size = len(response)
            parts.append(RESPONSE_HEADER.pack(size >> 16, size & 0xFFFF))
            parts.append(response)
    except struct.error as error:
        raise LocalProtocolError(f"an answer does not fit its frame: {error}") from error
    return _framed(parts)


def decode_answer(frame: bytes) -> Answer:
    """Return the answer in one frame body.

    Raises:
        DecodeError: Not an answer, or malformed.
    """
    try:
        request_id, kind = HEADER.unpack_from(frame)
        if kind == FrameKind.EXCHANGE_ANSWER:
            return _decode_exchange_answer(frame, request_id)
    except struct.error as error:
        raise DecodeError(f"an answer is malformed: {error}") from error
    reader = ByteReader(frame)
    reader.read_bytes(HEADER.size)
    answer: Answer
    if kind == FrameKind.LIST_ANSWER:
        count = reader.read_uint16()
        answer = ListAnswer(request_id, tuple(_read_element(reader) for _ in range(count)))
    elif kind == FrameKind.FAILURE:
        answer = Failure(request_id, reader.read_uint8(), _read_text(reader, 2))
    else:
        raise DecodeError(f"expected an answer, found kind {kind:02X}")
    reader.finish()
    return answer


def _decode_exchange_answer(frame: bytes, request_id: int) -> ExchangeAnswer:
    apdus, count, atr_size = ANSWER_HEADER.unpack_from(frame, HEADER.size)
    start = HEADER.size + ANSWER_HEADER.size
    position = start + atr_size
    atr = frame[start:position]
    responses = []
    for _ in range(count):
        high, low = RESPONSE_HEADER.unpack_from(frame, position)
        start = position + RESPONSE_HEADER.size
        position = start + (high << 16) + low
        responses.append(frame[start:position])
    if position != len(frame):
        raise DecodeError("an answer does not fit its lengths", offset=len(frame))
    return ExchangeAnswer(request_id, atr, apdus, tuple(responses))


def _cut(text: str, limit: int) -> bytes:
    """Return a text in at most ``limit`` bytes of UTF-8, no character cut in half."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()


def _framed(parts: list[bytes]) -> bytes:
    frame = b"".join(parts)
    if len(frame) > FRAME_LIMIT:
        raise LocalProtocolError(f"a frame of {len(frame)} bytes is over the limit")
    return len(frame).to_bytes(LENGTH_SIZE, "big") + frame


def _write_element(writer: ByteWriter, element: ElementInfo) -> None:
    writer.write_opaque(element.seid.encode(), 1)
    writer.write_opaque(element.sen.encode(), 1)
    writer.write_opaque(element.atr, 1)
    writer.write_uint16(element.chunk_size)
    writer.write_uint(element.max_record, 4)
    writer.write_uint8(len(element.instances))
    for instance in element.instances:
        writer.write_opaque(instance.sen.encode(), 1)
        writer.write_opaque(instance.aid, 1)


def _read_element(reader: ByteReader) -> ElementInfo:
    info = ElementInfo(
        _read_text(reader, 1, low=1, high=SEID_LIMIT),
        _read_text(reader, 1),
        reader.read_opaque(1),
        reader.read_uint16(),
        reader.read_uint(4),
        tuple(
            ElementInstance(_read_text(reader, 1), reader.read_opaque(1))
            for _ in range(reader.read_uint8())
        ),
    )
    if info.chunk_size == 0:
        raise DecodeError(f"element {info.seid} takes no data", offset=reader.offset)
    return info


def _read_text(reader: ByteReader, prefix: int, *, low: int = 0, high: int | None = None) -> str:
    offset = reader.offset
    try:
        return reader.read_opaque(prefix, low=low, high=high).decode()
    except UnicodeDecodeError as error:
        raise DecodeError("expected text in UTF-8", offset=offset) from error
