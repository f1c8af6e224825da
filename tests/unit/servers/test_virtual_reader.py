# SPDX-License-Identifier: Apache-2.0
"""An element in a virtual reader: orders obeyed, whatever driver or element do to each other."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Address

import pytest

from iose.iso7816.atr import TransmissionProtocol
from iose.protocols.vpcd import Order
from iose.runtime.compose import make_element
from iose.servers import driver_link
from iose.servers.driver_link import (
    QUICK_ACKNOWLEDGEMENT,
    DriverAddress,
    DriverLink,
    DriverTimes,
)
from iose.servers.virtual_reader import Exposure
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoReaderError,
    NotSentError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.software import SoftwareConnection, SoftwareReader
from tests.support.driver import PATIENCE_S, Driver, listening_driver
from tests.support.element import demo
from tests.support.memory_store import MemoryStore
from tests.support.rng import SeededRng

pytestmark = pytest.mark.anyio

T0, T1 = TransmissionProtocol.T0, TransmissionProtocol.T1
SELECT_DOMAIN = "00A4040008A00000015100000000"
DOMAIN = "6F108408A000000151000000A5049F6501FF"
SELECT_APPLET = "00A4040006010203040500"
VERIFY_PIN = "002000000430303030"
FLOOD = 1_000
QUICK = DriverTimes(connect_s=1.0, greeting_s=0.2, message_s=0.3)


class Element(SoftwareReader):
    """A software element whose connections are counted and can be made to fail."""

    def __init__(self) -> None:
        super().__init__(
            "key1.com", make_element(MemoryStore(), demo(name=b"key1.com"), SeededRng())
        )
        self.fault: TransportError | None = None
        self.bug: Exception | None = None
        self.starts = 0

    async def connect(self) -> SoftwareConnection:
        if self.bug is not None:
            raise self.bug
        if self.fault is not None:
            raise self.fault
        self.starts += 1
        return await super().connect()

    @property
    def has_power(self) -> bool:
        return self._is_held


def expose(
    element: Element,
    driver: Driver,
    protocol: TransmissionProtocol = T0,
    times: DriverTimes | None = None,
) -> Exposure:
    address = DriverAddress("127.0.0.1", driver.port)
    return Exposure("7", "key1.com", element.connect, address, protocol, times=times)


@asynccontextmanager
async def exposed(
    protocol: TransmissionProtocol = T0, times: DriverTimes | None = None
) -> AsyncIterator[tuple[Driver, Element, Exposure]]:
    async with listening_driver() as driver:
        element = Element()
        exposure = expose(element, driver, protocol, times)
        await exposure.start()
        try:
            yield driver, element, exposure
        finally:
            await exposure.stop()


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is watched has no event
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("protocol", "atr"),
    [(T0, "3B086B6579312E636F6D"), (T1, "3B888131FE456B6579312E636F6D8A")],
)
async def test_the_atr_names_the_element_and_its_protocol_even_before_power(protocol, atr):
    async with exposed(protocol) as (driver, element, _):
        card = await driver.card()
        assert not element.has_power
        assert (await card.ask(Order.ATR)).hex().upper() == atr
        assert (await card.power_on()).hex().upper() == atr


async def test_over_t0_data_are_announced_and_fetched():
    async with exposed(T0) as (driver, _, exposure):
        card = await driver.card()
        await card.power_on()
        assert await card.ask_hex(SELECT_DOMAIN[:-2]) == "6112"
        assert await card.ask_hex("00C0000012") == DOMAIN + "9000"
        assert exposure.status().apdus == 2


async def test_over_t1_the_answer_comes_at_once():
    async with exposed(T1) as (driver, _, _):
        card = await driver.card()
        await card.power_on()
        assert await card.ask_hex(SELECT_DOMAIN) == DOMAIN + "9000"


async def test_over_t1_extended_lengths_reach_the_element_and_over_t0_they_do_not():
    extended = "00A4040000000800000000000000000000"
    async with exposed(T1) as (driver, _, _):
        card = await driver.card()
        await card.power_on()
        assert await card.ask_hex(extended) == "6A82"
    async with exposed(T0) as (driver, _, _):
        card = await driver.card()
        await card.power_on()
        assert await card.ask_hex(extended) == "6700"


@pytest.mark.parametrize(
    "orders", [(Order.POWER_OFF, Order.POWER_ON), (Order.RESET,), (Order.POWER_ON,)]
)
async def test_what_is_volatile_is_gone_after_power_or_reset(orders):
    async with exposed(T0) as (driver, element, _):
        card = await driver.card()
        await card.power_on()
        assert await card.ask_hex(SELECT_DOMAIN[:-2]) == "6112"
        starts = element.starts
        for order in orders:
            card.say(order)
        assert await card.ask_hex("00C0000012") == "9000"
        assert await card.ask_hex(SELECT_APPLET) == "9000"
        assert element.starts == starts + (Order.RESET not in orders)


async def test_an_element_without_power_order_gets_none():
    async with exposed() as (driver, element, _):
        card = await driver.card()
        await card.power_on()
        assert element.has_power
        card.say(Order.POWER_OFF)
        await card.ask(Order.ATR)
        assert not element.has_power


async def test_a_command_that_is_none_does_not_reach_the_element():
    async with exposed(T1) as (driver, element, _):
        card = await driver.card()
        assert await card.ask_hex("00A4") == "6700"
        assert not element.has_power


async def test_stopping_takes_the_card_out_and_its_power():
    async with exposed() as (driver, element, exposure):
        card = await driver.card()
        await card.power_on()
        await exposure.stop()
        await card.ended()
        assert not element.has_power
        await exposure.stop()


async def test_nothing_that_listens_is_told_with_the_next_step():
    async with listening_driver() as driver:
        await driver.stop()
        element = Element()
        with pytest.raises(NoReaderError, match="no driver listens") as caught:
            await expose(element, driver).start()
        assert "systemctl start pcscd" in (caught.value.hint or "")
        assert "vsmartcard-vpcd" in (caught.value.hint or "")
        assert not element.has_power


@pytest.mark.parametrize("host", ["host.invalid", "two..dots", "h" * 70 + ".example"])
async def test_a_host_without_an_address_is_told(host: str):
    exposure = Exposure("7", "", Element().connect, DriverAddress(host, 35_963), T0)
    with pytest.raises(NoReaderError):
        await exposure.start()


async def test_a_connection_from_the_drivers_port_to_itself_is_none_and_leaves_it_free(monkeypatch):
    class Unlucky(socket.socket):
        """A socket that the kernel gives the port which it is to connect to."""

        def connect(self, address: tuple[str, int]) -> None:
            self.bind(address)
            super().connect(address)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    monkeypatch.setattr(socket, "socket", Unlucky)
    link = DriverLink(DriverAddress(*address), QUICK)
    with pytest.raises(NoReaderError, match="refused"):
        await link.open()
    link.close()
    monkeypatch.undo()
    with socket.socket() as driver:
        driver.bind(address)


async def test_a_slot_with_another_card_in_it_is_told():
    async with listening_driver() as driver:
        driver.greeting = b""
        element = Element()
        with pytest.raises(CardBusyError, match="does not take") as caught:
            await expose(element, driver, times=QUICK).start()
        assert "--port" in (caught.value.hint or "")
        assert not element.has_power


async def test_an_element_that_does_not_answer_is_told_before_the_driver_hears_of_it():
    async with listening_driver() as driver:
        element = Element()
        element.fault = TransportTimeoutError("key1.com", "no answer")
        with pytest.raises(TransportTimeoutError, match="no answer"):
            await expose(element, driver).start()
        assert driver._cards.empty()


async def test_a_driver_that_starts_again_finds_the_card_again():
    async with exposed() as (driver, element, exposure):
        card = await driver.card()
        await card.power_on()
        await driver.stop()
        await until(lambda: "no driver" in exposure.status().fault)
        status = exposure.status()
        assert not status.connected
        assert "pcscd" in status.hint
        starts = element.starts
        await driver.start()
        again = await driver.card()
        assert (element.has_power, element.starts) == (False, starts)  # nobody needed it
        await again.power_on()
        assert await again.ask_hex(SELECT_APPLET) == "9000"
        assert (exposure.status().connected, exposure.status().fault) == (True, "")


async def test_an_element_said_to_be_gone_leaves_the_reader_when_the_driver_looks():
    async with exposed() as (driver, element, exposure):
        card = await driver.card()
        element.fault = CardRemovedError("key1.com", "no element")
        exposure.lose()
        card.say(Order.ATR)
        await card.ended()
        await until(lambda: "no element" in exposure.status().fault)
        element.fault = None
        again = await driver.card()
        assert await again.power_on()


async def test_an_element_that_goes_away_leaves_the_reader_until_it_is_back():
    async with exposed() as (driver, element, exposure):
        card = await driver.card()
        element.fault = CardRemovedError("key1.com", "the card is gone")
        card.say(Order.POWER_ON)
        await card.ended()
        await until(lambda: "the card is gone" in exposure.status().fault)
        assert not exposure.status().connected
        element.fault = None
        again = await driver.card()
        await again.power_on()
        assert await again.ask_hex(SELECT_APPLET) == "9000"


@pytest.mark.parametrize("protocol", [T0, T1])
@pytest.mark.parametrize("answer", [b"", b"\x90", bytes(70_000)], ids=["none", "half", "too long"])
async def test_an_answer_nobody_can_use_is_no_diagnosis(protocol, answer, monkeypatch):
    async def transmit_raw(_connection: SoftwareConnection, _command: bytes) -> bytes:
        return answer

    monkeypatch.setattr(SoftwareConnection, "transmit_raw", transmit_raw)
    async with exposed(protocol) as (driver, _, exposure):
        card = await driver.card()
        told = await card.ask_hex("0084000000")
        is_fetched = protocol is T0 and len(answer) > 256  # in as many pieces as it takes
        assert told[-4:] == ("6100" if is_fetched else "6F00")
        assert exposure.status().connected


@pytest.mark.parametrize("protocol", [T0, T1])
async def test_a_command_that_the_reader_cannot_carry_is_of_wrong_length_and_the_card_stays(
    protocol, monkeypatch
):
    async with exposed(protocol) as (driver, element, exposure):
        card = await driver.card()
        await card.power_on()
        with monkeypatch.context() as patched:

            async def refuse(_self: SoftwareConnection, _command: bytes) -> bytes:
                raise NotSentError("key1.com", "too long")

            patched.setattr(SoftwareConnection, "transmit_raw", refuse)
            assert await card.ask_hex(SELECT_APPLET) == "6700"
        assert await card.ask_hex(SELECT_APPLET) == "9000"
        assert (element.starts, exposure.status().fault) == (2, "")  # one was to learn its name


async def test_an_element_without_power_is_told_and_let_go(monkeypatch):
    async def transmit_batch(_connection: SoftwareConnection, _steps: object) -> None:
        raise CardRemovedError("key1.com", "no power")

    monkeypatch.setattr(SoftwareConnection, "transmit_batch", transmit_batch)
    async with listening_driver() as driver:
        element = Element()
        with pytest.raises(CardRemovedError, match="no power"):
            await expose(element, driver).start()
        assert not element.has_power


async def test_a_fault_of_our_own_is_told_and_outlived(monkeypatch):
    async with exposed() as (driver, element, exposure):
        card = await driver.card()
        element.bug = ZeroDivisionError()
        card.say(Order.POWER_ON)
        await card.ended()
        await until(lambda: "ZeroDivisionError" in exposure.status().fault)
        element.bug = None
        again = await driver.card()
        assert await again.power_on()


@contextmanager
def full_queue() -> Iterator[DriverAddress]:
    """Give the address of a driver that accepts nobody, and as many as may are waiting."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            yield DriverAddress("127.0.0.1", port)


