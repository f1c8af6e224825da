# SPDX-License-Identifier: Apache-2.0
"""One user's session: what each command does, with rights, locks and audit (racs.md §5 to §9).

Listeners feed it commands one after the other and send what it answers; it knows no sockets.
Every command that may touch an element is written to the audit log first, then checked and done.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from iose.protocols.racs.parameters import decode_apdu_parameters, decode_sen_parameters
from iose.protocols.racs.request import RacsCommand
from iose.protocols.racs.status import StatusLine, Verb
from iose.servers.holders import Claim, ElementLock
from iose.servers.racs.audit import AuditError, AuditEvent, AuditOutcome
from iose.servers.racs.elements import RacsElement
from iose.servers.racs.holds import Hold
from iose.servers.racs.policy import Grant, Right
from iose.servers.racs.replies import (
    MISMATCH_REFERENCE_TEXT,
    REFERENCE_CLOSING,
    Fault,
    RefusedError,
    refusal_line,
    success_line,
)
from iose.servers.racs.users import Identity
from iose.wire.errors import DecodeError, IoseError

if TYPE_CHECKING:
    from iose.servers.racs.server import RacsServer

VERSION: Final = "0.3"  # racs.md §6
VERSIONS: Final = ("0.2", "0.3")
WARM: Final = "WARM"
ROOM_FOR_ANY: Final = 1024  # racs.md §7.2: less is refused before anything is done
PREEMPT_WAIT_S: Final = 40.0  # an APDU of the other session may run; readers allow it 30 s
TEXT_LIMIT: Final = 200
SHOWN: Final = 63
FAILURES: Final = frozenset(
    {Fault.CARD, Fault.NO_CARD, Fault.TOO_LARGE, Fault.SYSTEM, Fault.AUDIT, Fault.FULL}
)

Result = TypeVar("Result")

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.racs")


@dataclass(slots=True)
class _Act:
    """What is written down of one command while it runs."""

    status: int | None = None
    size: int = 0
    preempted: str = ""


class RacsSession:
    """The commands of one user, from CONNECT to CLOSE.

    Args:
        server: The plane, whose elements, rules and limits hold at each command anew.
        number: Of the session in its plane.
        identity: Whose it is.
        peer: Address of the client.
        plane: ``racs``, ``http`` or ``racsl``.
        on_end: Called when the server wants the session to end; it must not wait.
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
        self.is_ended = False
        self.commands = 0
        self._server = server
        self._is_reference = server.config.is_reference
        self._names = identity.names
        self._on_end = on_end
        self._generation = -1
        self._grants: dict[str, Grant | None] = {}
        self._list = ""
        self._room = 0
        self._losses: set[asyncio.Task[None]] = set()
        self._verbs: dict[Verb, Callable[[RacsCommand], Awaitable[str]]] = {
            Verb.GET_VERSION: self._get_version,
            Verb.SET_VERSION: self._set_version,
            Verb.LIST: self._list_elements,
            Verb.ECHO: self._echo,
            Verb.QUIT: self._quit,
            Verb.GET_SEN: self._get_sen,
            Verb.POWERON: self._power_on,
            Verb.RESET: self._reset,
            Verb.APDU: self._apdu,
            Verb.SHUTDOWN: self._shutdown,
            Verb.SEN: self._sen,
        }

    # --- for listeners ----------------------------------------------------------------------

    async def open(self) -> None:
        """Write that the session begins."""
        await self.note("CONNECT", AuditOutcome("done"))

    async def execute(self, command: RacsCommand, room: int) -> tuple[StatusLine, bool]:
        """Return the status line of a command, and whether the session ends with it.

        Args:
            command: The command.
            room: Longest text that the response takes.
        """
        verb, is_reference = command.verb, self._is_reference
        self.commands += 1
        self._room = room
        try:
            text = await self._run(command)
            return success_line(verb, command.line, text, is_reference=is_reference), False
        except RefusedError as error:
            refusal = error
        except IoseError as error:
            refusal = RefusedError(Fault.SYSTEM, str(error))
        except Exception:  # the top of a command: the session goes on
            log.exception("racs.fault", session=self.number, verb=command.word)
            refusal = RefusedError(Fault.SYSTEM)
        refusal.text = _printable(refusal.text)
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
        holds = list(self.holds.values())
        self.holds.clear()
        for hold in holds:
            self._server.forget_hold(hold)
        await asyncio.gather(*(hold.let_go() for hold in holds), *self._losses)
        duration = self._server.loop.time() - self.since
        self._server.session_closed(self)
        await self.note("CLOSE", AuditOutcome("done", duration_s=duration), reason)

    async def note(
        self, verb: str, outcome: AuditOutcome, detail: str = "", seid: str = ""
    ) -> None:
        """Write something that is over already; a log that cannot be written stops acts only."""
        event = self._event(verb, seid, detail=detail)
        try:
            number = await self._server.audit.intend(event)
            await self._server.audit.conclude(number, event, outcome)
        except AuditError as error:
            log.error("audit.failed", session=self.number, error=str(error))  # noqa: TRY400

    def lose(self, hold: Hold, reason: str, by: str = "") -> None:
        """Take an element away from this session; at once, or when its command is done."""
        if self.holds.get(hold.element.seid) is not hold:
            return
        del self.holds[hold.element.seid]
        self._server.forget_hold(hold)
        hold.is_lost = True
        log.info("racs.preempted", session=self.number, seid=hold.element.seid, reason=reason)
        task = self._server.loop.create_task(self._give_up(hold, reason, is_audited=not by))
        self._losses.add(task)
        task.add_done_callback(self._losses.discard)

    def check_holds(self) -> None:
        """Lose the elements that this user may not power on any more."""
        for hold in list(self.holds.values()):
            element = self._server.table.find(hold.element.seid)
            grant = None if element is None else self._grant(element)
            if grant is None or Right.POWERON not in grant.rights:
                self.lose(hold, "right lost")

    # --- commands that touch no element -------------------------------------------------------

    async def _run(self, command: RacsCommand) -> str:
        """Return the text of a success.

        Raises:
            RefusedError: The command failed.
        """
        if command.verb is Verb.NONE:
            raise RefusedError(Fault.UNKNOWN_COMMAND, f"{command.word[:SHOWN]} unknown command")
        if command.fault:
            raise RefusedError(Fault.SYNTAX, command.fault)
        if self._room < ROOM_FOR_ANY:
            raise RefusedError(Fault.FULL)
        text = await self._verbs[command.verb](command)
        if len(text) > self._room:
            raise RefusedError(Fault.FULL)
        return text

    async def _get_version(self, command: RacsCommand) -> str:
        del command
        return VERSION

    async def _set_version(self, command: RacsCommand) -> str:
        version = _parameter(command)
        if version not in ((VERSION,) if self._is_reference else VERSIONS):
            raise RefusedError(Fault.VERSION, f"{version[:SHOWN]} is not supported")
        return f"version {version} is running"

    async def _list_elements(self, command: RacsCommand) -> str:
        del command
        self._refresh()
        return self._list

    async def _echo(self, command: RacsCommand) -> str:
        return _parameter(command)

    async def _quit(self, command: RacsCommand) -> str:
        return command.word

    async def _get_sen(self, command: RacsCommand) -> str:
        element, _ = self._element(_parameter(command), Right.GET_SEN)
        name = await self._server.names.name(element.seid)
        if name is None:
            raise RefusedError(Fault.NO_NAME, "this element has no name")
        return f"{name[0]} [AID= {name[1] or 'default'}]"

    # --- commands that do ---------------------------------------------------------------------

    async def _power_on(self, command: RacsCommand) -> str:
        seid = _parameter(command)

        async def act(_: _Act) -> str:
            element, _grant = self._element(seid, Right.POWERON)
            if element.seid in self.holds:
                return f"warning, {seid} was powered on already"
            lock = self._server.holders.lock(element.seid)
            await self._take(element, lock)
            return f"{seid} has been powered on"

        return await self._audited(command, self._event("POWERON", seid), act)

    async def _reset(self, command: RacsCommand) -> str:
        seid = _parameter(command)
        words = command.parameters[1:]
        detail = WARM if words and words[0] == WARM else ""

        async def act(_: _Act) -> str:
            element, _grant = self._element(seid, Right.RESET)
            if words and not detail and not self._is_reference:
                raise RefusedError(Fault.PARAMETER, f"expected {WARM}")
            hold = self._held(element)
            await self._use(hold, hold.reset(is_warm=bool(detail)))
            return f"{seid} has been reset{detail and ' (warm)'}"

        return await self._audited(command, self._event("RESET", seid, detail=detail), act)

    async def _apdu(self, command: RacsCommand) -> str:
        seid = _parameter(command)
        try:
            parameters = decode_apdu_parameters(
                command.parameters[1:], is_reference=self._is_reference
            )
        except DecodeError as error:
            raise RefusedError(Fault.SYNTAX, str(error)) from error
        apdu = parameters.command
        event = self._event("APDU", seid, header=apdu[:4], size=len(apdu))

        async def act(entry: _Act) -> str:
            element, grant = self._element(seid, Right.APDU)
            hold = self._held(element)
            rewritten = hold.firewall.rewrite(apdu)
            verdict = hold.firewall.judge(rewritten, grant)
            if verdict is not None:
                raise RefusedError(Fault.FILTERED, f"refused: {verdict.value}")
            limit = min(self._server.config.response_limit, (self._room >> 1) - 2)
            hold.status = None
            asked = parameters if rewritten is apdu else parameters.with_command(rewritten)
            exchange = hold.exchange(asked, grant, limit=limit, is_alive=lambda: not self.is_ended)
            try:
                answer = await self._use(hold, exchange)
            finally:
                entry.status = hold.status
            entry.size = len(answer)
            if parameters.expected is not None and hold.status != parameters.expected:
                text = MISMATCH_REFERENCE_TEXT
                if not self._is_reference:
                    text = f"{hold.status:04X} {Fault.MISMATCH.text}"
                raise RefusedError(Fault.MISMATCH, text)
            return answer.hex().upper()

        return await self._audited(command, event, act)

    async def _shutdown(self, command: RacsCommand) -> str:
        seid = _parameter(command)

        async def act(entry: _Act) -> str:
            element, grant = self._element(seid, Right.SHUTDOWN)
            hold = self.holds.pop(element.seid, None)
            if hold is not None:
                self._server.forget_hold(hold)
                await hold.let_go()
                return f"{seid} has been powered off"
            lock = self._server.holders.lock(element.seid)
            if lock.holder is not None:
                await self._preempt(lock, lock.holder, grant, entry)
            return f"{seid} has been powered off"

        return await self._audited(command, self._event("SHUTDOWN", seid), act)

    async def _sen(self, command: RacsCommand) -> str:
        seid = _parameter(command)
        try:
            parameters = decode_sen_parameters(command.parameters[1:])
        except DecodeError as error:
            raise RefusedError(Fault.SYNTAX, str(error)) from error
        detail = " ".join(filter(None, (parameters.sen or "own name", parameters.aid)))

        async def act(entry: _Act) -> str:
            element, grant = self._element(seid, Right.SEN)
            lock = self._server.holders.lock(element.seid)
            hold = self.holds.get(element.seid)
            if lock.holder is not None and hold is None:
                if not self._is_reference:
                    raise RefusedError(Fault.IN_USE, f"{seid} is in use by another session")
                await self._preempt(lock, lock.holder, grant, entry)
            claim = self._claim(None)
            is_taken = hold is None and lock.try_acquire(claim, claim.since)
            if hold is None and not is_taken:
                raise RefusedError(Fault.IN_USE, f"{seid} is in use by another session")
            try:
                await self._server.names.set_name(element.seid, parameters.sen, parameters.aid)
                name = await self._server.names.name(element.seid)
            finally:
                if is_taken:
                    lock.release(claim, self._server.loop.time())
            sen, aid = name or (parameters.sen or "", parameters.aid)
            return f"SEN= {sen} AID= {aid or 'default'}"

        return await self._audited(command, self._event("SEN", seid, detail=detail), act)

    # --- checks and steps ---------------------------------------------------------------------

    def _element(self, seid: str, right: Right) -> tuple[RacsElement, Grant]:
        """Return a visible element and what the user may do to it (racs.md §5.2, order of checks).

        Raises:
            RefusedError: There is no such element for this user, or not with this right.
        """
        element = self._server.table.find(seid)
        grant = None if element is None else self._grant(element)
        if element is None or grant is None:
            raise RefusedError(Fault.ELEMENT, f"invalid SEID {seid[:SHOWN]}")
        if right not in grant.rights:
            raise RefusedError(Fault.RIGHT, f"{right} of {seid} is not allowed")
        return element, grant

    def _held(self, element: RacsElement) -> Hold:
        hold = self.holds.get(element.seid)
        if hold is not None:
            return hold
        if self._server.holders.lock(element.seid).holder is not None:
            raise RefusedError(Fault.IN_USE, f"{element.seid} is in use by another session")
        raise RefusedError(Fault.NOT_POWERED, f"{element.seid} has not been powered on")

    async def _take(self, element: RacsElement, lock: ElementLock) -> None:
        """Take a free element and start it.

        Raises:
            RefusedError: It is not free, or does not start.
        """
        claim = self._claim(element.seid)
        if not lock.try_acquire(claim, claim.since):
            raise RefusedError(Fault.IN_USE, f"{element.seid} is in use by another session")
        hold = Hold(element, lock, claim, is_reference=self._is_reference)
        self.holds[element.seid] = hold
        self._server.remember_hold(hold, self)
        try:
            await self._use(hold, hold.power_on())
        except RefusedError as error:
            raise RefusedError(Fault.NO_CARD, error.text) from error
        if hold.is_lost:
            raise RefusedError(Fault.IN_USE, f"{element.seid} was taken away meanwhile")

    async def _use(self, hold: Hold, work: Awaitable[Result]) -> Result:
        """Run a command on an element; one that fails loses its power and its lock.

        Raises:
            RefusedError: It failed, or was refused on the way.
        """
        hold.is_busy = True
        try:
            return await work
        except RefusedError:
            raise
        except IoseError as error:
            log.warning("element.failed", session=self.number, error=str(error))
            self._drop(hold)
            await hold.let_go()
            raise RefusedError(Fault.CARD, str(error)) from error
        except BaseException:  # a bug, or the end of the server: what state it is in, nobody knows
            self._drop(hold)
            await hold.let_go()
            raise
        finally:
            hold.is_busy = False
            hold.last_used = self._server.loop.time()
            if hold.is_lost:
                await hold.let_go()

    async def _preempt(self, lock: ElementLock, other: Claim, grant: Grant, entry: _Act) -> None:
        """Make another session give an element up (racs.md §8).

        Raises:
            RefusedError: This user may not, or the other session does not.
        """
        if Right.PREEMPT not in grant.rights and not self._is_reference:
            raise RefusedError(Fault.IN_USE, f"{lock.seid} is in use by another session")
        entry.preempted = f"{other.plane} {other.session}"
        if other.evict is not None:
            other.evict()
        try:
            async with asyncio.timeout(PREEMPT_WAIT_S):
                await lock.released(other)
        except TimeoutError:
            raise RefusedError(Fault.SYSTEM, "the other session does not let go") from None

    async def _give_up(self, hold: Hold, reason: str, *, is_audited: bool) -> None:
        if not hold.is_busy:
            await hold.let_go()
        if is_audited:
            lost = f"{self.plane} {self.number}"
            await self.note(
                "SHUTDOWN", AuditOutcome("done", preempted=lost), reason, hold.element.seid
            )

    def _drop(self, hold: Hold) -> None:
        if self.holds.get(hold.element.seid) is hold:
            del self.holds[hold.element.seid]
        self._server.forget_hold(hold)

    def _claim(self, seid: str | None) -> Claim:
        def evict() -> None:
            hold = self.holds.get(seid or "")
            if hold is not None:
                self.lose(hold, "preempted", by="another session")

        user = self.identity.user
        now = self._server.loop.time()
        return Claim(self.plane, self.number, user, now, None if seid is None else evict)

    def _grant(self, element: RacsElement) -> Grant | None:
        self._refresh()
        seid = element.seid
        if seid not in self._grants:
            self._grants[seid] = self._server.policy.check(self._names, element)
        return self._grants[seid]

    def _refresh(self) -> None:
        """Forget what followed from rules and elements that have been replaced."""
        if self._generation != self._server.generation:
            self._generation = self._server.generation
            self._grants.clear()
            seids = self._server.policy.visible(self._names, self._server.table)
            self._list = "".join(f"{seid} " for seid in seids)

    def _event(
        self, verb: str, seid: str, *, header: bytes = b"", size: int = 0, detail: str = ""
    ) -> AuditEvent:
        element = self._server.table.find(seid)
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

    async def _audited(
        self, command: RacsCommand, event: AuditEvent, act: Callable[[_Act], Awaitable[str]]
    ) -> str:
        """Write what is asked, do it, write how it ended.

        Raises:
            RefusedError: The act was refused or failed, or the intent could not be written.
        """
        audit, loop = self._server.audit, self._server.loop
        started = loop.time()
        try:
            number = await audit.intend(event)
        except AuditError as error:
            raise RefusedError(Fault.AUDIT) from error
        entry = _Act()
        outcome, code = "failed", f"-9{command.verb:02d}"
        try:
            text = await act(entry)
            outcome, code = "done", f"+0{command.verb:02d}"
        except RefusedError as refusal:
            is_reference = self._is_reference
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
            await self._server.audit.conclude(number, event, outcome)
        except AuditError as error:  # what was done stays done; the next intent will fail
            log.error("audit.failed", session=self.number, error=str(error))  # noqa: TRY400


def _parameter(command: RacsCommand) -> str:
    """Return the first parameter.

    Raises:
        RefusedError: There is none.
    """
    if not command.parameters:
        raise RefusedError(Fault.SYNTAX, f"{command.word}: a parameter is missing")
    return command.parameters[0]


def _printable(text: str) -> str:
    """Return a text as it may stand in a status line: visible ASCII and blanks, not too long."""
    shown = text[:TEXT_LIMIT]
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in shown)
