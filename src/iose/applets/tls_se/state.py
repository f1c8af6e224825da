# SPDX-License-Identifier: Apache-2.0
"""The persistent objects of one element, typed; nothing else in the applet knows their layout.

Writes join the running transaction of ``AppletStore``. Nothing is cached but the profile, so that
a transaction that is forgotten leaves no trace here. Objects never written have their defaults.
"""

from dataclasses import dataclass, field
from enum import IntFlag
from functools import lru_cache
from typing import Final

from iose.applet_api import AppletStore
from iose.applet_commands.key_pairs import KeySlot
from iose.applet_commands.psk import ElementPsk
from iose.applets.tls_se.settings import CommandSet, Limits, Settings, Wire
from iose.iso7816.aid import Aid
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader

KEY_SLOTS: Final = 4
RECORD_COUNT: Final = 32
RECORD_SIZE: Final = 64
CERTIFICATE_SIZE: Final = 64
DEFAULT_IDENTITY: Final = b"Client_identity"
DEFAULT_GUEST_IDENTITY: Final = b"guest"
_ROOT_SIZE: Final = 64
_SETTINGS_SIZE: Final = 3


class Name:
    """Names of the objects."""

    PROFILE: Final = "profile"
    ELEMENT_NAME: Final = "name"
    SEID: Final = "seid"
    PSK: Final = "psk"
    IDENTITY: Final = "identity"
    GUEST_PSK: Final = "guest.psk"
    GUEST_IDENTITY: Final = "guest.identity"
    MODULE_PSK: Final = "module.psk"
    MODULE: Final = "module"
    FLAGS: Final = "flags"
    PSK_FAILURES: Final = "psk.failures"
    ATTESTATION: Final = "attestation"
    CERTIFICATE: Final = "certificate"


class Flag(IntFlag):
    """Flags of ``?A5``."""

    GUEST_ENABLED = 0x01
    CHECK_SERVER_NAME = 0x80


class _Option(IntFlag):
    PERSONALISED = 0x01
    SHOWS_HANDSHAKE_SECRET = 0x02


