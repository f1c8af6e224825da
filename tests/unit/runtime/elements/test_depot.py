# SPDX-License-Identifier: Apache-2.0
"""Elements of a folder for their owner: made, listed, renamed, unlocked, deleted; the index."""

import asyncio
import os
from pathlib import Path

import pytest

from iose.applets.tls_se import TLS_SE_AID
from iose.runtime.compose import TlsSeMaker
from iose.runtime.elements.record import ElementRecord, ElementState
from iose.runtime.errors import ConfigurationError, ControlError
from iose.wire.errors import IoseError, StoreError
from tests.unit.runtime.elements.local_node import LocalNode

VIEW = {
    "seid", "sen", "atr", "wire", "limits", "commands",
    "chunk_size", "max_record", "state", "copy",
    "instances",
    "repeated_sens",
}  # fmt: skip
GET_STATUS = bytes.fromhex("0087000000")
RESET_TLS = bytes.fromhex("00D8000000")
WRONG_ADMIN_PIN = bytes.fromhex("0020000108") + b"--------"


@pytest.fixture
def node(tmp_path: Path):
    node = LocalNode(tmp_path / "data", hosts=2)
    yield node
    node.power_off()


def test_elements_are_made_until_there_are_enough_and_shared_out(node: LocalNode):
    asyncio.run(node.depot.fill(3))
    asyncio.run(node.depot.fill(2))
    assert node.states() == dict.fromkeys(("key1.com", "key2.com", "key3.com"), "ready")
    assert sorted(len(host.rack.records) for host in node.hosts) == [1, 2]


def test_every_element_has_keys_of_its_own(node: LocalNode):
    asyncio.run(node.depot.fill(3))
    access = asyncio.run(node.depot.access())
    assert [item.sen for item in access] == ["key1.com", "key2.com", "key3.com"]
    assert len({item.psk for item in access}) == 3
    assert all(len(bytes.fromhex(item.psk)) == 32 for item in access)


def test_a_list_has_stable_fields_and_no_secret(node: LocalNode):
    node.create("key1.com")
    element = node.ask("element.list", {})["elements"][0]
    assert element.keys() == VIEW
    secrets = node.secrets("key1.com")
    hidden = ("psk", "guest_psk", "user_pin", "admin_pin")
    assert not any(secrets[name] in str(element) for name in hidden)


def test_settings_show_and_set_the_limits_of_the_host_link(node: LocalNode):
    node.create("chip.com", wire="compatible", limits="chip", commands="1.3")
    view = node.show("CHIP.com")
    assert (view["wire"], view["limits"], view["commands"]) == ("compatible", "chip", "1.3")
    assert (view["chunk_size"], view["max_record"]) == (240, 512)


@pytest.mark.parametrize(
    "plan", [{"wire": "soft"}, {"limits": "none"}, {"commands": "2.0"}, {"sen": "no name"}]
)
def test_a_wrong_plan_makes_nothing(node: LocalNode, plan: dict[str, str]):
    with pytest.raises(ConfigurationError):
        node.ask("element.create", {"sen": "key1.com", **plan})
    assert node.states() == {}
    assert list(node.folder.elements.iterdir()) == []


def test_a_name_in_use_is_refused_whatever_its_case(node: LocalNode):
    node.create("key1.com")
    node.create("key2.com")
    for op, arguments in (
        ("element.create", {"sen": "KEY1.com"}),
        ("element.rename", {"element": "key2.com", "sen": "Key1.com"}),
    ):
        with pytest.raises(ConfigurationError, match="already named"):
            node.ask(op, arguments)
    node.ask("element.rename", {"element": "key2.com", "sen": "KEY2.com"})
    assert set(node.states()) == {"key1.com", "KEY2.com"}


def test_a_renamed_element_keeps_its_keys_and_shows_its_name_in_the_atr(node: LocalNode):
    node.create("key1.com")
    before = node.secrets("key1.com")
    view = node.ask("element.rename", {"element": "key1.com", "sen": "bank.example"})["element"]
    assert bytes.fromhex(view["atr"]).find(b"bank.example") > 0
    assert node.secrets("bank.example") == before
    host = next(host for host in node.hosts if view["seid"] in host.rack.records)
    assert b"bank.example" in host.rack.open(view["seid"]).power_on()


