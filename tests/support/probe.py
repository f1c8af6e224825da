# SPDX-License-Identifier: Apache-2.0
"""An applet that does one thing per instruction, for tests of the card, and a card with it."""

from collections.abc import Callable

from iose.applet_api import AppletContext, Pin
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.card.refusals import CardFault
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import TransmissionProtocol
from iose.iso7816.status import StatusWord, StatusWordError
from tests.support.memory_store import MemoryStore

PROBE = Aid.from_hex("A00000000101")
SECOND = Aid.from_hex("A00000000102")
OTHER = Aid.from_hex("B000000001")
ERROR_MESSAGE = "a text that no log may show"
REFUSE_ON, CRASH_ON, WRITE_ON = range(3)


def plan(what: int, event: str) -> str:
    """Return the command that makes the probe do something on ``select`` or ``deselect``."""
    return f"000F{what:02X}00{len(event):02X}{event.encode().hex()}"


class CountingRng:
    """Bytes that count up: the same in every run."""

    def __init__(self) -> None:
        self.next = 0

    def random_bytes(self, count: int) -> bytes:
        data = bytes((self.next + index) & 0xFF for index in range(count))
        self.next += count
        return data


class ProbeApplet:
    """One behaviour per instruction; P1 names objects."""

    def __init__(self, context: AppletContext) -> None:
        self.context = context
        self.store = context.store
        self.count = 0
        self.actions: dict[int, Callable[[CommandApdu], ResponseApdu | None]] = {
            0x01: self._echo,
            0x02: self._put,
            0x03: self._get,
            0x04: self._put_and_refuse,
            0x05: self._put_and_crash,
            0x06: self._sized,
            0x07: self._status,
            0x08: self._commit_and_refuse,
            0x09: self._delete,
            0x0A: self._set_historical_bytes,
            0x0B: self._count,
            0x0C: self._random,
            0x0D: self._aid,
            0x0E: self._class,
            0x0F: self._plan,
            0x20: self._verify,
            0x21: self._pin_state,
            0x24: self._update_pin,
            0x2C: self._unblock_pin,
            0x2E: self._verify_without_value,
            0xC0: self._receive,
        }

    def install(self, parameters: bytes) -> None:
        self.store.put("installed", parameters)
        if parameters == b"refuse":
            raise StatusWordError(StatusWord.WRONG_DATA)
        if parameters == b"name":
            self.context.set_historical_bytes(b"probe.example")
        self._pin.update(b"0000")

    def select(self) -> ResponseApdu:
        self._follow_plan("select")
        self.count = 0
        return ResponseApdu(self.context.aid.value[-1:])

    def deselect(self) -> None:
        self._follow_plan("deselect")
        self.store.put("deselected", b"1")

    def process(self, command: CommandApdu) -> ResponseApdu:
        self.count += 1
        action = self.actions.get(command.ins)
        if action is None:
            raise StatusWordError(StatusWord.INS_NOT_SUPPORTED)
        return action(command) or ResponseApdu()

    @property
    def _pin(self) -> Pin:
        return self.context.pin("user", max_tries=3)

    def _follow_plan(self, event: str) -> None:
        match self.store.get(f"on {event}"):
            case b"\x00":
                raise StatusWordError(StatusWord.COMMAND_NOT_ALLOWED)
            case b"\x01":
                raise ValueError(ERROR_MESSAGE)
            case b"\x02":
                self.store.put("written", self.context.rng.random_bytes(2))

    def _plan(self, command: CommandApdu) -> None:
        """On the event named in the data: P1=00 refuses, 01 crashes, 02 writes."""
        self.store.put(f"on {command.data.decode()}", bytes((command.p1,)))

    def _echo(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(command.data)

    def _put(self, command: CommandApdu) -> None:
        self.store.put(str(command.p1), command.data)

    def _get(self, command: CommandApdu) -> ResponseApdu:
        value = self.store.get(str(command.p1))
        if value is None:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND)
        return ResponseApdu(value)

    def _put_and_refuse(self, command: CommandApdu) -> None:
        self._put(command)
        raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)

    def _put_and_crash(self, command: CommandApdu) -> None:
        self._put(command)
        raise ValueError(ERROR_MESSAGE)

    def _sized(self, command: CommandApdu) -> ResponseApdu:
        size = command.p1 << 8 | command.p2
        return ResponseApdu(bytes(index & 0xFF for index in range(size)), StatusWord(0x9F1C))

    def _status(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(command.data, StatusWord(command.p1 << 8 | command.p2))

    def _commit_and_refuse(self, command: CommandApdu) -> None:
        self._put(command)
        self.store.commit()
        self.store.put(str(command.p1), b"uncommitted")
        raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)

    def _delete(self, command: CommandApdu) -> None:
        self.store.delete(str(command.p1))

    def _set_historical_bytes(self, command: CommandApdu) -> None:
        self.context.set_historical_bytes(command.data)

    def _count(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(bytes((self.count,)))

    def _random(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(self.context.rng.random_bytes(command.le or 1))

    def _aid(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(self.context.aid.value)

    def _class(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(bytes((command.cla,)))

    def _verify(self, command: CommandApdu) -> None:
        if not self._pin.verify(command.data):
            raise StatusWordError(StatusWord.PIN_WRONG | self._pin.tries_remaining)

    def _pin_state(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(bytes((self._pin.is_validated, self._pin.tries_remaining)))

    def _update_pin(self, command: CommandApdu) -> None:
        self._pin.update(command.data)

    def _unblock_pin(self, command: CommandApdu) -> None:
        self._pin.reset_and_unblock()

    def _verify_without_value(self, command: CommandApdu) -> ResponseApdu:
        pin = self.context.pin("unset", max_tries=3)
        return ResponseApdu(bytes((pin.verify(command.data), pin.tries_remaining)))

    def _receive(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(b"applet")


class ProbeCard:
    """A card with the probe installed, on a memory that can fail; APDUs and answers are hex."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        protocol: TransmissionProtocol = TransmissionProtocol.T1,
        *,
        is_class_checked: bool = True,
        installed: bool = True,
    ) -> None:
        self.store = store if store is not None else MemoryStore()
        self.faults: list[CardFault] = []
        self.services = CardServices(
            PycaCrypto(), CountingRng(), {"probe": ProbeApplet}, self.faults.append
        )
        self.settings = CardSettings(protocol, is_class_checked)
        self.card = CardOs(self.store, self.services, self.settings)
        if installed:
            self.card.install("probe", PROBE, b"name", default_selected=True)
            self.card.install("probe", SECOND)
            self.card.install("probe", OTHER)

    def on(self) -> "ProbeCard":
        self.card.power_on()
        return self

    def send(self, command: str) -> str:
        return self.card.process(bytes.fromhex(command)).hex().upper()

    def again(self) -> "ProbeCard":
        """Return a new card on what the memory kept, powered: the power came back."""
        survivor = ProbeCard(
            MemoryStore(self.store.contents),
            self.settings.protocol,
            is_class_checked=self.settings.is_class_checked,
            installed=False,
        )
        return survivor.on()
