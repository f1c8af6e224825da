# SPDX-License-Identifier: Apache-2.0
"""What one client, or many, can take from a front: time, places, memory, lines of the log."""

import asyncio

import pytest

from iose.bridge.stream import EndReason
from tests.support.front import FrontRig

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
        assert rig.front._sources._sources == {}
