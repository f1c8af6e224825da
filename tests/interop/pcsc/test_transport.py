# SPDX-License-Identifier: Apache-2.0
"""Our PC/SC transport through the machine's service and a driver, to cards of both protocols."""

import asyncio
import subprocess
from contextlib import contextmanager

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.atr import Atr, TransmissionProtocol
from iose.iso7816.batch import BatchStep
from iose.protocols.vpcd import Order
from iose.tls import PreSharedKey
from iose.transport.bank import SlotState
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.pcsc import PcscBank, card
from tests.support.node import until
from tests.support.pcsc import PcscConnection
from tests.support.peers import require_peer
from tests.support.started_bank import started
from tests.support.tls_session import TlsSession, check_session
from tests.support.virtual_card import MuteCard, T0Card, VirtualCard, VirtualService
from tests.twins.elements import DEMO_PSK, Cards

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180), pytest.mark.anyio]

PATIENCE_S = 30.0
DEADLINE_S = 1.0
FIRST, SECOND = "Virtual PCD 00 00", "Virtual PCD 1 00 00"
PSK = PreSharedKey(b"Client_identity", DEMO_PSK)
SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))
T0, T1 = TransmissionProtocol.T0, TransmissionProtocol.T1


def element(name: str = "key1.com", protocol: TransmissionProtocol = T1):
    made = Cards(protocol=protocol).make(name)
    return T0Card(made) if protocol is T0 else made


class ManyPieces:
    """A card whose answers come in pieces of both kinds."""

    def __init__(self) -> None:
        self.pieces = iter(["6103", "AABBCC9F02", "DDEE9000", "6C02", "11229000"])

    def power_on(self) -> bytes:
        return Atr.for_contacts(b"pieces", T0).encode()

    reset = power_on

    def power_off(self) -> None: ...

    def process(self, command: bytes) -> bytes:
        return bytes.fromhex(next(self.pieces))


def watching(apdu_s: float = PATIENCE_S):
    """Return the bank of all readers, to be started."""
    return started(PcscBank("cards", apdu_s=apdu_s))


async def insert(service: VirtualService, what, reader: int = 0, slot: int = 0) -> VirtualCard:
    return await asyncio.to_thread(service.insert, what, reader, slot)


@pytest.mark.parametrize("protocol", [T0, T1], ids=["T=0", "T=1"])
async def test_a_tls_session_with_an_element(service: VirtualService, protocol):
    inserted = await insert(service, element("key1.com", protocol))
    async with watching() as watched:
        slot = await watched.becomes(FIRST, SlotState.READY)
        assert (slot.seid, Atr.decode(slot.atr).protocols[0]) == ("pcsc-key1.com", protocol)
        connection = await slot.reader.connect()
        assert connection.atr == slot.atr
        assert await connection.reset() == slot.atr
        assert "keystore" in await check_session(connection, PSK)
        assert connection.apdus == len(inserted.commands)
        await connection.close()


async def test_answers_in_pieces_are_fetched_in_the_thread_of_the_reader(service: VirtualService):
    inserted = await insert(service, ManyPieces())
    async with watching() as watched:
        connection = await watched.connect(FIRST)
        steps = [BatchStep(SELECT), BatchStep(CommandApdu(0, 0xCA, 0, 0, le=256))]
        responses = await connection.transmit_batch(steps)
        assert [one.data.hex() for one in responses] == ["aabbccddee", "1122"]
        await connection.close()
    assert [command.hex() for command in inserted.commands] == [
        "00a4040006010203040500", "00c0000003", "00c0000002", "00ca000000", "00ca000002",
    ]  # fmt: skip


async def test_every_session_begins_from_cold(service: VirtualService):
    off = [Order.POWER_OFF]
    inserted = await insert(service, element())
    async with watching() as watched:
        slot = await watched.becomes(FIRST, SlotState.READY)
        for _ in range(2):
            inserted.orders.clear()
            connection = await slot.reader.connect()
            power = [order for order in inserted.orders if order != Order.ATR]
            assert power[-2:] == [Order.POWER_OFF, Order.POWER_ON]
            assert await connection.reset() == slot.atr
            assert inserted.orders.count(Order.RESET) == power.count(Order.RESET) + 1
            await connection.close()
            # nobody answers this order; and the one for the ATR comes again and again
            await asyncio.to_thread(
                until, lambda: [one for one in inserted.orders if one != Order.ATR][-1:] == off
            )


