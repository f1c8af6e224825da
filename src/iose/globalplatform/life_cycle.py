# SPDX-License-Identifier: Apache-2.0
"""Numbers of a card's registry: privileges and life-cycle states (GPCS 2.3.1 §6.6, §11.1).

Host and card use them. States are open: a card may have its own, which survive as numbers.
"""

from enum import IntEnum, IntFlag
from typing import Final

from iose.wire.errors import DecodeError
from iose.wire.numbers import unknown_member

PRIVILEGE_SIZES: Final = (1, 3)  # cards before GPCS 2.2 know the first byte only
STATE_LIMIT: Final = 0xFF


class Privilege(IntFlag):
    """Privileges as 3 bytes (GPCS 2.3.1 §11.1.2); DAP and delegation include the domain's bit."""

    SECURITY_DOMAIN = 0x800000
    DAP_VERIFICATION = 0xC00000
    DELEGATED_MANAGEMENT = 0xA00000
    CARD_LOCK = 0x100000
    CARD_TERMINATE = 0x080000
    DEFAULT_SELECTED = 0x040000
    CVM_MANAGEMENT = 0x020000
    MANDATED_DAP = 0xC10000
    TRUSTED_PATH = 0x008000
    AUTHORIZED_MANAGEMENT = 0x004000
    TOKEN_VERIFICATION = 0x002000
    GLOBAL_DELETE = 0x001000
    GLOBAL_LOCK = 0x000800
    GLOBAL_REGISTRY = 0x000400
    FINAL_APPLICATION = 0x000200
    GLOBAL_SERVICE = 0x000100
    RECEIPT_GENERATION = 0x000080
    CIPHERED_LOAD_FILE = 0x000040
    CONTACTLESS_ACTIVATION = 0x000020
    CONTACTLESS_SELF_ACTIVATION = 0x000010

    @classmethod
    def decode(cls, data: bytes) -> "Privilege":
        """Return the privileges in 1 or 3 bytes (GPCS 2.3.1 §11.1.2).

        Raises:
            DecodeError: Another size.
        """
        if len(data) not in PRIVILEGE_SIZES:
            raise DecodeError(f"privileges have 1 or 3 bytes, found {len(data)}")
        return cls(int.from_bytes(data.ljust(max(PRIVILEGE_SIZES), b"\x00"), "big"))

    def encode(self) -> bytes:
        """Return the 3 bytes."""
        return self.to_bytes(max(PRIVILEGE_SIZES), "big")

    @property
    def names(self) -> tuple[str, ...]:
        """The privileges held, each once, in the order of the standard and in lower case."""
        return tuple(one.name.lower() for one in _NAMED if one & self == one and one.name)


NO_PRIVILEGES: Final = Privilege(0)
_NAMED: Final = tuple(Privilege.__members__.values())


class LifeCycle(IntEnum):
    """A state byte; other values survive and print as two hex digits."""

    @classmethod
    def _missing_(cls, value: object) -> "LifeCycle | None":
        return unknown_member(cls, value, STATE_LIMIT, "STATE_{:02X}")


class CardLifeCycle(LifeCycle):
    """States of the card, which are those of its issuer security domain (GPCS 2.3.1 §11.1.1)."""

    OP_READY = 0x01
    INITIALIZED = 0x07
    SECURED = 0x0F
    CARD_LOCKED = 0x7F
    TERMINATED = 0xFF


class ApplicationLifeCycle(LifeCycle):
    """States of an application or of another security domain (GPCS 2.3.1 §11.1.1)."""

    INSTALLED = 0x03
    SELECTABLE = 0x07
    PERSONALIZED = 0x0F
    LOCKED = 0x83
    LOCKED_SELECTABLE = 0x87
    LOCKED_PERSONALIZED = 0x8F

    @property
    def is_locked(self) -> bool:
        """Whether the application is locked, whatever it was before."""
        return bool(self & LOCK_BIT)


LOCK_BIT: Final = 0x80  # GPCS 2.3.1 §11.1.1: the other bits keep the state before


class LoadFileLifeCycle(LifeCycle):
    """States of a load file (GPCS 2.3.1 §11.1.1)."""

    LOADED = 0x01
