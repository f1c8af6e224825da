# SPDX-License-Identifier: Apache-2.0
"""The card's registry: which instances exist, of which modules (GPCS 2.3.1 §6.6).

One persistent object holds it, so that an instance appears together with its first state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from iose.iso7816.aid import Aid
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

REGISTRY_NAME: Final = "card/registry"
REGISTRY_VERSION: Final = 1


class Privilege(IntFlag):
    """First byte of an application's privileges (GPCS 2.3.1 §11.1.2); others are kept as found."""

    NONE = 0x00
    DEFAULT_SELECTED = 0x04
    SECURITY_DOMAIN = 0x80


class LifeCycle(IntEnum):
    """Life-cycle states of an application (GPCS 2.3.1 §11.1.1)."""

    INSTALLED = 0x03
    SELECTABLE = 0x07
    LOCKED = 0x83


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One applet instance.

    Attributes:
        aid: Identifier of the instance.
        module: Name of the module it is an instance of.
        privileges: What it may do besides its own commands.
        life_cycle: State byte; only ``SELECTABLE`` instances can be selected.
    """

    aid: Aid
    module: str
    privileges: Privilege = Privilege.NONE
    life_cycle: int = LifeCycle.SELECTABLE


@dataclass(frozen=True, slots=True)
class Registry:
    """The instances of a card, in the order they were installed."""

    entries: tuple[RegistryEntry, ...] = ()

    @classmethod
    def decode(cls, data: bytes) -> "Registry":
        """Return the registry stored as ``data``.

        Raises:
            DecodeError: It is of another version, or damaged.
        """
        reader = ByteReader(data)
        version = reader.read_uint8()
        if version != REGISTRY_VERSION:
            raise DecodeError(f"expected a registry of version {REGISTRY_VERSION}, found {version}")
        entries = []
        while reader.remaining:
            entries.append(_read_entry(reader))
        return cls(tuple(entries))

    def encode(self) -> bytes:
        """Return the stored form."""
        writer = ByteWriter()
        writer.write_uint8(REGISTRY_VERSION)
        for entry in self.entries:
            writer.write_opaque(entry.aid.value, 1)
            writer.write_opaque(entry.module.encode(), 1)
            writer.write_uint8(entry.privileges)
            writer.write_uint8(entry.life_cycle)
        return writer.to_bytes()

    def with_entry(self, entry: RegistryEntry) -> "Registry":
        """Return a registry with one more instance, the last."""
        return Registry((*self.entries, entry))

    def matching(self, prefix: bytes) -> Sequence[RegistryEntry]:
        """Return the selectable instances whose AID begins so (ISO/IEC 7816-4 §12.2.3)."""
        return [
            entry
            for entry in self.entries
            if entry.life_cycle == LifeCycle.SELECTABLE and entry.aid.value.startswith(prefix)
        ]

    def with_privilege(self, privilege: Privilege) -> RegistryEntry | None:
        """Return the first selectable instance that has a privilege, or None."""
        return next((entry for entry in self.matching(b"") if entry.privileges & privilege), None)


def _read_entry(reader: ByteReader) -> RegistryEntry:
    aid = Aid(reader.read_opaque(1))
    try:
        module = reader.read_opaque(1).decode()
    except UnicodeDecodeError as error:
        raise DecodeError("a module name is not UTF-8", offset=reader.offset) from error
    return RegistryEntry(aid, module, Privilege(reader.read_uint8()), reader.read_uint8())
