# SPDX-License-Identifier: Apache-2.0
"""What a front shows of itself to the operator: plain values, by ``TlsFront.snapshot``."""

from dataclasses import dataclass

from iose.servers.holders import Claim


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One session, as shown to the operator; ``age_s`` counts from accept."""

    session: int
    peer: str
    sen: str | None
    seid: str | None
    state: str
    age_s: float


@dataclass(frozen=True, slots=True)
class ClaimStatus:
    """One session that holds an element or waits for it, and for how long."""

    plane: str
    session: int
    source: str
    for_s: float


@dataclass(frozen=True, slots=True)
class ElementStatus:
    """One element, who holds it, who waits for it, and how it has been doing."""

    seid: str
    sen: str
    aliases: tuple[str, ...]
    holder: ClaimStatus | None
    waiting: tuple[ClaimStatus, ...]
    is_degraded: bool
    failures: int
    sessions: int
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class FrontStatus:
    """What a front is doing now."""

    listening: tuple[tuple[str, int], ...]
    is_draining: bool
    connections: int
    accepted: int
    opened: int
    ended: dict[str, int]
    sessions: tuple[SessionStatus, ...]
    elements: tuple[ElementStatus, ...]


def claim_status(claim: Claim, for_s: float) -> ClaimStatus:
    """Return a claim as the operator sees it, and for how long it has held or waited."""
    return ClaimStatus(claim.plane, claim.session, claim.source, round(for_s, 3))
