# SPDX-License-Identifier: Apache-2.0
"""Elements behind readers in a node process: served beside software elements, gone in time."""

import asyncio
import json
import socket
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from iose.runtime import node as module
from iose.runtime.control import listen_unix
from iose.runtime.errors import ConfigurationError
from iose.runtime.folder import DataFolder
from iose.runtime.node import Node
from iose.servers.element_host import ElementHostServer
from iose.transport.bank import Slot, SlotState
from tests.support.client_hello import hello_record
from tests.support.front import ALERT_BUSY, ALERT_UNKNOWN, FINISHED, Client
from tests.support.scripted_bank import ScriptedBank, empty, filled
from tests.support.scripted_connection import SERVER_HELLO, record
from tests.unit.runtime.test_node import Rack

PATIENCE_S = 5.0


class NodeRig(AbstractAsyncContextManager["NodeRig"]):
    """A node over scripted banks, and one element host."""

    def __init__(self, path: Path, *banks: ScriptedBank, **tables: Any) -> None:
        self.path = path
        self.banks = {f"bank{number}": bank for number, bank in enumerate(banks, 1)}
        self.rack = Rack(a="soft.com")
        self.config: dict[str, Any] = {
            "front": {"listen": []},
            "readers": [self.table(name) for name in self.banks],
            **tables,
        }
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.node = Node([self._listener])
        self._host = ElementHostServer(self.rack)
        self._patch = pytest.MonkeyPatch()
        self._clients: list[Client] = []
        self._capture = capture_logs()
        self.events: list[Any] = []

    @staticmethod
    def table(name: str, **given: Any) -> dict[str, Any]:
        return {"type": "sim-array", "name": name, "address": "192.0.2.1:2310", **given}

    async def __aenter__(self) -> "NodeRig":
        self._patch.setattr(module, "make_bank", lambda table, _: self.banks[table.name])
        self._patch.setattr(module, "configure_logs", lambda _: None)
        self.events = self._capture.__enter__()
        await self._host.start(listen_unix(DataFolder(self.path).host_socket(0)))
        arguments = {"folder": str(self.path), "hosts": 1, "config": self.config}
        await self.node.handle("start", arguments)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        await self.node.handle("drain", {})
        await self.node.stop()
        await self._host.stop()
        self._capture.__exit__(None, None, None)
        self._patch.undo()

    async def reload(self, **tables: Any) -> None:
        """Take another configuration."""
        await self.node.handle("reload", {"config": {**self.config, **tables}})

    async def connect(self) -> Client:
        """Return a new client of the front."""
        client = Client(*await asyncio.open_connection(*self.address))
        self._clients.append(client)
        return client

    async def served(self) -> dict[str, str]:
        """Return the SEN of every element the front serves."""
        status = await self.node.handle("status", {})
        return {one["seid"]: one["sen"] for one in status["elements"]}

    async def until_served(self, *seids: str) -> None:
        """Wait until exactly these are served."""
        async with asyncio.timeout(PATIENCE_S):
            while set(await self.served()) != {"se-a", *seids}:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def until(self, condition: Any) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def ends(self) -> list[str]:
        """Return why sessions ended."""
        return [line["reason"] for line in self.events if line["event"] == "session.ended"]


def run(rig_of: Any, scenario: Any) -> None:
    async def main() -> None:
        async with rig_of() as rig:
            await scenario(rig)

    asyncio.run(main())


