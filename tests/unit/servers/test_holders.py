# SPDX-License-Identifier: Apache-2.0
"""One holder per element, and a queue that is fair, bounded and visible."""

import asyncio

import pytest

from iose.servers import holders as module
from iose.servers.holders import Claim, ElementHolders, QueueFullError
from iose.wire.errors import LocalProtocolError

pytestmark = pytest.mark.anyio


def claim(session, source="a", plane="tls"):
    return Claim(plane, session, source, 0.0)


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def queue(lock, *claims):
    """Let each claim wait, in order; return the order in which they got the element."""
    order = []

    async def hold(one):
        await lock.acquire(one)
        order.append(one.session)

    tasks = []
    for one in claims:
        tasks.append(asyncio.ensure_future(hold(one)))
        await settle()
    return order, tasks


async def test_takes_a_free_element_at_once():
    lock = ElementHolders().lock("1")
    await lock.acquire(claim(1))
    assert lock.holder == claim(1)
    assert not lock.try_acquire(claim(2), 0.0)


async def test_gives_sources_turns_and_each_its_own_order():
    lock = ElementHolders().lock("1")
    first = claim(0)
    await lock.acquire(first)
    waiting = [claim(1), claim(2), claim(3), claim(4, "b"), claim(5, "c"), claim(6, "b")]
    order, _ = await queue(lock, *waiting)
    assert [one.session for one in lock.waiters()] == [1, 2, 3, 4, 6, 5]
    holder = first
    for _ in waiting:
        lock.release(holder, 0.0)
        await settle()
        holder = lock.holder
    assert order == [1, 4, 5, 2, 6, 3]
    lock.release(holder, 0.0)
    assert (lock.holder, lock.waiting) == (None, 0)


async def test_both_planes_wait_in_one_queue():
    lock = ElementHolders().lock("1")
    held = claim(1, plane="racs")
    await lock.acquire(held)
    order, _ = await queue(lock, claim(1), claim(2, "user", "racs"))
    lock.release(held, 0.0)
    await settle()
    assert order == [1]
    assert lock.holder.plane == "tls"


async def test_bounds_the_queue_and_each_sources_part_of_it():
    lock = ElementHolders(queue_limit=3, queue_limit_per_source=2).lock("1")
    await lock.acquire(claim(0))
    _, tasks = await queue(lock, claim(1), claim(2))
    with pytest.raises(QueueFullError):
        await lock.acquire(claim(3))
    await queue(lock, claim(4, "b"), claim(5, "c"))
    with pytest.raises(QueueFullError):
        await tasks[1]
    assert [one.session for one in lock.waiters()] == [1, 4, 5]
    with pytest.raises(QueueFullError):
        await lock.acquire(claim(6, "d"))
    assert lock.waiting == 3


async def test_a_source_with_many_places_gives_one_to_a_source_with_few():
    lock = ElementHolders(queue_limit=4, queue_limit_per_source=4).lock("1")
    held = claim(0)
    await lock.acquire(held)
    _, tasks = await queue(lock, claim(1), claim(2), claim(3), claim(4))
    order, _ = await queue(lock, claim(5, "b"), claim(6, "b"))
    assert [task.done() for task in tasks] == [False, False, True, True]
    for task in tasks[2:]:
        with pytest.raises(QueueFullError):
            await task
    for source in ("a", "b"):
        with pytest.raises(QueueFullError):
            await lock.acquire(claim(7, source))
    assert [one.session for one in lock.waiters()] == [1, 2, 5, 6]
    await queue(lock, claim(8, "c"))
    assert [one.session for one in lock.waiters()] == [1, 5, 6, 8]
    lock.release(held, 0.0)
    await settle()
    lock.release(lock.holder, 0.0)
    await settle()
    assert order == [5]


async def test_a_waiter_that_gave_up_as_its_place_was_given_away_leaves_nothing():
    lock = ElementHolders(queue_limit=2).lock("1")
    held = claim(0)
    await lock.acquire(held)
    _, tasks = await queue(lock, claim(1), claim(2))
    other = asyncio.ensure_future(lock.acquire(claim(3, "b")))
    await asyncio.sleep(0)
    tasks[1].cancel()
    await settle()
    assert tasks[1].cancelled()
    assert [one.session for one in lock.waiters()] == [1, 3]
    lock.release(held, 0.0)
    lock.release(lock.holder, 0.0)
    await other
    assert (lock.holder.session, lock.waiting) == (3, 0)


async def test_forgets_a_waiter_that_gave_up():
    lock = ElementHolders().lock("1")
    held = claim(0)
    await lock.acquire(held)
    order, tasks = await queue(lock, claim(1), claim(2))
    tasks[0].cancel()
    await settle()
    assert lock.waiting == 1
    lock.release(held, 0.0)
    await settle()
    assert order == [2]


async def test_passes_on_the_turn_of_a_waiter_that_gave_up_just_then():
    lock = ElementHolders().lock("1")
    held = claim(0)
    await lock.acquire(held)
    order, tasks = await queue(lock, claim(1), claim(2))
    lock.release(held, 0.0)
    tasks[0].cancel()
    await settle()
    assert order == [2]
    assert lock.holder.session == 2


async def test_refuses_a_release_by_another():
    holders = ElementHolders()
    await holders.lock("1").acquire(claim(1))
    with pytest.raises(LocalProtocolError):
        holders.lock("1").release(claim(1), 0.0)
    assert list(holders.locks) == ["1"]


async def test_who_waits_for_the_end_of_a_claim_sees_it_whoever_comes_next():
    lock = ElementHolders().lock("1")
    first, second = claim(1), claim(2)
    await lock.acquire(first)
    order, _ = await queue(lock, second)
    seen = [asyncio.ensure_future(lock.released(first)) for _ in range(2)]
    await settle()
    assert not any(one.done() for one in seen)
    seen.pop().cancel()
    await settle()
    lock.release(first, 0.0)
    await asyncio.gather(*seen)
    await settle()
    assert order == [2]
    await lock.released(first)
    assert lock.holder is second


async def test_a_claim_may_say_how_its_session_is_made_to_leave():
    left = []
    one = Claim("tls", 1, "a", 0.0, lambda: left.append(1))
    assert one == Claim("tls", 1, "a", 0.0)
    one.evict()
    assert left == [1]


async def test_elements_that_come_under_ever_new_names_leave_no_locks_behind(monkeypatch):
    monkeypatch.setattr(module, "LOCKS_KEPT", 3)
    holders = ElementHolders()
    held = holders.lock("held")
    await held.acquire(claim(1))
    for number in range(10):
        holders.lock(str(number))
    assert len(holders.locks) <= 3
    assert holders.lock("held") is held
