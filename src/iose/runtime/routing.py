# SPDX-License-Identifier: Apache-2.0
"""From the operator's settings and the elements there are to what the front takes.

What the operator must correct is refused by the front itself; what elements do to each other is
left out here, since none of them may keep the others away.
"""

from dataclasses import fields, replace

import structlog

from iose.runtime.config import FrontSettings, NodeConfig
from iose.servers.routes import ElementRoute
from iose.servers.tls_front import FrontConfig

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.node")


def front_config(config: NodeConfig) -> FrontConfig:
    """Return the front's settings in the front's own form; its defaults fill the gaps."""
    names = (item.name for item in fields(FrontSettings) if item.name != "listen")
    given = {name: value for name in names if (value := getattr(config.front, name)) is not None}
    return FrontConfig(listen=config.listen, **given)


def without_clashes(
    routes: list[ElementRoute], default_sen: str | None
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
                log.error("element.repeated_name", seid=route.seid, sen=alias)
        kept.append(replace(route, aliases=tuple(aliases)))
    if default_sen is not None and default_sen.lower() not in owners:
        log.error("element.default_absent", sen=default_sen)
        default_sen = None
    return kept, default_sen
