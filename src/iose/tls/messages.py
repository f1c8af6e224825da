# SPDX-License-Identifier: Apache-2.0
"""Handshake messages of TLS 1.3 (RFC 8446 §4): each a value with its decode/encode pair.

Extensions stay as bytes here, in their order; ``extensions`` decodes those somebody wants.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import unpack
from typing import Final

from iose.tls.constants import (
    HANDSHAKE_HEADER_SIZE,
    HELLO_RETRY_RANDOM,
    RANDOM_SIZE,
    SESSION_ID_MAX_SIZE,
    TLS_1_2,
    AlertDescription,
    HandshakeType,
    KeyUpdateRequest,
)
from iose.tls.errors import TlsPeerError
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

_EXTENSION_HEADER_SIZE: Final = 4
NO_COMPRESSION: Final = b"\x00"
MAX_MESSAGE_SIZE: Final = 65_536
"""Longest handshake message taken: a ClientHello with all our groups is under 4 KB."""

Extensions = Mapping[int, bytes]
"""Extension bodies by type; the order of the mapping is the order on the wire."""


@dataclass(frozen=True, slots=True)
class HandshakeMessage:
    """One whole message, header included (RFC 8446 §4).

    Attributes:
        type: What it is; an unknown number survives.
        encoded: Header and body, as hashed into the transcript.
    """

    type: HandshakeType
    encoded: bytes

    @property
    def body(self) -> bytes:
        """The message without its header."""
        return self.encoded[HANDSHAKE_HEADER_SIZE:]


class HandshakeBuffer:
    """Joins the contents of handshake records and cuts them into messages (RFC 8446 §5.1)."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether the last record ended where a message ended."""
        return not self._data

    def append(self, content: bytes) -> None:
        """Add the content of one record."""
        self._data += content

    def next_message(self) -> HandshakeMessage | None:
        """Return the next whole message, or None.

        Raises:
            TlsPeerError: The message is longer than any we know.
        """
        data = self._data
        if len(data) < HANDSHAKE_HEADER_SIZE:
            return None
        stop = HANDSHAKE_HEADER_SIZE + int.from_bytes(data[1:HANDSHAKE_HEADER_SIZE], "big")
        if stop > MAX_MESSAGE_SIZE:
            raise TlsPeerError(
                AlertDescription.ILLEGAL_PARAMETER, f"a handshake message of {stop} bytes"
            )
        if len(data) < stop:
            return None
        encoded = bytes(data[:stop])
        del data[:stop]
        return HandshakeMessage(HandshakeType(encoded[0]), encoded)


@dataclass(frozen=True, slots=True)
class ClientHello:
    """ClientHello (RFC 8446 §4.1.2)."""

    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    extensions: Extensions = field(default_factory=dict)
    compression_methods: bytes = NO_COMPRESSION
    legacy_version: int = TLS_1_2

    @classmethod
    def decode(cls, body: bytes) -> "ClientHello":
        """Return the message.

        Raises:
            DecodeError: The bytes do not fit the syntax.
            TlsPeerError: An extension comes twice.
        """
        reader = ByteReader(body)
        legacy_version = reader.read_uint16()
        random = reader.read_bytes(RANDOM_SIZE)
        session_id = reader.read_opaque(1, high=SESSION_ID_MAX_SIZE)
        suites = read_numbers(reader)
        compression_methods = reader.read_opaque(1, low=1)
        extensions = _read_extensions(reader) if reader.remaining else {}
        reader.finish()
        return cls(random, session_id, suites, extensions, compression_methods, legacy_version)

    def encode(self) -> bytes:
        """Return the message with its header."""
        writer = ByteWriter()
        writer.write_uint16(self.legacy_version)
        writer.write_bytes(self.random)
        writer.write_opaque(self.session_id, 1)
        with writer.vector(2):
            for suite in self.cipher_suites:
                writer.write_uint16(suite)
        writer.write_opaque(self.compression_methods, 1)
        _write_extensions(writer, self.extensions)
        return encode_message(HandshakeType.CLIENT_HELLO, writer.to_bytes())


@dataclass(frozen=True, slots=True)
class ServerHello:
    """ServerHello, or HelloRetryRequest, told by its random (RFC 8446 §4.1.3, §4.1.4)."""

    random: bytes
    session_id: bytes
    cipher_suite: int
    extensions: Extensions = field(default_factory=dict)
    compression_method: int = 0
    legacy_version: int = TLS_1_2

    @property
    def is_retry_request(self) -> bool:
        """Whether this is a HelloRetryRequest."""
        return self.random == HELLO_RETRY_RANDOM

    @classmethod
    def decode(cls, body: bytes) -> "ServerHello":
        """Return the message.

        Raises:
            DecodeError: The bytes do not fit the syntax.
            TlsPeerError: An extension comes twice.
        """
        reader = ByteReader(body)
        legacy_version = reader.read_uint16()
        random = reader.read_bytes(RANDOM_SIZE)
        session_id = reader.read_opaque(1, high=SESSION_ID_MAX_SIZE)
        suite = reader.read_uint16()
        compression_method = reader.read_uint8()
        extensions = _read_extensions(reader) if reader.remaining else {}
        reader.finish()
        return cls(random, session_id, suite, extensions, compression_method, legacy_version)

    def encode(self) -> bytes:
        """Return the message with its header."""
        writer = ByteWriter()
        writer.write_uint16(self.legacy_version)
        writer.write_bytes(self.random)
        writer.write_opaque(self.session_id, 1)
        writer.write_uint16(self.cipher_suite)
        writer.write_uint8(self.compression_method)
        _write_extensions(writer, self.extensions)
        return encode_message(HandshakeType.SERVER_HELLO, writer.to_bytes())


