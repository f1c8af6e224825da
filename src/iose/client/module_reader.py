# SPDX-License-Identifier: Apache-2.0
"""Opens a module behind a reader of this machine, for the time of one handshake.

The reader is looked for when the module is opened and let go with it: a client keeps no bus and no
service to itself. What a transport needs is imported when a module asks for it.
"""

from collections.abc import Callable
from typing import Final, assert_never

from iose.client.errors import ModuleError, ModulePinError
from iose.client.module_card import CardModule
from iose.client.module_place import I2C_FRAMES, I2C_T1, ModuleForm, ReaderKind, ReaderModule
from iose.client.module_se050 import Se050Module
from iose.transport.bank import ReaderBank, Slot, SlotState
from iose.transport.base import Reader

DEFAULT_TRANSFER: Final = 128  # tls-im.md §4.2
POLL_S: Final = 60.0  # longer than a module is open

ReaderSession = CardModule | Se050Module


class FoundModule:
    """A module whose reader is looked for at each ``open`` (``ModuleSession``).

    Args:
        module: Where it is, in a form that takes APDUs.
        pin_refused: Told that the PIN was refused.
        timeout_s: Time for each step.
    """

    def __init__(
        self, module: ReaderModule, pin_refused: Callable[[], None], timeout_s: float
    ) -> None:
        self._module = module
        self._pin_refused = pin_refused
        self._timeout_s = timeout_s
        self._is_pin_refused = False
        self._bank: ReaderBank | None = None
        self._session: ReaderSession | None = None

    async def open(self) -> None:
        """Find the reader, and make the module behind it ready.

        Raises:
            ModulePinError: The PIN is refused, or was refused before.
            ModuleError: The reader, the element or the module is not there.
        """
        if self._is_pin_refused:
            raise ModulePinError(f"{self._name}: the PIN was refused before")
        await self.close()
        self._bank = make_bank(self._module, self._timeout_s)
        try:
            await self._bank.start(lambda: None)
            self._session = self._make_session(self._find_reader(self._bank.slots))
            await self._session.open()
        except BaseException:
            await self.close()
            raise

    async def binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over the hash of the truncated ClientHello.

        Raises:
            ModuleError: The element is gone, or refuses.
        """
        return await self._opened().binder(transcript_hash)

    async def handshake_secret(self, shared_secret: bytes) -> bytes:
        """Return the handshake secret that follows from the ECDHE secret.

        Raises:
            ModuleError: The element is gone, or refuses.
        """
        return await self._opened().handshake_secret(shared_secret)

    async def provision(self, psk: bytes) -> None:
        """Give the module a PSK, in place of the one it has.

        Raises:
            ModuleError: The element is gone, or refuses.
        """
        await self._opened().provision(psk)

    async def close(self) -> None:
        """Let module and reader go."""
        session, self._session = self._session, None
        bank, self._bank = self._bank, None
        try:
            if session is not None:
                await session.close()
        finally:
            if bank is not None:
                await bank.stop()

    @property
    def _name(self) -> str:
        return f"{self._module.kind}:{self._module.place}"

    def _opened(self) -> ReaderSession:
        if self._session is None:
            raise ModuleError(f"{self._name}: the module is not open")
        return self._session

    def _make_session(self, reader: Reader) -> ReaderSession:
        module, timeout_s = self._module, self._timeout_s
        if module.form is ModuleForm.SE050:
            return Se050Module(reader, timeout_s=timeout_s)
        return CardModule(
            reader, module.pin, module.aid, pin_refused=self._forget_pin, timeout_s=timeout_s
        )

    def _forget_pin(self) -> None:
        self._is_pin_refused = True
        self._pin_refused()

    def _find_reader(self, slots: tuple[Slot, ...]) -> Reader:
        match self._matching(slots):
            case (Slot(reader=None) as slot,):
                why = slot.fault or f"the reader is {slot.state.value}"
                raise ModuleError(f"{self._name}: {why}", hint=slot.hint or None)
            case (Slot(reader=reader),) if reader is not None:
                return reader
            case found:
                names = ", ".join(one.name for one in found or slots) or "none"
                problem = f"{len(found)} readers match" if found else "there is no such reader"
                raise ModuleError(f"{self._name}: {problem}", hint=f"readers: {names}")

    def _matching(self, slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
        if self._module.kind is not ReaderKind.PCSC:
            return slots
        place = self._module.place
        exact = [one for one in slots if place in (one.name, one.seid, *one.keys)]
        partly = [one for one in slots if place.lower() in one.name.lower()]
        broken = [one for one in slots if one.state is SlotState.FAULT]  # the service's own
        found = exact or partly or broken
        usable = [one for one in found if one.reader is not None]
        return tuple(usable or found)


def make_bank(module: ReaderModule, timeout_s: float) -> ReaderBank:
    """Return the bank that a module's reader is in; it is not started."""
    name = f"{module.kind}:{module.place}"
    match module.kind:
        case ReaderKind.PCSC:
            from iose.transport.pcsc import PcscBank  # noqa: PLC0415

            return PcscBank(name, apdu_s=timeout_s)
        case ReaderKind.I2C:
            from iose.transport.i2c import I2cBank  # noqa: PLC0415

            return I2cBank(
                name,
                bus=module.place,
                address=module.number("address") or 0,
                flavour=module.flavour or _flavour(module.form),
                reset_chip=module.reset_chip,
                reset_line=module.number("reset_line") or 0,
                transfer_size=module.number("transfer_size") or DEFAULT_TRANSFER,
                sen="",
                apdu_s=timeout_s,
            )
        case ReaderKind.SERIAL:
            from iose.transport.serial_line import DEFAULT_BAUD, SerialBank  # noqa: PLC0415

            baud = module.number("baud") or DEFAULT_BAUD
            return SerialBank(name, device=module.place, baud=baud, sen="", apdu_s=timeout_s)
        case ReaderKind.SIM_ARRAY:
            from iose.transport.sim_array import SimArrayBank  # noqa: PLC0415

            address, _, slot = module.place.rpartition("/")
            host, _, port = address.rpartition(":")
            return SimArrayBank(
                name,
                host=host.strip("[]"),
                port=int(port),
                slots=(int(slot),),
                apdu_s=timeout_s,
                poll_s=POLL_S,
            )
        case _:
            assert_never(module.kind)


def _flavour(form: ModuleForm) -> str:
    return I2C_T1 if form is ModuleForm.SE050 else I2C_FRAMES
