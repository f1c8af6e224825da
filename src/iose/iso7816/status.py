# SPDX-License-Identifier: Apache-2.0
"""Status words (ISO/IEC 7816-4 §5.6) and the ones TLS-SE applets add to them."""

from enum import IntEnum

from iose.wire.errors import IoseError
from iose.wire.numbers import unknown_member

STATUS_LIMIT = 0xFFFF


class StatusWord(IntEnum):
    """A 16-bit status word; unknown values survive and print as four hex digits."""

    OK = 0x9000
    TLS_OPEN = 0x9001
    TLS_CLOSED = 0x9002
    CHANNEL_NOT_OPEN = 0x6200
    MORE_DATA_AVAILABLE = 0x6310
    PIN_WRONG = 0x6300
    PIN_REQUIRED = 0x6380
    PUBLIC_KEY_CONFLICT = 0x6401
    PRIVATE_KEY_CONFLICT = 0x6402
    FOREIGN_PACKAGE = 0x6438
    MEMORY_FAILURE = 0x6581
    WRONG_LENGTH = 0x6700
    CHANNEL_NOT_SUPPORTED = 0x6881
    SECURE_MESSAGING_NOT_SUPPORTED = 0x6882
    LAST_OF_CHAIN_EXPECTED = 0x6883
    CHAINING_NOT_SUPPORTED = 0x6884
    SECURITY_STATUS_NOT_SATISFIED = 0x6982
    AUTHENTICATION_BLOCKED = 0x6983
    DATA_INVALID = 0x6984
    CONDITIONS_NOT_SATISFIED = 0x6985
    COMMAND_NOT_ALLOWED = 0x6986
    APPLET_SELECT_FAILED = 0x6999
    WRONG_DATA = 0x6A80
    FUNCTION_NOT_SUPPORTED = 0x6A81
    NOT_FOUND = 0x6A82
    NOT_ENOUGH_MEMORY = 0x6A84
    WRONG_P1P2 = 0x6A86
    REFERENCED_DATA_NOT_FOUND = 0x6A88
    WRONG_P2 = 0x6B00
    WRONG_LE = 0x6C00
    INS_NOT_SUPPORTED = 0x6D00
    READ_RANGE = 0x6D01
    BUFFER_OVERFLOW = 0x6D02
    KEY_GENERATION_FAILURE = 0x6D10
    CCM_DECRYPT_FAILURE = 0x6D14
    CCM_ENCRYPT_FAILURE = 0x6D15
    TLS_ERROR = 0x6D16
    SIGNATURE_FAILURE = 0x6D20
    KEY_READ_FAILURE = 0x6D30
    KEY_SET_FAILURE = 0x6D40
    ECDH_FAILURE = 0x6D50
    CLA_NOT_SUPPORTED = 0x6E00
    UNKNOWN = 0x6F00

    @classmethod
    def _missing_(cls, value: object) -> "StatusWord | None":
        return unknown_member(cls, value, STATUS_LIMIT, "SW_{:04X}")

    @property
    def sw1(self) -> int:
        """First byte."""
        return self >> 8

    @property
    def sw2(self) -> int:
        """Second byte."""
        return self & 0xFF

    @property
    def is_success(self) -> bool:
        """Whether the command was carried out: 90xx, 9Fxx or 61xx."""
        return self >> 8 in (0x90, 0x9F, 0x61)

    def __str__(self) -> str:
        """Return the four hex digits."""
        return f"{int(self):04X}"


class StatusWordError(IoseError):
    """An answer other than success; raised inside an applet, a refusal.

    Attributes:
        status: The status word received, or to be answered.
    """

    def __init__(self, status: int, message: str = "", *, hint: str | None = None) -> None:
        self.status = StatusWord(status)
        super().__init__(message or f"status word {self.status}", hint=hint)
