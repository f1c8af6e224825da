# SPDX-License-Identifier: Apache-2.0
"""Application identifiers (ISO/IEC 7816-4 §12.2.3)."""

from dataclasses import dataclass

from iose.wire.errors import DecodeError

AID_MIN_SIZE = 5
AID_MAX_SIZE = 16


@dataclass(frozen=True, slots=True)
class Aid:
    """Identifier of an application on a card, 5 to 16 bytes."""

    value: bytes

    def __post_init__(self) -> None:
        if not AID_MIN_SIZE <= len(self.value) <= AID_MAX_SIZE:
            raise DecodeError(f"an AID has 5 to 16 bytes, found {len(self.value)}")

    @classmethod
    def from_hex(cls, text: str) -> "Aid":
        """Return the AID written as hex digits.

        Raises:
            DecodeError: Not hex digits, or not 5 to 16 bytes.
        """
        try:
            return cls(bytes.fromhex(text))
        except ValueError as error:
            raise DecodeError("an AID is written in hex digits") from error

    def __str__(self) -> str:
        """Return the upper-case hex digits."""
        return self.value.hex().upper()
