# SPDX-License-Identifier: Apache-2.0
"""The wires: transfers on one bus and pulses on reset lines, one after the other, blocking.

Called by the bus's own thread only. Of frames and elements it knows nothing.
"""

from dataclasses import dataclass
from typing import Final, Protocol

# iose-server.md §8.4
RESET_LOW_S: Final = 100e-6
RESET_HELD_S: Final = 0.010  # after the pulse, with the bus held
RESET_START_S: Final = 0.250  # after that, until the element listens; the bus is free for others

SOCKET_PREFIXES: Final = ("unix:", "tcp:")


class NotAcknowledgedError(OSError):
    """A transfer failed: nobody acknowledges, or the bus was disturbed; it may be tried again."""


@dataclass(frozen=True, slots=True)
class ResetPin:
    """A reset line, active low.

    Attributes:
        chip: GPIO chip, as ``/dev/gpiochip0``; any word where the bus is behind a socket.
        line: Its number on the chip.
    """

    chip: str
    line: int


class Lines(Protocol):
    """One open bus.

    All that is below raises NoReaderError when the bus or the line is not to be had, now or any
    more, and TransportError when it does not do what it is for.
    """

    def write(self, address: int, data: bytes) -> None:
        """Do one write transfer.

        Raises:
            NotAcknowledgedError: It failed.
        """

    def read(self, address: int, size: int) -> bytes:
        """Return what one read transfer brings.

        Raises:
            NotAcknowledgedError: It failed.
        """

    def pulse(self, pin: ResetPin) -> None:
        """Pull a reset line low for ``RESET_LOW_S``, let it go, wait for ``RESET_HELD_S``."""

    def close(self) -> None:
        """Let go of everything."""