def test_readers_and_hosts_are_served_side_by_side_in_both_planes(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        assert await rig.served() == {"se-a": "soft.com", "sim-1": "key1.com"}
        client = await rig.connect()
        await client.open()
        assert await client.call(b"through a reader") == b"through a reader"
        assert [one.seid for one in rig.node._racs_elements()] == ["sim-2", "sim-1", "se-a"]
        status = await rig.node.handle("status", {})
        shown = {row["seid"]: row["state"] for row in status["readers"]}
        assert shown == {"sim-1": "ready", "sim-2": "ready"}  # what has no name is no element
        assert status["holders"]["sim-1"]["holder"]["plane"] == "tls"

    nameless = Slot("none", "", SlotState.FAULT, fault="the service is not there")
    bank = lambda: ScriptedBank(filled("1", "key1.com"), filled("2"), nameless)  # noqa: E731
    run(lambda: NodeRig(tmp_path, bank()), scenario)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (SlotState.EMPTY, "element_removed"),
        (SlotState.ABSENT, "element_removed"),
        (SlotState.FAULT, "element_failed"),
    ],
)
def test_sessions_end_when_their_element_is_gone_and_others_go_on(tmp_path, state, reason):
    async def scenario(rig: NodeRig) -> None:
        bank = rig.banks["bank1"]
        leaving, staying = await rig.connect(), await rig.connect()
        await leaving.open()
        await staying.open(b"key2.com")
        slot = bank.slots[0]
        element = bank.element("1")
        bank.put(empty("1", state))
        assert await leaving.rest() == b""
        assert rig.ends() == [reason]
        assert element.power[-1] == "off"
        assert await staying.call(b"on") == b"on"
        late = await rig.connect()
        await late.send(hello_record(b"key1.com"))
        assert await late.rest() == ALERT_UNKNOWN
        bank.put(slot)
        await rig.until_served("sim-1", "sim-2")
        back = await rig.connect()
        await back.open()

    bank = lambda: ScriptedBank(filled("1", "key1.com"), filled("2", "key2.com"))  # noqa: E731
    run(lambda: NodeRig(tmp_path, bank()), scenario)


