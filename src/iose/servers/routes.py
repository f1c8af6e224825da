# SPDX-License-Identifier: Apache-2.0
"""From a server name to an element, and how that element has been doing (iose-server.md §4, §7)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from iose.bridge.stream import RESET_TLS
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.iso7816.instructions import INS_SELECT, P1_BY_AID
from iose.servers.errors import RoutingError
from iose.transport.base import Reader

SEN_LIMIT: Final = 15  # historical bytes of an ATR, ISO/IEC 7816-3 §8.2
ALIAS_LIMIT: Final = 255  # a host name, RFC 1035 §2.3.4

FAILURE_LIMIT: Final = 3  # one can be a client's bad luck, three in a row are the element's
BACKOFF_FIRST_S: Final = 1.0
BACKOFF_DOUBLINGS: Final = 6  # about a minute


def start_sequence(aid: Aid | None = None) -> tuple[BatchStep, ...]:
    """Return what starts a session: SELECT if there is an AID, then RESET TLS (§5.3)."""
    reset = BatchStep(RESET_TLS, wants_data=False)
    if aid is None:
        return (reset,)
    select = CommandApdu(0, INS_SELECT, P1_BY_AID, 0, aid.value)
    return (BatchStep(select, wants_data=False), reset)


@dataclass(frozen=True, slots=True)
class ElementRoute:
    """One element of the service plane.

    Attributes:
        seid: Its name on the administration plane.
        sen: Its server name, 1 to 15 printable ASCII characters; matched without regard to case.
        reader: How to reach it.
        aliases: More server names, up to 255 characters each.
        start: Commands run before the first record of each session.
    """

    seid: str
    sen: str
    reader: Reader
    aliases: tuple[str, ...] = ()
    start: tuple[BatchStep, ...] = field(default_factory=start_sequence)


class RoutingTable:
    """Every element of the service plane, by name.

    Args:
        routes: The elements.
        default_sen: Name of the element that serves clients without a name; None serves none.

    Raises:
        RoutingError: A name is not one, is used twice, or the default does not exist.
    """

    def __init__(self, routes: Iterable[ElementRoute], *, default_sen: str | None = None) -> None:
        self.routes = tuple(routes)
        self._by_name: dict[str, ElementRoute] = {}
        for route in self.routes:
            self._add(route.sen, route, SEN_LIMIT)
            for alias in route.aliases:
                self._add(alias, route, ALIAS_LIMIT)
        self.default = None
        if default_sen is not None:
            self.default = self.find(default_sen)
            if self.default is None:
                raise RoutingError(f"the default element {default_sen!r} does not exist")

    def find(self, name: str | None) -> ElementRoute | None:
        """Return the element of a name, or the default one where there is no name."""
        return self.default if name is None else self._by_name.get(name.lower())

    def _add(self, name: str, route: ElementRoute, limit: int) -> None:
        if not 1 <= len(name) <= limit or not all("!" <= letter <= "~" for letter in name):
            raise RoutingError(f"{name!r} of element {route.seid} is not a server name")
        other = self._by_name.setdefault(name.lower(), route)
        if other is not route:
            raise RoutingError(f"elements {other.seid} and {route.seid} share the name {name!r}")


@dataclass(slots=True)
class ElementHealth:
    """How an element has been doing: one that fails again and again is left alone for a while.

    Attributes:
        failures: Failures since it last worked.
        sessions: Sessions it has served.
        retry_at: When it is tried again, in the loop's time; 0 while it is well.
    """

    failures: int = 0
    sessions: int = 0
    retry_at: float = 0.0

    @property
    def is_degraded(self) -> bool:
        """Whether it failed too often in a row."""
        return self.failures >= FAILURE_LIMIT

    def may_try(self, now: float) -> bool:
        """Say whether a session may try it."""
        return now >= self.retry_at

    def note_failure(self, now: float) -> None:
        """Count a failure; from the third in a row on, each doubles the wait."""
        self.failures += 1
        if self.is_degraded:
            doublings = min(self.failures - FAILURE_LIMIT, BACKOFF_DOUBLINGS)
            self.retry_at = now + BACKOFF_FIRST_S * 2**doublings

    def note_success(self) -> bool:
        """Forget the failures, and say whether the element was degraded."""
        was_degraded = self.is_degraded
        self.failures = 0
        self.retry_at = 0.0
        return was_degraded
