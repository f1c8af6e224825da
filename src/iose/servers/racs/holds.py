# SPDX-License-Identifier: Apache-2.0
"""One element held by one session: power, exchanges, and the end of it (racs.md §7, §8).

Nothing here asks who may do what, except that each APDU the server makes itself, to fetch the
rest of an answer, goes through the firewall like the client's own.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from iose.iso7816.apdu import STATUS_SIZE
from iose.protocols.racs.parameters import ApduParameters
from iose.servers.holders import Claim, ElementLock
from iose.servers.racs.elements import RacsElement
from iose.servers.racs.firewall import Firewall
from iose.servers.racs.policy import Grant
from iose.servers.racs.replies import Fault, RefusedError
from iose.transport.base import Connection
from iose.transport.errors import NotSentError, RacsRefusedError
from iose.transport.stack import EXCHANGE_LIMIT, SW1_WRONG_LE
from iose.wire.errors import DecodeError, IoseError

PLAIN_LE_SIZE: Final = 5  # racs.md §7.1: only a header and P3 are repeated
NOT_SENT: Final = "the element's reader cannot carry this command, which it never saw"
REPEAT_LIMIT: Final = 4  # a card that answers 6Cxx to its own length


class Hold:
    """One element, from POWERON to its release.

    Args:
        element: The element.
        lock: Its lock, which the claim holds already.
        claim: Ours.
        is_reference: See ``Firewall``.

    Attributes:
        last_used: When its last command ended, in the loop's time.
        is_busy: A command runs on it now.
        is_lost: It was taken away; whoever uses it lets it go when done.
    """

    def __init__(
        self, element: RacsElement, lock: ElementLock, claim: Claim, *, is_reference: bool
    ) -> None:
        self.element = element
        self.lock = lock
        self.claim = claim
        self.firewall = Firewall(is_reference=is_reference)
        self.last_used = claim.since
        self.is_busy = False
        self.is_lost = False
        self.status: int | None = None
        self._is_released = False
        self._connection: Connection | None = None

    async def power_on(self) -> None:
        """Start the element from cold.

        Raises:
            IoseError: It does not start.
        """
        self._connection = await self.element.reader.connect()
        await self._connection.transmit_batch(())  # power comes on with the first exchange

    async def reset(self, *, is_warm: bool) -> None:
        """Reset the element, by its power unless ``is_warm``.

        Raises:
            IoseError: It does not start again.
        """
        connection = self._powered()
        self.firewall.clear()
        if is_warm:
            await connection.reset()
            return
        self._connection = None
        await connection.close()
        await self.power_on()

    async def exchange(
        self, parameters: ApduParameters, grant: Grant, *, limit: int, is_alive: Callable[[], bool]
    ) -> bytes:
        """Return the answer to an APDU, its parts joined as MORE asks (racs.md §7.2).

        Args:
            parameters: The APDU, which has been judged, and what to do with its answer.
            grant: What the user may do; what is fetched is judged by it.
            limit: Largest answer.
            is_alive: Whether somebody still waits for it.

        Raises:
            RefusedError: The answer is too large, or what would fetch it is refused.
            IoseError: No answer.
        """
        answer = await self._transmit(parameters.command)
        more = parameters.more
        if more is None or answer[-STATUS_SIZE] != more:
            _check_size(len(answer) - STATUS_SIZE, limit)
            return answer
        data = bytearray()
        for _ in range(EXCHANGE_LIMIT):
            data += answer[:-STATUS_SIZE]
            _check_size(len(data), limit)
            if answer[-STATUS_SIZE] != more or not is_alive():
                return bytes(data) + answer[-STATUS_SIZE:]
            if self.is_lost:  # whoever takes it waits for one APDU, not for hundreds
                raise RefusedError(Fault.NOT_POWERED, "the element has been taken away meanwhile")
            command = parameters.fetch + answer[-1:]
            verdict = self.firewall.judge(command, grant)
            if verdict is not None:
                raise RefusedError(Fault.FILTERED, f"FETCH: {verdict.value}")
            answer = await self._transmit(command)
        raise RefusedError(Fault.TOO_LARGE, "the answer does not end")

    async def let_go(self) -> None:
        """Power the element off and release its lock; a second call changes nothing."""
        if self._is_released:
            return
        self._is_released = True
        self.is_lost = True
        try:
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.close()
        finally:
            self.lock.release(self.claim, asyncio.get_running_loop().time())

    async def _transmit(self, command: bytes) -> bytes:
        """Return the answer to one APDU; 6Cxx is obeyed where only P3 can be wrong.

        Raises:
            DecodeError: The answer has no status word.
            RefusedError: It is refused where the element is; that is as it was.
            IoseError: No answer.
        """
        connection = self._powered()
        answer = await _carried(connection, command)
        if len(command) == PLAIN_LE_SIZE:
            for _ in range(REPEAT_LIMIT):
                if len(answer) != STATUS_SIZE or answer[0] != SW1_WRONG_LE or not answer[1]:
                    break
                answer = await _carried(connection, command[:-1] + answer[1:])
        if len(answer) < STATUS_SIZE:
            raise DecodeError(f"expected a status word, found {len(answer)} bytes")
        self.status = int.from_bytes(answer[-STATUS_SIZE:], "big")
        self.firewall.note(command, self.status)
        return answer

    def _powered(self) -> Connection:
        if self._connection is None:
            raise IoseError("the element has no power")
        return self._connection


async def _carried(connection: Connection, command: bytes) -> bytes:
    """Return the raw answer to one command.

    Raises:
        RefusedError: Its reader cannot carry the command, or the element is another node's, whose
            rules keep the command from it.
        RacsRefusedError: That node has another reason.
        IoseError: No answer.
    """
    try:
        return await connection.transmit_raw(command)
    except NotSentError as error:
        raise RefusedError(Fault.CARD, NOT_SENT) from error
    except RacsRefusedError as error:
        if not error.is_by_rule:
            raise
        raise RefusedError(Fault.FILTERED, "refused by a rule of the element's own node") from error


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise RefusedError(Fault.TOO_LARGE, f"an answer of over {limit} bytes")
