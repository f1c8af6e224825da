# SPDX-License-Identifier: Apache-2.0
"""What every group of keystore commands shares: the entry of a table, and the usual replies."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from iose.applet_commands.curves import SCALAR_SIZE
from iose.applets.tls_se.application import ApplicationSession, Reply

LINE_END: Final = b"\r\n"
OK: Final = Reply(b"OK" + LINE_END)
ERROR: Final = Reply(b"ERROR" + LINE_END)
ABORT: Final = Reply(b"", ends_session=True)

Run = Callable[[Any, int, bytes, ApplicationSession], Reply]
"""A method of a group: takes index, payload, caller. May raise CryptoError and StatusWordError."""


class Payload(Enum):
    """How the characters after the index are read."""

    HEX = "hex"
    TEXT = "text"
    MODAL = "modal"  # bit 7 of the index says binary, as the commands h, H, A and a of 2.18 have it


@dataclass(frozen=True, slots=True)
class Command:
    """One entry of a table of commands.

    Attributes:
        run: Carries it out; tables are shared, so it is not bound to a group yet.
        payload: How its payload is read.
        is_guest: Whether the second identity may use it.
    """

    run: Run
    payload: Payload = Payload.HEX
    is_guest: bool = False


def text_reply(text: bytes) -> Reply:
    """Return a line of text."""
    return Reply(text + LINE_END)


def hex_reply(value: bytes) -> Reply:
    """Return a line of upper-case hex digits."""
    return text_reply(value.hex().upper().encode("ascii"))


def padded_scalar(value: bytes) -> bytes | None:
    """Return 1 to 32 bytes, padded with zeros on the left to 32; None for another size."""
    return value.rjust(SCALAR_SIZE, b"\x00") if 1 <= len(value) <= SCALAR_SIZE else None
