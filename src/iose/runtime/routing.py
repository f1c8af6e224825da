# SPDX-License-Identifier: Apache-2.0
"""From the operator's settings and the elements there are to what the front takes.

What the operator must correct is refused by the front itself; what elements do to each other is
left out here, since none of them may keep the others away.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Protocol

import structlog

from iose.protocols.host_frames import ElementInfo
from iose.runtime.config import ElementSettings, FrontSettings, NodeConfig
from iose.servers.routes import ElementRoute
from iose.servers.tls_front import FrontConfig
from iose.transport.base import Reader

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.node")


def front_config(config: NodeConfig) -> FrontConfig:
    """Return the front's settings in the front's own form; its defaults fill the gaps."""
    names = (item.name for item in fields(FrontSettings) if item.name != "listen")
    given = {name: value for name in names if (value := getattr(config.front, name)) is not None}
    return FrontConfig(listen=config.listen, **given)


class ElementSource(Protocol):
    """An element host, or all readers: elements and the ways to them."""

    @property
    def elements(self) -> tuple[ElementInfo, ...]:
        """What there is now."""

    def reader(self, seid: str) -> Reader:
        """Return the reader of one element."""


class Complaints:
    """What is wrong with names: in the log once while it lasts, however often one looks."""

    def __init__(self) -> None:
        self._former: set[tuple[str, ...]] = set()
        self._now: set[tuple[str, ...]] = set()

    def begin(self) -> None:
        """Look anew: what is not told of again is over."""
        self._former, self._now = self._now, set()

    def tell(self, event: str, **said: str) -> None:
        """Say that something is wrong."""
        complaint = (event, *said.values())
        if complaint not in self._former | self._now:
            log.error(event, **said)
        self._now.add(complaint)


@dataclass(frozen=True, slots=True)
class NameClaim:
    """One element's wish for a name of its own.

    Attributes:
        sen: The name.
        seid: The element.
        is_weak: A card or another node says so, whom nobody here has asked: everybody else's wish
            goes first.
    """

    sen: str
    seid: str
    is_weak: bool


def name_owners(claims: Iterable[NameClaim], former: Mapping[str, str]) -> dict[str, str]:
    """Return whose each name is, by name in lower case; who had it keeps it, unless it is weak.

    What rules and tables ``element`` say by name is for nobody else: a card that calls itself like
    another element must not get its rights, nor take them.
    """
    wanted = sorted(claims, key=lambda one: (one.is_weak, former.get(one.sen.lower()) != one.seid))
    owners: dict[str, str] = {}
    for one in wanted:
        owners.setdefault(one.sen.lower(), one.seid)
    return owners


def names_of_others(
    said: Mapping[str, ElementSettings], software: Iterable[ElementInfo]
) -> dict[str, str]:
    """Return what no element behind a reader may have as its SEID, and whose it is.

    Rules of administrators may mean another element by it.
    """
    names = {
        name: f'table [element."{key}"]'
        for key, settings in said.items()
        for name in (*settings.seids, settings.sen)
        if name != key
    }
    for info in software:
        names |= dict.fromkeys((info.seid, info.sen), "a software element")
    return names


def share_names(
    named: Iterable[ElementRoute],
    more: Iterable[ElementRoute],
    former: Mapping[str, str],
    *,
    weak: Collection[str],
    said: Collection[str],
    complaints: Complaints,
) -> list[ElementRoute]:
    """Return one route for each name; who has a name keeps it.

    An element's own name and the aliases configured for it go before the name of an instance, which
    whoever manages the contents of an element chose; what a card calls itself goes last, and does
    not become another's alias. What got the name of another one is left out and the log says so:
    the other one is not to suffer.

    Args:
        named: Routes of elements' own names; the first goes first where nobody has a name yet.
        more: Routes of instances.
        former: Who has each name, in lower case.
        weak: SEIDs of elements whose names are their own saying.
        said: Every alias in the configuration, in lower case, whether its element is there or not.
        complaints: Told of what is left out.
    """
    named = tuple(named)
    aliases = {alias.lower(): route.seid for route in named for alias in route.aliases}
    wanted = [*((route, {}) for route in named), *((route, aliases) for route in more)]
    wanted.sort(
        key=lambda one: (one[0].seid in weak, former.get(one[0].sen.lower()) != one[0].seid)
    )
    routes: dict[str, ElementRoute] = {}
    for route, reserved in wanted:
        name, seid = route.sen.lower(), route.seid
        is_kept_for_others = seid not in (reserved.get(name, seid), former.get(name))
        if seid in weak and name in said and former.get(name) != seid:
            is_kept_for_others = name not in map(str.lower, route.aliases)
        if name in routes or is_kept_for_others:
            complaints.tell("element.repeated_name", seid=seid, sen=route.sen)
            continue
        routes[name] = route
    return list(routes.values())


def without_clashes(
    routes: list[ElementRoute], default_sen: str | None, complaints: Complaints
) -> tuple[list[ElementRoute], str | None]:
    """Return routes and default that can be served: an element must not keep the others away.

    Left out, and logged, are an alias that is another element's name by now, and a default
    element that is not there, since its host is down, or it is broken or moved away.
    """
    owners = {route.sen.lower(): route.seid for route in routes}
    kept = []
    for route in routes:
        aliases = []
        for alias in route.aliases:
            if owners.setdefault(alias.lower(), route.seid) == route.seid:
                aliases.append(alias)
            else:
                complaints.tell("element.repeated_name", seid=route.seid, sen=alias)
        kept.append(replace(route, aliases=tuple(aliases)))
    if default_sen is not None and default_sen.lower() not in owners:
        complaints.tell("element.default_absent", sen=default_sen)
        default_sen = None
    return kept, default_sen
