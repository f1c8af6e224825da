# SPDX-License-Identifier: Apache-2.0
"""The node process's choice of routes, over links to hosts that exist in part."""

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from iose.protocols.host_frames import ElementInfo, ElementInstance
from iose.runtime.administration import _without_clashes
from iose.runtime.control import listen_unix
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder
from iose.runtime.node import Node
from iose.servers.element_host import ElementHostServer


class Rack:
    """An inventory and nothing behind it."""

    def __init__(self, **names: str) -> None:
        self.infos = [ElementInfo(f"se-{seid}", sen, b"", 255, 0) for seid, sen in names.items()]

    def list_elements(self):
        return self.infos

    def open(self, _seid: str) -> None:
        return None

    def release(self, _seid: str) -> None:
        pass


class Hosts:
    """Element hosts of one folder, any of which may be absent."""

    def __init__(self, path: Path) -> None:
        self.folder = DataFolder(path)
        self._servers: list[ElementHostServer] = []

    async def start(self, number: int, rack: Rack) -> None:
        server = ElementHostServer(rack)
        await server.start(listen_unix(self.folder.host_socket(number)))
        self._servers.append(server)

    async def stop(self) -> None:
        for server in self._servers:
            await server.stop()


def served(status) -> dict[str, str]:
    return {element["seid"]: element["sen"] for element in status["elements"]}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch):
    defaults = {"apdu_timeout_s": 5.0, "reconnect_wait_s": 0.2}
    monkeypatch.setattr(
        "iose.transport.element_host.ElementHostLink.__init__.__kwdefaults__", defaults
    )


def run(tmp_path: Path, scenario, hosts: int, **tables) -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        node, present = Node([listener]), Hosts(tmp_path)
        config = {"element": {}, "front": {"listen": []}, "log": {"level": "info"}, **tables}
        arguments = {"folder": str(tmp_path), "hosts": hosts, "config": config}
        try:
            await scenario(node, present, arguments)
        finally:
            await node.handle("drain", {})
            await node.stop()
            await present.stop()

    asyncio.run(main())


