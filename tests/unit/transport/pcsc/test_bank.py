# SPDX-License-Identifier: Apache-2.0
"""PC/SC readers and cards come and go; what is wrong is said, and no reader stops another."""

import asyncio
import sys
import threading
from collections.abc import Callable

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.transport.bank import SlotState
from iose.transport.errors import CardBusyError, TransportError, TransportTimeoutError
from iose.transport.pcsc import PcscBank, bank, card, monitor, worker
from iose.transport.pcsc.codes import Disposition, ReaderFlag, ScardCode, ShareMode
from tests.support.scripted_scard import (
    NAMED_ATR,
    PATIENCE_S,
    ScriptedReader,
    ScriptedScard,
    running,
)
from tests.support.shared import REPOSITORY

pytestmark = pytest.mark.anyio

ONE = "Maker Model (77) 00 00"
TWO = "Other Model 01 00"
SELECT = CommandApdu(0, 0xA4, 4, 0)
SHORT_S = 0.1


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(card, "BUSY_S", 0.02)
    monkeypatch.setattr(monitor, "RETRY_S", 0.01)
    monkeypatch.setattr(monitor, "WAIT_MS", 50)
    monkeypatch.setattr(worker, "IDLE_S", 0.05)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what a thread does, of which nobody is told."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def one(**given) -> ScriptedScard:
    return ScriptedScard(**{ONE: ScriptedReader(**given)})


