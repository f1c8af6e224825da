# SPDX-License-Identifier: Apache-2.0
"""Cards that nobody waits for any more, banks that are stopped, and names pyscard cannot use."""

import asyncio
import threading

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.transport.bank import SlotState
from iose.transport.errors import CardBusyError, TransportTimeoutError
from iose.transport.pcsc import card, monitor
from iose.transport.pcsc.codes import Disposition, ScardCode, ShareMode
from tests.support.scripted_scard import PATIENCE_S, ScriptedReader, ScriptedScard, running

pytestmark = pytest.mark.anyio

ONE = "Maker Model (77) 00 00"
STRANGE = "Lecteur de l'été 01 00"
SELECT = CommandApdu(0, 0xA4, 4, 0)
SHORT_S = 0.1
THREE = [BatchStep(SELECT)] * 3
OFF = ("disconnect", ONE, Disposition.UNPOWER)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(monitor, "RETRY_S", 0.01)
    monkeypatch.setattr(monitor, "WAIT_MS", 50)


class Held:
    """A call that returns when it is let."""

    def __init__(self, call) -> None:
        self.asked = threading.Event()
        self.may_return = threading.Event()
        self._call = call

    def __call__(self, *given):
        self.asked.set()
        assert self.may_return.wait(PATIENCE_S)
        return self._call(*given)


async def test_what_is_left_of_a_batch_is_not_sent_when_its_first_answer_came_too_late():
    service = ScriptedScard(**{ONE: ScriptedReader()})
    late = service.readers[ONE].answer = Held(lambda _: b"\x90\x00")
    async with running(service, apdu_s=SHORT_S) as watched:
        connection = await watched.slots[0].reader.connect()
        with pytest.raises(TransportTimeoutError):
            await connection.transmit_batch(THREE)
        late.may_return.set()
        await watched.until_state(SlotState.READY)
        await connection.close()
    assert len(service.readers[ONE].commands) == 1
    assert service.calls.count(OFF) == 1


async def test_what_is_left_of_a_batch_is_not_sent_when_its_sender_has_given_up():
    service = ScriptedScard(**{ONE: ScriptedReader()})
    late = service.readers[ONE].answer = Held(lambda _: b"\x90\x00")
    async with running(service) as watched:
        connection = await watched.slots[0].reader.connect()
        sending = asyncio.create_task(connection.transmit_batch(THREE))
        await asyncio.to_thread(late.asked.wait, PATIENCE_S)
        sending.cancel()
        closing = asyncio.create_task(connection.close())
        await asyncio.sleep(0)
        late.may_return.set()
        await closing
        assert service.readers[ONE].holder is None
    assert len(service.readers[ONE].commands) == 1
    assert service.calls.count(OFF) == 1


async def test_a_card_that_nobody_waits_for_any_more_is_not_even_started():
    service = ScriptedScard(**{ONE: ScriptedReader()})
    async with running(service) as watched:
        reader = watched.slots[0].reader
        service.calls.clear()
        late = service.SCardEstablishContext = Held(service.SCardEstablishContext)
        connecting = asyncio.create_task(reader.connect())
        await asyncio.to_thread(late.asked.wait, PATIENCE_S)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        late.may_return.set()
        await reader.run(lambda: None, PATIENCE_S)
        assert service.calls == []
        await (await reader.connect()).close()


async def test_who_gives_up_on_a_busy_card_does_not_get_it_later(monkeypatch):
    monkeypatch.setattr(card, "BUSY_S", PATIENCE_S)
    service = ScriptedScard(**{ONE: ScriptedReader()})
    async with running(service) as watched:
        reader = watched.slots[0].reader
        service.failures["connect"] = [ScardCode.SHARING_VIOLATION] * 1000
        connecting = asyncio.create_task(reader.connect())
        async with asyncio.timeout(PATIENCE_S):
            while ("connect", ONE, ShareMode.EXCLUSIVE, 3) not in service.calls:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await reader.run(lambda: None, PATIENCE_S)
        assert service.failures["connect"]  # it has not gone on asking
        service.failures.clear()
        await (await reader.connect()).close()


async def test_a_bank_that_is_stopped_asks_no_reader_when_a_stuck_one_comes_back():
    service = ScriptedScard(**{ONE: ScriptedReader(serial=b"SN-5")})
    late = service.SCardGetAttrib = Held(service.SCardGetAttrib)
    async with running(service, apdu_s=SHORT_S) as watched:
        entry = watched.bank._entries[ONE]
        assert watched.slots[0].state is SlotState.FAULT
    asked = len(service.calls)
    late.may_return.set()
    async with asyncio.timeout(PATIENCE_S):
        while entry.reader.stuck_since:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not watched.bank._asking
    assert service.calls[asked:] == [("disconnect", ONE, Disposition.LEAVE)]


async def test_a_reader_whose_name_pyscard_cannot_use_is_a_fault_and_stops_no_other():
    service = ScriptedScard(**{ONE: ScriptedReader()})
    async with running(service) as watched:
        service.change(lambda: service.readers.update({STRANGE: ScriptedReader()}))
        await watched.until(lambda: len(watched.slots) == 2)
        strange = next(slot for slot in watched.slots if slot.name == STRANGE)
        assert (strange.state, strange.reader) == (SlotState.FAULT, None)
        assert "ASCII" in strange.fault
        assert strange.hint
        service.remove(ONE)
        await watched.until(lambda: SlotState.EMPTY in {slot.state for slot in watched.slots})
        service.change(lambda: service.readers.pop(STRANGE))
        await watched.until(lambda: [slot.name for slot in watched.slots] == [ONE])


async def test_names_that_are_no_text_at_all_are_looked_at_again_until_they_are_gone():
    service = ScriptedScard(**{ONE: ScriptedReader()})
    listed = service.SCardListReaders
    async with running(service) as watched:
        service.SCardListReaders = lambda *_: b"\xff".decode("utf-8")
        slot = await watched.until_state(SlotState.FAULT)
        assert "names" in slot.fault
        assert "unplug" in slot.hint
        service.SCardListReaders = listed
        await watched.until_state(SlotState.READY)


async def test_a_card_in_a_transaction_of_another_program_is_busy_and_no_fault(monkeypatch):
    monkeypatch.setattr(card, "BUSY_S", 0.02)
    service = ScriptedScard(**{ONE: ScriptedReader()})
    async with running(service, apdu_s=SHORT_S) as watched:
        reader = watched.slots[0].reader
        transaction = threading.Event()
        service.change(lambda: setattr(service.readers[ONE], "transaction", transaction))
        with pytest.raises(CardBusyError):
            await reader.connect()
        assert watched.slots[0].state is SlotState.READY
        transaction.set()
        service.change(lambda: setattr(service.readers[ONE], "transaction", None))
        await (await reader.connect()).close()


async def test_a_reader_in_a_transaction_from_the_start_is_asked_for_its_serial_number_later():
    transaction = threading.Event()
    service = ScriptedScard(**{ONE: ScriptedReader(serial=b"SN-5", transaction=transaction)})
    async with running(service, apdu_s=SHORT_S) as watched:
        assert watched.slots[0].state is SlotState.BUSY
        transaction.set()
        service.change(lambda: setattr(service.readers[ONE], "transaction", None))
        ready = await watched.until_state(SlotState.READY)
        assert ready.seid == "pcsc-SN-5"
