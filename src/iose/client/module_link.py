# SPDX-License-Identifier: Apache-2.0
"""The way to a module by APDUs: a reader, a time for each step, and errors of one kind."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TypeVar

from iose.client.errors import ModuleError
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.transport.base import BatchStep, Connection, Reader
from iose.transport.errors import TransportError

T = TypeVar("T")


class ModuleLink:
    """A reader that is connected to for one use of the module behind it.

    Args:
        reader: Where the module is.
        timeout_s: Time for each step.
        what: What refuses, for errors: a card, a chip.
        hints: What to do about a status word.
    """

    def __init__(
        self, reader: Reader, timeout_s: float, *, what: str, hints: Mapping[StatusWord, str]
    ) -> None:
        self._what = what
        self._hints = hints
        self._reader = reader
        self._timeout_s = timeout_s
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        """Name of the reader, for errors."""
        return self._reader.name

    async def connect(self) -> None:
        """Power the element on; a connection before this one ends.

        Raises:
            ModuleError: There is no reader, no element, or no answer.
        """
        await self.close()
        self._connection = await self._within(self._reader.connect())

    async def ask(self, command: CommandApdu, refusal: str) -> bytes:
        """Return the data of the drained answer to one command.

        Raises:
            ModuleError: The command is refused, or there is no answer.
        """
        response = await self.transmit(command)
        self.check(response.status, refusal)
        return response.data

    def check(self, status: StatusWord, refusal: str) -> None:
        """Check that a status word is no refusal.

        Raises:
            ModuleError: It is one.
        """
        if status != StatusWord.OK:
            raise ModuleError(
                f"{self.name}: the {self._what} {refusal}, {status}", hint=self._hints.get(status)
            )

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the drained answer to one command.

        Raises:
            ModuleError: The link is not connected, or there is no answer.
        """
        if self._connection is None:
            raise ModuleError(f"{self.name}: the module is not open")
        (response,) = await self._within(
            self._connection.transmit_batch((BatchStep(command, None),))
        )
        return response

    async def close(self) -> None:
        """Power the element off; never raises, and harmless when that is done already."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _within(self, waiting: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await waiting
        except TimeoutError:
            raise ModuleError(
                f"{self.name}: no answer of the module within {self._timeout_s:g} s"
            ) from None
        except TransportError as fault:
            raise ModuleError(f"the module cannot be reached: {fault}", hint=fault.hint) from None