class Stuck:
    """A card that answers when it is let."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may_answer = threading.Event()

    def __call__(self, command: bytes) -> bytes:
        self.asked.set()
        assert self.may_answer.wait(PATIENCE_S)
        return b"\x90\x00"


async def test_a_card_is_there_when_the_bank_has_started():
    async with running(one(serial=b"SN-5\0")) as watched:
        (slot,) = watched.slots
        assert (slot.name, slot.seid, slot.state) == (ONE, "pcsc-SN-5", SlotState.READY)
        assert slot.atr == NAMED_ATR
        assert slot.keys == ("SN-5", "77", "key1.com", "Maker Model (77)")
        assert slot.has_warm_reset
        connection = await slot.reader.connect()
        assert (await connection.transmit(SELECT)).status == 0x9000
        assert await connection.reset() == connection.atr == NAMED_ATR
        await connection.transmit_batch([BatchStep(SELECT), BatchStep(SELECT)])
        assert connection.apdus == 3
        await connection.close()
        await connection.close()
        with pytest.raises(TransportError):
            await connection.transmit(SELECT)
    assert watched.service.readers[ONE].holder is None


async def test_cards_and_readers_come_and_go():
    service = one(atr=b"")
    async with running(service) as watched:
        assert watched.slots[0].state is SlotState.EMPTY
        assert watched.slots[0].reader is None
        service.insert(ONE)
        ready = await watched.until_state(SlotState.READY)
        service.change(lambda: service.readers.update({TWO: ScriptedReader()}))
        await watched.until(lambda: len(watched.slots) == 2)
        assert watched.slots[0] == ready
        assert watched.slots[1].seid == "pcsc-key1.com"
        service.remove(ONE)
        empty = await watched.until_state(SlotState.EMPTY)
        assert (empty.atr, empty.seid) == (b"", "pcsc-77")
        service.change(lambda: service.readers.pop(ONE))
        await watched.until(lambda: [slot.name for slot in watched.slots] == [TWO])


async def test_a_reader_is_asked_for_its_serial_number_once_whatever_cards_it_has():
    service = one(serial=b"SN-5")
    async with running(service) as watched:
        reader, asked = watched.slots[0].reader, len(service.calls)
        service.remove(ONE)
        await watched.until_state(SlotState.EMPTY)
        service.insert(ONE)
        ready = await watched.until_state(SlotState.READY)
        assert (ready.reader is reader, len(service.calls)) == (True, asked)


async def test_only_readers_whose_name_matches_are_used():
    service = ScriptedScard(**{ONE: ScriptedReader(), TWO: ScriptedReader()})
    async with running(service, readers=("Other*",)) as watched:
        assert [slot.name for slot in watched.slots] == [TWO]
    async with running(service, readers=("nothing", "Mak*")) as watched:
        assert [slot.name for slot in watched.slots] == [ONE]


async def test_no_reader_at_all_is_said():
    service = ScriptedScard()
    async with running(service) as watched:
        (slot,) = watched.slots
        assert (slot.name, slot.state, slot.reader) == ("cards", SlotState.ABSENT, None)
        assert slot.fault
        assert slot.hint
        service.change(lambda: service.readers.update({ONE: ScriptedReader()}))
        await watched.until_state(SlotState.READY)


async def test_a_service_that_is_not_there_is_said_and_found_later():
    service = one()
    service.is_down = True
    async with running(service) as watched:
        (slot,) = watched.slots
        assert (slot.state, slot.reader) == (SlotState.ABSENT, None)
        assert "pcscd" in slot.hint
        service.change(lambda: setattr(service, "is_down", False))
        await watched.until_state(SlotState.READY)
        service.change(lambda: setattr(service, "is_down", True))
        await watched.until_state(SlotState.ABSENT)
        service.change(lambda: setattr(service, "is_down", False))
        ready = await watched.until_state(SlotState.READY)
        await (await ready.reader.connect()).close()


async def test_a_service_that_does_not_answer_at_all_does_not_keep_the_bank_from_starting(
    monkeypatch,
):
    monkeypatch.setattr(bank, "FIRST_LOOK_S", 0.05)
    service = one()
    may_answer = threading.Event()
    service.SCardListReaders = lambda *_: (may_answer.wait(PATIENCE_S), (0, []))[1]
    async with running(service) as watched:
        assert watched.slots[0].state is SlotState.ABSENT
    may_answer.set()


async def test_without_pyscard_the_bank_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(bank, "load_scard", lambda: None)
    found = PcscBank("cards", apdu_s=1)
    await found.start(lambda: None)
    (slot,) = found.slots
    assert slot.state is SlotState.FAULT
    assert "iose[pcsc]" in slot.hint
    await found.refresh()
    await found.stop()


async def test_a_card_of_another_program_is_busy_until_it_lets_go():
    service = one()
    async with running(service) as watched:
        service.change(lambda: setattr(service.readers[ONE], "holder", 1))
        slot = await watched.until_state(SlotState.BUSY)
        assert slot.hint
        with pytest.raises(CardBusyError):
            await slot.reader.connect()
        service.change(lambda: setattr(service.readers[ONE], "holder", None))
        ready = await watched.until_state(SlotState.READY)
        assert ready.reader is slot.reader


async def test_a_card_that_was_busy_from_the_start_has_no_name_before_it_is_free():
    service = one(holder=1, serial=b"SN-5")
    async with running(service) as watched:
        slot = watched.slots[0]
        assert (slot.state, slot.reader) == (SlotState.BUSY, None)
        service.change(lambda: setattr(service.readers[ONE], "holder", None))
        ready = await watched.until_state(SlotState.READY)
        assert ready.seid == "pcsc-SN-5"


async def test_a_reader_that_others_keep_is_asked_again_at_the_next_look():
    service = one(serial=b"SN-5")
    service.failures["connect"] = [ScardCode.SHARING_VIOLATION] * 2
    async with running(service) as watched:
        ready = await watched.until_state(SlotState.READY)
        assert ready.seid == "pcsc-SN-5"


async def test_our_own_session_does_not_make_a_card_busy():
    service = one()
    async with running(service) as watched:
        seen = []
        connection = await watched.slots[0].reader.connect()
        await watched.bank.refresh()
        seen.append(watched.slots[0].state)
        with pytest.raises(TransportError, match="another connection"):
            await watched.slots[0].reader.connect()
        await connection.close()
        await watched.bank.refresh()
        seen.append(watched.slots[0].state)
        assert seen == [SlotState.READY] * 2


async def test_the_atr_is_kept_while_the_card_has_no_power():
    service = one()
    async with running(service) as watched:
        watched.bank._take(  # as some drivers tell it
            monitor.Look(0, (monitor.ReaderLook(ONE, int(ReaderFlag.PRESENT)),))
        )
        assert watched.slots[0].atr == NAMED_ATR


@pytest.mark.parametrize(
    ("flags", "state"),
    [(ReaderFlag.MUTE, SlotState.FAULT), (ReaderFlag.UNAVAILABLE, SlotState.ABSENT)],
    ids=["mute", "unavailable"],
)
async def test_a_card_or_reader_in_trouble_is_said_with_what_to_do(flags, state):
    async with running(one(flags=flags)) as watched:
        (slot,) = watched.slots
        assert (slot.state, slot.reader) == (state, None)
        assert slot.fault
        assert slot.hint


async def test_a_card_that_does_not_answer_is_a_fault_until_it_does():
    service, stuck = one(), Stuck()
    service.readers[ONE].answer = stuck
    async with running(service, apdu_s=SHORT_S) as watched:
        reader = watched.slots[0].reader
        connection = await reader.connect()
        with pytest.raises(TransportTimeoutError) as caught:
            await connection.transmit(SELECT)
        assert caught.value.hint
        slot = watched.slots[0]
        assert (slot.state, slot.reader) == (SlotState.FAULT, None)
        assert "no answer since 20" in slot.fault
        await connection.close()
        with pytest.raises(TransportTimeoutError):
            await reader.connect()
        stuck.may_answer.set()
        ready = await watched.until_state(SlotState.READY)
        again = await ready.reader.connect()
        assert (await again.transmit(SELECT)).status == 0x9000
        await again.close()
    disconnected = ("disconnect", ONE, Disposition.UNPOWER)
    assert service.calls.count(disconnected) == 2
    assert reader is ready.reader


STUCK_PROGRAM = """
import asyncio, threading
from iose.transport.errors import TransportTimeoutError
from iose.transport.pcsc import PcscBank
from iose.transport.pcsc.scard import Scard
from tests.support.shared import REPOSITORY
from tests.support.scripted_scard import ScriptedReader, ScriptedScard

