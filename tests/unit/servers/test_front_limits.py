# SPDX-License-Identifier: Apache-2.0
"""What one client, or many, can take from a front: time, places, memory, lines of the log."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from iose.bridge.stream import BUFFER_LIMIT, EndReason
from iose.servers import front_session, tls_front
from iose.servers.front_session import LINGER_INPUT_LIMIT, LINGER_S, SessionState
from tests.support.client_hello import hello_record
from tests.support.front import ALERT_BUSY, ALERT_DECODE, FINISHED, FrontRig
from tests.support.scripted_connection import SERVER_HELLO, record

pytestmark = pytest.mark.anyio


def only_session(rig):
    (session,) = rig.front._sessions.values()
    return session


async def test_a_deadline_can_move_in_the_instant_before_it():
    async with FrontRig() as rig:
        client = await rig.connect()
        await rig.until(lambda: rig.front._sessions)
        session = only_session(rig)
        now = asyncio.get_running_loop().time()
        session._timer.cancel()
        session._deadline = session._timer_at = now + 0.0004
        session._arm_timer()  # uvloop takes so short a time for none
        session._set_deadline(EndReason.FIRST_RECORD_TIMEOUT, 10.0)
        session._set_deadline(EndReason.FIRST_RECORD_TIMEOUT, 5.0)
        await client.open()


async def test_a_client_gone_before_it_was_accepted_counts_for_nobody(monkeypatch):
    async with FrontRig() as rig:
        admit = rig.front.admit
        monkeypatch.setattr(rig.front, "admit", lambda session, _: admit(session, None))
        await rig.connect()
        assert await rig.ended() == ["client_gone"]
        assert (rig.front._sources._active, list(rig.front._sources._idle)) == ({}, [])


async def test_new_settings_hold_for_the_next_client():
    async with FrontRig(source_connections=1, first_record_s=5.0) as rig:
        first = await rig.connect()
        await rig.until(lambda: rig.front._sessions)
        config = replace(rig.front.config, source_connections=2, first_record_s=0.05)
        rig.front.configure(config)
        second, third = await rig.connect(), await rig.connect()
        assert await third.rest() == ALERT_BUSY
        assert await second.rest() == b""
        assert await rig.ended(2) == ["source_limit", "first_record_timeout"]
        await first.open()
        config = replace(config, source_connections=1, source_rate=3.0, source_burst=4)
        rig.front.configure(config)
        assert await (await rig.connect()).rest() == ALERT_BUSY
        limits = rig.front._sources
        assert (limits.connections, limits.rate, limits.burst) == (1, 3.0, 4)


async def test_a_flood_of_connections_leaves_the_places_to_those_who_speak():
    async with FrontRig(session_limit=20) as rig:
        for _ in range(100):
            await rig.connect()
            assert len(rig.front._connections) <= 20
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"
        assert set(await rig.ended(80)) == {"session_limit"}
        assert rig.front._sources._active["127.0.0.1"].connections <= 20


async def test_a_lingering_client_makes_room_too():
    async with FrontRig(session_limit=1) as rig:
        lingering = await rig.connect()
        await lingering.send(b"GET /")
        assert await lingering.rest() == ALERT_DECODE
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"


async def test_a_flood_is_logged_in_part_and_counted_in_full(monkeypatch):
    monkeypatch.setattr(tls_front, "UNSERVED_LINES", 5)
    monkeypatch.setattr(tls_front, "UNSERVED_LINES_RATE", 0.001)
    monkeypatch.setattr(tls_front, "FLOOD_REPORT_S", 0.05)
    async with FrontRig() as rig:
        served = await rig.connect()
        await served.open()
        for _ in range(30):
            client = await rig.connect()
            await client.send(b"GET /")
            assert await client.rest() == ALERT_DECODE
        await served.send(record(b"?02"))
        assert await served.rest() == record(b"?02")
        await rig.until(lambda: not rig.front._sessions)
        assert (await rig.ended(6))[5] == "element_closed"
        await rig.until(lambda: rig.logged("front.flooded") and not rig.front.counters.unlogged)
        lines = rig.logged("session.ended") + rig.logged("front.flooded")
        assert sum(line.get("unlogged", 1) for line in lines) == 31
        assert rig.front.counters.ended["malformed_hello"] == 30


async def test_what_the_log_does_not_hold_is_told_when_the_front_stops(monkeypatch):
    monkeypatch.setattr(tls_front, "UNSERVED_LINES", 0)
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.send(b"GET /")
        assert await client.rest() == ALERT_DECODE
        await rig.front.stop()
        assert [line["unlogged"] for line in rig.logged("front.flooded")] == [1]


async def test_a_client_that_ended_is_read_to_its_close():
    async with FrontRig() as rig:
        client = await rig.connect()
        await rig.until(lambda: rig.front._sessions)
        session = only_session(rig)
        session.data_received(b"G" * (BUFFER_LIMIT + 1))
        assert await client.rest() == ALERT_DECODE
        assert session._transport.is_reading()
        client.close()
        started = asyncio.get_running_loop().time()
        await rig.until(lambda: not rig.front._connections)
        assert asyncio.get_running_loop().time() - started < LINGER_S / 2


def with_limits(monkeypatch, **limits):
    for name, value in limits.items():
        monkeypatch.setattr(front_session, name, value)


async def test_a_silent_handshake_loses_the_element_to_those_who_wait(monkeypatch):
    with_limits(monkeypatch, HALF_OPEN_S=0.05, HALF_OPEN_STEP_S=0.02)
    async with FrontRig() as rig:
        silent = await rig.connect()
        await silent.send(hello_record(b"key1.com"))
        assert await silent.receive(len(SERVER_HELLO)) == SERVER_HELLO
        await asyncio.sleep(0.1)  # nobody waits: it may take its time
        assert only_session(rig).state is SessionState.HANDSHAKE
        other = await rig.connect()
        await other.open()
        assert await other.call(b"x") == b"x"
        assert await rig.ended() == ["handshake_timeout"]


async def test_a_handshake_is_not_silent_while_the_element_works(monkeypatch):
    with_limits(monkeypatch, HALF_OPEN_S=0.05, HALF_OPEN_STEP_S=0.02)
    async with FrontRig(queue_wait_s=5.0) as rig:
        rig.readers[0].gate = gate = asyncio.Event()
        first, second = await rig.connect(), await rig.connect()
        await first.send(hello_record(b"key1.com") + FINISHED)
        await rig.until(lambda: rig.front.holders.lock("1").holder)
        await second.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.front.holders.lock("1").waiting)
        await asyncio.sleep(0.1)
        gate.set()
        assert await first.receive(len(SERVER_HELLO)) == SERVER_HELLO
        assert await first.call(b"x") == b"x"


async def test_each_flight_of_a_handshake_gets_its_own_time(monkeypatch):
    with_limits(monkeypatch, HALF_OPEN_S=0.5, HALF_OPEN_STEP_S=0.1)
    async with FrontRig() as rig:
        first, second = await rig.connect(), await rig.connect()
        await first.send(hello_record(b"key1.com"))
        await first.receive(len(SERVER_HELLO))
        await second.send(hello_record(b"key1.com"))
        for _ in range(4):
            await asyncio.sleep(0.2)
            await first.send(record(b"\x01", 0x14))
        await first.send(FINISHED)
        assert await first.call(b"x") == b"x"


async def test_an_idle_session_does_not_hold_up_a_front_that_stops(monkeypatch):
    with_limits(monkeypatch, DRAIN_IDLE_S=0.05)
    async with FrontRig(drain_s=5.0) as rig:
        idle = await rig.connect()
        await idle.open()
        assert await idle.call(b"x") == b"x"
        await asyncio.wait_for(rig.front.stop(), 2.0)
        assert await idle.rest() == b""
        assert await rig.ended() == ["shutdown"]


async def test_a_session_that_speaks_or_waits_for_its_element_is_drained(monkeypatch):
    with_limits(monkeypatch, DRAIN_IDLE_S=0.5)
    async with FrontRig(drain_s=5.0) as rig:
        client = await rig.connect()
        await client.open()
        assert await client.call(b"x") == b"x"
        stopping = asyncio.ensure_future(rig.front.stop())
        for _ in range(4):
            await asyncio.sleep(0.2)
            assert await client.call(b"on my way") == b"on my way"
        rig.readers[0].gate = gate = asyncio.Event()
        await client.send(record(b"slow"))
        await asyncio.sleep(0.7)
        gate.set()
        assert await client.receive(9) == record(b"slow")
        await asyncio.wait_for(stopping, 2.0)
        assert await client.rest() == b""


async def test_an_element_that_answered_is_well_however_the_session_ends():
    async with FrontRig(idle_s=0.05) as rig:
        health = rig.front.health(rig.routes[0])
        for failures in (2, 1):
            health.failures = failures
            client = await rig.connect()
            await client.open()
            assert await client.call(b"x") == b"x"
            if failures == 1:
                client.reset()
            await rig.until(lambda: not rig.front._sessions)
            assert health.failures == 0
        assert health.sessions == 2


async def test_an_element_that_never_answered_is_not_taken_for_well():
    async with FrontRig() as rig:
        health = rig.front.health(rig.routes[0])
        health.failures = 2
        rig.readers[0].gate = asyncio.Event()
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.front.holders.lock("1").holder)
        client.reset()
        await rig.until(lambda: not rig.front._sessions)
        assert (health.failures, health.sessions) == (2, 0)


async def seconds_until_gone(rig, session):
    started = asyncio.get_running_loop().time()
    await rig.until(lambda: session not in rig.front._connections)
    return asyncio.get_running_loop().time() - started


async def test_a_client_held_back_is_heard_again_when_it_has_ended():
    async with FrontRig(queue_wait_s=0.3) as rig:
        first, second = await rig.connect(), await rig.connect()
        await first.open()
        await second.send(hello_record(b"key1.com") + record(bytes(200)) * 500)
        await rig.until(lambda: any(one._is_read_paused for one in rig.front._connections))
        (session,) = [one for one in rig.front._connections if one._is_read_paused]
        assert await second.receive(7) == ALERT_BUSY
        second.close()
        assert await seconds_until_gone(rig, session) < LINGER_S / 2


async def test_a_client_that_goes_on_sending_after_its_end_is_cut_off():
    async with FrontRig() as rig:
        client = await rig.connect()
        await rig.until(lambda: rig.front._sessions)
        session = only_session(rig)
        await client.send(b"GET /")
        assert await client.rest() == ALERT_DECODE
        with contextlib.suppress(ConnectionError):
            await client.send(bytes(2 * LINGER_INPUT_LIMIT))
        assert await seconds_until_gone(rig, session) < LINGER_S / 2


async def test_a_client_that_does_not_close_is_closed(monkeypatch):
    with_limits(monkeypatch, LINGER_S=0.05)
    async with FrontRig() as rig:
        client = await rig.connect()
        await rig.until(lambda: rig.front._sessions)
        session = only_session(rig)
        await client.send(b"GET /")
        assert await client.rest() == ALERT_DECODE
        assert await seconds_until_gone(rig, session) < LINGER_S / 2


async def test_a_client_accepted_while_the_front_stops_is_sent_away():
    async with FrontRig() as rig:
        rig.front.is_draining = True
        assert await (await rig.connect()).rest() == ALERT_BUSY
        assert await rig.ended() == ["shutdown"]


async def test_each_newcomer_takes_another_ones_place():
    async with FrontRig() as rig:
        for _ in range(3):
            await rig.connect()
        await rig.until(lambda: len(rig.front._connections) == 3)
        newcomer = [*rig.front._connections][-1]
        assert [rig.front._make_room(newcomer) for _ in range(3)] == [True, True, False]
        assert [*rig.front._connections] == [newcomer]


async def test_no_connection_outlives_a_front_that_has_stopped():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.send(b"GET /")
        assert await client.rest() == ALERT_DECODE
        (session,) = rig.front._connections
        await rig.front.stop()
        assert await seconds_until_gone(rig, session) < LINGER_S / 2


async def test_a_reload_does_not_make_a_failing_element_well():
    async with FrontRig() as rig:
        for _ in range(3):
            rig.front.note_failure(rig.routes[0], "a test")
        rig.front.reload(rig.routes)
        assert rig.front.snapshot().elements[0].is_degraded
        rig.front.reload([])
        rig.front.reload(rig.routes)
        assert not rig.front.snapshot().elements[0].is_degraded


async def test_a_client_too_many_is_closed_without_waiting_for_it():
    async with FrontRig(source_connections=1) as rig:
        await rig.connect()
        await rig.until(lambda: rig.front._sessions)
        refused = await rig.connect()
        assert await refused.receive(7) == ALERT_BUSY
        started = asyncio.get_running_loop().time()
        await rig.until(lambda: len(rig.front._connections) == 1)
        assert asyncio.get_running_loop().time() - started < LINGER_S / 2
