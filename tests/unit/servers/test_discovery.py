# SPDX-License-Identifier: Apache-2.0
"""What is found out about an element before anybody uses it, and at what cost."""

from collections.abc import Callable

import pytest

from iose.applets.tls_se import TLS_SE_AID, Limits, Settings, TlsServerApplet, Wire
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr, InterfaceGroup, TransmissionProtocol
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.iso7816.status import StatusWord
from iose.servers.discovery import EXTENDED_CHUNK_SIZE, LARGEST_RECORD, discover
from iose.transport.errors import CardRemovedError, TransportError
from iose.transport.software import SoftwareReader
from iose.transport.stack import transmit_batch
from tests.support.element import CRYPTO, MODULE, demo
from tests.support.memory_store import MemoryStore
from tests.support.probe import ProbeCard
from tests.support.rng import SeededRng

pytestmark = pytest.mark.anyio
PUBLISHED = ApduLimits(240, 512)
RESET = "00D8000000"
SELECT = "00A4040006010203040500"
EXTENDED_ATR = Atr(bytes.fromhex("8073000140"), (InterfaceGroup(protocol=1),)).encode()
OF_WIRES_AND_PROTOCOLS = pytest.mark.parametrize(
    ("wire", "protocol"),
    [(wire, protocol) for wire in Wire for protocol in TransmissionProtocol],
    ids=[f"{wire.value}, {protocol.name}" for wire in Wire for protocol in TransmissionProtocol],
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def card_with(
    settings: Settings,
    protocol: TransmissionProtocol = TransmissionProtocol.T1,
    *,
    is_default: bool = True,
) -> tuple[CardOs, MemoryStore]:
    store = MemoryStore()
    services = CardServices(CRYPTO, SeededRng(), {MODULE: TlsServerApplet}, lambda _: None)
    card = CardOs(store, services, CardSettings(protocol, is_class_checked=settings.is_hardened))
    card.install(MODULE, TLS_SE_AID, demo(settings).encode(), default_selected=is_default)
    return card, store


class Tapped:
    """A connection that keeps what was sent, and may answer itself."""

    def __init__(
        self,
        answer: Callable[[CommandApdu], ResponseApdu],
        atr: bytes = Atr().encode(),
    ) -> None:
        self.atr = atr
        self.sent: list[CommandApdu] = []
        self._answer = answer

    @classmethod
    def to(cls, card: CardOs, atr: bytes = b"") -> "Tapped":
        own = card.power_on()
        return cls(lambda command: ResponseApdu.decode(card.process(command.encode())), atr or own)

    @property
    def headers(self) -> list[str]:
        return [command.encode()[:5].hex().upper() for command in self.sent]

    @property
    def apdus(self) -> int:
        return len(self.sent)

    async def transmit(self, command: CommandApdu) -> ResponseApdu:
        self.sent.append(command)
        return self._answer(command)

    async def transmit_batch(self, steps: list[BatchStep]) -> list[ResponseApdu]:
        return await transmit_batch("tapped", self.transmit, steps)


@OF_WIRES_AND_PROTOCOLS
async def test_an_element_with_the_limits_of_a_chip_costs_six_apdus(
    wire: Wire, protocol: TransmissionProtocol
):
    card, _ = card_with(Settings(wire, Limits.CHIP), protocol)
    tap = Tapped.to(card)
    found = await discover(tap)
    assert found.limits == PUBLISHED
    assert found.speaks_tls_se
    assert found.aid is None
    assert tap.headers == [RESET, "00D80001F0", "00D80000F0", "00D8000020", "00D80000F0", RESET]


@OF_WIRES_AND_PROTOCOLS
async def test_a_wide_element_is_filled_to_the_largest_record_in_76_apdus(
    wire: Wire, protocol: TransmissionProtocol
):
    card, _ = card_with(Settings(wire), protocol)
    tap = Tapped.to(card)
    found = await discover(tap)
    assert found.limits == ApduLimits(240, LARGEST_RECORD)
    assert tap.apdus == 76
    assert tap.headers[0] == tap.headers[-1] == RESET
    assert sum(len(command.data) for command in tap.sent) == LARGEST_RECORD


@pytest.mark.parametrize("limits", Limits)
async def test_known_limits_are_not_looked_for(limits: Limits):
    card, _ = card_with(Settings(limits=limits))
    tap = Tapped.to(card)
    configured = ApduLimits(200, 300)
    found = await discover(tap, known=configured)
    assert found.limits == configured
    assert found.speaks_tls_se
    assert tap.headers == [RESET]


async def test_an_applet_that_no_reset_selects_is_found_by_its_aid():
    card, _ = card_with(Settings(limits=Limits.CHIP), is_default=False)
    tap = Tapped.to(card)
    found = await discover(tap)
    assert found.aid == TLS_SE_AID.value
    assert found.limits == PUBLISHED
    assert found.speaks_tls_se
    assert tap.headers[:3] == [RESET, SELECT[:10], RESET]
    assert tap.apdus == 8


async def test_a_card_without_the_applet_costs_two_apdus_and_is_not_served():
    tap = Tapped.to(ProbeCard().card)
    found = await discover(tap)
    assert not found.speaks_tls_se
    assert found.aid is None
    assert found.limits == PUBLISHED
    assert tap.headers == [RESET, SELECT[:10]]


@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("limits", Limits)
async def test_nothing_is_stored(wire: Wire, limits: Limits):
    card, store = card_with(Settings(wire, limits))
    tap = Tapped.to(card)
    before = store.writes
    await discover(tap)
    assert store.writes == before


async def test_no_command_ends_a_record_or_asks_for_a_mode():
    card, _ = card_with(Settings())
    tap = Tapped.to(card)
    await discover(tap)
    sends = [command for command in tap.sent if command.ins == 0xD8]
    assert {command.p2 & 0x02 for command in sends} == {0}
    assert {command.p1 for command in sends} == {0}
    assert {command.ins for command in tap.sent} == {0xD8}


def takes(size: int, refusal: int = 0x6D02, largest: int = 65_535) -> Callable[..., ResponseApdu]:
    """Return an applet with a buffer of a size, which takes commands up to another."""
    held = 0

    def answer(command: CommandApdu) -> ResponseApdu:
        nonlocal held
        held = 0 if command.p2 & 1 or not command.data else held
        if len(command.data) > largest:
            return ResponseApdu(b"", StatusWord.WRONG_LENGTH)
        if held + len(command.data) > size:
            return ResponseApdu(b"", StatusWord(refusal))
        held += len(command.data)
        return ResponseApdu()

    return answer


@pytest.mark.parametrize(
    ("size", "found"),
    [
        (512, 512),
        (513, 512),
        (751, 512),
        (752, 752),
        (1024, 1024),
        (2048, 2048),
        (2300, 2288),
        (4096, 4096),
        (8192, 8192),
        (16_644, 16_592),
        (16_645, 16_645),
        (65_535, 16_645),
    ],
)
@pytest.mark.parametrize("refusal", [0x6D02, 0x6D16, 0x6700])
async def test_a_buffer_is_never_found_larger_than_it_is(size: int, found: int, refusal: int):
    tap = Tapped(takes(size, refusal))
    discovery = await discover(tap)
    assert discovery.limits == ApduLimits(240, found)


@pytest.mark.parametrize("size", [0, 100, 239, 240, 511])
async def test_a_buffer_smaller_than_the_published_one_is_not_believed(size: int):
    assert (await discover(Tapped(takes(size)))).limits == PUBLISHED


async def test_a_card_that_says_so_and_does_so_gets_extended_chunks():
    tap = Tapped(takes(LARGEST_RECORD), EXTENDED_ATR)
    discovery = await discover(tap)
    assert discovery.limits == ApduLimits(EXTENDED_CHUNK_SIZE, LARGEST_RECORD)
    assert tap.apdus == 24


async def test_a_card_that_only_says_so_gets_short_chunks():
    tap = Tapped(takes(LARGEST_RECORD, largest=255), EXTENDED_ATR)
    discovery = await discover(tap)
    assert discovery.limits == ApduLimits(240, LARGEST_RECORD)


async def test_a_chip_never_sees_an_extended_command():
    tap = Tapped(takes(512), EXTENDED_ATR)
    discovery = await discover(tap)
    assert discovery.limits == PUBLISHED
    assert tap.apdus == 6
    assert max(len(command.data) for command in tap.sent) == 240


@pytest.mark.parametrize("atr", [b"", b"\x3b", b"\xff" * 40])
async def test_an_atr_that_is_none_announces_nothing(atr: bytes):
    assert (await discover(Tapped(takes(LARGEST_RECORD), atr))).limits.chunk_size == 240


async def test_data_where_none_belongs_counts_as_a_refusal():
    def answer(command: CommandApdu) -> ResponseApdu:
        return ResponseApdu(b"\x00" if command.data else b"")

    assert (await discover(Tapped(answer))).limits == PUBLISHED


@pytest.mark.parametrize("good", range(1, 6))
async def test_a_card_that_falls_silent_while_it_is_measured_is_taken_for_a_published_one(
    good: int,
):
    left = iter(range(good))
    applet = takes(512)

    def answer(command: CommandApdu) -> ResponseApdu:
        if next(left, None) is None:
            raise CardRemovedError("tapped", "gone")
        return applet(command)

    discovery = await discover(Tapped(answer))
    assert discovery.limits == PUBLISHED
    assert discovery.speaks_tls_se


async def test_a_card_that_does_not_answer_at_all_is_the_callers_to_deal_with():
    def answer(_: CommandApdu) -> ResponseApdu:
        raise CardRemovedError("tapped", "gone")

    with pytest.raises(TransportError):
        await discover(Tapped(answer))


async def test_it_works_over_a_real_connection_too():
    card, _ = card_with(Settings(limits=Limits.CHIP))
    connection = await SoftwareReader("software", card).connect()
    assert (await discover(connection)).limits == PUBLISHED
    assert connection.apdus == 6
    await connection.close()
