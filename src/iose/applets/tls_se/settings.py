# SPDX-License-Identifier: Apache-2.0
"""The three independent settings of an element: its manners on the wire, its limits, its commands.

They are fixed when the element is personalised. Every difference between the modes asks one of
the properties here, so that reading this file shows what a setting changes.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

HEADER_SIZE: Final = 5  # RFC 8446 §5.1
CHIP_RECORD_BUFFER: Final = 512  # one record, header included: the RAM the published applets spend
WIDE_RECORD_BUFFER: Final = HEADER_SIZE + 16_384 + 256  # the largest record of RFC 8446 §5.2
CHIP_PIECE: Final = 240  # what the published hosts fetch at a time
SHORT_PIECE: Final = 256  # what a short Le can ask for
LARGEST_ANNOUNCED: Final = 0xFF  # 9F00 would read as zero or as 256, by host
RECORD_OVERHEAD: Final = HEADER_SIZE + 1 + 16  # header, content type, tag


class Wire(Enum):
    """Manners towards TLS clients and hosts."""

    HARDENED = "hardened"
    COMPATIBLE = "compatible"


class Limits(Enum):
    """Sizes of buffers and of answers."""

    WIDE = "wide"
    CHIP = "chip"


class CommandSet(Enum):
    """Which commands the keystore understands."""

    IOSE = "iose"
    V1_3 = "1.3"
    V2_18 = "2.18"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one element."""

    wire: Wire = Wire.HARDENED
    limits: Limits = Limits.WIDE
    commands: CommandSet = CommandSet.IOSE

    @property
    def is_hardened(self) -> bool:
        """Whether the published holes are closed and alerts are sent."""
        return self.wire is Wire.HARDENED

    @property
    def is_reference(self) -> bool:
        """Whether even harmless faults of the published 1.3 applet are kept."""
        return self.wire is Wire.COMPATIBLE and self.commands is CommandSet.V1_3

    @property
    def has_chip_limits(self) -> bool:
        """Whether buffers and answers are those of a chip."""
        return self.limits is Limits.CHIP

    @property
    def record_buffer(self) -> int:
        """Largest record accepted, header included, in bytes."""
        return CHIP_RECORD_BUFFER if self.has_chip_limits else WIDE_RECORD_BUFFER

    @property
    def direct_piece(self) -> int:
        """Largest answer to a SEND whose Le asks for no more, in bytes."""
        return CHIP_PIECE if self.has_chip_limits else SHORT_PIECE

    @property
    def announced_piece(self) -> int:
        """Most bytes one 9Fxx announces."""
        return CHIP_PIECE if self.has_chip_limits else LARGEST_ANNOUNCED

    @property
    def has_extensions(self) -> bool:
        """Whether the additions of 2.18 are there (second identity, P-256, HMAC, AES)."""
        return self.commands is not CommandSet.V1_3