@dataclass(frozen=True, slots=True)
class Profile:
    """What personalisation fixed.

    Attributes:
        settings: The three settings.
        is_personalised: Whether personalisation is over.
        shows_handshake_secret: Whether ``?0D`` answers in the command set ``iose``.
        version_text: Answer to ``?00``; empty for our own.
    """

    settings: Settings = field(default_factory=Settings)
    is_personalised: bool = True
    shows_handshake_secret: bool = False
    version_text: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes of the object."""
        options = _Option(0)
        if self.is_personalised:
            options |= _Option.PERSONALISED
        if self.shows_handshake_secret:
            options |= _Option.SHOWS_HANDSHAKE_SECRET
        return encode_settings(self.settings) + bytes((options,)) + self.version_text

    @classmethod
    @lru_cache(maxsize=64)  # thousands of elements have a handful of profiles
    def decode(cls, data: bytes) -> "Profile":
        """Return the profile that ``encode`` made."""
        reader = ByteReader(data)
        settings = decode_settings(reader.read_bytes(_SETTINGS_SIZE))
        options = reader.read_uint8()
        return cls(
            settings,
            bool(options & _Option.PERSONALISED),
            bool(options & _Option.SHOWS_HANDSHAKE_SECRET),
            reader.read_rest(),
        )

    @property
    def is_locked(self) -> bool:
        """Whether the commands that a host could abuse are refused."""
        return self.is_personalised and self.settings.is_hardened


def encode_settings(settings: Settings) -> bytes:
    """Return three bytes."""
    return bytes(
        (
            list(Wire).index(settings.wire),
            list(Limits).index(settings.limits),
            list(CommandSet).index(settings.commands),
        )
    )


def decode_settings(data: bytes) -> Settings:
    """Return the settings of three bytes.

    Raises:
        DecodeError: Not three bytes, or a value is not known.
    """
    if len(data) != _SETTINGS_SIZE:
        raise DecodeError(f"settings have {_SETTINGS_SIZE} bytes, found {len(data)}")
    try:
        return Settings(list(Wire)[data[0]], list(Limits)[data[1]], list(CommandSet)[data[2]])
    except IndexError:
        raise DecodeError("a setting has an unknown value") from None


@dataclass(frozen=True, slots=True)
class Tree:
    """A seed, and the master key and chain code made of it (BIP32)."""

    root: bytes = field(repr=False)
    seed: bytes = field(repr=False)


class ElementState:
    """Typed access to the objects of one applet instance."""

    def __init__(self, store: AppletStore) -> None:
        self._store = store
        self._profile = Profile()
        self._profile_source: bytes | None = None

    @property
    def store(self) -> AppletStore:
        """The objects themselves."""
        return self._store

    @property
    def profile(self) -> Profile:
        """What personalisation fixed."""
        source = self._store.get(Name.PROFILE)
        if source is not None and source is not self._profile_source:
            self._profile, self._profile_source = Profile.decode(source), source
        return self._profile

    def set_profile(self, profile: Profile) -> None:
        """Replace the profile."""
        self._store.put(Name.PROFILE, profile.encode())

    def text(self, name: str, default: bytes = b"") -> bytes:
        """Return an object that is a plain string of bytes."""
        value = self._store.get(name)
        return default if value is None else value

    @property
    def identity(self) -> bytes:
        """PSK identity of the owner."""
        return self.text(Name.IDENTITY, DEFAULT_IDENTITY)

    @property
    def guest_identity(self) -> bytes:
        """PSK identity of the guest."""
        return self.text(Name.GUEST_IDENTITY, DEFAULT_GUEST_IDENTITY)

    @property
    def flags(self) -> Flag:
        """Flags of ``?A5``."""
        return Flag(self.text(Name.FLAGS, b"\x00")[0])

    @property
    def module(self) -> Aid | None:
        """Instance of the same card that computes with the owner's PSK; None: it is stored here."""
        value = self._store.get(Name.MODULE)
        return None if value is None else Aid(value)

    def set_module(self, module: Aid | None) -> None:
        """Choose where the owner's PSK is."""
        if module is None:
            self._store.delete(Name.MODULE)
        else:
            self._store.put(Name.MODULE, module.value)

    def psk(self, name: str = Name.PSK) -> ElementPsk | None:
        """Return the owner's, the guest's or the identity module's PSK, or None."""
        value = self._store.get(name)
        return None if value is None else ElementPsk.decode(value)

    def set_psk(self, psk: ElementPsk, name: str = Name.PSK) -> None:
        """Replace a PSK and all that follows from it, as one object."""
        self._store.put(name, psk.encode())

    @property
    def psk_failures(self) -> int:
        """Wrong old PSKs in a row."""
        return self.text(Name.PSK_FAILURES, b"\x00")[0]

    def set_psk_failures(self, count: int) -> None:
        """Set the number of wrong old PSKs in a row."""
        if count:
            self._store.put(Name.PSK_FAILURES, bytes((count,)))
        else:
            self._store.delete(Name.PSK_FAILURES)

    @property
    def attestation_key(self) -> KeySlot:
        """The application key pair, made at install."""
        return self._slot(Name.ATTESTATION)

    def set_attestation_key(self, slot: KeySlot) -> None:
        """Store the application key pair."""
        self._store.put(Name.ATTESTATION, slot.encode())

    @property
    def certificate(self) -> bytes | None:
        """The application certificate, 64 bytes r‖s, or None while there is none."""
        return self._store.get(Name.CERTIFICATE)

    def set_certificate(self, certificate: bytes) -> None:
        """Store the certificate."""
        self._store.put(Name.CERTIFICATE, certificate)

    def key_slot(self, index: int) -> KeySlot:
        """Return general key pair 0 to 3."""
        return self._slot(f"key.{index}")

    def set_key_slot(self, index: int, slot: KeySlot) -> None:
        """Replace general key pair 0 to 3."""
        self._store.put(f"key.{index}", slot.encode())

    def _slot(self, name: str) -> KeySlot:
        value = self._store.get(name)
        return KeySlot() if value is None else KeySlot.decode(value)

    def tree(self, index: int) -> Tree | None:
        """Return the seed and root of tree 0 to 3, or None."""
        value = self._store.get(f"tree.{index}")
        return None if value is None else Tree(value[:_ROOT_SIZE], value[_ROOT_SIZE:])

    def set_tree(self, index: int, tree: Tree | None) -> None:
        """Replace or clear tree 0 to 3."""
        if tree is None:
            self._store.delete(f"tree.{index}")
        else:
            self._store.put(f"tree.{index}", tree.root + tree.seed)

    def record(self, index: int) -> bytes:
        """Return the text of record 0 to 31, possibly empty."""
        value = self._store.get(f"record.{index}")
        return b"" if value is None else value[1 : 1 + value[0]]

    def set_record(self, index: int, text: bytes) -> None:
        """Replace record 0 to 31, at most 64 bytes; what it held before is erased."""
        self._put_record(index, len(text), text.ljust(RECORD_SIZE, b"\x00"))

    def record_memory(self, index: int) -> bytes:
        """Return the 64 bytes of memory of record 0 to 31, as READ sees them."""
        value = self._store.get(f"record.{index}")
        return bytes(RECORD_SIZE) if value is None else value[1:]

    def set_record_memory(self, index: int, memory: bytes) -> None:
        """Replace the memory of a record and keep its length, as WRITE does."""
        value = self._store.get(f"record.{index}")
        self._put_record(index, 0 if value is None else value[0], memory)

    def _put_record(self, index: int, length: int, memory: bytes) -> None:
        self._store.put(f"record.{index}", bytes((length,)) + memory)
