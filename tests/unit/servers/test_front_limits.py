# SPDX-License-Identifier: Apache-2.0
"""What one client, or many, can take from a front: time, places, memory, lines of the log."""

import asyncio
from dataclasses import replace

import pytest

from iose.bridge.stream import EndReason
from tests.support.front import ALERT_BUSY, FrontRig

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
