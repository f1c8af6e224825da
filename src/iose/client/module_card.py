# SPDX-License-Identifier: Apache-2.0
"""A module on a card, by its APDUs: SELECT, VERIFY, binder, handshake secret (tls-im.md §2, §3).

The card is in any reader of ``transport``. A PIN that was refused is never tried again: three
wrong ones block it.
"""

from collections.abc import Callable
from typing import Final

from iose.client.errors import ModuleError, ModulePinError
from iose.client.module_link import ModuleLink
from iose.client.module_place import DEFAULT_AID, SECRET_SIZE, USER_PIN_SIZE
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu
from iose.iso7816.instructions import INS_SELECT, P1_BY_AID
from iose.iso7816.status import StatusWord
from iose.transport.base import Reader

_INS_VERIFY: Final = 0x20
_P2_USER: Final = 0x00
_P2_ADMIN: Final = 0x01
_INS_PSK: Final = 0x85
_P2_SET: Final = 0x0A
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
        self._link = ModuleLink(reader, timeout_s, what="card", hints=_REFUSED_HINTS)
        self._pin = pin
        self._aid = aid
        self._pin_refused = pin_refused
        self._is_pin_refused = False

    async def open(self) -> None:
        """Power the card, select the module and verify the PIN.

        Raises:
            ModulePinError: The PIN is refused, or was refused before.
            ModuleError: The card or the module is not there.
        """
        if self._is_pin_refused:
            raise ModulePinError(f"{self._link.name}: the PIN was refused before")
        await self._link.connect()
        try:
            select = CommandApdu(0, INS_SELECT, P1_BY_AID, 0, self._aid.value)
            await self._link.ask(select, "does not let the module be selected")
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

    async def provision(self, psk: bytes) -> None:
        """Give the module a PSK, in place of the one it has; the administrator's PIN allows it.

        Raises:
            ModuleError: The card is gone, or refuses.
        """
        data = bytes((1, 0, len(psk))) + psk  # a salt of one zero byte, tls-im.md §2
        await self._link.ask(CommandApdu(0, _INS_PSK, 0, _P2_SET, data), "refuses the PSK")

    async def close(self) -> None:
        """Let the card go."""
        await self._link.close()

    async def _verify(self) -> None:
        if self._pin is None:
            return
        p2 = _P2_USER if len(self._pin) == USER_PIN_SIZE else _P2_ADMIN
        verify = CommandApdu(0, _INS_VERIFY, 0, p2, self._pin)
        status = (await self._link.transmit(verify)).status
        is_blocked = status == StatusWord.AUTHENTICATION_BLOCKED
        if is_blocked or status.sw1 == _SW1_WRONG_PIN:
            self._is_pin_refused = True
            self._pin_refused()
            tries = 0 if is_blocked else status & _TRIES
            left = "1 try is left" if tries == 1 else f"{tries} tries are left"
            raise ModulePinError(
                f"{self._link.name}: the PIN was refused, {left}",
                hint="it is not tried again: find out the right one before you set it",
            )
        self._link.check(status, "refuses the PIN without counting it")

    async def _compute(self, p2: int, value: bytes) -> bytes:
        command = CommandApdu(0, _INS_PSK, 0, p2, value)
        answer = await self._link.ask(command, "refuses to compute")
        if len(answer) != SECRET_SIZE:
            raise ModuleError(
                f"{self._link.name}: expected {SECRET_SIZE} bytes of the module, "
                f"found {len(answer)}"
            )
        return answer