def test_demo_keys_are_the_published_ones_and_only_when_asked_for(node: LocalNode):
    node.create("demo.com", demo_keys=True)
    node.create("real.com")
    assert node.secrets("demo.com")["psk"] == bytes(range(1, 33)).hex()
    assert node.secrets("demo.com")["admin_pin"] == "00000000"
    assert node.secrets("real.com")["psk"] != node.secrets("demo.com")["psk"]
    assert node.secrets("real.com")["admin_pin"] != "00000000"


def test_secrets_are_handed_out_once_unless_asked_again(node: LocalNode):
    node.create("key1.com")
    node.ask("element.secrets", {"element": "key1.com"})
    node.ask("element.secrets.given", {"element": "key1.com"})
    with pytest.raises(ConfigurationError, match="handed out before"):
        node.ask("element.secrets", {"element": "key1.com"})
    assert node.secrets("key1.com")["psk"]


def test_an_element_in_a_session_is_left_alone(node: LocalNode):
    seid = node.create("key1.com")
    host = next(host for host in node.hosts if seid in host.rack.records)
    host.rack.open(seid).power_on()
    for op in ("rename", "delete", "export", "unlock", "secrets"):
        arguments = {"element": seid, "sen": "new.com", "file": "f"}
        with pytest.raises(ConfigurationError, match="in use by a session"):
            node.ask(f"element.{op}", arguments)
    assert asyncio.run(node.depot.access())[0].sen == "key1.com"
    host.rack.release(seid)
    node.ask("element.delete", {"element": seid})


def test_unlock_gives_every_try_back(node: LocalNode):
    seid = node.create("key1.com")
    host = next(host for host in node.hosts if seid in host.rack.records)
    card = host.rack.open(seid)
    card.power_on()
    answers = [card.process(WRONG_ADMIN_PIN).hex() for _ in range(10)]
    assert answers[0] == "6309"
    assert answers[-1] == "6300"
    card.power_off()
    host.rack.release(seid)
    node.ask("element.unlock", {"element": seid})
    card = host.rack.open(seid)
    card.power_on()
    assert card.process(WRONG_ADMIN_PIN).hex() == "6309"


def test_unlock_gives_the_change_of_psk_its_tries_back():
    failures = f"{TLS_SE_AID}/object/psk.failures"
    changes = TlsSeMaker().unlock({failures: b"\x0a"})
    assert changes == {failures: None}
    assert failures not in TlsSeMaker().unlock({})


def test_a_rename_changes_the_name_that_the_tls_server_answers_to():
    changes = TlsSeMaker().rename({}, "bank.example")
    assert changes[f"{TLS_SE_AID}/object/name"] == b"bank.example"
    assert len(changes) == 2


def test_a_deleted_element_leaves_no_file(node: LocalNode):
    seid = node.create("key1.com")
    node.ask("element.delete", {"element": "key1.com"})
    assert node.states() == {}
    assert not any(seid in item.name for item in node.folder.elements.iterdir())
    with pytest.raises(ConfigurationError, match="no element"):
        node.show("key1.com")


def test_a_full_disk_refuses_a_new_element_and_leaves_nothing(node, monkeypatch):
    node.create("key1.com")

    def refuse(*_: object) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr("iose.runtime.store.SqliteStore.write", refuse)
    with pytest.raises(StoreError, match="full") as caught:
        node.create("key2.com")
    assert "disk" in caught.value.hint
    monkeypatch.undo()
    assert node.states() == {"key1.com": "ready"}
    assert len(list(node.folder.elements.iterdir())) == 1
    node.create("key2.com")


def test_elements_made_before_one_that_could_not_be_stay(node: LocalNode, monkeypatch):
    made = []
    personalise = TlsSeMaker.personalise

    def refuse_the_second(maker, store, plan) -> None:
        made.append(plan.sen)
        if len(made) == 2:
            raise StoreError("database or disk is full")
        personalise(maker, store, plan)

    monkeypatch.setattr(TlsSeMaker, "personalise", refuse_the_second)
    with pytest.raises(StoreError, match="full"):
        asyncio.run(node.depot.fill(3))
    assert len(made) == 3
    assert node.states() == {made[0]: "ready", made[2]: "ready"}
    assert len(list(node.folder.elements.iterdir())) == 2
    assert made[0] in node.folder.index.read_text()


