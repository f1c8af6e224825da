# SPDX-License-Identifier: Apache-2.0
"""The life of a node: what signals do to it, and what a service manager is told."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from iose.runtime.errors import ConfigurationError
from iose.runtime.service import _serve, notify_service_manager


class Node:
    """A supervisor that notes what becomes of it."""

    def __init__(self, *, starts: bool = True, refuses: bool = False) -> None:
        self.stop_asked = asyncio.Event()
        self.lived: list[str] = []
        self.reported: list[str] = []
        self._starts = starts
        self._refuses = refuses
        self.starting = asyncio.Event()
        self.announced = asyncio.Event()
        self.told = asyncio.Event()
        self.stopping = asyncio.Event()

    async def start(self) -> None:
        self.starting.set()
        if not self._starts:
            await asyncio.Event().wait()
        self.lived.append("started")

    async def reload(self) -> None:
        if self._refuses:
            raise ConfigurationError("no such setting")
        self.lived.append("reloaded")

    async def stop(self, hurry: asyncio.Event) -> None:
        self.stopping.set()
        if "patient" in self.lived:
            await hurry.wait()
            self.lived.append("hurried")
        self.lived.append("stopped")

    def report(self, name: str, what: str, _number: int) -> None:
        self.reported.append(f"{name} {what}")
        self.told.set()


def live(make: Callable[[], Node], act: Callable[[Node], object], *, is_reloading: bool) -> Node:
    """Run a node; ``act`` is awaited beside it."""

    async def main() -> Node:
        node = make()

        async def announce(_node: Node) -> None:
            node.lived.append("announced")
            node.announced.set()

        async with asyncio.timeout(10):
            acting = asyncio.create_task(act(node))
            await _serve(node, announce, node.report, is_reloading=is_reloading)
            await acting
        return node

    return asyncio.run(main())


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_what_iose_up_started(number: int):
    async def act(node: Node) -> None:
        await node.announced.wait()
        send(number)

    node = live(Node, act, is_reloading=False)
    assert node.lived == ["started", "announced", "stopped"]


def test_a_hang_up_reloads_what_has_a_file_and_a_failed_one_is_reported():
    for refuses, reported in ((False, "reloaded"), (True, "not reloaded: no such setting")):

        async def act(node: Node) -> None:
            await node.announced.wait()
            send(signal.SIGHUP)
            await node.told.wait()
            node.stop_asked.set()

        node = live(lambda refuses=refuses: Node(refuses=refuses), act, is_reloading=True)
        assert node.reported == [f"configuration {reported}"]
        assert node.lived[-1] == "stopped"


def test_a_second_signal_cuts_the_wait_for_sessions_short():
    async def act(node: Node) -> None:
        await node.announced.wait()
        node.lived.append("patient")
        send(signal.SIGINT)
        await node.stopping.wait()
        assert "hurried" not in node.lived
        send(signal.SIGINT)

    assert live(Node, act, is_reloading=True).lived[-2:] == ["hurried", "stopped"]


def test_a_signal_during_the_start_ends_it_and_stops_what_there_is():
    async def act(node: Node) -> None:
        await node.starting.wait()
        send(signal.SIGTERM)

    assert live(lambda: Node(starts=False), act, is_reloading=True).lived == ["stopped"]


def test_a_start_that_fails_stops_what_there_is():
    class Failing(Node):
        async def start(self) -> None:
            raise ConfigurationError("the address is taken")

    nodes = []

    def make() -> Node:
        nodes.append(Failing())
        return nodes[0]

    async def act(_node: Node) -> None:
        pass

    with pytest.raises(ConfigurationError, match="taken"):
        live(make, act, is_reloading=True)
    assert nodes[0].lived == ["stopped"]


def test_a_service_manager_is_told_where_there_is_one(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_service_manager("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "absent"))
    notify_service_manager("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify_service_manager("READY=1")
        assert manager.recv(64) == b"READY=1"