async def test_a_driver_whose_queue_is_full_is_taken():
    with full_queue() as address:
        exposure = Exposure("7", "", Element().connect, address, T0, times=QUICK)
        with pytest.raises(CardBusyError):
            await exposure.start()


async def test_a_machine_that_does_not_answer_at_all_is_not_said_to_have_another_card(monkeypatch):
    monkeypatch.setattr(driver_link, "ip_address", lambda _: IPv4Address("192.0.2.1"))
    with full_queue() as address:
        exposure = Exposure("7", "", Element().connect, address, T0, times=QUICK)
        with pytest.raises(NoReaderError, match="nobody answers") as caught:
            await exposure.start()
        assert "firewall" in (caught.value.hint or "")


async def test_a_second_message_after_the_driver_hung_up_is_not_waited_for():
    link = DriverLink(DriverAddress("127.0.0.1", 1), QUICK)
    with pytest.raises(CardRemovedError, match="closed"):
        await link.send(b"\x90\x00")


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\x00", b"\x00\x01\x03", b"\x00\x01\xff", b"\xff\xff" + b"x" * 65_535 + b"\x00\x00"],
    ids=["empty", "order 3", "order 255", "longest"],
)
async def test_garbage_ends_the_connection_and_not_the_exposure(garbage: bytes):
    async with exposed(T1) as (driver, _, exposure):
        card = await driver.card()
        card.writer.write(garbage)
        await card.ended()
        await until(lambda: not exposure.status().connected)
        again = await driver.card()
        assert await again.ask(Order.ATR)


