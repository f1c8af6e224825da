# SPDX-License-Identifier: Apache-2.0
"""One user's session: rights, holds and audit; ``commands`` does what is asked (racs.md §5, §8).

Listeners feed it commands one after the other and send what it answers; it knows no sockets.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import structlog

from iose.protocols.racs.request import RacsCommand
from iose.protocols.racs.status import StatusLine
from iose.servers.racs.audit import AuditError, AuditEvent, AuditOutcome
from iose.servers.racs.commands import SHOWN, Act, Commands
from iose.servers.racs.elements import RacsElement
from iose.servers.racs.holds import Hold
from iose.servers.racs.policy import Grant, Right
from iose.servers.racs.replies import (
    REFERENCE_CLOSING,
    Fault,
    RefusedError,
    printable,
    refusal_line,
    success_line,
)
from iose.servers.racs.users import Identity
from iose.wire.errors import IoseError

if TYPE_CHECKING:
    from iose.servers.racs.server import RacsServer

FAILURES: Final = frozenset(
    {Fault.CARD, Fault.NO_CARD, Fault.TOO_LARGE, Fault.SYSTEM, Fault.AUDIT, Fault.FULL}
)

EXPIRY_STEP_S: Final = 60.0  # the clock may be set meanwhile, or the machine sleep

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.racs")


class RacsSession:
    """The commands of one user, from CONNECT to CLOSE.

    Args:
        server: The plane, whose elements, rules and limits hold at each command anew.
        number: Of the session in its plane.
        identity: Whose it is.
        peer: Address of the client.
        plane: ``racs``, ``http`` or ``racsl``.
        on_end: Called when the server wants the session to end; it must not wait.

    Attributes:
        holds: The elements it holds, by SEID.
        lost: SEIDs of elements that were taken away, which it has not been told of yet.
    """

    def __init__(
        self,
        server: "RacsServer",
        number: int,
        identity: Identity,
        peer: str,
        plane: str,
        on_end: Callable[[str], None],
    ) -> None:
        self.number = number
        self.identity = identity
        self.peer = peer
        self.plane = plane
        self.since = server.loop.time()
        self.holds: dict[str, Hold] = {}
        self.lost: set[str] = set()
        self.is_ended = False
        self.commands = 0
        self.server = server
        self.is_reference = server.config.is_reference
        self.room = 0
        self._names = identity.names
        self._on_end = on_end
        self._generation = -1
        self._grants: dict[str, Grant | None] = {}
        self._list = ""
        self._losses: set[asyncio.Task[None]] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._commands = Commands(self)

    # --- for listeners ----------------------------------------------------------------------

    async def open(self) -> None:
        """Write that the session begins; it lasts as long as its certificate at most."""
        self._check_expiry()
        await self.note("CONNECT", AuditOutcome("done"))

    async def execute(self, command: RacsCommand, room: int) -> tuple[StatusLine, bool]:
        """Return the status line of a command, and whether the session ends with it.

        Args:
            command: The command.
            room: Longest text that the response takes.
        """
        verb, is_reference = command.verb, self.is_reference
        self.commands += 1
        self.room = room
        try:
            text = await self._commands.run(command)
            return success_line(verb, command.line, text, is_reference=is_reference), False
        except RefusedError as error:
            refusal = error
        except IoseError as error:
            refusal = RefusedError(Fault.SYSTEM, str(error))
        except Exception:  # the top of a command: the session goes on
            log.exception("racs.fault", session=self.number, verb=command.word)
            refusal = RefusedError(Fault.SYSTEM)
        refusal.text = printable(refusal.text)
        closes = is_reference and refusal.fault in REFERENCE_CLOSING
        return refusal_line(verb, command.line, refusal, is_reference=is_reference), closes

    def end(self, reason: str) -> None:
        """Ask for the end of the session, after the command that runs."""
        if not self.is_ended:
            self.is_ended = True
            self._on_end(reason)

    async def close(self, reason: str) -> None:
        """Release everything the session holds, and write that it ends."""
        self.is_ended = True
        if self._expiry is not None:
            self._expiry.cancel()
        holds = list(self.holds.values())
        for hold in holds:
            self.drop(hold)
        releases = [hold.let_go() for hold in holds]
        try:
            for fault in await asyncio.gather(*releases, *self._losses, return_exceptions=True):
                if fault is not None:
                    log.error("racs.fault", session=self.number, error=repr(fault))
        finally:
            self.server.session_closed(self)
        duration = self.server.loop.time() - self.since
        log.info(
            "racs.ended",
            session=self.number,
            plane=self.plane,
            peer=self.peer,
            user=self.identity.user,
            reason=reason,
            commands=self.commands,
            duration=round(duration, 6),
        )
        await self.note("CLOSE", AuditOutcome("done", duration_s=duration), reason)

    def _check_expiry(self) -> None:
        if math.isinf(self.identity.valid_until):
            return
        left = self.identity.valid_until - time.time()
        if left <= 0:
            self.end("certificate expired")
        else:
            step = min(left, EXPIRY_STEP_S)
            self._expiry = self.server.loop.call_later(step, self._check_expiry)

    async def note(
        self, verb: str, outcome: AuditOutcome, detail: str = "", seid: str = ""
    ) -> None:
        """Write something that is over already; a log that cannot be written stops acts only."""
        event = self.event(verb, seid, detail=detail)
        try:
            number = await self.server.audit.intend(event)
            await self.server.audit.conclude(number, event, outcome)
        except AuditError as error:
            log.error("audit.failed", session=self.number, error=str(error))  # noqa: TRY400

    def lose(self, hold: Hold, reason: str, by: str = "") -> None:
        """Take an element away from this session; at once, or when its command is done."""
        if self.holds.get(hold.element.seid) is not hold:
            return
        self.drop(hold)
        self.lost.add(hold.element.seid)
        hold.is_lost = True
        log.info("racs.preempted", session=self.number, seid=hold.element.seid, reason=reason)
        task = self.server.run(self._give_up(hold, reason, is_audited=not by))
        self._losses.add(task)
        task.add_done_callback(self._losses.discard)

    def check_holds(self) -> None:
        """Lose the elements that this user may not power on any more."""
        for hold in list(self.holds.values()):
            element = self.server.table.find(hold.element.seid)
            grant = None if element is None else self._grant(element)
            if grant is None or Right.POWERON not in grant.rights:
                self.lose(hold, "element removed" if element is None else "right lost")

    # --- for commands -------------------------------------------------------------------------

    def listing(self) -> str:
        """Return the SEIDs that this user sees, each with a blank behind it (racs.md §6)."""
        self._refresh()
        return self._list

    def element(self, seid: str, right: Right) -> tuple[RacsElement, Grant]:
        """Return a visible element and what the user may do to it (racs.md §5.2, order of checks).

        Raises:
            RefusedError: There is no such element for this user, or not with this right.
        """
        element = self.server.table.find(seid)
        grant = None if element is None else self._grant(element)
        if element is None or grant is None:
            raise RefusedError(Fault.ELEMENT, f"invalid SEID {seid[:SHOWN]}")
        if right not in grant.rights:
            raise RefusedError(Fault.RIGHT, f"{right} of {seid} is not allowed")
        return element, grant

    async def _give_up(self, hold: Hold, reason: str, *, is_audited: bool) -> None:
        if not hold.is_busy:
            await hold.let_go()
        if is_audited:
            lost = f"{self.plane} {self.number}"
            await self.note(
                "SHUTDOWN", AuditOutcome("done", preempted=lost), reason, hold.element.seid
            )

    def drop(self, hold: Hold) -> None:
        """Forget an element that this session does not hold any more."""
        if self.holds.get(hold.element.seid) is hold:
            del self.holds[hold.element.seid]
        self.server.forget_hold(hold)

    def _grant(self, element: RacsElement) -> Grant | None:
        self._refresh()
        seid = element.seid
        if seid not in self._grants:
            self._grants[seid] = self.server.policy.check(self._names, element)
        return self._grants[seid]

    def _refresh(self) -> None:
        """Forget what followed from rules and elements that have been replaced."""
        if self._generation != self.server.generation:
            self._generation = self.server.generation
            self._grants.clear()
            seids = self.server.policy.visible(self._names, self.server.table)
            self._list = "".join(f"{seid} " for seid in seids)

    def event(
        self, verb: str, seid: str, *, header: bytes = b"", size: int = 0, detail: str = ""
    ) -> AuditEvent:
        """Return what is written down of a command of this session."""
        element = self.server.table.find(seid)
        return AuditEvent(
            self.identity.user,
            self.identity.fingerprint,
            self.peer,
            self.number,
            self.plane,
            verb,
            seid[:SHOWN] if element is None else element.seid,
            header,
            size,
            detail,
        )

    async def audited(
        self, command: RacsCommand, event: AuditEvent, act: Callable[[Act], Awaitable[str]]
    ) -> str:
        """Write what is asked, do it, write how it ended.

        Raises:
            RefusedError: The act was refused or failed, or the intent could not be written.
        """
        audit, loop = self.server.audit, self.server.loop
        started = loop.time()
        try:
            number = await audit.intend(event)
        except AuditError as error:
            raise RefusedError(Fault.AUDIT) from error
        entry = Act()
        outcome, code = "failed", f"-9{command.verb:02d}"
        try:
            text = await act(entry)
            outcome, code = "done", f"+0{command.verb:02d}"
        except RefusedError as refusal:
            is_reference = self.is_reference
            status = refusal_line(command.verb, 0, refusal, is_reference=is_reference)
            code = f"-{status.event_class:d}{status.verb:02d}"
            outcome = "failed" if refusal.fault in FAILURES else "refused"
            if refusal.fault is Fault.MISMATCH:
                outcome = "done"
            raise
        finally:
            duration = loop.time() - started
            ended = AuditOutcome(outcome, code, entry.status, entry.size, duration, entry.preempted)
            await self._conclude(number, event, ended)
        return text

    async def _conclude(self, number: int, event: AuditEvent, outcome: AuditOutcome) -> None:
        try:
            await self.server.audit.conclude(number, event, outcome)
        except AuditError as error:  # what was done stays done; the next intent will fail
            log.error("audit.failed", session=self.number, error=str(error))  # noqa: TRY400
