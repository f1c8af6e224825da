# SPDX-License-Identifier: Apache-2.0
"""What a watched reader counts, and that it changes nothing else."""

import asyncio

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.protocols.racs.status import EventClass, StatusLine, Verb
from iose.transport import health as module
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    NotSentError,
    RacsRefusedError,
    TransportError,
    TransportTimeoutError,
)
from iose.transport.health import WatchedReader
from tests.support.scripted_connection import ATR, EchoElement, ScriptedReader

RESET_TLS = CommandApdu(0, 0xD8, 0, 0, le=256)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def watched() -> tuple[WatchedReader, ScriptedReader]:
    inner = ScriptedReader(EchoElement())
    reader = WatchedReader("slot 1")
    reader.inner = inner
    return reader, inner


def test_answers_go_through_and_are_counted():
    async def scenario() -> None:
        reader, _ = watched()
        connection = await reader.connect()
        assert (reader.name, connection.atr) == ("slot 1", ATR)
        assert (await connection.transmit(RESET_TLS)).status == 0x9000
        assert await connection.transmit_raw(RESET_TLS.encode()) == b"\x90\x00"
        (answer,) = await connection.transmit_batch([BatchStep(RESET_TLS)])
        assert answer.status == 0x9000
        assert await connection.reset() == ATR
        assert reader.health.apdus == connection.apdus > 0
        await connection.close()
        await connection.close()
        assert (reader.health.sessions, reader.health.failures) == (1, 0)
        assert reader.health.apdus == connection.apdus
        await (await reader.connect()).transmit_batch([BatchStep(RESET_TLS)])
        assert reader.health.apdus == connection.apdus + 1
        assert reader.health.sessions == 2

    asyncio.run(scenario())


def test_the_slowest_answer_and_the_wait_of_now_are_known(clock: Clock):
    async def scenario() -> None:
        reader, inner = watched()
        connection = await reader.connect()
        inner.gate = asyncio.Event()
        asking = asyncio.create_task(connection.transmit_batch([BatchStep(RESET_TLS)]))
        await asyncio.sleep(0)
        assert reader.health.waiting_since == 100.0
        clock.now = 103.0
        inner.gate.set()
        await asking
        assert (reader.health.waiting_since, reader.health.slowest_s) == (None, 3.0)
        await connection.transmit_batch([BatchStep(RESET_TLS)])
        assert reader.health.slowest_s == 3.0

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [TransportTimeoutError, CardRemovedError, TransportError])
def test_a_failure_is_counted_and_remembered(clock: Clock, error: type[TransportError]):
    async def scenario() -> None:
        reader, inner = watched()
        connection = await reader.connect()
        inner.faults.append(error("1", "no answer"))
        with pytest.raises(error):
            await connection.transmit_raw(b"\x00\xd8\x00\x00\x00")
        health = reader.health
        assert (health.failures, health.last_fault) == (1, "1: no answer")
        assert (health.last_fault_at, health.waiting_since) == (100.0, None)

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [CardBusyError, NoCardError, NotSentError])
def test_what_is_nobodys_fault_is_no_failure(error: type[TransportError]):
    async def scenario() -> None:
        reader, inner = watched()
        inner.faults.append(error("1", "not now"))
        with pytest.raises(error):
            await reader.connect()
        assert (reader.health.sessions, reader.health.failures) == (0, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("event_class", "verb", "failures"),
    [
        (EventClass.UNAUTHORIZED, Verb.APDU, 0),
        (EventClass.IN_USE, Verb.APDU, 0),  # a rule of a published server
        (EventClass.UNAUTHORIZED, Verb.POWERON, 1),
        (EventClass.SYSTEM, Verb.APDU, 1),
    ],
)
def test_an_apdu_that_a_rule_of_another_node_refuses_is_no_failure(event_class, verb, failures):
    async def scenario() -> None:
        reader, inner = watched()
        connection = await reader.connect()
        inner.faults.append(RacsRefusedError("1", StatusLine("-", event_class, verb, 1)))
        with pytest.raises(RacsRefusedError):
            await connection.transmit_batch([BatchStep(RESET_TLS)])
        assert reader.health.failures == failures
        assert bool(reader.health.last_fault) is bool(failures)

    asyncio.run(scenario())


def test_who_gives_up_waiting_leaves_no_wait_behind():
    async def scenario() -> None:
        reader, inner = watched()
        connection = await reader.connect()
        inner.gate = asyncio.Event()
        asking = asyncio.create_task(connection.transmit_batch([BatchStep(RESET_TLS)]))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert (reader.health.waiting_since, reader.health.failures) == (None, 0)

    asyncio.run(scenario())


def test_two_sessions_at_once_are_counted_apart(clock: Clock):
    async def scenario() -> None:
        reader, inner = watched()
        former = await reader.connect()
        await former.transmit_batch([BatchStep(RESET_TLS)])
        latter = await reader.connect()
        assert reader.health.apdus == 1
        gate = inner.gate = asyncio.Event()
        asking = asyncio.create_task(former.transmit_batch([BatchStep(RESET_TLS)]))
        await asyncio.sleep(0)
        clock.now = 103.0
        later = asyncio.create_task(latter.transmit_batch([BatchStep(RESET_TLS)]))
        await asyncio.sleep(0)
        assert reader.health.waiting_since == 100.0
        inner.gate = None
        await latter.transmit_batch([BatchStep(RESET_TLS)])
        assert reader.health.waiting_since == 100.0
        gate.set()
        await asyncio.gather(asking, later)
        assert reader.health.waiting_since is None
        for connection in (former, latter):
            await connection.close()
            assert reader.health.apdus == former.apdus + latter.apdus == 4

    asyncio.run(scenario())


def test_a_reset_by_the_power_keeps_the_count_of_commands():
    async def scenario() -> None:
        reader, inner = watched()
        reader.has_warm_reset = False
        connection = await reader.connect()
        await connection.transmit_batch([BatchStep(RESET_TLS)])
        assert await connection.reset() == ATR
        await connection.transmit_batch([BatchStep(RESET_TLS)])
        await connection.close()
        assert inner.element.power == ["on", "off", "on", "off"]
        assert connection.apdus == reader.health.apdus == 2

    asyncio.run(scenario())


def test_a_reset_by_the_power_that_fails_can_still_be_closed():
    async def scenario() -> None:
        reader, inner = watched()
        reader.has_warm_reset = False
        connection = await reader.connect()
        inner.faults.append(CardRemovedError("1", "gone"))
        with pytest.raises(CardRemovedError):
            await connection.reset()
        await connection.close()
        assert reader.health.failures == 1

    asyncio.run(scenario())


def test_a_place_without_a_reader_has_no_card():
    async def scenario() -> None:
        with pytest.raises(NoCardError, match="slot 1"):
            await WatchedReader("slot 1").connect()

    asyncio.run(scenario())