async def test_a_message_that_does_not_end_ends_the_connection():
    async with exposed(times=QUICK) as (driver, _, exposure):
        card = await driver.card()
        card.writer.write(b"\xff\xff\x00")
        await card.ended()
        await until(lambda: not exposure.status().connected)
        assert "does not end" in exposure.status().fault


async def test_a_message_byte_by_byte_is_carried_out():
    async with exposed() as (driver, _, _):
        card = await driver.card()
        await card.power_on()
        for byte in b"\x00\x0b" + bytes.fromhex(SELECT_APPLET):
            card.writer.write(bytes((byte,)))
            await card.writer.drain()
        assert await card.hear() == b"\x90\x00"


async def test_many_messages_at_once_are_carried_out_in_order():
    async with exposed() as (driver, _, _):
        card = await driver.card()
        card.say(Order.POWER_ON)
        for _ in range(3):
            card.say(bytes.fromhex(SELECT_APPLET))
            card.say(Order.ATR)
        for _ in range(3):
            assert await card.hear() == b"\x90\x00"
            assert b"key1.com" in await card.hear()


@pytest.mark.parametrize("order", [Order.POWER_OFF, Order.ATR])
async def test_a_driver_that_floods_leaves_others_their_turns(order: Order):
    async with exposed() as (driver, _, _):
        card = await driver.card()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(others())
        for _ in range(FLOOD):
            card.say(order)
        card.say(bytes.fromhex(SELECT_APPLET))
        while await card.hear() != b"\x90\x00":
            pass
        counting.cancel()
        assert turns >= FLOOD


@pytest.mark.skipif(QUICK_ACKNOWLEDGEMENT is None, reason="this system has no such option")
async def test_each_receive_asks_for_acknowledgements_at_once_again():
    async with listening_driver() as driver:
        link = DriverLink(DriverAddress("127.0.0.1", driver.port), QUICK)
        await link.open()
        assert await link.next_message() is Order.ATR
        await link.send(b"ATR")
        card = await driver.card()
        option = (socket.IPPROTO_TCP, QUICK_ACKNOWLEDGEMENT)
        link._open_socket().setsockopt(*option, 0)  # as the kernel does when it likes
        card.say(Order.POWER_ON)
        assert await link.next_message() is Order.POWER_ON
        assert link._open_socket().getsockopt(*option)
        link.close()


async def test_a_driver_that_never_reads_is_left():
    async with listening_driver() as driver:
        link = DriverLink(DriverAddress("127.0.0.1", driver.port), QUICK)
        await link.open()
        with pytest.raises(TransportTimeoutError, match="does not take an answer"):
            await fill(link)
        link.close()


async def fill(link: DriverLink) -> None:
    """Send answers until the buffers of both ends are full, and beyond."""
    for _ in range(1_000):
        await link.send(bytes(65_535))