async def test_a_card_comes_and_goes_while_the_bank_runs(service: VirtualService):
    async with watching() as watched:
        assert (await watched.becomes(FIRST, SlotState.EMPTY)).reader is None
        inserted = await insert(service, element())
        await watched.becomes(FIRST, SlotState.READY)
        await asyncio.to_thread(inserted.remove)
        await watched.becomes(FIRST, SlotState.EMPTY)


async def test_a_card_taken_out_in_a_session_ends_it_and_works_when_it_is_back(service):
    inserted = await insert(service, element())
    async with watching() as watched:
        connection = await watched.connect(FIRST)
        assert "keystore" in await check_session(connection, PSK)
        inserted.pull()
        with pytest.raises(CardRemovedError):
            await connection.transmit(SELECT)
        await connection.close()
        await watched.becomes(FIRST, SlotState.EMPTY)
        await insert(service, element())
        await watched.check_element(FIRST, PSK)


async def test_a_card_taken_out_while_it_works_ends_the_session(service: VirtualService):
    inserted = await insert(service, element())
    async with watching() as watched:
        connection = await watched.connect(FIRST)
        inserted.hold()
        waiting = asyncio.create_task(connection.transmit(SELECT))
        await asyncio.to_thread(inserted.asked.wait, PATIENCE_S)
        await asyncio.to_thread(inserted.pull)
        with pytest.raises(CardRemovedError):
            await waiting
        await connection.close()


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_service_that_ends_cuts_sessions_and_is_found_again(service: VirtualService, how):
    await insert(service, element())
    async with watching() as watched:
        slot = await watched.becomes(FIRST, SlotState.READY)
        connection = await slot.reader.connect()
        session = await TlsSession(connection, PSK).open()
        await asyncio.to_thread(getattr(service, how))
        with pytest.raises(CardRemovedError) as caught:
            await session.command("?00")
        assert "pcscd" in caught.value.hint
        await connection.close()
        await watched.until(lambda slots: FIRST not in [slot.name for slot in slots])
        (absent,) = watched.bank.slots
        assert (absent.state, absent.reader) == (SlotState.ABSENT, None)
        assert "pcscd" in absent.hint
        service.remove_all()
        await asyncio.to_thread(service.start)
        await insert(service, element())
        await watched.check_element(FIRST, PSK)


async def test_a_service_killed_while_a_card_works_ends_the_session(service: VirtualService):
    inserted = await insert(service, element())
    async with watching() as watched:
        connection = await watched.connect(FIRST)
        inserted.hold()
        waiting = asyncio.create_task(connection.transmit(SELECT))
        await asyncio.to_thread(inserted.asked.wait, PATIENCE_S)
        await asyncio.to_thread(service.kill)
        with pytest.raises(CardRemovedError):
            await waiting
        await connection.close()


async def test_a_service_that_starts_when_it_is_used_is_started(service: VirtualService):
    service.stop()
    starting = service.start_by_use()
    async with watching() as watched:
        await asyncio.to_thread(starting.join)
        await watched.becomes(FIRST, SlotState.EMPTY)
        await insert(service, element())
        await watched.check_element(FIRST, PSK)


async def test_a_stuck_card_stops_no_other_and_works_again_when_it_answers(service):
    stuck = await insert(service, element("key1.com"))
    await insert(service, element("key2.com", T0), 1)
    async with watching(DEADLINE_S) as watched:
        slot = await watched.becomes(FIRST, SlotState.READY)
        other = await watched.becomes(SECOND, SlotState.READY)
        connection = await slot.reader.connect()
        working = await other.reader.connect()
        stuck.hold()
        waiting = asyncio.create_task(connection.transmit(SELECT))
        await asyncio.to_thread(stuck.asked.wait, PATIENCE_S)
        assert "keystore" in await check_session(working, PSK)
        with pytest.raises(TransportTimeoutError):
            await waiting
        fault = await watched.becomes(FIRST, SlotState.FAULT)
        assert "no answer since" in fault.fault
        assert fault.hint
        assert "keystore" in await check_session(working, PSK)
        await connection.close()
        stuck.answer()
        await watched.check_element(FIRST, PSK)
        await working.close()


