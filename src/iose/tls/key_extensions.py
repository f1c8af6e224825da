# SPDX-License-Identifier: Apache-2.0
"""Bodies of the extensions that settle keys (RFC 8446 §4.2.7 to §4.2.11), each with its codec pair.

Groups, shares and PSKs; the other extensions are in ``extensions``, and what the syntax cannot say
is checked by the negotiation of each role.
"""

from dataclasses import dataclass, field
from typing import Final

from iose.tls.constants import AlertDescription
from iose.tls.errors import TlsPeerError
from iose.tls.messages import read_numbers
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

MIN_BINDER_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class SupportedGroups:
    """Groups, best first (RFC 8446 §4.2.7)."""

    groups: tuple[int, ...]

    @classmethod
    def decode(cls, data: bytes) -> "SupportedGroups":
        """Return the groups.

        Raises:
            DecodeError: The bytes do not fit the syntax.
        """
        reader = ByteReader(data)
        groups = read_numbers(reader)
        reader.finish()
        return cls(groups)

    def encode(self) -> bytes:
        """Return the extension body."""
        writer = ByteWriter()
        with writer.vector(2):
            for group in self.groups:
                writer.write_uint16(group)
        return writer.to_bytes()


@dataclass(frozen=True, slots=True)
class PskModes:
    """Ways a client takes a PSK (RFC 8446 §4.2.9)."""

    modes: tuple[int, ...]

    @classmethod
    def decode(cls, data: bytes) -> "PskModes":
        """Return the modes.

        Raises:
            DecodeError: The bytes do not fit the syntax.
        """
        reader = ByteReader(data)
        modes = reader.read_opaque(1, low=1)
        reader.finish()
        return cls(tuple(modes))

    def encode(self) -> bytes:
        """Return the extension body."""
        writer = ByteWriter()
        writer.write_opaque(bytes(self.modes), 1)
        return writer.to_bytes()


@dataclass(frozen=True, slots=True)
class KeyShareEntry:
    """A share for one group: the body of a ServerHello's key_share (RFC 8446 §4.2.8)."""

    group: int
    key_exchange: bytes

    @classmethod
    def decode(cls, data: bytes) -> "KeyShareEntry":
        """Return the entry.

        Raises:
            DecodeError: The bytes do not fit the syntax.
        """
        reader = ByteReader(data)
        entry = cls.read(reader)
        reader.finish()
        return entry

    @classmethod
    def read(cls, reader: ByteReader) -> "KeyShareEntry":
        """Return the entry at the cursor.

        Raises:
            DecodeError: The bytes do not fit the syntax.
        """
        group = reader.read_uint16()
        return cls(group, reader.read_opaque(2, low=1))

    def encode(self) -> bytes:
        """Return the entry."""
        writer = ByteWriter()
        writer.write_uint16(self.group)
        writer.write_opaque(self.key_exchange, 2)
        return writer.to_bytes()


@dataclass(frozen=True, slots=True)
class ClientShares:
    """A client's shares, best first, possibly none (RFC 8446 §4.2.8)."""

    entries: tuple[KeyShareEntry, ...]

    @classmethod
    def decode(cls, data: bytes) -> "ClientShares":
        """Return the shares.

        Raises:
            DecodeError: The bytes do not fit the syntax.
        """
        reader = ByteReader(data)
        items = reader.read_vector(2)
        reader.finish()
        entries: list[KeyShareEntry] = []
        while items.remaining:
            entries.append(KeyShareEntry.read(items))
        return cls(tuple(entries))

    def encode(self) -> bytes:
        """Return the extension body."""
        writer = ByteWriter()
        with writer.vector(2):
            for entry in self.entries:
                writer.write_bytes(entry.encode())
        return writer.to_bytes()


@dataclass(frozen=True, slots=True)
class PskIdentity:
    """One offered identity (RFC 8446 §4.2.11); the age of an external PSK is 0."""

    identity: bytes
    obfuscated_ticket_age: int = 0


@dataclass(frozen=True, slots=True)
class OfferedPsks:
    """A client's identities and binders (RFC 8446 §4.2.11)."""

    identities: tuple[PskIdentity, ...]
    binders: tuple[bytes, ...] = field(repr=False)

    @property
    def binders_size(self) -> int:
        """Size of the binders list with its length: what a truncated ClientHello lacks."""
        return 2 + sum(1 + len(binder) for binder in self.binders)

    @classmethod
    def decode(cls, data: bytes) -> "OfferedPsks":
        """Return the offer.

        Raises:
            DecodeError: The bytes do not fit the syntax.
            TlsPeerError: Not one binder per identity.
        """
        reader = ByteReader(data)
        items = reader.read_vector(2, low=7)
        identities: list[PskIdentity] = []
        while items.remaining:
            identity = items.read_opaque(2, low=1)
            identities.append(PskIdentity(identity, items.read_uint(4)))
        items = reader.read_vector(2, low=1 + MIN_BINDER_SIZE)
        reader.finish()
        binders: list[bytes] = []
        while items.remaining:
            binders.append(items.read_opaque(1, low=MIN_BINDER_SIZE))
        if len(binders) != len(identities):
            raise TlsPeerError(
                AlertDescription.ILLEGAL_PARAMETER,
                f"{len(identities)} PSK identities, {len(binders)} binders",
            )
        return cls(tuple(identities), tuple(binders))

    def encode(self) -> bytes:
        """Return the extension body."""
        writer = ByteWriter()
        with writer.vector(2):
            for item in self.identities:
                writer.write_opaque(item.identity, 2)
                writer.write_uint(item.obfuscated_ticket_age, 4)
        with writer.vector(2):
            for binder in self.binders:
                writer.write_opaque(binder, 1)
        return writer.to_bytes()
