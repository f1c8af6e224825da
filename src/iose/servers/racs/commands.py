# SPDX-License-Identifier: Apache-2.0
"""What each command of RACS does, for the session it belongs to (racs.md §6 to §8).

Every command that may touch an element is written to the audit log first, then checked and done;
the checks come in the order of racs.md §5.2: syntax, element, right, lock, filter.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from iose.protocols.racs.parameters import decode_apdu_parameters, decode_sen_parameters
from iose.protocols.racs.request import RacsCommand
from iose.protocols.racs.status import Verb
from iose.servers.holders import Claim, ElementLock
from iose.servers.racs.elements import RacsElement
from iose.servers.racs.holds import Hold
from iose.servers.racs.policy import Grant, Right
from iose.servers.racs.replies import (
    MISMATCH_REFERENCE_TEXT,
    Fault,
    RefusedError,
    printable,
)
from iose.transport.errors import CardBusyError
from iose.wire.errors import DecodeError, IoseError

if TYPE_CHECKING:
    from iose.servers.racs.session import RacsSession

VERSION: Final = "0.3"  # racs.md §6
VERSIONS: Final = ("0.2", "0.3")
WARM: Final = "WARM"
ROOM_FOR_ANY: Final = 1024  # racs.md §7.2: less is refused before anything is done
PREEMPT_WAIT_S: Final = 40.0  # an APDU of the other session may run; readers allow it 30 s
SHOWN: Final = 63

Result = TypeVar("Result")

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.racs")


@dataclass(slots=True)
class Act:
    """What is written down of one command while it runs."""

    status: int | None = None
    size: int = 0
    preempted: str = ""


class Commands:
    """The commands of one session.

    Args:
        session: Whose they are.
    """

    def __init__(self, session: "RacsSession") -> None:
        self._session = session
        self._server = session.server
        self._is_reference = session.is_reference
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

    async def run(self, command: RacsCommand) -> str:
        """Return the text of a success.

        Raises:
            RefusedError: The command failed.
        """
        if command.verb is Verb.NONE:
            raise RefusedError(Fault.UNKNOWN_COMMAND, f"{command.word[:SHOWN]} unknown command")
        if command.fault:
            raise RefusedError(Fault.SYNTAX, command.fault)
        if self._session.room < ROOM_FOR_ANY:
            raise RefusedError(Fault.FULL)
        text = await self._verbs[command.verb](command)
        if len(text) > self._session.room:
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
        return self._session.listing()

    async def _echo(self, command: RacsCommand) -> str:
        return _parameter(command)

    async def _quit(self, command: RacsCommand) -> str:
        return command.word

    async def _get_sen(self, command: RacsCommand) -> str:
        seid = _parameter(command)
        try:
            element, _ = self._session.element(seid, Right.GET_SEN)
        except RefusedError as error:
            refusal = error
            event = self._session.event("GET-SEN", seid)

            async def refuse(_: Act) -> str:
                raise refusal

            return await self._session.audited(command, event, refuse)
        name = await self._server.names.name(element.seid)
        if name is None:
            raise RefusedError(Fault.NO_NAME, "this element has no name")
        return printable(f"{name[0]} [AID= {name[1] or 'default'}]")

    # --- commands that do ---------------------------------------------------------------------

    async def _power_on(self, command: RacsCommand) -> str:
        seid = _parameter(command)

        async def act(_: Act) -> str:
            element, _grant = self._session.element(seid, Right.POWERON)
            if element.seid in self._session.holds:
                return f"warning, {seid} was powered on already"
            lock = self._server.holders.lock(element.seid)
            await self._take(element, lock)
            return f"{seid} has been powered on"

        return await self._session.audited(command, self._session.event("POWERON", seid), act)

    async def _reset(self, command: RacsCommand) -> str:
        seid = _parameter(command)
        words = command.parameters[1:]
        detail = WARM if words and words[0] == WARM else ""

        async def act(_: Act) -> str:
            element, _grant = self._session.element(seid, Right.RESET)
            if words and not detail and not self._is_reference:
                raise RefusedError(Fault.PARAMETER, f"expected {WARM}")
            hold = self._held(element)
            await self._use(hold, hold.reset(is_warm=bool(detail)))
            return f"{seid} has been reset{detail and ' (warm)'}"

        return await self._session.audited(
            command, self._session.event("RESET", seid, detail=detail), act
        )

    async def _apdu(self, command: RacsCommand) -> str:
        seid = _parameter(command)
        try:
            parameters = decode_apdu_parameters(
                command.parameters[1:], is_reference=self._is_reference
            )
        except DecodeError as error:
            raise RefusedError(Fault.SYNTAX, str(error)) from error
        apdu = parameters.command
        event = self._session.event("APDU", seid, header=apdu[:4], size=len(apdu))

        async def act(entry: Act) -> str:
            element, grant = self._session.element(seid, Right.APDU)
            hold = self._held(element)
            rewritten = hold.firewall.rewrite(apdu)
            verdict = hold.firewall.judge(rewritten, grant)
            if verdict is not None:
                raise RefusedError(Fault.FILTERED, f"refused: {verdict.value}")
            limit = min(self._server.config.response_limit, (self._session.room >> 1) - 2)
            hold.status = None
            asked = parameters if rewritten is apdu else parameters.with_command(rewritten)
            exchange = hold.exchange(
                asked, grant, limit=limit, is_alive=lambda: not self._session.is_ended
            )
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

        return await self._session.audited(command, event, act)

    async def _shutdown(self, command: RacsCommand) -> str:
        seid = _parameter(command)

        async def act(entry: Act) -> str:
            element, grant = self._session.element(seid, Right.SHUTDOWN)
            hold = self._session.holds.pop(element.seid, None)
            if hold is not None:
                self._server.forget_hold(hold)
                await hold.let_go()
                return f"{seid} has been powered off"
            if element.seid in self._session.lost:  # whoever has it now is not meant
                self._session.lost.discard(element.seid)
                return f"{seid} had been taken away"
            lock = self._server.holders.lock(element.seid)
            if lock.holder is not None:
                await self._preempt(lock, lock.holder, grant, entry)
            return f"{seid} has been powered off"

        return await self._session.audited(command, self._session.event("SHUTDOWN", seid), act)

    async def _sen(self, command: RacsCommand) -> str:
        seid = _parameter(command)
        try:
            parameters = decode_sen_parameters(command.parameters[1:])
        except DecodeError as error:
            raise RefusedError(Fault.SYNTAX, str(error)) from error
        detail = " ".join(filter(None, (parameters.sen or "own name", parameters.aid)))

        async def act(entry: Act) -> str:
            element, grant = self._session.element(seid, Right.SEN)
            lock = self._server.holders.lock(element.seid)
            hold = self._session.holds.get(element.seid)
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
            return printable(f"SEN= {sen} AID= {aid or 'default'}")

        event = self._session.event("SEN", seid, detail=detail)
        return await self._session.audited(command, event, act)

    # --- steps ----------------------------------------------------------------------------------

    def _held(self, element: RacsElement) -> Hold:
        hold = self._session.holds.get(element.seid)
        if hold is not None:
            return hold
        if element.seid in self._session.lost:
            self._session.lost.discard(element.seid)
            raise RefusedError(Fault.NOT_POWERED, f"{element.seid} has been taken away")
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
        self._session.holds[element.seid] = hold
        self._session.lost.discard(element.seid)
        self._server.remember_hold(hold, self._session)
        try:
            await self._use(hold, hold.power_on())
        except RefusedError as error:
            if error.fault is Fault.IN_USE:
                raise
            raise RefusedError(Fault.NO_CARD) from error
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
            log.warning("element.failed", session=self._session.number, error=str(error))
            self._session.drop(hold)
            await hold.let_go()
            if isinstance(error, CardBusyError):
                text = f"{hold.element.seid} is in use outside of this node"
                raise RefusedError(Fault.IN_USE, text) from error
            raise RefusedError(Fault.CARD) from error  # what readers say is for the log
        except BaseException:  # a bug, or the end of the server: what state it is in, nobody knows
            self._session.drop(hold)
            await hold.let_go()
            raise
        finally:
            hold.is_busy = False
            hold.last_used = self._server.loop.time()
            if hold.is_lost:
                await hold.let_go()

    async def _preempt(self, lock: ElementLock, other: Claim, grant: Grant, entry: Act) -> None:
        """Make another session give an element up (racs.md §8).

        Raises:
            RefusedError: This user may not, or the other session does not.
        """
        is_own = (other.plane, other.session) == (self._session.plane, self._session.number)
        if not is_own:  # else it was lost, and is being powered off
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

    def _claim(self, seid: str | None) -> Claim:
        def evict() -> None:
            hold = self._session.holds.get(seid or "")
            if hold is not None:
                self._session.lose(hold, "preempted", by="another session")

        user = self._session.identity.user
        now = self._server.loop.time()
        return Claim(
            self._session.plane, self._session.number, user, now, None if seid is None else evict
        )


def _parameter(command: RacsCommand) -> str:
    """Return the first parameter.

    Raises:
        RefusedError: There is none.
    """
    if not command.parameters:
        raise RefusedError(Fault.SYNTAX, f"{command.word}: a parameter is missing")
    return command.parameters[0]
