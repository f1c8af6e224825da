# SPDX-License-Identifier: Apache-2.0
"""The persistent objects of one identity module, typed; nothing else knows their layout.

Writes join the running transaction of ``AppletStore``. The PSK itself is not among the objects:
what is derived from it once does all that a module is asked for (tls-im.md §1).
"""

from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Final

from iose.applet_api import AppletStore
from iose.applet_commands.key_pairs import KeySlot
from iose.applet_commands.psk import PSK_SIZE, ElementPsk
from iose.iso7816.aid import Aid
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

KEY_PAIRS: Final = 16
LIMIT_SIZE: Final = 4  # of the number of handshakes
_NO_PSK: Final = bytes(PSK_SIZE)


class Name:
    """Names of the objects."""

    PROFILE: Final = "profile"
    PSK: Final = "psk"
    HANDSHAKES: Final = "handshakes"


class Setting(Enum):
    """How strict a module is."""

    HARDENED = "hardened"
    COMPATIBLE = "compatible"


class _Option(IntFlag):
    PERSONALISED = 0x01


@dataclass(frozen=True, slots=True)
class ModuleProfile:
    """What personalisation fixed.

    Attributes:
        setting: Hardened, or as the published module 1.0.
        is_personalised: Whether personalisation is over.
        handshake_limit: Handshake secrets given out between two right PINs of the administrator;
            0 for no limit.
        clients: Instances of the same card that may use the module.
    """

    setting: Setting = Setting.HARDENED
    is_personalised: bool = True
    handshake_limit: int = 0
    clients: tuple[Aid, ...] = ()

    @property
    def is_hardened(self) -> bool:
        """Whether the published holes are closed, and the commands of newer modules are there."""
        return self.setting is Setting.HARDENED

    @property
    def is_locked(self) -> bool:
        """Whether what only a personalisation needs is refused."""
        return self.is_hardened and self.is_personalised

    def encode(self) -> bytes:
        """Return the bytes of the object."""
        writer = ByteWriter()
        writer.write_uint8(list(Setting).index(self.setting))
        writer.write_uint8(_Option.PERSONALISED if self.is_personalised else 0)
        writer.write_uint(self.handshake_limit, LIMIT_SIZE)
        for client in self.clients:
            writer.write_opaque(client.value, 1)
        return writer.to_bytes()

    @classmethod
    def decode(cls, data: bytes) -> "ModuleProfile":
        """Return the profile that ``encode`` made.

        Raises:
            DecodeError: It ends early, or a value is not known.
        """
        reader = ByteReader(data)
        setting = decode_setting(reader.read_bytes(1))
        options = reader.read_uint8()
        limit = reader.read_uint(LIMIT_SIZE)
        return cls(
            setting,
            bool(options & _Option.PERSONALISED),
            limit,
            decode_clients(reader.read_rest()),
        )


def decode_setting(data: bytes) -> Setting:
    """Return the setting of one byte.

    Raises:
        DecodeError: Not one byte, or not known.
    """
    settings = list(Setting)
    if len(data) != 1 or data[0] >= len(settings):
        raise DecodeError("expected one byte of a known setting")
    return settings[data[0]]


def decode_clients(data: bytes) -> tuple[Aid, ...]:
    """Return AIDs, each behind its 1-byte length.

    Raises:
        DecodeError: One is cut, or no AID.
    """
    reader = ByteReader(data)
    clients = []
    while reader.remaining:
        clients.append(Aid(reader.read_opaque(1)))
    return tuple(clients)


class ModuleState:
    """Typed access to the objects of one applet instance; nothing is cached."""

    def __init__(self, store: AppletStore) -> None:
        self._store = store

    @property
    def profile(self) -> ModuleProfile:
        """What personalisation fixed."""
        stored = self._store.get(Name.PROFILE)
        return ModuleProfile() if stored is None else ModuleProfile.decode(stored)

    def set_profile(self, profile: ModuleProfile) -> None:
        """Replace the profile; all handshakes of a new limit are left."""
        self._store.put(Name.PROFILE, profile.encode())
        self._store.delete(Name.HANDSHAKES)

    def psk(self) -> ElementPsk | None:
        """Return what is derived from the PSK, with zeros in place of the PSK; None without one."""
        stored = self._store.get(Name.PSK)
        return None if stored is None else ElementPsk.decode(_NO_PSK + stored)

    def set_psk(self, psk: ElementPsk) -> None:
        """Replace what is derived from the PSK, as one object."""
        self._store.put(Name.PSK, psk.six_secrets)

    def key_pair(self, index: int) -> KeySlot:
        """Return key pair 0 to 15."""
        stored = self._store.get(f"key.{index}")
        return KeySlot() if stored is None else KeySlot.decode(stored)

    def set_key_pair(self, index: int, pair: KeySlot) -> None:
        """Replace key pair 0 to 15."""
        self._store.put(f"key.{index}", pair.encode())

    def count_handshake(self) -> bool:
        """Count one more handshake, durably; return False when none is left."""
        limit = self.profile.handshake_limit
        if not limit:
            return True
        stored = self._store.get(Name.HANDSHAKES)
        used = 0 if stored is None else int.from_bytes(stored, "big")
        if used >= limit:
            return False
        self._store.put(Name.HANDSHAKES, (used + 1).to_bytes(LIMIT_SIZE, "big"))
        self._store.commit()  # before the secret is computed: cutting the power saves none
        return True

    def renew_handshakes(self) -> None:
        """Give all handshakes back."""
        if self._store.get(Name.HANDSHAKES) is not None:
            self._store.delete(Name.HANDSHAKES)
