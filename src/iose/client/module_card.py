# SPDX-License-Identifier: Apache-2.0
"""A module on a card, by its APDUs: SELECT, VERIFY, binder, handshake secret (tls-im.md §2, §3).

The card is in any reader of ``transport``. A PIN that was refused is never tried again: three
wrong ones block it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from iose.client.errors import ModuleError, ModulePinError
from iose.client.module import DEFAULT_AID, USER_PIN_SIZE
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.instructions import INS_SELECT, P1_BY_AID
from iose.iso7816.status import StatusWord
from iose.transport.base import BatchStep, Connection, Reader
from iose.transport.errors import TransportError

T = TypeVar("T")

_SECRET_SIZE: Final = 32
_INS_VERIFY: Final = 0x20
_P2_USER: Final = 0x00
_P2_ADMIN: Final = 0x01
_INS_PSK: Final = 0x85
_P2_BINDER: Final = 0x0C
_P2_HANDSHAKE_SECRET: Final = 0x0E
_SW1_WRONG_PIN: Final = 0x63  # ours are 630t (tls-se.md §2), those of others 63Ct, or 6983
_TRIES: Final = 0x0F
_REFUSED_HINTS: Final = {
    StatusWord.CONDITIONS_NOT_SATISFIED: "has the module a PSK, and handshakes left?",
    StatusWord.NOT_FOUND: "is the module installed, under this AID?",
    StatusWord.PIN_REQUIRED: "the module wants a PIN",
}


class CardModule:
    """A module on the card of a reader (``ModuleSession``).

    Args:
        reader: Where the card is.
        pin: 4 characters are the user's, 8 the administrator's; None asks for nothing.
        aid: The module's instance.
        pin_refused: Told that the PIN was refused.
        timeout_s: Time for each step.
    """

    def __init__(
        self,
        reader: Reader,
        pin: bytes | None = None,
        aid: Aid = DEFAULT_AID,
        *,
        pin_refused: Callable[[], None] = lambda: None,
        timeout_s: float = 30.0,
    ) -> None:
        self._reader = reader
        self._pin = pin
        self._aid = aid
        self._pin_refused = pin_refused
        self._timeout_s = timeout_s
        self._is_pin_refused = False
        self._connection: Connection | None = None

    async def open(self) -> None:
        """Power the card, select the module and verify the PIN.

        Raises:
            ModulePinError: The PIN is refused, or was refused before.
            ModuleError: The card or the module is not there.
        """
        if self._is_pin_refused:
            raise ModulePinError(f"{self._reader.name}: the PIN was refused before")
        await self.close()
        self._connection = await self._within(self._reader.connect())
        try:
            select = CommandApdu(0, INS_SELECT, P1_BY_AID, 0, self._aid.value)
            await self._ask(select, "does not let the module be selected")
            await self._verify()
        except BaseException:
            await self.close()
            raise

    async def binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over the hash of the truncated ClientHello.

        Raises:
            ModuleError: The card is gone, or refuses.
        """
        return await self._compute(_P2_BINDER, transcript_hash)

    async def handshake_secret(self, shared_secret: bytes) -> bytes:
        """Return the handshake secret that follows from the ECDHE secret.

        Raises:
            ModuleError: The card is gone, or refuses.
        """
        return await self._compute(_P2_HANDSHAKE_SECRET, shared_secret)

    async def close(self) -> None:
        """Let the card go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _verify(self) -> None:
        if self._pin is None:
            return
        p2 = _P2_USER if len(self._pin) == USER_PIN_SIZE else _P2_ADMIN
        status, _ = await self._transmit(CommandApdu(0, _INS_VERIFY, 0, p2, self._pin))
        is_blocked = status == StatusWord.AUTHENTICATION_BLOCKED
        if is_blocked or status.sw1 == _SW1_WRONG_PIN:
            self._is_pin_refused = True
            self._pin_refused()
            tries = 0 if is_blocked else status & _TRIES
            left = "1 try is left" if tries == 1 else f"{tries} tries are left"
            raise ModulePinError(
                f"{self._reader.name}: the PIN was refused, {left}",
                hint="it is not tried again: find out the right one before you set it",
            )
        self._check(status, "refuses the PIN without counting it")

    async def _compute(self, p2: int, value: bytes) -> bytes:
        command = CommandApdu(0, _INS_PSK, 0, p2, value)
        answer = await self._ask(command, "refuses to compute")
        if len(answer) != _SECRET_SIZE:
            raise ModuleError(
                f"{self._reader.name}: expected {_SECRET_SIZE} bytes of the module, "
                f"found {len(answer)}"
            )
        return answer

    async def _ask(self, command: CommandApdu, refusal: str) -> bytes:
        status, answer = await self._transmit(command)
        self._check(status, refusal)
        return answer

    def _check(self, status: StatusWord, refusal: str) -> None:
        if status != StatusWord.OK:
            raise ModuleError(
                f"{self._reader.name}: the card {refusal}, {status}",
                hint=_REFUSED_HINTS.get(status),
            )

    async def _transmit(self, command: CommandApdu) -> tuple[StatusWord, bytes]:
        if self._connection is None:
            raise ModuleError(f"{self._reader.name}: the module is not open")
        step = BatchStep(command, None)
        (response,) = await self._within(self._connection.transmit_batch((step,)))
        return response.status, response.data

    async def _within(self, waiting: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await waiting
        except TimeoutError:
            raise ModuleError(
                f"{self._reader.name}: no answer of the module within {self._timeout_s:g} s"
            ) from None
        except TransportError as fault:
            raise ModuleError(f"the module cannot be reached: {fault}", hint=fault.hint) from None
