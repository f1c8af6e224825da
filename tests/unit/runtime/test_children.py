# SPDX-License-Identifier: Apache-2.0
"""Processes kept running: start, restart with backoff, stop, and nobody outlives the supervisor."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iose.runtime.channel import JsonChannel, read_int
from iose.runtime.children import Backoff, Child, run_together
from iose.runtime.errors import ControlError

DUMMY = """
import json, os, socket, sys, signal
if {stubborn}: signal.signal(signal.SIGTERM, signal.SIG_IGN)
channel = socket.socket(fileno=int(sys.argv[1])).makefile("rw")
if {dies}: sys.exit(3)
for line in channel:
    request = json.loads(line)
    answer = {{"id": request["id"], "result": {{"pid": os.getpid()}}}}
    print(json.dumps(answer), file=channel, flush=True)
if {stubborn}: signal.pause()
"""


def make_child(folder: Path, reports=None, *, dies: bool = False, stubborn: bool = False) -> Child:
    script = folder / "dummy.py"
    script.write_text(DUMMY.format(dies=dies, stubborn=stubborn))

    async def on_start(channel: JsonChannel) -> None:
        await channel.request("open")

    def report(*facts) -> None:
        if reports is not None:
            reports.append(facts)

    return Child("dummy", (sys.executable, str(script)), on_start=on_start, report=report)


async def until(condition, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_backoff_doubles_up_to_a_limit_and_forgets_after_a_steady_life():
    backoff = Backoff()
    assert [backoff.next_delay_s(0.1) for _ in range(4)] == [0.0, 0.05, 0.1, 0.2]
    assert max(backoff.next_delay_s(0.1) for _ in range(20)) == 10.0
    assert backoff.next_delay_s(3600) == 0.0


def test_a_child_starts_answers_and_stops(tmp_path: Path):
    async def scenario():
        child = make_child(tmp_path)
        await child.start()
        pid = read_int(await child.channel.request("who"), "pid")
        assert pid == child.pid
        await child.stop()
        return pid, child.pid

    pid, after = asyncio.run(scenario())
    assert after is None
    assert not is_alive(pid)


def test_a_killed_child_is_started_again(tmp_path: Path):
    reports: list[tuple[str, str, int]] = []

    async def scenario():
        child = make_child(tmp_path, reports)
        await child.start()
        first = child.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: ("dummy", "restarted", 1) in reports)
        second = read_int(await child.channel.request("who"), "pid")
        await child.stop()
        return first, second

    first, second = asyncio.run(scenario())
    assert first != second
    assert reports == [("dummy", "ended", -signal.SIGKILL), ("dummy", "restarted", 1)]


def test_a_child_that_cannot_start_fails_the_first_start(tmp_path: Path):
    async def scenario():
        child = make_child(tmp_path, dies=True)
        with pytest.raises(ControlError, match="the dummy did not start") as caught:
            await child.start()
        assert caught.value.hint
        assert child.pid is None
        with pytest.raises(ControlError, match="started again"):
            _ = child.channel

    asyncio.run(scenario())


def test_a_child_that_stops_starting_is_tried_again_and_again(tmp_path: Path):
    reports: list[tuple[str, str, int]] = []

    async def scenario():
        child = make_child(tmp_path, reports)
        await child.start()
        make_child(tmp_path, dies=True)  # from now on the program fails
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: len(reports) >= 3)
        assert all(re.fullmatch("failed to start: .+", what) for _, what, _ in reports[1:3])
        make_child(tmp_path)
        await until(lambda: any(what == "restarted" for _, what, _ in reports))
        await child.stop()

    asyncio.run(scenario())


def test_a_child_that_runs_but_does_not_start_its_work_is_replaced(tmp_path: Path):
    reports: list[tuple[str, str, int]] = []
    pids: list[int] = []

    async def scenario():
        child = make_child(tmp_path, reports)

        async def fail_the_second_start(channel: JsonChannel) -> None:
            pids.append(read_int(await channel.request("who"), "pid"))
            if len(pids) == 2:
                raise ControlError("not now")

        child._on_start = fail_the_second_start
        await child.start()
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda: ("dummy", "restarted", 2) in reports)
        await child.stop()

    asyncio.run(scenario())
    assert len(set(pids)) == 3
    assert not any(map(is_alive, pids))


def test_a_child_is_out_of_reach_of_the_terminals_signals(tmp_path: Path):
    async def scenario():
        child = make_child(tmp_path)
        await child.start()
        session = os.getsid(child.pid) == child.pid
        await child.stop()
        return session

    assert asyncio.run(scenario())


def test_a_child_that_ignores_everything_is_killed(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("iose.runtime.children.STOP_TIMEOUT_S", 0.2)

    async def scenario():
        child = make_child(tmp_path, stubborn=True)
        await child.start()
        pid = child.pid
        await child.stop()
        return pid

    assert not is_alive(asyncio.run(scenario()))


def test_a_child_leaves_when_its_supervisor_is_killed(tmp_path: Path):
    script = tmp_path / "supervisor.py"
    script.write_text(
        "import asyncio, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        "from pathlib import Path\n"
        "from tests.unit.runtime.test_children import make_child\n"
        "async def main():\n"
        f"    child = make_child(Path({str(tmp_path)!r}))\n"
        "    await child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as supervisor:
        pid = int(supervisor.stdout.readline())
        assert is_alive(pid)
        supervisor.kill()
        supervisor.wait()
    deadline = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_command_that_cannot_be_run_fails_the_first_start():
    async def scenario():
        child = Child("dummy", ("/absent/program",), on_start=never_asked)
        with pytest.raises(ControlError, match="did not start"):
            await child.start()
        await child.stop()

    asyncio.run(scenario())


def test_a_start_that_is_cancelled_leaves_nothing_running(tmp_path: Path):
    async def scenario():
        asked = asyncio.Event()

        async def ask_for_ever(_channel: JsonChannel) -> None:
            asked.set()
            await asyncio.Event().wait()

        make_child(tmp_path)
        command = (sys.executable, str(tmp_path / "dummy.py"))
        child = Child("dummy", command, on_start=ask_for_ever)
        starting = asyncio.create_task(child.start())
        await asked.wait()
        pid = child.pid
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await child.stop()
        return pid

    assert not is_alive(asyncio.run(scenario()))


async def never_asked(_channel: JsonChannel) -> None:
    raise AssertionError


def test_jobs_run_together_until_one_fails():
    ended = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waiter")

    async def fail() -> None:
        raise ControlError("no")

    async def scenario():
        with pytest.raises(ControlError, match="no"):
            await run_together(wait(), fail())

    asyncio.run(scenario())
    assert ended == ["waiter"]


@pytest.mark.parametrize("name", ["IOSE_PASSPHRASE_FILE", "IOSE_PSK"])
def test_the_environment_of_a_child_names_no_secret(tmp_path, monkeypatch, name: str):
    monkeypatch.setenv(name, "/etc/passphrase")
    script = tmp_path / "dummy.py"

    async def scenario():
        child = make_child(tmp_path)
        script.write_text(
            script.read_text().replace("os.getpid()", "len(os.environ.get('" + name + "', ''))")
        )
        await child.start()
        answer = await child.channel.request("who")
        await child.stop()
        return answer

    assert asyncio.run(scenario()) == {"pid": 0}


def test_sockets_of_the_supervisor_are_not_inherited(tmp_path: Path):
    async def scenario():
        child = make_child(tmp_path)
        with socket.socket() as ours:
            ours.bind(("127.0.0.1", 0))
            await child.start()
            numbers = os.listdir(f"/proc/{child.pid}/fd")
            links = {os.readlink(f"/proc/{child.pid}/fd/{number}") for number in numbers}
            own = os.readlink(f"/proc/self/fd/{ours.fileno()}")
        await child.stop()
        return own in links

    assert not asyncio.run(scenario())
