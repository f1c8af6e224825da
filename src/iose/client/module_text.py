# SPDX-License-Identifier: Apache-2.0
"""A board on a serial line that is an identity module by itself (tls-im.md §5).

It takes lines of text: ``user`` with its PIN, ``binder`` and ``derive`` with 64 hex digits, and
``off``. A board says ERROR to a wrong PIN as to anything else: after one it is never tried again.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from iose.client.errors import ModuleError, ModulePinError
from iose.client.module_place import SECRET_SIZE, ReaderModule
from iose.transport.errors import TransportError
from iose.transport.link import OPEN_S, within
from iose.transport.serial_line import DEFAULT_BAUD, SerialLine

T = TypeVar("T")

DONE: Final = "OK"
_PIN_HINT: Final = "it is not tried again: find out the right one before you set it"
_COMPUTE_HINT: Final = "has the board a PSK, and is it a board that computes by itself?"


class TextModule:
    """A module at the end of a serial line (``ModuleSession``).

    Args:
        module: Where it is; its PIN, b"" where the board takes none.
        pin_refused: Told that the PIN was refused.
        timeout_s: Time for each step.
    """

    def __init__(
        self, module: ReaderModule, *, pin_refused: Callable[[], None], timeout_s: float
    ) -> None:
        self._device = module.place
        self._baud = module.number("baud") or DEFAULT_BAUD
        self._pin = (module.pin or b"").decode("ascii")
        self._pin_refused = pin_refused
        self._timeout_s = timeout_s
        self._is_pin_refused = False
        self._line: SerialLine | None = None

    async def open(self) -> None:
        """Open the line and give the PIN.

        Raises:
            ModulePinError: The board refuses the PIN, or refused it before.
            ModuleError: There is no board, or no answer.
        """
        if self._is_pin_refused:
            raise ModulePinError(f"{self._device}: the PIN was refused before")
        await self.close()
        self._line = SerialLine(self._device, baud=self._baud, answer_s=self._timeout_s)
        try:
            await self._reach(within(self._device, self._line.open(), OPEN_S))
            if await self._ask(f"user {self._pin}".rstrip()) != DONE:
                self._refuse_pin()
        except BaseException:
            await self.close()
            raise

    async def binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over the hash of the truncated ClientHello.

        Raises:
            ModuleError: The board is gone, or refuses.
        """
        return await self._compute("binder", transcript_hash)

    async def handshake_secret(self, shared_secret: bytes) -> bytes:
        """Return the handshake secret that follows from the ECDHE secret.

        Raises:
            ModuleError: The board is gone, or refuses.
        """
        return await self._compute("derive", shared_secret)

    async def close(self) -> None:
        """End the session with the board, and close the line."""
        line, self._line = self._line, None
        if line is not None:
            with suppress(TransportError):  # a board that is gone has ended it, too
                await line.ask("off")
            line.shut()

    def _refuse_pin(self) -> None:
        if not self._pin:
            raise ModuleError(f"{self._device}: the board opens no session without a PIN")
        self._is_pin_refused = True
        self._pin_refused()
        raise ModulePinError(f"{self._device}: the PIN was refused", hint=_PIN_HINT)

    async def _compute(self, what: str, value: bytes) -> bytes:
        answer = await self._ask(f"{what} {value.hex().upper()}")
        try:
            computed = bytes.fromhex(answer)
        except ValueError:
            computed = b""
        if len(computed) != SECRET_SIZE:
            raise ModuleError(
                f"{self._device}: the board does not compute: expected {SECRET_SIZE} bytes in hex,"
                f" found {len(answer)} characters",
                hint=_COMPUTE_HINT,
            )
        return computed

    async def _ask(self, line: str) -> str:
        if self._line is None:
            raise ModuleError(f"{self._device}: the module is not open")
        return (await self._reach(self._line.ask(line))).strip()

    async def _reach(self, waiting: Awaitable[T]) -> T:
        try:
            return await waiting
        except TransportError as fault:
            raise ModuleError(f"the module cannot be reached: {fault}", hint=fault.hint) from None
