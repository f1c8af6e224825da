# SPDX-License-Identifier: Apache-2.0
"""Sessions by the hundred that break off anywhere, while hosts die and the node reloads.

When the storm is over nothing is left of it: every element is free and without power, no task, no
timer of a session, no descriptor and no count remains, and each element serves the next client.
More sessions with IOSE_FUZZ_RUNS.
"""

import asyncio
import contextlib
import os
import random

import pytest

from iose.iso7816.batch import ApduLimits
from iose.protocols.host_frames import ElementInfo
from iose.runtime.control import listen_unix
from iose.servers.element_host import ElementHostServer
from iose.servers.front_session import FrontSession
from iose.servers.routes import ElementRoute
from iose.transport.element_host import ElementHostLink
from tests.support.client_hello import hello_record
from tests.support.front import FINISHED, PATIENCE_S, FrontRig
from tests.support.scripted_connection import (
    ATR,
    EchoElement,
    ScriptedReader,
    record,
    removed,
)

pytestmark = pytest.mark.anyio

SESSIONS = int(os.environ.get("IOSE_FUZZ_RUNS", "150"))
AT_ONCE = 24
NAMES = [b"key1.com", b"key2.com", b"KEY3.com", b"key4.com"]
BRIEF = {
    "first_record_s": 0.08,
    "queue_wait_s": 0.05,
    "handshake_s": 0.05,
    "idle_s": 0.05,
    "session_s": 0.3,
    "session_limit": 20,
}


