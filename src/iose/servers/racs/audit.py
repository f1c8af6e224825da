# SPDX-License-Identifier: Apache-2.0
"""What the administration plane writes down, and to whom: the intent first, then the outcome.

``runtime`` keeps it in files (iose-server.md §12.7). Never a body of an APDU, never a secret.
"""

from dataclasses import dataclass
from typing import Protocol

from iose.wire.errors import IoseError


class AuditError(IoseError):
    """The audit log cannot be written; what was to be done must not be."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing somebody asks of the administration plane.

    Attributes:
        user: Common name of the client certificate, or the name of another credential.
        fingerprint: SHA-256 of the certificate in lower-case hex; "" when there is none.
        peer: Address of the client, ``host:port``.
        session: Number of the session in its plane.
        plane: ``racs``, ``http`` or ``racsl``; ``control`` for the owner of the data folder.
        verb: The command, as in racs.md §6; ``CONNECT`` and ``CLOSE`` for the session itself.
        seid: The element's own SEID, or what was asked for when there is none such; "" for none.
        header: CLA INS P1 P2 of an APDU, 4 bytes; empty for other verbs.
        size: Length of the whole APDU, in bytes.
        detail: Anything else that is no secret, as the name given by SEN.
    """

    user: str
    fingerprint: str
    peer: str
    session: int
    plane: str
    verb: str
    seid: str = ""
    header: bytes = b""
    size: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AuditOutcome:
    """How it ended.

    Attributes:
        outcome: ``done``, ``refused`` or ``failed``.
        code: The status line's sign, class and command, as ``-406``; "" outside RACS.
        status: Status word of the last answer; None when there was none.
        size: Length of the answer, in bytes.
        duration_s: From intent to outcome.
        preempted: Whose session lost the element, as ``tls 17``; "" for nobody.
    """

    outcome: str
    code: str = ""
    status: int | None = None
    size: int = 0
    duration_s: float = 0.0
    preempted: str = ""


class AuditLog(Protocol):
    """Where events go. Writes of many sessions may share one wait for the disk."""

    async def intend(self, event: AuditEvent) -> int:
        """Return the number of an entry that is on disk now.

        Raises:
            AuditError: It is not: the disk is full or broken.
        """

    async def conclude(self, number: int, event: AuditEvent, outcome: AuditOutcome) -> None:
        """Write how an intent ended; it is on disk before the next intent is.

        Raises:
            AuditError: It could not be written; what was done stays done.
        """
