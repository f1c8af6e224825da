# SPDX-License-Identifier: Apache-2.0
"""The elements of the administration plane and the names they go by (racs.md §10).

Several names may lead to one element; rights and locks belong to the element.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Protocol

from iose.servers.errors import RoutingError
from iose.transport.base import Reader

SEID_LIMIT: Final = 63  # racs.md §10
GLOB: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class RacsElement:
    """One element, as administrators see it.

    Attributes:
        seid: The element's own SEID; locks and audit use this one.
        reader: Where it sits.
        aliases: More SEIDs that lead to it.
        sen: Its name on the service plane, as the element says; "" when it has none.
        aid: The applet chosen for the service plane, in hex; "" for the default-selected one.
    """

    seid: str
    reader: Reader
    aliases: tuple[str, ...] = ()
    sen: str = ""
    aid: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every SEID of the element, its own first."""
        return (self.seid, *self.aliases)

    def is_matched(self, pattern: str) -> bool:
        """Say whether a rule's pattern means this element: by a SEID, its SEN, or a glob."""
        if pattern == "*" or pattern in self.names or (self.sen and pattern == self.sen):
            return True
        if GLOB.isdisjoint(pattern):
            return False  # as most are: no need to try them as globs
        return any(fnmatchcase(name, pattern) for name in (*self.names, self.sen) if name)


class ElementTable:
    """The elements of one node, by every SEID.

    Raises:
        RoutingError: A SEID is no token of 1 to 63 characters, or leads to two elements.
    """

    def __init__(self, elements: Iterable[RacsElement]) -> None:
        self.elements = tuple(elements)
        self._by_name: dict[str, RacsElement] = {}
        for element in self.elements:
            for name in element.names:
                self._add(name, element)

    def find(self, name: str) -> RacsElement | None:
        """Return the element of a SEID; None when there is no such element."""
        return self._by_name.get(name)

    def _add(self, name: str, element: RacsElement) -> None:
        if not 0 < len(name) <= SEID_LIMIT or not all("!" <= letter <= "~" for letter in name):
            raise RoutingError(
                f"a SEID has 1 to {SEID_LIMIT} visible characters, found {name[:SEID_LIMIT]!r}"
            )
        other = self._by_name.setdefault(name, element)
        if other is not element:
            raise RoutingError(
                f"SEID {name} leads to two elements, {other.seid} and {element.seid}",
                hint="give one of them another SEID or alias",
            )


class NameRegister(Protocol):
    """The names on the service plane, as SEN and GET-SEN see them; ``runtime`` keeps them."""

    async def name(self, seid: str) -> tuple[str, str] | None:
        """Return an element's SEN, and its AID in hex ("" for default); None when it has none."""

    async def set_name(self, seid: str, sen: str | None, aid: str) -> None:
        """Give an element a name, or with None the one its ATR says.

        Raises:
            IoseError: The name is another element's, or cannot be kept; nothing changed.
        """