async def test_a_stuck_card_is_forgotten_when_it_is_taken_out(service: VirtualService):
    stuck = await insert(service, element())
    async with watching(DEADLINE_S) as watched:
        connection = await watched.connect(FIRST)
        stuck.hold()
        with pytest.raises(TransportTimeoutError):
            await connection.transmit(SELECT)
        await connection.close()
        await asyncio.to_thread(stuck.remove)
        await watched.becomes(FIRST, SlotState.EMPTY)
        await insert(service, element())
        await watched.check_element(FIRST, PSK)


async def test_a_card_that_cannot_be_started_is_a_fault(service: VirtualService):
    async with watching() as watched:
        inserted = await insert(service, MuteCard())
        slot = await watched.becomes(FIRST, SlotState.FAULT)
        assert slot.reader is None
        assert slot.hint
        await asyncio.to_thread(inserted.pull)
        await watched.becomes(FIRST, SlotState.EMPTY)


async def test_a_card_that_another_program_holds_is_busy(service: VirtualService, monkeypatch):
    monkeypatch.setattr(card, "BUSY_S", 0.1)
    await insert(service, element())
    async with watching() as watched:
        slot = await watched.becomes(FIRST, SlotState.READY)
        other = await asyncio.to_thread(PcscConnection)
        busy = await watched.becomes(FIRST, SlotState.BUSY)
        assert busy.hint
        with pytest.raises(CardBusyError):
            await busy.reader.connect()
        await other.close()
        free = await watched.becomes(FIRST, SlotState.READY)
        assert free.reader is slot.reader
        connection = await free.reader.connect()
        assert "keystore" in await check_session(connection, PSK)
        await connection.close()


async def test_a_card_in_a_transaction_of_another_program_is_busy_and_no_fault(
    service: VirtualService, monkeypatch
):
    monkeypatch.setattr(card, "BUSY_S", 0.1)
    await insert(service, element())
    async with watching(DEADLINE_S) as watched:
        slot = await watched.becomes(FIRST, SlotState.READY)
        with transaction(FIRST):
            with pytest.raises(CardBusyError):
                await slot.reader.connect()
            assert watched.slot(FIRST).state is SlotState.READY
        connection = await slot.reader.connect()
        assert "keystore" in await check_session(connection, PSK)
        await connection.close()


async def test_opensc_is_kept_out_of_a_session_and_may_use_the_card_after_it(service):
    await insert(service, element())
    async with watching() as watched:
        connection = await watched.connect(FIRST)
        assert (
            await asyncio.to_thread(opensc, "--card-driver", "default", "--send-apdu", "00A40400")
        ).returncode != 0
        assert "keystore" in await check_session(connection, PSK)
        await connection.close()
        assert (
            await asyncio.to_thread(opensc, "--card-driver", "default", "--send-apdu", "00A40400")
        ).returncode == 0


async def test_an_extended_command_is_refused_over_t0_and_carried_over_t1(service: VirtualService):
    await insert(service, element("key1.com", T0))
    await insert(service, element("key2.com", T1), 1)
    long = CommandApdu(0, 0xD8, 0, 3, bytes(300))
    async with watching() as watched:
        for name, is_carried in ((FIRST, False), (SECOND, True)):
            connection = await watched.connect(name)
            if is_carried:
                assert (await connection.transmit(long)).status
            else:
                with pytest.raises(TransportError, match="extended"):
                    await connection.transmit(long)
            assert "keystore" in await check_session(connection, PSK)
            await connection.close()


@contextmanager
def transaction(reader: str):
    """Share a card, as another program does, and be in a transaction with it."""
    from smartcard import scard  # noqa: PLC0415 - an extra

    _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
    code, handle, _ = scard.SCardConnect(
        context, reader, scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_ANY
    )
    assert (code, scard.SCardBeginTransaction(handle)) == (0, 0)
    try:
        yield
    finally:
        scard.SCardEndTransaction(handle, scard.SCARD_LEAVE_CARD)
        scard.SCardDisconnect(handle, scard.SCARD_LEAVE_CARD)
        scard.SCardReleaseContext(context)


def opensc(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [require_peer("opensc-tool"), "--reader", "0", *arguments],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_S,
    )