async def main():
    stuck = ScriptedReader(answer=lambda command: threading.Event().wait())
    bank = PcscBank("cards", apdu_s=0.1, scard=Scard(ScriptedScard(Maker=stuck)))
    await bank.start(lambda: None)
    connection = await bank.slots[0].reader.connect()
    try:
        await connection.transmit_raw(bytes(4))
    except TransportTimeoutError:
        print("in time")

asyncio.run(main())
"""


async def test_a_card_that_does_not_answer_keeps_no_process_from_ending():
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STUCK_PROGRAM), cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await program.communicate()
    assert (output, program.returncode) == (b"in time\n", 0)


async def test_a_card_that_does_not_answer_delays_no_other():
    service = ScriptedScard(**{ONE: ScriptedReader(), TWO: ScriptedReader()})
    stuck = service.readers[ONE].answer = Stuck()
    async with running(service) as watched:
        first, second = [await slot.reader.connect() for slot in watched.slots]
        waiting = asyncio.create_task(first.transmit(SELECT))
        for _ in range(20):
            assert (await second.transmit(SELECT)).status == 0x9000
        assert not waiting.done()
        stuck.may_answer.set()
        assert (await waiting).status == 0x9000
        await first.close()
        await second.close()


async def test_a_stuck_card_is_forgotten_when_another_one_is_put_in():
    service, stuck = one(), Stuck()
    service.readers[ONE].answer = stuck
    async with running(service, apdu_s=SHORT_S) as watched:
        reader = watched.slots[0].reader
        connection = await reader.connect()
        with pytest.raises(TransportTimeoutError):
            await connection.transmit(SELECT)
        service.remove(ONE)
        await watched.until_state(SlotState.EMPTY)
        service.readers[ONE].holder = None
        service.readers[ONE].answer = lambda _: b"\x90\x00"
        service.insert(ONE)
        ready = await watched.until_state(SlotState.READY)
        assert ready.reader is not reader
        again = await ready.reader.connect()
        assert (await again.transmit(SELECT)).status == 0x9000
        await again.close()
        stuck.may_answer.set()
        await connection.close()


async def test_a_deadline_is_for_each_command_of_a_batch():
    service = one()
    pause = threading.Event()
    service.readers[ONE].answer = lambda _: (pause.wait(0.4), b"\x90\x00")[1]
    async with running(service, apdu_s=1.0) as watched:
        connection = await watched.slots[0].reader.connect()
        assert len(await connection.transmit_batch([BatchStep(SELECT)] * 4)) == 4
        await connection.close()


async def test_who_gives_up_while_a_card_is_taken_leaves_it_free():
    service = one()
    asked, go_on = threading.Event(), threading.Event()
    original = service.SCardReconnect

    def slow(*given):
        asked.set()
        assert go_on.wait(PATIENCE_S)
        return original(*given)

    service.SCardReconnect = slow
    async with running(service) as watched:
        reader = watched.slots[0].reader
        connecting = asyncio.create_task(reader.connect())
        await asyncio.to_thread(asked.wait, PATIENCE_S)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        go_on.set()
        await (await reader.connect()).close()
        assert service.readers[ONE].holder is None


async def test_who_does_not_wait_for_the_end_of_a_session_does_not_keep_the_next_one_out():
    async with running(one()) as watched:
        reader = watched.slots[0].reader
        connection = await reader.connect()
        closing = asyncio.create_task(connection.close())
        await asyncio.sleep(0)
        closing.cancel()
        await (await reader.connect()).close()


async def test_a_reader_that_does_not_tell_its_serial_number_in_time_is_a_fault_until_it_does():
    service = one(serial=b"SN-5")
    may_answer = threading.Event()
    original = service.SCardGetAttrib
    service.SCardGetAttrib = lambda *given: (may_answer.wait(PATIENCE_S), original(*given))[1]
    async with running(service, apdu_s=SHORT_S) as watched:
        assert watched.slots[0].state is SlotState.FAULT
        may_answer.set()
        ready = await watched.until_state(SlotState.READY)
        assert ready.seid == "pcsc-SN-5"


async def test_the_serial_number_is_asked_of_the_reader_alone():
    service = one()
    async with running(service):
        assert service.calls == [
            ("connect", ONE, ShareMode.DIRECT, 0),
            ("disconnect", ONE, Disposition.LEAVE),
        ]


async def test_threads_of_readers_end_when_nobody_uses_them():
    service = one()
    async with running(service) as watched:
        reader = watched.slots[0].reader
        await (await reader.connect()).close()
        await until(lambda: not reader._thread._is_running)
        await (await watched.slots[0].reader.connect()).close()


async def test_a_stopped_bank_tells_of_nothing():
    service = one()
    async with running(service) as watched:
        pass
    before = watched.slots
    service.remove(ONE)
    await until(lambda: not service.contexts)
    assert watched.slots == before
