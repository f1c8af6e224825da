# SPDX-License-Identifier: Apache-2.0
"""The element of an I2C device, as a reader: power, APDUs, and who has it (iose-server.md §8.4)."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.transport.base import ApduLimits, BatchStep
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoReaderError,
    NotSentError,
    TransportError,
)
from iose.transport.i2c.device import CLOSE_S, RESET_ANSWER_S, I2cDevice
from iose.transport.stack import transmit_batch

DEFAULT_LIMITS: Final = ApduLimits()


class I2cReader:
    """The element of one device.

    Args:
        device: The device.
        apdu_s: Longest wait for the answer to one APDU.
        failed: Told what went wrong in a session, or at its start.

    Attributes:
        lock: Held for each exchange: sessions, looks at the device, and tasks of one session.
        is_held: Whether a session has the element.
        is_over: Whether the reader is no longer used: a session in progress gets no more answers.
    """

    limits: ApduLimits = DEFAULT_LIMITS

    def __init__(
        self, device: I2cDevice, apdu_s: float, failed: Callable[[TransportError], None]
    ) -> None:
        self.lock = asyncio.Lock()
        self.is_held = False
        self.is_over = False
        self.device = device
        self.apdu_s = apdu_s
        self.failed = failed

    @property
    def name(self) -> str:
        """Name of the reader."""
        return self.device.name

    def is_free(self) -> bool:
        """Return whether no session has the element."""
        return not self.is_held

    async def connect(self) -> "I2cConnection":
        """Power the element on and return a connection to it.

        Raises:
            CardBusyError: Another session of this node has it.
            TransportError: There is no bus, no device, or no answer.
        """
        if self.is_held:
            raise CardBusyError(self.name, "another session has the element")
        self.is_held = True
        atr = b""
        try:
            atr = await self.power_on()
        finally:
            self.is_held = bool(atr)
        return I2cConnection(self, atr)

    async def power_on(self) -> bytes:
        """Power the element off and on, and return its ATR.

        Raises:
            NoReaderError: The reader is no longer used.
            TransportError: It does not start.
        """
        async with self.lock:
            if self.is_over:
                raise NoReaderError(self.name, "the reader is no longer used")
            try:
                return await self.device.power_on(wait_s=min(self.apdu_s, RESET_ANSWER_S))
            except TransportError as error:
                self.failed(error)
                raise

    async def end(self) -> None:
        """Be no longer used: a session in progress is over, its element powered off; never raises.

        One in the middle of a command is waited for, for a while.
        """
        self.is_over = True
        if self.is_held:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S), self.lock:
                    await self.device.power_off()


class I2cConnection:
    """A powered element, held until ``close``."""

    def __init__(self, reader: I2cReader, atr: bytes) -> None:
        self._reader = reader
        self._atr = atr
        self._apdus = 0
        self._is_usable = True
        self._is_closed = False

    @property
    def atr(self) -> bytes:
        """The answer to the last reset: made of what the device says of itself."""
        return self._atr

    @property
    def apdus(self) -> int:
        """Commands the element has had on this connection, GET RESPONSE included."""
        return self._apdus

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        """Return the raw answer to one command; nothing is drained.

        A board with the manners of T=0 gets no Le after data: what there is, it announces (61xx).

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        if command.data and not self._reader.device.takes_le_with_data:
            command = replace(command, le=None)
        return ResponseApdu.decode(await self.transmit_raw(command.encode()))

    async def transmit_raw(self, command: bytes) -> bytes:
        """Return the raw answer to a command sent as it is.

        Raises:
            CardRemovedError: The device is gone.
            TransportTimeoutError: No answer in time.
            NotSentError: The command is too long for the device.
            TransportError: What comes is no answer; the connection is of no more use.
        """
        device = self._reader.device
        if len(command) > device.apdu_limit:
            raise NotSentError(
                device.name,
                f"a command of {len(command)} bytes, the device takes {device.apdu_limit}",
                hint="set chunk_size to 245 or less",
            )
        async with self._reader.lock:
            if not self._is_usable or self._reader.is_over:
                raise CardRemovedError(device.name, "the session is over")
            self._apdus += 1
            self._is_usable = False  # also after a cut in the middle: answers would not match
            try:
                answer = await device.exchange(command, self._reader.apdu_s)
            except TransportError as error:
                self._reader.failed(error)
                raise
            self._is_usable = True
            return answer

    async def transmit_batch(self, steps: Sequence[BatchStep]) -> list[ResponseApdu]:
        """Return the drained answers, up to and with the first unexpected status.

        Raises:
            TransportError: No answer; the connection is of no more use.
        """
        return await transmit_batch(self._reader.name, self.transmit, steps)

    async def reset(self) -> bytes:
        """Power the element off and on, since such boards have no other reset; return its ATR.

        Raises:
            CardRemovedError: The session is over.
            TransportError: The element does not start again.
        """
        if self._is_closed:
            raise CardRemovedError(self._reader.name, "the session is over")
        self._is_usable = False
        self._atr = await self._reader.power_on()
        self._is_usable = True
        return self._atr

    async def close(self) -> None:
        """Power the element off and let it go; never raises."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            async with self._reader.lock:
                self._is_usable = False
                await self._reader.device.power_off()
        finally:
            self._reader.is_held = False
