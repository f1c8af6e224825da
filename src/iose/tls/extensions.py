# SPDX-License-Identifier: Apache-2.0
"""Bodies of extensions (RFC 8446 §4.2, RFC 6066, RFC 7301, RFC 8449), each with its codec pair.

Those that settle keys are in ``key_extensions``. What the syntax cannot say is checked by the
negotiation of each role, not here, but for values that are illegal in every context.
"""

from dataclasses import dataclass
from typing import Final

from iose.tls.constants import (
    MAX_FRAGMENT_LENGTHS,
    MIN_RECORD_SIZE_LIMIT,
    AlertDescription,
)
from iose.tls.errors import TlsPeerError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

HOST_NAME: Final = 0  # RFC 6066 §3
_VISIBLE_ASCII = bytes(range(0x21, 0x7F))


@dataclass(frozen=True, slots=True)
class ServerName:
    """The host name of a ClientHello (RFC 6066 §3)."""

    host_name: str

    @classmethod
    def decode(cls, data: bytes) -> "ServerName":
        """Return the name.

        Raises:
            DecodeError: The bytes do not fit the syntax.
            TlsPeerError: Not exactly one host name, or it is not visible ASCII.
        """
        reader = ByteReader(data)
        names = reader.read_vector(2, low=1)
        reader.finish()
        kind = names.read_uint8()
        name = names.read_opaque(2, low=1)
        if kind != HOST_NAME or names.remaining:
            raise TlsPeerError(
                AlertDescription.ILLEGAL_PARAMETER, "server_name is not one host name"
            )
        if name.translate(None, _VISIBLE_ASCII):
            raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, "server_name is not ASCII")
        return cls(name.decode("ascii"))

    def encode(self) -> bytes:
        """Return the extension body."""
        writer = ByteWriter()
        with writer.vector(2):
            writer.write_uint8(HOST_NAME)
            writer.write_opaque(self.host_name.encode("ascii"), 2)
        return writer.to_bytes()


@dataclass(frozen=True, slots=True)
class MaxFragmentLength:
    """A code of max_fragment_length (RFC 6066 §4)."""

    code: int

    @property
    def size(self) -> int:
        """The length the code stands for, in bytes."""
        return MAX_FRAGMENT_LENGTHS[self.code]

    @classmethod
    def decode(cls, data: bytes) -> "MaxFragmentLength":
        """Return the code.

        Raises:
            DecodeError: Not one byte.
            TlsPeerError: The code has no meaning.
        """
        reader = ByteReader(data)
        code = reader.read_uint8()
        reader.finish()
        if code not in MAX_FRAGMENT_LENGTHS:
            raise TlsPeerError(
                AlertDescription.ILLEGAL_PARAMETER, f"max_fragment_length code {code}"
            )
        return cls(code)

    def encode(self) -> bytes:
        """Return the extension body."""
        return bytes((self.code,))


@dataclass(frozen=True, slots=True)
class RecordSizeLimit:
    """The largest inner plaintext its sender takes (RFC 8449 §4)."""

    limit: int

    @classmethod
    def decode(cls, data: bytes) -> "RecordSizeLimit":
        """Return the limit.

        Raises:
            DecodeError: Not two bytes.
            TlsPeerError: Less than 64.
        """
        reader = ByteReader(data)
        limit = reader.read_uint16()
        reader.finish()
        if limit < MIN_RECORD_SIZE_LIMIT:
            raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, f"record_size_limit of {limit}")
        return cls(limit)

    def encode(self) -> bytes:
        """Return the extension body."""
        return self.limit.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class ProtocolNames:
    """Names of application protocols: those offered, or the one chosen (RFC 7301 §3.1)."""

    names: tuple[bytes, ...]

    @classmethod
    def decode(cls, data: bytes) -> "ProtocolNames":
        """Return the names.

        Raises:
            DecodeError: The bytes do not fit the syntax, or a name is empty.
        """
        reader = ByteReader(data)
        items = reader.read_vector(2, low=2)
        reader.finish()
        names: list[bytes] = []
        while items.remaining:
            names.append(items.read_opaque(1, low=1))
        return cls(tuple(names))

    def encode(self) -> bytes:
        """Return the extension body."""
        writer = ByteWriter()
        with writer.vector(2):
            for name in self.names:
                writer.write_opaque(name, 1)
        return writer.to_bytes()


@dataclass(frozen=True, slots=True)
class ClientVersions:
    """Versions a client takes, best first (RFC 8446 §4.2.1)."""

    versions: tuple[int, ...]

    @classmethod
    def decode(cls, data: bytes) -> "ClientVersions":
        """Return the versions.

        Raises:
            DecodeError: The bytes do not fit the syntax.
        """
        reader = ByteReader(data)
        items = reader.read_vector(1, low=2)
        reader.finish()
        versions: list[int] = []
        while items.remaining:
            versions.append(items.read_uint16())
        return cls(tuple(versions))

    def encode(self) -> bytes:
        """Return the extension body."""
        writer = ByteWriter()
        with writer.vector(1):
            for version in self.versions:
                writer.write_uint16(version)
        return writer.to_bytes()


@dataclass(frozen=True, slots=True)
class SelectedNumber:
    """One 16-bit number: the version, PSK identity or group a server chose (RFC 8446 §4.2)."""

    number: int

    @classmethod
    def decode(cls, data: bytes) -> "SelectedNumber":
        """Return the number.

        Raises:
            DecodeError: Not two bytes.
        """
        reader = ByteReader(data)
        number = reader.read_uint16()
        reader.finish()
        return cls(number)

    def encode(self) -> bytes:
        """Return the extension body."""
        return self.number.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Cookie:
    """What a client must give back after HelloRetryRequest (RFC 8446 §4.2.2)."""

    cookie: bytes

    @classmethod
    def decode(cls, data: bytes) -> "Cookie":
        """Return the cookie.

        Raises:
            DecodeError: The bytes do not fit the syntax, or the cookie is empty.
        """
        reader = ByteReader(data)
        cookie = reader.read_opaque(2, low=1)
        reader.finish()
        return cls(cookie)

    def encode(self) -> bytes:
        """Return the extension body."""
        writer = ByteWriter()
        writer.write_opaque(self.cookie, 2)
        return writer.to_bytes()