def test_a_node_starts_without_a_host_and_serves_its_elements_when_it_is_back(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        await present.start(0, Rack(a="key1.com"))
        await node.handle("start", arguments)
        assert served(await node.handle("status", {})) == {"se-a": "key1.com"}
        await present.start(1, Rack(b="key2.com"))
        await node.handle("refresh", {})
        status = await node.handle("status", {})
        assert served(status) == {"se-a": "key1.com", "se-b": "key2.com"}
        assert status["hosts"] == [True, True]

    run(tmp_path, scenario, 2)


def test_an_element_that_takes_an_alias_or_is_missed_as_default_harms_no_other(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        rack = Rack(a="key1.com", b="other.com")
        await present.start(0, rack)
        await node.handle("start", arguments)
        assert set(served(await node.handle("status", {}))) == {"se-a", "se-b"}
        rack.infos[0] = ElementInfo("se-a", "renamed.com", b"", 255, 0)
        await node.handle("refresh", {})
        assert served(await node.handle("status", {})) == {
            "se-a": "renamed.com",
            "se-b": "other.com",
        }

    tables = {
        "front": {"listen": [], "default_sen": "key1.com"},
        "element": {"other.com": {"aliases": ["KEY1.com", "renamed.com"]}},
    }
    run(tmp_path, scenario, 1, **tables)


def test_a_reload_refuses_what_the_operator_can_correct(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        await present.start(0, Rack(a="key1.com", b="key2.com"))
        await node.handle("start", arguments)
        wrong = [
            {
                "front": {"listen": [], "default_sen": "absent.com"},
                "element": {"key1.com": {"is_enabled": False}},
            },
            {"element": {"key1.com": {"aliases": ["KEY2.com"]}}},
        ]
        for tables in wrong:
            with pytest.raises(ConfigurationError) as caught:
                await node.handle("reload", {"config": {**arguments["config"], **tables}})
            assert caught.value.hint
            await node.handle("refresh", {})
            assert set(served(await node.handle("status", {}))) == {"se-a", "se-b"}

    run(tmp_path, scenario, 1)


def test_a_node_whose_certificates_are_damaged_serves_nobody_before_it_says_so(tmp_path):
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            node = Node([listener])
            config = {"racs": {"listen": []}, "front": {"listen": []}}
            arguments = {"folder": str(tmp_path), "hosts": 0, "config": config}
            with pytest.raises(ConfigurationError, match="administration plane"):
                await node.handle("start", arguments)
            with pytest.raises(ConfigurationError, match="before 'start'"):
                await node.handle("status", {})
            await node.stop()

    asyncio.run(scenario())


def test_a_disabled_element_is_not_served(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        rack = Rack(a="key1.com", b="key2.com")
        rack.infos[0] = replace(rack.infos[0], instances=instances(x="more.com"))
        await present.start(0, rack)
        await node.handle("start", arguments)
        assert set(served(await node.handle("status", {}))) == {"se-b"}
        assert set(routes_of(node)) == {"key2.com"}

    run(tmp_path, scenario, 1, element={"KEY1.com": {"is_enabled": False}})


def test_who_has_a_name_keeps_it_whatever_the_case_and_the_host(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        thief, owner = Rack(a="key2.com"), Rack(b="key1.com")
        await present.start(0, thief)
        await present.start(1, owner)
        await node.handle("start", arguments)
        thief.infos[0] = ElementInfo("se-a", "KEY1.com", b"", 255, 0)
        await node.handle("refresh", {})
        assert served(await node.handle("status", {})) == {"se-b": "key1.com"}
        owner.infos.clear()
        await node.handle("refresh", {})
        assert served(await node.handle("status", {})) == {"se-a": "KEY1.com"}

    run(tmp_path, scenario, 2)


def routes_of(node: Node):
    return {route.sen: route for route in node._front.table.routes}


def instances(**names: str) -> tuple[ElementInstance, ...]:
    return tuple(
        ElementInstance(sen, bytes.fromhex("0102030405") + aid.encode())
        for aid, sen in names.items()
    )


def test_every_instance_of_an_element_is_served_by_its_name_after_a_select(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        rack = Rack(a="key1.com", b="key2.com")
        more = instances(x="more.com", y="")
        rack.infos[0] = replace(rack.infos[0], instances=more)
        await present.start(0, rack)
        await node.handle("start", arguments)
        routes = routes_of(node)
        assert {sen: route.seid for sen, route in routes.items()} == {
            "key1.com": "se-a",
            "more.com": "se-a",
            "key2.com": "se-b",
        }
        select, reset = routes["more.com"].start
        assert select.command.data == more[0].aid
        assert (select.command.ins, reset) == (0xA4, *routes["key1.com"].start)

    run(tmp_path, scenario, 1)


@pytest.mark.parametrize("name", ["KEY1.com", "ALIAS.com"])
def test_a_new_instance_takes_no_name_of_another_element(tmp_path, impatient, name: str):
    async def scenario(node, present, arguments) -> None:
        thief, owner = Rack(a="key2.com"), Rack(b="key1.com")
        thief.infos[0] = replace(thief.infos[0], instances=instances(x=name))
        await present.start(0, thief)
        await present.start(1, owner)
        await node.handle("start", arguments)
        for _ in range(2):
            table = node._front.table
            assert {route.sen: route.seid for route in table.routes} == {
                "key2.com": "se-a",
                "key1.com": "se-b",
            }
            assert table.find("key1.com") is table.find("alias.com")
            shown = await node.handle("status", {})
            assert shown["not_served"] == [{"seid": "se-a", "sen": name}]
            await node.handle("refresh", {})
        thief.infos[0] = replace(thief.infos[0], instances=instances(x="more.com"))
        await node.handle("refresh", {})
        assert (await node.handle("status", {}))["not_served"] == []

    run(tmp_path, scenario, 2, element={"key1.com": {"aliases": ["alias.com"]}})


def test_a_name_given_over_racs_is_that_elements_even_when_a_node_starts(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        await present.start(0, Rack(a="given.com", b="key1.com"))
        await node.handle("start", arguments)
        assert {sen: route.seid for sen, route in routes_of(node).items()} == {"given.com": "se-b"}

    names = {"se-b": {"sen": "given.com", "aid": ""}}
    (tmp_path / "names.json").write_text(json.dumps(names))
    run(tmp_path, scenario, 1)


def test_an_instance_keeps_its_name_when_an_element_takes_it_later(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        rack = Rack(a="key1.com", b="key2.com")
        rack.infos[1] = replace(rack.infos[1], instances=instances(x="more.com"))
        await present.start(0, rack)
        await node.handle("start", arguments)
        rack.infos[0] = replace(rack.infos[0], sen="more.com")
        await node.handle("refresh", {})
        assert {sen: route.seid for sen, route in routes_of(node).items()} == {
            "key2.com": "se-b",
            "more.com": "se-b",
        }

    run(tmp_path, scenario, 1)


def test_a_name_given_over_racs_replaces_the_own_one_and_null_takes_it_away(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        await present.start(0, Rack(a="key1.com", b="key2.com"))
        await node.handle("start", arguments)
        await node._names.set_name("se-a", "given.com", "A000000151")
        (select, _) = routes_of(node)["given.com"].start
        assert select.command.data == bytes.fromhex("A000000151")
        assert set(routes_of(node)) == {"given.com", "key2.com"}
        assert [one.sen for one in node._racs_elements()] == ["key1.com", "key2.com"]  # in rules
        with pytest.raises(ConfigurationError, match="is taken"):
            await node._names.set_name("se-b", "GIVEN.com", "")
        await node._names.set_name("se-a", "null", "")
        assert set(routes_of(node)) == {"key2.com"}
        await node._names.set_name("se-b", "key2.com", "00")
        assert routes_of(node) == {}
        await node._names.set_name("se-b", None, "")
        assert set(routes_of(node)) == {"key2.com"}

    run(tmp_path, scenario, 1)


def test_aliases_of_seids_that_clash_keep_no_element_away(tmp_path, impatient):
    async def scenario(node, present, arguments) -> None:
        await present.start(0, Rack(a="key1.com", b="key2.com"))
        await node.handle("start", arguments)
        found = {one.seid: one.aliases for one in _without_clashes(node._racs_elements())}
        assert sorted(found) == ["se-a", "se-b"]
        assert sorted(alias for aliases in found.values() for alias in aliases) == ["rack-1"]

    element = {
        "key1.com": {"seids": ["rack-1", "se-b"]},
        "key2.com": {"seids": ["rack-1"]},
    }
    run(tmp_path, scenario, 1, element=element)
