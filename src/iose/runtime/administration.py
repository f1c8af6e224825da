# SPDX-License-Identifier: Apache-2.0
"""The administration plane in the node process: put together, kept in step, shown, ended.

Over the same links and the same locks as the front; what elements there are, and their names,
is the node's business.
"""

import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from iose.crypto.pyca import PycaCrypto
from iose.runtime.audit import FileAuditLog
from iose.runtime.channel import Result
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.runtime.own_authority import PKI_FOLDER
from iose.runtime.pki import wall_clock
from iose.runtime.racs_rules import access_policy, racs_config, racsl_credentials
from iose.runtime.racs_settings import RacsSettings
from iose.runtime.racs_tls import (
    Revocations,
    load_revocations,
    server_context,
    trust_files,
)
from iose.servers.errors import RoutingError
from iose.servers.holders import ElementHolders
from iose.servers.racs.audit import AuditError, AuditEvent, AuditOutcome
from iose.servers.racs.elements import NameRegister, RacsElement
from iose.servers.racs.http import HttpBinding
from iose.servers.racs.racsl import RacslListener
from iose.servers.racs.server import RacsServer

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.administration")

AUDIT_FOLDER: Final = "audit"
CONTROL: Final = "control"  # the socket of the data folder's owner, as a plane


class Administration:
    """The RACS server and what it needs.

    Args:
        settings: Table ``racs``.
        folder: The data folder.
        holders: The locks, shared with the front.
        names: Where SEN and GET-SEN look.
    """

    def __init__(
        self,
        settings: RacsSettings,
        folder: Path,
        holders: ElementHolders,
        names: NameRegister,
    ) -> None:
        self._is_stopping = False
        self._settings = settings
        self._pki = folder / PKI_FOLDER
        trust = self._load_trust(settings)
        self._revocations = trust.revocations
        self._audit = FileAuditLog(folder / AUDIT_FOLDER)
        credentials = racsl_credentials(settings)
        self._server = RacsServer(
            racs_config(settings),
            trust.context,
            (),
            access_policy(settings),
            holders,
            self._audit,
            names,
        )
        self._http = HttpBinding(self._server)
        self._racsl = RacslListener(self._server, credentials, PycaCrypto(), OsRng())

    async def start(
        self, elements: Iterable[RacsElement], listeners: Mapping[str, Sequence[socket.socket]]
    ) -> None:
        """Open the audit log, and serve on the sockets handed in.

        A log that cannot be written stops what administrators ask for, not the node.

        Raises:
            OSError: A socket cannot be used.
        """
        with suppress(AuditError):
            await self._audit.open()
        self.refresh(elements)
        self._recheck()
        await self._server.start(listeners["racs"])
        await self._http.start(listeners["http"])
        await self._racsl.start(listeners["racsl"])

    async def stop(self) -> None:
        """Let requests end, then sessions; close the audit log. A second call does that alone."""
        if not self._is_stopping:
            self._is_stopping = True
            await self._http.stop()
            await self._racsl.stop()
            await self._server.stop()
        await self._audit.close()

    def refresh(self, elements: Iterable[RacsElement]) -> None:
        """Take the elements there are now; an alias that leads to two is left out, and logged."""
        self._server.reload(_without_clashes(elements), access_policy(self._settings))

    def reload(self, settings: RacsSettings, elements: Iterable[RacsElement]) -> None:
        """Take new settings, for sessions that run, too; where it listens stays.

        Raises:
            ConfigurationError: They are refused; the old ones stay.
        """
        trust = self._load_trust(settings)
        credentials = racsl_credentials(settings)
        try:
            self._server.reload(elements, access_policy(settings))
        except RoutingError as error:
            raise ConfigurationError(str(error), hint="correct the configuration file") from error
        self._settings = settings
        self._server.config = racs_config(settings)
        self._racsl.reload(credentials)
        self._take(trust)

    def reload_trust(self) -> None:
        """Read certificates and revocations anew; sessions of who is revoked now end.

        Raises:
            ConfigurationError: A file is damaged; who was trusted still is.
        """
        self._take(self._load_trust(self._settings))

    async def note(self, verb: str, detail: str = "") -> None:
        """Write down what the owner of the data folder has changed, which no session did.

        It is done already: a log that cannot be written does not undo it.
        """
        event = AuditEvent("", "", "", 0, CONTROL, verb, detail=detail)
        try:
            number = await self._audit.intend(event)
            await self._audit.conclude(number, event, AuditOutcome("done"))
        except AuditError as error:
            log.error("audit.failed", verb=verb, error=str(error))  # noqa: TRY400

    def snapshot(self) -> Result:
        """Return what the plane is doing now."""
        return {
            **asdict(self._server.snapshot()),
            "is_revocation_list_old": self._is_list_old,
            "audit": {"head": str(self._audit.head), "fault": self._audit.fault},
        }

    @property
    def _is_list_old(self) -> bool:
        until = self._revocations.next_update
        return until is not None and wall_clock() > until

    def _load_trust(self, settings: RacsSettings) -> "_Trust":
        files = trust_files(settings, self._pki)
        context = server_context(files, legacy_rsa_kx=settings.legacy_rsa_kx)
        return _Trust(context, load_revocations(files))

    def _take(self, trust: "_Trust") -> None:
        self._server.context = self._http.context = trust.context
        self._revocations = trust.revocations
        self._recheck()

    def _recheck(self) -> None:
        if self._is_list_old:
            log.warning("racs.revocation_list_old", until=str(self._revocations.next_update))
        self._server.recheck(self._revocations.is_revoked)


@dataclass(frozen=True, slots=True)
class _Trust:
    context: ssl.SSLContext
    revocations: Revocations


def _without_clashes(elements: Iterable[RacsElement]) -> list[RacsElement]:
    """Return the elements with the aliases that are no other's SEID: nobody is kept away."""
    found = list(elements)
    owners = {element.seid: element.seid for element in found}
    kept = []
    for element in found:
        aliases = []
        for alias in element.aliases:
            if owners.setdefault(alias, element.seid) == element.seid:
                aliases.append(alias)
            else:
                log.error("element.repeated_seid", seid=element.seid, alias=alias)
        kept.append(replace(element, aliases=tuple(aliases)))
    return kept
