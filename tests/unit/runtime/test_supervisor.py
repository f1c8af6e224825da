# SPDX-License-Identifier: Apache-2.0
"""The supervisor without its processes: reloads, addresses, what it tells and to whom."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iose.runtime.config import FrontSettings, LogSettings, NodeConfig
from iose.runtime.crew import HeldFolder
from iose.runtime.elements.depot import ElementAccess
from iose.runtime.elements.record import ElementRecord, ElementState
from iose.runtime.errors import ConfigurationError, ControlError
from iose.runtime.folder import DataFolder
from iose.runtime.supervisor import Supervisor, listen_tcp


class Stage:
    """A supervisor whose node process and depot note what they are asked."""

    def __init__(self, path: Path, config: NodeConfig, later: NodeConfig) -> None:
        folder = DataFolder(path)
        self.lock = folder.hold()
        held = HeldFolder(folder, self.lock, None)
        self.supervisor = Supervisor(held, config, reload_config=lambda: later)
        self.asked: list[str] = []
        self.made: list[int] = []
        self.refuses = False
        self.supervisor._ask_node = self._ask_node
        self.supervisor.depot.fill = self._fill

    async def _ask_node(self, op: str, _arguments: Any) -> dict[str, object]:
        self.asked.append(op)
        if self.refuses:
            raise ConfigurationError("elements share a name")
        if op == "status":
            raise ControlError("the node is being started again")
        return {}

    async def _fill(self, count: int) -> list[ElementRecord]:
        self.made.append(count)
        return [ElementRecord("se-00000001")]


def play(path: Path, scenario: Callable[[Stage], Any], **later: object) -> Any:
    async def main() -> Any:
        config = NodeConfig(data=str(path))
        stage = Stage(path, config, replace(config, **later))
        try:
            return await scenario(stage)
        finally:
            stage.lock.release()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("later", "fixed"),
    [
        ({}, []),
        ({"elements": 9}, []),
        ({"hosts": 3, "passphrase_file": "words"}, ["hosts", "passphrase_file"]),
        ({"log": LogSettings(level="debug")}, ["log"]),
        ({"front": FrontSettings(listen=("[::1]:0",))}, ["front.listen"]),
        ({"front": FrontSettings(idle_s=5.0)}, []),
    ],
)
def test_a_reload_makes_missing_elements_and_names_what_needs_a_restart(tmp_path, later, fixed):
    async def scenario(stage: Stage) -> object:
        result = await stage.supervisor.handle("reload", {})
        assert stage.made == [later.get("elements", 3)]
        assert stage.asked == ["reload", "refresh"]
        return result

    assert play(tmp_path, scenario, **later) == {"restart_needed_for": fixed}


def test_a_refused_reload_changes_nothing(tmp_path: Path):
    async def scenario(stage: Stage) -> None:
        stage.refuses = True
        with pytest.raises(ConfigurationError, match="share"):
            await stage.supervisor.reload()
        assert stage.made == []
        stage.refuses = False
        result = await stage.supervisor.reload()
        assert result == {"restart_needed_for": ["hosts"]}

    play(tmp_path, scenario, hosts=2)


@pytest.mark.parametrize(
    ("listen", "reachable"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("127.0.0.1", "127.0.0.1")],  # noqa: S104  # here only
)
def test_uris_name_an_address_that_a_client_here_can_use(tmp_path, listen: str, reachable: str):
    async def scenario(stage: Stage) -> None:
        named = ElementAccess("se-1", "key1.com", "00" * 32, "Client_identity")
        stage.supervisor.depot.access = lambda: _later([named, replace(named, sen="")])
        with listen_tcp(listen, 0) as listener:
            stage.supervisor._listeners["front"].append(listener)
            port = listener.getsockname()[1]
            (told,) = await stage.supervisor.describe_access()
        assert told["uri"] == f"keyS://key1.com:{'00' * 32}@{reachable}:{port}/"

    play(tmp_path, scenario)


async def _later(value: object) -> object:
    return value


def test_the_status_tells_of_every_element_although_the_node_is_down(tmp_path: Path):
    async def scenario(stage: Stage) -> Any:
        broken = ElementRecord("se-00000001", "key1.com", state=ElementState.BROKEN)
        stage.supervisor.depot.records = {broken.seid: broken}
        return await stage.supervisor.handle("status", {})

    status = play(tmp_path, scenario)
    (element,) = status["elements"]
    assert (element["state"], element["is_served"]) == ("broken", False)
    assert all(process["pid"] is None for process in status["processes"])


def test_stopping_lets_the_ports_go(tmp_path: Path):
    async def scenario(stage: Stage) -> None:
        listener = listen_tcp("127.0.0.1", 0)
        stage.supervisor._listeners["front"].append(listener)
        address = listener.getsockname()
        await stage.supervisor.handle("stop", {})
        assert stage.supervisor.stop_asked.is_set()
        await stage.supervisor.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    play(tmp_path, scenario)


@pytest.mark.parametrize("host", ["..", "a..b", "x" * 64])
def test_a_host_that_is_none_is_no_address_to_listen_on(host: str):
    with pytest.raises(ConfigurationError, match="cannot listen") as caught:
        listen_tcp(host, 0)
    assert "--front" in caught.value.hint


def test_a_port_in_use_says_so_and_the_next_step():
    with listen_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match="in use") as caught:
            listen_tcp("127.0.0.1", port)
    assert "port 0" in caught.value.hint