class Storm:
    """Clients that do what they please."""

    def __init__(self, rig: FrontRig, seed: str) -> None:
        self.rig = rig
        self.rng = random.Random(seed)  # noqa: S311  # repeatable
        self.errors: list[dict[str, object]] = []

    async def run(self, *troubles) -> None:
        """Let every session happen, a few at a time, with trouble in between."""
        asyncio.get_running_loop().set_exception_handler(lambda _, what: self.errors.append(what))
        gate = asyncio.Semaphore(AT_ONCE)
        making = [asyncio.ensure_future(self._trouble(trouble)) for trouble in troubles]
        await asyncio.gather(*(self._bounded(gate) for _ in range(SESSIONS)))
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _trouble(self, trouble) -> None:
        while True:
            await asyncio.sleep(self.rng.random() * 0.03)
            await trouble()

    async def _bounded(self, gate: asyncio.Semaphore) -> None:
        async with gate:
            # RuntimeError: uvloop's transports when they are written to after a reset
            with contextlib.suppress(OSError, RuntimeError, asyncio.IncompleteReadError):
                client = await self.rig.connect()
                try:
                    await self._session(client)
                finally:
                    client.close()

    async def _session(self, client) -> None:
        rng = self.rng
        stream = hello_record(rng.choice(NAMES)) + FINISHED
        for _ in range(rng.randrange(5)):
            stream += record(rng.choice([b"?02", b"!!", b"", b"x" * 300, bytes(15_000)]))
        stop = rng.randrange(len(stream) + 1) if rng.random() < 0.5 else len(stream)
        position = 0
        while position < stop:
            size = rng.choice([1, 5, 60, 400, len(stream)])
            await client.send(stream[position : min(position + size, stop)])
            position += size
            await self._pause()
        match rng.randrange(5):
            case 0:
                client.reset()
            case 1:
                client.close()
            case 2:
                client.half_close()
                await client.rest()
            case 3:
                await client.rest()
            case _:
                await self._flood(client)

    async def _flood(self, client) -> None:
        """Send and never read, until it is cut off or tired."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                while True:
                    await client.send(record(bytes(15_000)))
        client.reset()

    async def _pause(self) -> None:
        if self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.random() * 0.004)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def assert_nothing_is_left(rig, storm, tasks_before):
    front = rig.front
    await rig.until(lambda: not front._connections and not front._sessions)
    await rig.until(lambda: asyncio.all_tasks() <= tasks_before)
    for lock in front.holders.locks.values():
        assert (lock.holder, lock.waiting, list(lock._queues)) == (None, 0, [])
    assert front._sources._active == {}
    assert front.counters.accepted == sum(front.counters.ended.values())
    unlogged = sum(line["unlogged"] for line in rig.logged("front.flooded"))
    unlogged += front.counters.unlogged
    assert len(rig.logged("session.ended")) + unlogged == front.counters.accepted
    assert rig.logged("session.fault") == []
    assert storm.errors == []


async def assert_serves_all(rig):
    for name in NAMES:
        async with asyncio.timeout(PATIENCE_S):
            while True:  # an element that the storm made fail is left alone for a while
                client = await rig.connect()
                with contextlib.suppress(asyncio.IncompleteReadError, AssertionError):
                    await client.open(name)
                    assert await client.call(b"still here") == b"still here"
                    client.close()
                    break
                for health in rig.front._health.values():
                    health.retry_at = 0.0


@pytest.mark.timeout(0 if SESSIONS > 1000 else 60)
@pytest.mark.parametrize("seed", ["a", "b"])
async def test_sessions_over_readers_that_fail(seed):
    readers = [
        ScriptedReader(EchoElement(), name=str(number), limits=ApduLimits(240, 0))
        for number in range(1, 5)
    ]
    async with FrontRig(*readers, **BRIEF) as rig:
        storm = Storm(rig, seed)

        async def fail() -> None:
            reader = storm.rng.choice(readers)
            reader.faults.append(removed())

        async def stall() -> None:
            reader = storm.rng.choice(readers)
            reader.gate = asyncio.Event()
            try:
                await asyncio.sleep(storm.rng.random() * 0.02)
            finally:
                reader.gate.set()
                reader.gate = None

        async def reload() -> None:
            rig.front.reload(storm.rng.sample(rig.routes, 4))

        before, files = asyncio.all_tasks(), descriptors()
        await storm.run(fail, stall, reload)
        await assert_nothing_is_left(rig, storm, before)
        assert descriptors() <= files
        for reader in readers:
            power = reader.element.power
            assert power.count("on") == power.count("off") + len(reader.element.faults)
            reader.faults.clear()
        await assert_serves_all(rig)


class Rack:
    """Two elements of one host."""

    def __init__(self, *seids: str) -> None:
        self.elements = {seid: EchoElement() for seid in seids}
        self.in_use: list[str] = []

    def list_elements(self) -> list[ElementInfo]:
        return [ElementInfo(seid, f"key{seid}.com", ATR, 240, 0) for seid in self.elements]

    def open(self, seid: str) -> EchoElement:
        assert seid not in self.in_use
        self.in_use.append(seid)
        return self.elements[seid]

    def release(self, seid: str) -> None:
        self.in_use.remove(seid)


class Hosts(contextlib.AsyncExitStack):
    """Two hosts of two elements each, and the links to them."""

    def __init__(self, folder) -> None:
        super().__init__()
        self.racks = [Rack("1", "2"), Rack("3", "4")]
        self.paths = [folder / "0", folder / "1"]
        self.servers = [ElementHostServer(rack) for rack in self.racks]
        self.links = [ElementHostLink(path, reconnect_wait_s=0.2) for path in self.paths]

    async def __aenter__(self):
        for number, link in enumerate(self.links):
            self.push_async_callback(self.stop, number)
            await self.start(number)
            self.push_async_callback(link.stop)
            await link.start()
        return self

    @property
    def routes(self) -> list[ElementRoute]:
        return [
            ElementRoute(info.seid, info.sen, link.reader(info.seid))
            for link in self.links
            for info in link.elements
        ]

    async def start(self, number: int) -> None:
        self.servers[number] = ElementHostServer(self.racks[number])
        await self.servers[number].start(listen_unix(self.paths[number]))

    async def stop(self, number: int) -> None:
        await self.servers[number].stop()


@pytest.mark.timeout(0 if SESSIONS > 1000 else 60)
@pytest.mark.parametrize("seed", ["a", "b"])
async def test_sessions_over_hosts_that_die_and_come_back(tmp_path, seed):
    async with Hosts(tmp_path) as hosts, FrontRig(routes=hosts.routes, **BRIEF) as rig:
        storm = Storm(rig, seed)

        async def restart() -> None:
            number = storm.rng.randrange(2)
            await hosts.stop(number)
            await hosts.start(number)

        async def cut() -> None:
            channel = storm.rng.choice(hosts.links)._channel
            if channel is not None:
                channel.abort()

        async def break_element() -> None:
            element = storm.rng.choice([*storm.rng.choice(hosts.racks).elements.values()])
            element.faults.append(removed())

        before, files = asyncio.all_tasks(), descriptors()
        await storm.run(restart, cut, break_element)
        await rig.until(lambda: all(link.is_up for link in hosts.links))
        await assert_nothing_is_left(rig, storm, before)
        await rig.until(lambda: not any(rack.in_use for rack in hosts.racks))
        await rig.until(lambda: descriptors() <= files)
        assert [server.holders for server in hosts.servers] == [{}, {}]
        for rack in hosts.racks:
            for element in rack.elements.values():
                assert element.power[-1:] in ([], ["off"])
                element.faults.clear()
        assert all(not link._channel._pending for link in hosts.links)
        await assert_serves_all(rig)


async def test_a_cancelled_session_never_keeps_an_element(monkeypatch):
    """Every await of a session is cancelled once, at its first step and at each later one."""
    created: list[FrontSession] = []
    original = FrontSession._find_element

    def find(session):
        original(session)
        created.append(session)

    monkeypatch.setattr(FrontSession, "_find_element", find)
    async with FrontRig() as rig:
        for turns in range(40):
            client = await rig.connect()
            await client.send(hello_record(b"key1.com") + FINISHED + record(b"x"))
            await rig.until(lambda count=turns + 1: len(created) == count)
            for _ in range(turns // 4):
                await asyncio.sleep(0)
            client.reset()
            if created[-1]._task is not None:
                created[-1]._stop()
            await rig.until(lambda: not rig.front._connections)
            assert rig.front.holders.lock("1").holder is None
        await rig.until(lambda: rig.element.power.count("on") == rig.element.power.count("off"))
