# SPDX-License-Identifier: Apache-2.0
"""What a TLS session asks of the application behind it, and the smallest application.

The keystore implements ``Application``; it knows neither records nor APDUs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer to one line.

    Attributes:
        data: What goes back to the client as one record; empty sends nothing.
        ends_session: Whether the session is over after it.
    """

    data: bytes = field(repr=False)
    ends_session: bool = False


@dataclass(frozen=True, slots=True)
class ApplicationSession:
    """Who is calling.

    Attributes:
        is_guest: Whether the client used the second identity, with fewer rights.
        handshake_secret: Of the running session, for the attestation; None without one.
        export: Gives 32 bytes of the running session for a label (RFC 8446 §7.5); None unless
            the line came through it.
    """

    is_guest: bool = False
    handshake_secret: bytes | None = field(default=None, repr=False)
    export: Callable[[bytes], bytes] | None = field(default=None, repr=False, compare=False)


class Application(Protocol):
    """A program that answers lines: one record in, one record out."""

    def handle(self, line: bytes, session: ApplicationSession) -> Reply:
        """Return the answer to the plaintext of one record; never raises on its content."""


class EchoApplication:
    """The application of the first TLS-SE applet; the 1.3 applet keeps it as its self test."""

    _ENDINGS: Final = {
        b"GET /\r\n": b"I hear you fa shizzle!",
        b"quit\r\n": b"quit\r\n",
    }

    def handle(self, line: bytes, session: ApplicationSession) -> Reply:
        """Return the line itself; two lines end the session."""
        ending = self._ENDINGS.get(line)
        return Reply(line) if ending is None else Reply(ending, ends_session=True)