@dataclass(frozen=True, slots=True)
class EncryptedExtensions:
    """EncryptedExtensions (RFC 8446 §4.3.1)."""

    extensions: Extensions = field(default_factory=dict)

    @classmethod
    def decode(cls, body: bytes) -> "EncryptedExtensions":
        """Return the message.

        Raises:
            DecodeError: The bytes do not fit the syntax.
            TlsPeerError: An extension comes twice.
        """
        reader = ByteReader(body)
        extensions = _read_extensions(reader)
        reader.finish()
        return cls(extensions)

    def encode(self) -> bytes:
        """Return the message with its header."""
        writer = ByteWriter()
        _write_extensions(writer, self.extensions)
        return encode_message(HandshakeType.ENCRYPTED_EXTENSIONS, writer.to_bytes())


@dataclass(frozen=True, slots=True)
class Finished:
    """Finished (RFC 8446 §4.4.4)."""

    verify_data: bytes = field(repr=False)

    @classmethod
    def decode(cls, body: bytes, size: int) -> "Finished":
        """Return the message, whose size is that of the hash.

        Raises:
            DecodeError: The size is another one.
        """
        reader = ByteReader(body)
        verify_data = reader.read_bytes(size)
        reader.finish()
        return cls(verify_data)

    def encode(self) -> bytes:
        """Return the message with its header."""
        return encode_message(HandshakeType.FINISHED, self.verify_data)


@dataclass(frozen=True, slots=True)
class KeyUpdate:
    """KeyUpdate (RFC 8446 §4.6.3)."""

    request: KeyUpdateRequest

    @classmethod
    def decode(cls, body: bytes) -> "KeyUpdate":
        """Return the message.

        Raises:
            DecodeError: The body is not one byte.
            TlsPeerError: The byte is neither 0 nor 1.
        """
        reader = ByteReader(body)
        value = reader.read_uint8()
        reader.finish()
        if value > KeyUpdateRequest.UPDATE_REQUESTED:
            raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, f"request_update is {value}")
        return cls(KeyUpdateRequest(value))

    def encode(self) -> bytes:
        """Return the message with its header."""
        return encode_message(HandshakeType.KEY_UPDATE, bytes((self.request,)))


@dataclass(frozen=True, slots=True)
class NewSessionTicket:
    """NewSessionTicket (RFC 8446 §4.6.1)."""

    lifetime_s: int
    age_add: int
    nonce: bytes
    ticket: bytes = field(repr=False)
    extensions: Extensions = field(default_factory=dict)

    @classmethod
    def decode(cls, body: bytes) -> "NewSessionTicket":
        """Return the message.

        Raises:
            DecodeError: The bytes do not fit the syntax.
            TlsPeerError: An extension comes twice.
        """
        reader = ByteReader(body)
        lifetime_s = reader.read_uint(4)
        age_add = reader.read_uint(4)
        nonce = reader.read_opaque(1)
        ticket = reader.read_opaque(2, low=1)
        extensions = _read_extensions(reader)
        reader.finish()
        return cls(lifetime_s, age_add, nonce, ticket, extensions)

    def encode(self) -> bytes:
        """Return the message with its header."""
        writer = ByteWriter()
        writer.write_uint(self.lifetime_s, 4)
        writer.write_uint(self.age_add, 4)
        writer.write_opaque(self.nonce, 1)
        writer.write_opaque(self.ticket, 2)
        _write_extensions(writer, self.extensions)
        return encode_message(HandshakeType.NEW_SESSION_TICKET, writer.to_bytes())


def encode_message(kind: HandshakeType, body: bytes) -> bytes:
    """Return a message with its header (RFC 8446 §4)."""
    return b"%c%b%b" % (kind, len(body).to_bytes(3, "big"), body)


def read_numbers(reader: ByteReader) -> tuple[int, ...]:
    """Return a vector of 16-bit numbers, at least one (RFC 8446 §3.4).

    Raises:
        DecodeError: The vector is empty, ends early, or has an odd size.
    """
    data = reader.read_opaque(2, low=2)
    if len(data) % 2:
        raise DecodeError("expected an even number of bytes", offset=reader.offset)
    numbers: tuple[int, ...] = unpack(f">{len(data) // 2}H", data)
    return numbers


def _read_extensions(reader: ByteReader) -> dict[int, bytes]:
    offset = reader.offset
    block = reader.read_opaque(2)
    extensions: dict[int, bytes] = {}
    at = 0
    while at < len(block):
        # by hand rather than with a cursor: ten to fifteen times per handshake
        body = at + _EXTENSION_HEADER_SIZE
        stop = body + int.from_bytes(block[at + 2 : body], "big")
        if stop > len(block):
            raise DecodeError("an extension ends early", offset=offset + 2 + at)
        kind = int.from_bytes(block[at : at + 2], "big")
        if kind in extensions:
            raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, f"extension {kind} comes twice")
        extensions[kind] = block[body:stop]
        at = stop
    return extensions


def _write_extensions(writer: ByteWriter, extensions: Extensions) -> None:
    with writer.vector(2):
        for kind, body in extensions.items():
            writer.write_uint16(kind)
            writer.write_opaque(body, 2)
