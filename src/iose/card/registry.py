# SPDX-License-Identifier: Apache-2.0
"""The card's registry: load files and instances, with life cycles (GPCS 2.3.1 §6.6).

One persistent object holds it, so that an instance appears together with its first state. The
life cycle of the card is that of its issuer security domain. Version 1, which knew instances
alone, is still read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from iose.globalplatform.life_cycle import (
    LOCK_BIT,
    NO_PRIVILEGES,
    ApplicationLifeCycle,
    CardLifeCycle,
    Privilege,
)
from iose.iso7816.aid import Aid
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

REGISTRY_NAME: Final = "card/registry"
REGISTRY_VERSION: Final = 2
_WITHOUT_LOAD_FILES: Final = 1
_PRIVILEGES_SIZE: Final = 3


OUT_OF_USE: Final = (CardLifeCycle.CARD_LOCKED, CardLifeCycle.TERMINATED)
# plain numbers: flags are slow, and every start of every element asks
_SECURITY_DOMAIN: Final = int(Privilege.SECURITY_DOMAIN)
_SELECTABLE: Final = int(ApplicationLifeCycle.SELECTABLE)
_SELECTABLE_MASK: Final = LOCK_BIT | _SELECTABLE  # the other bits are the applet's own


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One applet instance.

    Attributes:
        aid: Identifier of the instance.
        module: Name of the module it is an instance of.
        privileges: What it may do besides its own commands.
        life_cycle: State byte; of the issuer security domain, the state of the card.
        load_file: Identifier of the load file its module came in; empty when there is none.
    """

    aid: Aid
    module: str
    privileges: Privilege = NO_PRIVILEGES
    life_cycle: int = ApplicationLifeCycle.SELECTABLE
    load_file: bytes = b""

    @property
    def is_domain(self) -> bool:
        """Whether it is a security domain."""
        return bool(int(self.privileges) & _SECURITY_DOMAIN)

    @property
    def is_selectable(self) -> bool:
        """Whether it can be selected while the card is in use; a security domain always can."""
        return self.is_domain or self.life_cycle & _SELECTABLE_MASK == _SELECTABLE


@dataclass(frozen=True, slots=True)
class Registry:
    """The contents of a card.

    Attributes:
        entries: Instances, in the order they arrived.
        load_files: Load files, in the order they arrived.
        issuer: The issuer security domain; None on a card without one.
        default: What a reset selects: of a card that is out of use, its domain.
    """

    entries: tuple[RegistryEntry, ...] = ()
    load_files: tuple[Aid, ...] = ()
    issuer: RegistryEntry | None = field(init=False, repr=False, compare=False)
    default: RegistryEntry | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        issuer = next((entry for entry in self.entries if entry.is_domain), None)
        object.__setattr__(self, "issuer", issuer)
        default = issuer
        if self.card_state not in OUT_OF_USE:
            default = self.with_privilege(Privilege.DEFAULT_SELECTED)
        object.__setattr__(self, "default", default)

    @classmethod
    @lru_cache(maxsize=64)  # thousands of elements have a handful of registries
    def decode(cls, data: bytes) -> "Registry":
        """Return the registry stored as ``data``.

        Raises:
            DecodeError: It is of another version, or damaged.
        """
        reader = ByteReader(data)
        version = reader.read_uint8()
        if version not in (_WITHOUT_LOAD_FILES, REGISTRY_VERSION):
            raise DecodeError(f"expected a registry of version {REGISTRY_VERSION}, found {version}")
        is_old = version == _WITHOUT_LOAD_FILES
        load_files = []
        if not is_old:
            listed = reader.read_vector(2)
            while listed.remaining:
                load_files.append(Aid(listed.read_opaque(1)))
        entries = []
        while reader.remaining:
            entries.append(_read_entry(reader, is_old=is_old))
        return cls(tuple(entries), tuple(load_files))

    def encode(self) -> bytes:
        """Return the stored form."""
        writer = ByteWriter()
        writer.write_uint8(REGISTRY_VERSION)
        with writer.vector(2):
            for aid in self.load_files:
                writer.write_opaque(aid.value, 1)
        for entry in self.entries:
            writer.write_opaque(entry.aid.value, 1)
            writer.write_opaque(entry.module.encode(), 1)
            writer.write_uint(entry.privileges, _PRIVILEGES_SIZE)
            writer.write_uint8(entry.life_cycle)
            writer.write_opaque(entry.load_file, 1)
        return writer.to_bytes()

    @property
    def card_state(self) -> int:
        """Life cycle of the card."""
        issuer = self.issuer
        return CardLifeCycle.OP_READY if issuer is None else issuer.life_cycle

    def with_entry(self, entry: RegistryEntry) -> "Registry":
        """Return a registry with one more instance, the last, or with a changed one."""
        if self.find(entry.aid) is None:
            return replace(self, entries=(*self.entries, entry))
        changed = (entry if old.aid == entry.aid else old for old in self.entries)
        return replace(self, entries=tuple(changed))

    def without(self, aid: Aid) -> "Registry":
        """Return a registry without an instance or a load file."""
        return Registry(
            tuple(entry for entry in self.entries if entry.aid != aid),
            tuple(load_file for load_file in self.load_files if load_file != aid),
        )

    def find(self, aid: Aid) -> RegistryEntry | None:
        """Return the instance of that AID, or None."""
        return next((entry for entry in self.entries if entry.aid == aid), None)

    def matching(self, prefix: bytes) -> Sequence[RegistryEntry]:
        """Return the selectable instances whose AID begins so (ISO/IEC 7816-4 §12.2.3).

        The whole AID of an instance means that one alone: not a longer one that came before it,
        nor one that would take its place while it is locked.
        """
        is_in_use = self.card_state not in OUT_OF_USE
        whole = tuple(entry for entry in self.entries if entry.aid.value == prefix)
        return [
            entry
            for entry in whole or self.entries
            if entry.aid.value.startswith(prefix)
            and entry.is_selectable
            and (is_in_use or entry.is_domain)
        ]

    def with_privilege(self, privilege: Privilege) -> RegistryEntry | None:
        """Return the first selectable instance that has a privilege, or None."""
        return next((entry for entry in self.matching(b"") if entry.privileges & privilege), None)


def _read_entry(reader: ByteReader, *, is_old: bool) -> RegistryEntry:
    aid = Aid(reader.read_opaque(1))
    try:
        module = reader.read_opaque(1).decode()
    except UnicodeDecodeError as error:
        raise DecodeError("a module name is not UTF-8", offset=reader.offset) from error
    if is_old:
        return RegistryEntry(aid, module, Privilege(reader.read_uint8() << 16), reader.read_uint8())
    privileges = Privilege(reader.read_uint(_PRIVILEGES_SIZE))
    return RegistryEntry(aid, module, privileges, reader.read_uint8(), reader.read_opaque(1))
