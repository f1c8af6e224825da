# SPDX-License-Identifier: Apache-2.0
"""Settings of the administration plane, its limits with their reasons (racs.md §11)."""

from dataclasses import dataclass
from typing import Final

COMPAT_NONE: Final = ""
COMPAT_REFERENCE: Final = "reference"


@dataclass(frozen=True, slots=True)
class RacsConfig:
    """Settings of a RACS server; times are in seconds, sizes in bytes.

    Attributes:
        listen: Addresses and ports; port 0 takes a free one.
        compat: "" or ``reference``: status codes and habits of the published server.
        handshake_s: From accept to the end of the TLS handshake.
        idle_s: Longest silence of a session.
        session_s: Longest life of a session, whatever it does; 0 for any.
        hold_idle_s: Longest silence on an element that is powered on.
        hold_idle_awaited_s: The same while others wait for the element; it must be shorter than
            they wait, see the front's ``queue_wait_s``.
        drain_s: What sessions in the middle of a request get when the server stops.
        session_limit: Most connections at once, those in their handshake included.
        sessions_per_user: Most sessions of one user at once.
        response_limit: Largest answer to one APDU, all its parts together.
        block_limit: Largest response to one request; clients of ours take 1 MiB.
        http_listen: The same for the HTTP binding; empty: none.
        http_get_acts: HTTP GET may do more than look; URLs end in logs.
        racsl_listen: The same for RACS Lite; empty: none.
    """

    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", 7777),)
    compat: str = COMPAT_NONE
    handshake_s: float = 10.0
    idle_s: float = 600.0
    session_s: float = 0.0
    hold_idle_s: float = 120.0
    hold_idle_awaited_s: float = 2.0
    drain_s: float = 5.0
    session_limit: int = 1024
    sessions_per_user: int = 256
    response_limit: int = 65_536
    block_limit: int = 1_000_000
    http_listen: tuple[tuple[str, int], ...] = ()
    http_get_acts: bool = False
    racsl_listen: tuple[tuple[str, int], ...] = ()

    @property
    def is_reference(self) -> bool:
        """Whether to do as the published server does."""
        return self.compat == COMPAT_REFERENCE
