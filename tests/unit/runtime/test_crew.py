# SPDX-License-Identifier: Apache-2.0
"""The crew of element hosts: what a host that starts is told, and who is told of it."""

import asyncio
from pathlib import Path

import pytest

from iose.runtime.config import NodeConfig
from iose.runtime.crew import HostCrew, hold_folder


class Channel:
    """A host that answers everything with an empty list."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []

    async def request(self, op: str, arguments, *, timeout_s: float | None = None):
        assert timeout_s is not None
        self.asked.append((op, dict(arguments)))
        return {"elements": []}


@pytest.mark.parametrize(("words", "has_key"), [(None, False), ("a long passphrase", True)])
def test_a_host_that_starts_gets_the_key_and_the_node_looks_again(
    tmp_path: Path, monkeypatch, words, has_key
):
    # although nothing changed: the node may have started while this host was down
    monkeypatch.setattr("iose.crypto.passphrase.ScryptParameters.__init__.__defaults__", (4,))
    monkeypatch.setattr("iose.runtime.crew.hide_memory", lambda: None)
    looked = []

    async def look_again() -> None:
        looked.append(1)

    async def scenario(held) -> Channel:
        crew = HostCrew(held, NodeConfig(hosts=2), is_serving=True, on_change=look_again)
        channel = Channel()
        await crew._open(1, channel)
        await asyncio.gather(*crew._tasks)
        return channel

    with hold_folder(tmp_path / "data", lambda *, is_new: words) as held:
        channel = asyncio.run(scenario(held))
        key = held.data_key
    ((op, arguments),) = channel.asked
    assert (op, arguments["number"]) == ("open", 1)
    assert arguments.get("key") == (key.hex() if has_key else None)
    assert looked == [1]
