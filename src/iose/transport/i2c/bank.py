# SPDX-License-Identifier: Apache-2.0
"""A bank of one device on an I2C bus, which is looked at every few seconds while nobody has it.

What is wrong becomes the state of its slot, with the operator's next step; a device that answers
again, or a bus that is there again, is taken into use by itself.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from iose.transport.bank import Slot, SlotState
from iose.transport.errors import (
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
)
from iose.transport.i2c.bus import I2cBus, acquire_bus, release_bus
from iose.transport.i2c.device import FRAMES, DeviceAddress, I2cDevice
from iose.transport.i2c.lines import ResetPin
from iose.transport.i2c.linux import EXTRA_HINT
from iose.transport.i2c.reader import I2cReader

SEID_BASE: Final = 1000  # racs.md §10
POLL_S: Final = 3.0
RETRY_S: Final = 1.0  # between looks at what does not work
LOOK_ANSWER_S: Final = 2.0  # a device that starts slowly is seen by the next look
TRANSFER_SIZE: Final = 128  # iose-server.md §8.4


class I2cBank:
    """One device on one bus; banks of one bus share it.

    Args:
        name: What the operator calls it.
        bus: Device file, as ``/dev/i2c-1``; or ``unix:PATH`` or ``tcp:HOST:PORT`` of a program that
            does the transfers (``remote``).
        address: 7-bit address.
        flavour: ``iose`` or ``t1``.
        reset_chip: GPIO chip of the reset line; "" for no reset line.
        reset_line: Number of the reset line.
        transfer_size: Largest transfer of the host's adapter, in bytes.
        sen: The element's name, where it does not tell one.
        apdu_s: Longest wait for the answer to one APDU.
        poll_s: Time between looks at the device.
    """

    def __init__(  # noqa: PLR0913  # what a table of the configuration says
        self,
        name: str,
        *,
        bus: str,
        address: int,
        flavour: str = FRAMES,
        reset_chip: str = "",
        reset_line: int = 0,
        transfer_size: int = TRANSFER_SIZE,
        sen: str = "",
        apdu_s: float,
        poll_s: float = POLL_S,
    ) -> None:
        self.name = name
        self._path = bus
        pin = ResetPin(reset_chip, reset_line) if reset_chip else None
        self._place = DeviceAddress(address, flavour, transfer_size, pin)
        self._apdu_s = apdu_s
        self._poll_s = poll_s
        self._bus: I2cBus | None = None
        self._reader: I2cReader | None = None
        self._watch: asyncio.Task[None] | None = None
        self._failed = asyncio.Event()
        self._changed: Callable[[], None] = _ignore
        self._slot = Slot(
            self._place.name,
            str(SEID_BASE + address),
            SlotState.ABSENT,
            keys=(f"0x{address:02x}", str(address)),
            sen=sen,
            has_warm_reset=False,
            fault="not looked at yet",
        )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The one device."""
        return (self._slot,)

    async def start(self, changed: Callable[[], None]) -> None:
        """Look at the device, and keep looking from now on; never raises.

        Args:
            changed: Called in the loop after ``slots`` has become another.
        """
        self._changed = changed
        self._bus = acquire_bus(self._path)
        self._reader = I2cReader(I2cDevice(self._bus, self._place), self._apdu_s, self._note_fault)
        await self.refresh()
        self._watch = asyncio.get_running_loop().create_task(self._keep_looking())

    async def refresh(self) -> None:
        """Look again now, unless a session has the device; never raises."""
        reader = self._reader
        if reader is None or not reader.is_free():
            return
        async with reader.lock:
            if not reader.is_free():
                return  # it waits for the lock, and sees for itself
            try:
                atr = await self._look(reader.device)
            except TransportError as error:
                self._note_fault(error)
            else:
                self._show(SlotState.READY, reader=reader, atr=atr)

    async def stop(self) -> None:
        """Look no more, and let go of the bus; never raises."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        self._changed = _ignore
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.end()
        bus, self._bus = self._bus, None
        if bus is not None:
            await release_bus(bus)

    async def _keep_looking(self) -> None:
        while True:
            if self._slot.state is SlotState.READY:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await self._failed.wait()
            self._failed.clear()
            if self._slot.state is not SlotState.READY:
                await asyncio.sleep(RETRY_S)
            await self.refresh()

    async def _look(self, device: I2cDevice) -> bytes:
        """Return the ATR: that of before if the device is still there, else after a reset.

        Raises:
            NoReaderError: There is no bus.
            TransportError: The device cannot be used.
        """
        if self._slot.state is SlotState.READY:
            with suppress(TransportError):
                await device.probe(LOOK_ANSWER_S)
                return self._slot.atr
        try:
            return await device.power_on(wait_s=LOOK_ANSWER_S, is_pulsed=False)
        except NoReaderError:
            raise
        except TransportError:
            if device.place.pin is None:
                raise
        return await device.power_on(wait_s=LOOK_ANSWER_S)

    def _note_fault(self, error: TransportError) -> None:
        state = SlotState.FAULT
        if isinstance(error, NoCardError | CardRemovedError):
            state = SlotState.EMPTY
        elif isinstance(error, NoReaderError) and error.hint != EXTRA_HINT:
            state = SlotState.ABSENT
        self._failed.set()
        fault = str(error).removeprefix(f"{error.reader}: ")
        self._show(state, fault=fault, hint=error.hint or "")

    def _show(
        self,
        state: SlotState,
        *,
        reader: I2cReader | None = None,
        atr: bytes = b"",
        fault: str = "",
        hint: str = "",
    ) -> None:
        slot = replace(self._slot, state=state, reader=reader, atr=atr, fault=fault, hint=hint)
        if slot != self._slot:
            self._slot = slot
            self._changed()


def _ignore() -> None:
    """Nobody listens before the start."""
