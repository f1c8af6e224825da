# SPDX-License-Identifier: Apache-2.0
"""What one client, or many, can take from a front: time, places, memory, lines of the log."""

import asyncio
import socket
from dataclasses import replace

import pytest

from iose.bridge.stream import BUFFER_LIMIT, EndReason
from iose.servers import tls_front
from iose.servers.front_session import LINGER_S
from iose.servers.tls_front import KEEPALIVE_PROBES, KEEPALIVE_S
from tests.support.front import ALERT_BUSY, ALERT_DECODE, FrontRig
from tests.support.scripted_connection import record

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
        config = replace(config, source_connections=1)
        rig.front.configure(config)
        assert await (await rig.connect()).rest() == ALERT_BUSY


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


async def test_the_system_looks_for_clients_that_vanished():
    async with FrontRig() as rig:
        client = await rig.connect()
        await client.open()
        connection = only_session(rig)._transport.get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_S
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == KEEPALIVE_PROBES
