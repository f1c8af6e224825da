# SPDX-License-Identifier: Apache-2.0
"""The persistent objects of the issuer security domain, typed.

Keys, the counters that protect them, and what the domain says of itself. Writes join the running
transaction of ``AppletStore``; nothing is cached.
"""

from dataclasses import dataclass, field
from typing import Final

from iose.applet_api import AppletStore
from iose.crypto.base import Rng
from iose.globalplatform.channel import SCP03, ScpVariant
from iose.globalplatform.keys import KeySet, KeyType
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

DEFAULT_VARIANT: Final = ScpVariant(SCP03, 0x70)
FIRST_KEY_VERSION: Final = 0x30
KEY_SET_LIMIT: Final = 4
FAILURE_LIMIT: Final = 10
DEMO_KEY: Final = bytes(range(0x40, 0x50))
KEY_SIZE: Final = 16
DIVERSIFICATION_DATA_SIZE: Final = 10
SERIAL_SIZE: Final = 4
SEQUENCE_SIZE: Final = 4  # one more than on the wire, so that the end can be told
_KEY_TYPES: Final = (KeyType.DES3, KeyType.AES)
_FLAGS: Final = (b"\x00", b"\x01")


class Name:
    """Names of the objects."""

    VARIANT: Final = "variant"
    KEYS: Final = "keys"
    COUNTER: Final = "counter"
    FAILURES: Final = "failures"
    DIVERSIFICATION_DATA: Final = "diversification"
    SERIAL: Final = "serial"
    ISSUER_NUMBER: Final = "issuer-number"
    CARD_NUMBER: Final = "card-number"


@dataclass(frozen=True, slots=True)
class DomainParameters:
    """What a security domain is made with.

    Attributes:
        variant: Its secure channel protocol.
        uses_demo_keys: Take the published keys instead of random ones. Whoever asks for it must
            warn.
    """

    variant: ScpVariant = DEFAULT_VARIANT
    uses_demo_keys: bool = False

    def encode(self) -> bytes:
        """Return the parameters of ``install``."""
        return bytes((self.variant.protocol, self.variant.i)) + _FLAGS[self.uses_demo_keys]

    @classmethod
    def decode(cls, data: bytes) -> "DomainParameters":
        """Return the parameters in ``data``; without any, the default ones.

        Raises:
            DecodeError: Not what ``encode`` makes, or of a protocol that is not supported.
        """
        if not data:
            return cls()
        reader = ByteReader(data)
        variant = ScpVariant(reader.read_uint8(), reader.read_uint8())
        flag = reader.read_bytes(1)
        reader.finish()
        if not variant.is_supported or flag not in _FLAGS:
            raise DecodeError(f"a security domain cannot have {variant}")
        return cls(variant, flag == _FLAGS[True])


@dataclass(frozen=True, slots=True)
class DomainKeys:
    """The key sets of a domain; the first one is the default (GPCS 2.3.1 §7.5.2)."""

    sets: tuple[KeySet, ...] = field(repr=False)

    def find(self, version: int) -> KeySet | None:
        """Return the set of a version, the default one for 0; None when there is none."""
        if not version:
            return self.sets[0] if self.sets else None
        return next((keys for keys in self.sets if keys.version == version), None)

    def with_set(self, keys: KeySet, replaced: int) -> "DomainKeys":
        """Return the sets with a new one in the place of version ``replaced``; 0 appends it."""
        if not replaced:
            return DomainKeys((*self.sets, keys))
        return DomainKeys(tuple(keys if old.version == replaced else old for old in self.sets))

    def without(self, version: int) -> "DomainKeys":
        """Return the sets but one."""
        return DomainKeys(tuple(keys for keys in self.sets if keys.version != version))

    def encode(self) -> bytes:
        """Return the bytes of the object."""
        writer = ByteWriter()
        for keys in self.sets:
            writer.write_uint8(keys.version)
            writer.write_uint8(_KEY_TYPES.index(keys.key_type))
            for key in (keys.enc, keys.mac, keys.dek):
                writer.write_opaque(key, 1)
        return writer.to_bytes()

    @classmethod
    def decode(cls, data: bytes) -> "DomainKeys":
        """Return the key sets that ``encode`` made.

        Raises:
            DecodeError: They are damaged.
        """
        reader = ByteReader(data)
        sets = []
        while reader.remaining:
            version, key_type = reader.read_bytes(2)
            if key_type >= len(_KEY_TYPES):
                raise DecodeError("keys of an unknown type", offset=reader.offset)
            enc, mac, dek = (reader.read_opaque(1) for _ in range(3))
            sets.append(KeySet(version, enc, mac, dek, _KEY_TYPES[key_type]))
        return cls(tuple(sets))


class DomainState:
    """Typed access to the objects of one security domain."""

    def __init__(self, store: AppletStore) -> None:
        self._store = store

    @property
    def store(self) -> AppletStore:
        """The objects themselves."""
        return self._store

    def initialise(self, parameters: DomainParameters, rng: Rng) -> None:
        """Write the first state; keys are drawn, unless they are the published ones."""
        enc, mac, dek = (
            DEMO_KEY if parameters.uses_demo_keys else rng.random_bytes(KEY_SIZE) for _ in range(3)
        )
        variant = parameters.variant
        self._store.put(Name.VARIANT, bytes((variant.protocol, variant.i)))
        self._store.put(Name.DIVERSIFICATION_DATA, rng.random_bytes(DIVERSIFICATION_DATA_SIZE))
        self._store.put(Name.SERIAL, rng.random_bytes(SERIAL_SIZE))
        self.set_keys(DomainKeys((KeySet(FIRST_KEY_VERSION, enc, mac, dek, variant.key_type),)))

    def text(self, name: str) -> bytes:
        """Return an object that is a plain string of bytes; empty when there is none."""
        return self._store.get(name) or b""

    @property
    def variant(self) -> ScpVariant:
        """The secure channel protocol."""
        protocol, i = self.text(Name.VARIANT)
        return ScpVariant(protocol, i)

    @property
    def keys(self) -> DomainKeys:
        """The key sets."""
        return DomainKeys.decode(self.text(Name.KEYS))

    def set_keys(self, keys: DomainKeys) -> None:
        """Replace the key sets."""
        self._store.put(Name.KEYS, keys.encode())

    def counter(self, version: int) -> int:
        """Return the sequence counter of a key set: sessions it has opened."""
        return int.from_bytes(self.text(f"{Name.COUNTER}.{version:02X}"), "big")

    def first_counter(self) -> int:
        """Return where the counter of a new key set begins.

        A computed challenge follows from keys and counter alone. Keys that come back would repeat
        every session that was ever recorded: so no counter begins below the highest there was.
        """
        if self.variant.has_random_challenge:
            return 0
        return max(self.counter(keys.version) for keys in self.keys.sets)

    def set_counter(self, version: int, value: int) -> None:
        """Set the sequence counter of a key set."""
        name = f"{Name.COUNTER}.{version:02X}"
        if value:
            self._store.put(name, value.to_bytes(SEQUENCE_SIZE, "big"))
        else:
            self._store.delete(name)

    @property
    def failures(self) -> int:
        """Wrong authentications in a row."""
        return (self.text(Name.FAILURES) or b"\x00")[0]

    def set_failures(self, count: int) -> None:
        """Set the number of wrong authentications in a row."""
        if count:
            self._store.put(Name.FAILURES, bytes((count,)))
        else:
            self._store.delete(Name.FAILURES)