def restart(node: LocalNode, *, hosts: int = 2) -> LocalNode:
    node.depot.save()
    node.power_off()
    return LocalNode(node.folder.path, hosts=hosts)


def test_a_restart_knows_elements_without_opening_them(node: LocalNode, monkeypatch):
    asyncio.run(node.depot.fill(3))
    before = node.ask("element.list", {})
    monkeypatch.setattr("iose.runtime.elements.shelf.StoreShelf.open", None)
    again = restart(node, hosts=1)
    assert again.ask("element.list", {}) == before
    assert len(again.hosts[0].rack.list_elements()) == 3


def test_a_changed_file_or_a_lost_index_is_read_again(node: LocalNode):
    asyncio.run(node.depot.fill(2))
    before = node.ask("element.list", {})
    node.depot.save()
    node.power_off()
    for path in node.folder.elements.glob("*.db"):
        path.touch()
    again = LocalNode(node.folder.path)
    assert again.ask("element.list", {}) == before
    again.power_off()
    node.folder.index.write_text("[{")
    assert LocalNode(node.folder.path).ask("element.list", {}) == before


def test_an_index_that_cannot_be_written_or_removed_is_no_error(node: LocalNode, monkeypatch):
    def refuse(*_arguments, **_options) -> None:
        raise OSError(30, "Read-only file system")

    node.create("key1.com")
    node.depot._saved = b""
    monkeypatch.setattr("iose.runtime.elements.depot.write_private", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    node.depot.save()


def test_a_host_that_starts_again_reads_what_its_killed_forerunner_wrote(node: LocalNode):
    kept, lost = node.create("key1.com"), node.create("key2.com")
    node.power_off()
    node.folder.store(kept).touch()
    node.folder.store(lost).unlink()
    shares = [record for number in range(2) for record in node.depot.share(number)]
    assert [(record["seid"], record["stamp"]) for record in shares] == [(kept, 0)]
    assert lost not in node.depot.records


def test_an_element_whose_host_died_just_after_making_it_is_not_forgotten(node, monkeypatch):
    host = node.hosts[0]
    carry_out = host.owner.handle

    async def make_and_die(op: str, arguments):
        await carry_out(op, arguments)
        raise ControlError("the other end of the control channel is gone")

    monkeypatch.setattr(host.owner, "handle", make_and_die)
    with pytest.raises(ControlError):
        node.create("key1.com")
    monkeypatch.undo()
    (record,) = node.depot.share(0)
    host.rack.adopt([ElementRecord.from_json(record)])
    node.depot.take([host.rack.records[record["seid"]].to_json()])
    assert node.states() == {"key1.com": "ready"}


def test_a_name_changed_by_the_administrator_is_told_at_once(node: LocalNode):
    seid = node.create("key1.com", wire="compatible", demo_keys=True)
    host = next(host for host in node.hosts if seid in host.rack.records)
    card = host.rack.open(seid)
    card.power_on()
    assert card.process(bytes.fromhex("0020000108") + b"00000000").hex() == "9000"
    assert card.process(bytes.fromhex("00DA000A05") + b"x.com").hex() == "9000"
    assert host.told[-1].sen == "x.com"


def test_a_broken_store_harms_no_other_element(node: LocalNode):
    broken = node.create("key1.com")
    node.create("key2.com")
    node.power_off()
    node.folder.store(broken).write_bytes(b"not a database")
    again = LocalNode(node.folder.path)
    assert again.show(broken)["state"] == ElementState.BROKEN.value
    assert [info.sen for info in again.hosts[0].rack.list_elements()] == ["key2.com"]
    with pytest.raises(IoseError):
        again.secrets(broken)
    again.ask("element.delete", {"element": broken})
    assert again.states() == {"key2.com": "ready"}


def test_a_store_that_rots_unnoticed_is_left_out_named_and_logged(node: LocalNode, capfd):
    rotten = node.create("key1.com")
    node.create("key2.com")
    node.depot.save()
    node.power_off()
    path = node.folder.store(rotten)
    content, stamp = bytearray(path.read_bytes()), path.stat().st_mtime_ns
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    os.utime(path, ns=(stamp, stamp))
    again = LocalNode(node.folder.path)
    assert again.states() == {"key1.com": "ready", "key2.com": "ready"}
    assert [access.sen for access in asyncio.run(again.depot.access())] == ["key2.com"]
    again.depot.take([record.to_json() for record in again.hosts[0].told])
    assert again.states() == {"key1.com": "broken", "key2.com": "ready"}
    assert [info.sen for info in again.hosts[0].rack.list_elements()] == ["key2.com"]
    logged = capfd.readouterr()
    assert rotten in logged.out + logged.err
    again.depot.save()
    again.power_off()
    once_more = LocalNode(node.folder.path)
    assert once_more.states() == {"key1.com": "broken", "key2.com": "ready"}
    once_more.power_off()


def test_two_elements_with_one_name_are_reported(node: LocalNode):
    seid = node.create("key1.com", wire="compatible", demo_keys=True)
    node.create("key2.com")
    host = next(host for host in node.hosts if seid in host.rack.records)
    card = host.rack.open(seid)
    card.power_on()
    card.process(bytes.fromhex("0020000108") + b"00000000")
    card.process(bytes.fromhex("00DA000A08") + b"KEY2.com")
    node.depot.take([host.told[-1].to_json()])
    assert node.depot.repeated_sens() == ["key2.com"]
    assert node.show(seid)["repeated_sens"] == ["KEY2.com"]
    with pytest.raises(ConfigurationError, match="2 elements are named"):
        node.show("key2.com")
    assert node.show(seid)["sen"] == "KEY2.com"


def test_a_seid_means_that_element_whatever_another_one_is_named(node: LocalNode):
    impostor, wanted = node.create("key1.com"), node.create("key2.com")
    node.ask("element.rename", {"element": impostor, "sen": wanted})
    assert node.show(wanted)["sen"] == "key2.com"
    assert node.show(impostor)["sen"] == wanted


def test_an_encrypted_folder_holds_nothing_in_clear_and_opens_with_its_key_alone(tmp_path: Path):
    node = LocalNode(tmp_path / "data", data_key=b"k" * 32)
    seid = node.create("key1.com")
    psk = bytes.fromhex(node.secrets("key1.com")["psk"])
    node.power_off()
    content = node.folder.store(seid).read_bytes()
    assert psk not in content
    assert b"card/registry" not in content
    with pytest.raises(IoseError):
        LocalNode(node.folder.path, data_key=b"x" * 32).secrets("key1.com")
    again = LocalNode(node.folder.path, data_key=b"k" * 32)
    assert again.secrets("key1.com")["psk"] == psk.hex()


def test_only_a_bounded_number_of_stores_is_open(node: LocalNode):
    asyncio.run(node.depot.fill(80))
    for host in node.hosts:
        for seid in host.rack.records:
            host.rack.open(seid).power_on()
            host.rack.release(seid)
        assert len(host.rack._idle) == 32
    assert node.states()["key80.com"] == "ready"


def test_refused_work_of_the_owner_leaves_no_more_stores_open(node: LocalNode):
    asyncio.run(node.depot.fill(80))
    for sen in node.states():
        node.ask("element.secrets.given", {"element": sen})
        with pytest.raises(ConfigurationError):
            node.ask("element.secrets", {"element": sen})
    assert [len(host.rack._idle) for host in node.hosts] == [32, 32]


def test_an_element_that_cannot_be_removed_is_still_there(node: LocalNode, monkeypatch):
    seid = node.create("key1.com")
    host = next(host for host in node.hosts if seid in host.rack.records)
    monkeypatch.setattr("iose.runtime.elements.shelf._remove", refuse_to_write)
    with pytest.raises(StoreError, match="cannot be removed"):
        node.ask("element.delete", {"element": "key1.com"})
    monkeypatch.undo()
    assert node.states() == {"key1.com": "ready"}
    assert [info.sen for info in host.rack.list_elements()] == ["key1.com"]
    node.ask("element.delete", {"element": "key1.com"})


def refuse_to_write(_path: Path) -> None:
    raise OSError(30, "Read-only file system")