def test_who_waits_for_an_element_is_not_given_the_card_that_was_put_in_its_place(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        bank = rig.banks["bank1"]
        first, waiting = await rig.connect(), await rig.connect()
        await first.open()
        await waiting.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.node._holders.lock("sim-1").waiting)
        other = filled("1", "key2.com")
        bank.put(empty("1"))
        bank.put(other)
        assert await first.rest() == b""
        assert await waiting.rest() == b""
        assert rig.ends() == ["element_removed"] * 2
        await rig.until_served("sim-1")
        assert await rig.served() == {"se-a": "soft.com", "sim-1": "key2.com"}
        assert other.reader.element.power == ["on", "off"]  # nobody but the node has seen it

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def test_a_fault_before_the_element_has_spoken_is_told_by_an_alert(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        bank = rig.banks["bank1"]
        bank.reader("1").gate = asyncio.Event()
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        await rig.until(lambda: rig.node._holders.lock("sim-1").holder is not None)
        bank.put(empty("1", SlotState.FAULT))
        assert await client.rest() == ALERT_BUSY

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def test_the_applet_that_was_found_is_selected_unless_the_operator_names_another(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        client = await rig.connect()
        await client.send(hello_record(b"key1.com"))
        assert await client.receive(len(SERVER_HELLO)) == SERVER_HELLO
        await client.send(FINISHED)
        await client.send(record(b"?02"))
        await client.rest()
        elements = {one.seid: one.aid for one in rig.node._racs_elements()}
        assert elements["sim-1"] == "010203040500"
        routes = {route.seid: route for route in rig.node._front.table.routes}
        assert routes["sim-1"].start[0].command.data == bytes.fromhex("010203040500")
        assert routes["sim-2"].start[0].command.data == bytes.fromhex("A00000015100")

    def bank() -> ScriptedBank:
        rack = ScriptedBank(filled("1", "key1.com"), filled("2", "key2.com"))
        for name in ("1", "2"):
            _hide_behind_select(rack.element(name))
        return rack

    element = {"sim-2": {"aid": "A00000015100"}}
    run(lambda: NodeRig(tmp_path, bank(), element=element), scenario)


def _hide_behind_select(element: Any) -> None:
    """Make an element that serves only once its applet is selected."""
    serve, off = element.process, element.power_off
    selected = False

    def process(command: bytes) -> bytes:
        nonlocal selected
        if command[1] == 0xA4:
            selected = True
            return b"\x90\x00"
        return serve(command) if selected else b"\x6d\x00"

    def power_off() -> None:
        nonlocal selected
        selected = False
        off()

    element.process, element.power_off = process, power_off


def test_a_software_element_that_gets_the_seid_of_a_card_keeps_it(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        assert "sim-1" in await rig.served()
        rig.rack.infos.append(_info("sim-1", "other.com"))
        await rig.node.handle("refresh", {})
        assert await rig.served() == {"se-a": "soft.com", "sim-1": "other.com"}
        (row,) = (await rig.node.handle("reader.list", {}))["readers"]
        assert "a software element" in row["fault"]
        rig.rack.infos.pop()
        await rig.node.handle("refresh", {})
        assert (await rig.served())["sim-1"] == "key1.com"

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def _info(seid: str, sen: str) -> Any:
    return module.ElementInfo(seid, sen, b"", 255, 0)


def test_two_elements_of_one_name_do_not_harm_the_first(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        rig.banks["bank1"].put(filled("2", "KEY1.com"), filled("3", "soft.com"))
        async with asyncio.timeout(PATIENCE_S):
            while len((await rig.node.handle("status", {}))["not_served"]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert await rig.served() == {"se-a": "soft.com", "sim-1": "key1.com"}

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def test_a_card_that_calls_itself_like_a_software_element_gets_nothing_of_it(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        await rig.until_served()
        elements = {one.seid: one for one in rig.node._racs_elements()}
        assert (elements["a-1"].sen, elements["a-1"].aliases) == ("", ())
        assert not elements["a-1"].is_matched("soft.com")
        assert (elements["se-a"].sen, elements["se-a"].aliases) == ("soft.com", ("vault",))
        table = rig.node._front.table
        assert {table.find(name).seid for name in ("soft.com", "long.example.com")} == {"se-a"}
        await rig.reload()
        await rig.node.handle("refresh", {})
        assert rig.node._front.table.find("soft.com").seid == "se-a"

    element = {"soft.com": {"seids": ["vault"], "aliases": ["long.example.com"]}}
    bank = lambda: ScriptedBank(filled("1", "soft.com", seid="a-1"))  # noqa: E731
    run(lambda: NodeRig(tmp_path, bank(), element=element), scenario)


def test_a_software_element_gets_its_name_from_a_card_that_had_it_before(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        assert (await rig.served())["sim-1"] == "key1.com"
        rig.rack.infos.append(_info("se-b", "KEY1.com"))
        await rig.node.handle("refresh", {})
        assert await rig.served() == {"se-a": "soft.com", "se-b": "KEY1.com"}
        assert {one.seid: one.sen for one in rig.node._racs_elements()}["sim-1"] == ""

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def test_who_of_two_cards_has_a_name_keeps_it_with_what_is_said_of_it(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        rig.banks["bank1"].put(filled("1", "key1.com", seid="a-first"))
        await rig.until(lambda: len(rig.node._readers.elements) == 2)
        elements = {one.seid: (one.sen, one.aliases) for one in rig.node._racs_elements()}
        assert elements["a-first"] == ("", ())
        assert elements["sim-2"] == ("key1.com", ("vault",))
        await rig.reload()  # what cards call themselves keeps no configuration from being read

    bank = lambda: ScriptedBank(filled("2", "key1.com"))  # noqa: E731
    run(lambda: NodeRig(tmp_path, bank(), element={"key1.com": {"seids": ["vault"]}}), scenario)


def test_what_the_operator_calls_an_element_goes_before_what_a_card_calls_itself(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        assert await rig.served() == {"se-a": "soft.com", "sim-2": "bank.com"}
        sens = {one.seid: one.sen for one in rig.node._racs_elements()}
        assert (sens["sim-1"], sens["sim-2"]) == ("", "bank.com")

    bank = lambda: ScriptedBank(filled("1", "bank.com"), filled("2", "key2.com"))  # noqa: E731
    run(lambda: NodeRig(tmp_path, bank(), element={"sim-2": {"sen": "bank.com"}}), scenario)


def test_a_reader_that_flaps_repeats_no_complaint_of_others(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        bank = rig.banks["bank1"]
        slot = bank.slots[1]

        def complaints() -> list[tuple[str, str]]:
            shown = ("element.repeated_name", "element.default_absent")
            return [(one["event"], one["sen"]) for one in rig.events if one["event"] in shown]

        expected = [("element.repeated_name", "soft.com"), ("element.default_absent", "out.com")]
        assert complaints() == expected
        for _ in range(3):
            bank.put(empty("2"))
            await rig.until_served()
            bank.put(slot)
            await rig.until_served("sim-2")
        assert complaints() == expected
        bank.put(empty("1"))
        await rig.until(lambda: len(rig.node._readers.elements) == 1)
        bank.put(filled("1", "soft.com"))
        await rig.until(lambda: len(rig.node._readers.elements) == 2)
        assert complaints() == [*expected, expected[0]]

    bank = lambda: ScriptedBank(filled("1", "soft.com"), filled("2", "key2.com"))  # noqa: E731
    front = {"listen": [], "default_sen": "out.com"}
    run(lambda: NodeRig(tmp_path, bank(), front=front), scenario)


def test_a_card_does_not_become_the_alias_of_another_element(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        assert rig.node._front.table.find("bank.com").seid == "se-a"
        rig.rack.infos.clear()  # nor while that one is not there
        await rig.node.handle("refresh", {})
        assert rig.node._front.table.find("bank.com") is None
        assert {"seid": "sim-1", "sen": "BANK.com"} in (await rig.node.handle("status", {}))[
            "not_served"
        ]

    bank = lambda: ScriptedBank(filled("1", "BANK.com"))  # noqa: E731
    element = {"soft.com": {"aliases": ["bank.com"]}}
    run(lambda: NodeRig(tmp_path, bank(), element=element), scenario)


@pytest.mark.parametrize(
    ("seid", "whose"),
    [
        ("se-a", "a software element"),
        ("soft.com", "a software element"),
        ("vault", 'table [element."soft.com"]'),
        ("bank.com", 'table [element."sim-9"]'),
    ],
)
def test_a_name_that_rules_may_mean_is_no_seid_of_an_element_behind_a_reader(tmp_path, seid, whose):
    async def scenario(rig: NodeRig) -> None:
        (row,) = (await rig.node.handle("reader.list", {}))["readers"]
        assert (row["state"], row["fault"]) == ("fault", f"{whose} has the SEID {seid}, too")
        assert [one.seid for one in rig.node._racs_elements()] == ["se-a"]

    element = {"soft.com": {"seids": ["vault"]}, "sim-9": {"sen": "bank.com"}}
    bank = lambda: ScriptedBank(filled("1", "key1.com", seid=seid))  # noqa: E731
    run(lambda: NodeRig(tmp_path, bank(), element=element), scenario)


def test_what_is_said_of_a_seid_goes_before_what_is_said_of_a_name(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        assert (await rig.served())["sim-1"] == "mine.com"

    element = {"key1.com": {"sen": "other.com"}, "sim-1": {"sen": "mine.com"}}
    bank = lambda: ScriptedBank(filled("1", "key1.com"))  # noqa: E731
    run(lambda: NodeRig(tmp_path, bank(), element=element), scenario)


def test_a_seid_is_not_taken_for_the_name_of_another_card(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        assert rig.node._find_element("sim-2").seid == "sim-2"
        assert rig.node._find_element("KEY2.com").seid == "sim-2"
        assert rig.node._find_element("nobody") is None

    bank = lambda: ScriptedBank(filled("1", "sim-2"), filled("2", "key2.com"))  # noqa: E731
    run(lambda: NodeRig(tmp_path, bank()), scenario)


def test_a_name_given_over_racs_holds_for_an_element_behind_a_reader(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        assert (await rig.served())["sim-1"] == "given.com"
        assert rig.node._find_element("sim-1").sen == "given.com"
        await rig.node._names.set_name("sim-1", "null", "")
        assert rig.node._find_element("sim-1").sen == ""
        assert await rig.served() == {"se-a": "soft.com"}

    (tmp_path / "names.json").write_text(json.dumps({"sim-1": {"sen": "given.com", "aid": ""}}))
    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def test_a_name_in_the_configuration_goes_before_one_given_over_racs(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        assert (await rig.served())["sim-1"] == "said.com"
        assert await rig.node._names.name("sim-1") == ("said.com", "")
        with pytest.raises(ConfigurationError, match="configuration names this element"):
            await rig.node._names.set_name("sim-1", "other.com", "")
        await rig.reload(element={})
        assert (await rig.served())["sim-1"] == "given.com"
        await rig.node._names.set_name("sim-1", None, "")
        assert (await rig.served())["sim-1"] == "key1.com"

    (tmp_path / "names.json").write_text(json.dumps({"sim-1": {"sen": "given.com", "aid": ""}}))
    element = {"sim-1": {"sen": "said.com"}}
    bank = ScriptedBank(filled("1", "key1.com"))
    run(lambda: NodeRig(tmp_path, bank, element=element), scenario)


def test_a_reload_leaves_alone_what_did_not_change(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        one, two = rig.banks.values()
        client = await rig.connect()
        await client.open()
        rig.banks["bank3"] = ScriptedBank(filled("3", "key3.com"))
        await rig.reload(readers=[rig.table("bank1", max_record=600), rig.table("bank3")])
        await rig.until_served("sim-1", "sim-3")
        assert (one.events, two.events) == (["start"], ["start", "stop"])
        assert await client.call(b"still") == b"still"
        assert rig.node._readers.reader("sim-1").limits.max_record == 600
        await rig.reload(readers=[])
        assert await client.rest() == b""
        assert one.events == ["start", "stop"]
        assert await rig.served() == {"se-a": "soft.com"}

    banks = lambda: (ScriptedBank(filled("1", "key1.com")), ScriptedBank(filled("2")))  # noqa: E731
    run(lambda: NodeRig(tmp_path, *banks()), scenario)


def test_a_reload_takes_what_is_said_of_elements_behind_readers_and_refuses_clashes(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        await rig.reload(element={"sim-1": {"aliases": ["long.example.com"], "seids": ["vault"]}})
        assert rig.node._front.table.find("long.example.com").seid == "sim-1"
        (element,) = [one for one in rig.node._racs_elements() if one.seid == "sim-1"]
        assert element.aliases == ("vault",)
        with pytest.raises(ConfigurationError, match="share the name"):
            await rig.reload(element={"key1.com": {"aliases": ["soft.com"]}})
        assert rig.node._front.table.find("long.example.com").seid == "sim-1"
        await rig.reload(element={"sim-1": {"is_enabled": False}})
        assert await rig.served() == {"se-a": "soft.com"}

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def test_a_rename_at_a_reload_is_a_new_element_for_everybody(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        client = await rig.connect()
        await client.open()
        await rig.reload(readers=[rig.table("bank1", seids={"1": "vault"})])
        assert await client.rest() == b""
        assert (await rig.served())["vault"] == "key1.com"

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def test_a_refused_reload_leaves_readers_as_they_are(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        wrong = {"key1.com": {"aliases": ["soft.com"]}}
        with pytest.raises(ConfigurationError):
            await rig.reload(readers=[], element=wrong | {"se-a": {"aliases": ["KEY1.com"]}})
        assert rig.banks["bank1"].events == ["start"]
        assert "sim-1" in await rig.served()

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def test_a_default_element_may_be_a_card_that_is_out(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        bank = rig.banks["bank1"]
        await rig.reload()
        slot = filled("1", "key1.com")
        bank.put(slot)
        await rig.until_served("sim-1")
        client = await rig.connect()
        await client.send(hello_record())
        assert await client.receive(len(SERVER_HELLO)) == SERVER_HELLO

    front = {"listen": [], "default_sen": "KEY1.com"}
    run(lambda: NodeRig(tmp_path, ScriptedBank(empty("1")), front=front), scenario)


def test_the_operator_asks_for_a_fresh_look(tmp_path):
    async def scenario(rig: NodeRig) -> None:
        answer = await rig.node.handle("reader.refresh", {})
        assert [row["seid"] for row in answer["readers"]] == ["sim-1"]
        assert "exposed" in answer
        assert rig.banks["bank1"].events == ["start", "refresh"]
        with pytest.raises(ConfigurationError, match="unknown operation"):
            await rig.node.handle("reader.explode", {})

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)


def test_a_node_that_ends_stops_its_banks(tmp_path):
    rigs: list[NodeRig] = []

    async def scenario(rig: NodeRig) -> None:
        rigs.append(rig)

    run(lambda: NodeRig(tmp_path, ScriptedBank(filled("1", "key1.com"))), scenario)
    assert rigs[0].banks["bank1"].events == ["start", "stop"]
