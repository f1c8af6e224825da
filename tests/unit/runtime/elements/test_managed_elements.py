# SPDX-License-Identifier: Apache-2.0
"""Elements and their issuer: keys for the owner, instances told at once, older elements renewed."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from iose.applets.security_domain import ISD_AID, read_domain
from iose.applets.tls_im import TLS_IM_AID, ModulePersonalisation
from iose.applets.tls_se import TLS_SE_AID, Limits, Personalisation, Settings, Wire
from iose.card.contents import COPY_NAME as CARD_COPY_NAME
from iose.card.registry import REGISTRY_NAME, Registry
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.channel import ScpVariant, SecurityLevel
from iose.globalplatform.commands import Delete, SetStatus, StatusScope, load_blocks, store_blocks
from iose.globalplatform.host import HostChannel
from iose.globalplatform.install import (
    InstallForInstall,
    InstallForLoad,
    InstallForPersonalization,
    RegistryUpdate,
)
from iose.globalplatform.keys import KeySet
from iose.globalplatform.life_cycle import NO_PRIVILEGES, Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.protocols.host_frames import ElementInstance
from iose.runtime.compose import (
    TlsSeMaker,
    build_card,
    card_packages,
    draw_instance_secrets,
    encode_instance,
)
from iose.runtime.elements.owner import ElementPlan
from iose.runtime.elements.ownership import export_element, import_element
from iose.runtime.elements.record import COPY_NAME, MARK_NAME, ElementRecord, Mark
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.runtime.packages import shipped_packages
from iose.wire.errors import StoreError
from tests.support.memory_store import MemoryStore, PowerFailure
from tests.unit.runtime.elements.local_node import LocalNode

DEMO_KEY = bytes(range(0x40, 0x50)).hex()
SELECT_DOMAIN = CommandApdu(0, 0xA4, 4, 0, ISD_AID.value)
PACKAGE = Aid.from_hex("0102030405")
SECOND = Aid.from_hex("010203040501")
SEID = "se-01234567"


class Session:
    """The owner of an element at work on it, with the keys that ``element secrets`` gave."""

    def __init__(self, card, secrets) -> None:
        self.card = card
        keys = KeySet(
            int(secrets["isd_key_version"], 16),
            *(bytes.fromhex(secrets[f"isd_{name}"]) for name in ("enc", "mac", "dek")),
            ScpVariant(int(secrets["isd_scp"], 16), 0).key_type,
        )
        variant = ScpVariant(int(secrets["isd_scp"], 16), int(secrets["isd_scp_i"], 16))
        self.host = HostChannel(PycaCrypto(), OsRng(), keys, SecurityLevel(3), expected=variant)
        assert self.transmit(SELECT_DOMAIN).status == 0x9000
        answer = self.transmit(self.host.initialize_update())
        assert self.host.unwrap(self.transmit(self.host.authenticate(answer))).status == 0x9000

    def transmit(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu.decode(self.card.process(command.encode()))

    def send(self, request) -> str:
        answer = self.host.unwrap(self.transmit(self.host.wrap(request.to_command())))
        return str(answer.status)

    def install(self, aid: Aid, personalisation: Personalisation, **options: object) -> str:
        parameters = personalisation.encode()
        return self.send(
            InstallForInstall(PACKAGE, TLS_SE_AID, aid, parameters=parameters, **options)
        )


@pytest.fixture
def node(tmp_path: Path):
    node = LocalNode(tmp_path / "data")
    yield node
    node.power_off()


class Managed:
    """One element of a node, opened by its owner."""

    def __init__(self, node: LocalNode, seid: str) -> None:
        self.node, self.seid = node, seid
        self.secrets = node.secrets(seid)
        self.card = node.hosts[0].rack.open(seid)
        self.card.power_on()
        self.session = Session(self.card, self.secrets)

    @property
    def record(self) -> ElementRecord:
        """What the host told last."""
        return self.node.hosts[0].told[-1]

    def close(self) -> None:
        self.card.power_off()
        self.node.hosts[0].rack.release(self.seid)


@pytest.fixture
def managed(node: LocalNode):
    managed = Managed(node, node.create("key1.com"))
    yield managed
    managed.close()


def test_the_owner_gets_the_keys_of_the_domain(node: LocalNode):
    seid = node.create("key1.com")
    secrets = node.secrets(seid)
    named = [secrets[f"isd_{name}"] for name in ("key_version", "scp", "scp_i")]
    assert named == ["30", "03", "70"]
    keys = {secrets[f"isd_{name}"] for name in ("enc", "mac", "dek")}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}
    assert not any(key in str(node.show(seid)) for key in keys)


def test_demo_keys_are_those_everybody_knows(node: LocalNode):
    secrets = node.secrets(node.create("key1.com", demo_keys=True))
    assert {secrets[f"isd_{name}"] for name in ("enc", "mac", "dek")} == {DEMO_KEY}


@pytest.mark.parametrize(
    ("plan", "scp", "i"),
    [
        ({"scp": 2}, "02", "15"),
        ({"scp": 2, "scp_i": 0x55}, "02", "55"),
        ({"scp": 3}, "03", "70"),
        ({"scp_i": 0x61}, "03", "61"),
        ({"scp": 3, "scp_i": 0}, "03", "00"),
    ],
)
def test_the_channel_of_a_new_element_can_be_chosen(node: LocalNode, plan, scp: str, i: str):
    managed = Managed(node, node.create("key1.com", **plan))
    assert (managed.secrets["isd_scp"], managed.secrets["isd_scp_i"]) == (scp, i)
    managed.close()


@pytest.mark.parametrize("plan", [{"scp": 1}, {"scp": 2, "scp_i": 0x70}, {"scp_i": 0x80}])
def test_a_channel_that_does_not_exist_is_refused(node: LocalNode, plan):
    with pytest.raises(ConfigurationError, match="security domain"):
        node.create("key1.com", **plan)
    assert node.states() == {}


def test_a_new_instance_is_told_at_once_with_its_name(managed: Managed):
    given = Personalisation(b"second.com")
    assert managed.session.install(SECOND, given) == "9000"
    assert managed.record.sen == "key1.com"
    assert managed.record.instances == (ElementInstance("second.com", SECOND.value),)
    (info,) = managed.node.hosts[0].rack.list_elements()
    assert info.instances == managed.record.instances
    assert managed.card.reset()[3:-1] == b"key1.com"


def test_a_locked_or_deleted_instance_is_told_at_once(managed: Managed):
    managed.session.install(SECOND, Personalisation(b"second.com"))
    lock = SetStatus(StatusScope.APPLICATIONS, 0x80, SECOND)
    assert managed.session.send(lock) == "9000"
    assert managed.record.instances == ()
    assert managed.session.send(SetStatus(StatusScope.APPLICATIONS, 0, SECOND)) == "9000"
    assert managed.record.instances
    assert managed.session.send(Delete(SECOND)) == "9000"
    assert managed.record.instances == ()


def test_an_element_without_its_default_server_has_no_name_and_keeps_working(managed: Managed):
    managed.session.install(SECOND, Personalisation(b"second.com", Settings(Wire.COMPATIBLE)))
    assert managed.session.send(Delete(TLS_SE_AID)) == "9000"
    record = managed.record
    assert (record.sen, record.wire) == ("", "compatible")
    assert record.instances == (ElementInstance("second.com", SECOND.value),)
    managed.node.depot.take([record.to_json()])
    managed.close()
    secrets = managed.node.secrets(managed.seid)
    assert "psk" not in secrets
    (instance,) = secrets["instances"]
    assert (instance["aid"], instance["sen"]) == (str(SECOND), "second.com")
    assert len(instance["psk"]) == 64
    with pytest.raises(ConfigurationError, match="no TLS server of its own"):
        managed.node.ask("element.rename", {"element": managed.seid, "sen": "other.com"})
    managed.card = managed.node.hosts[0].rack.open(managed.seid)
    assert managed.card.power_on()[3:-1] == b""
    session = Session(managed.card, secrets)
    assert session.send(Delete(SECOND)) == "9000"
    assert managed.record.instances == ()
    assert managed.record.wire == "hardened"


def test_an_element_whose_default_server_is_gone_does_not_stop_the_others(node: LocalNode):
    import asyncio  # noqa: PLC0415

    managed = Managed(node, node.create("key1.com"))
    node.create("key2.com")
    managed.session.send(Delete(PACKAGE, and_related=True))
    managed.close()
    assert [access.sen for access in asyncio.run(node.depot.access())] == ["key2.com"]


def test_another_instance_can_take_the_place_of_the_default(managed: Managed):
    managed.session.install(SECOND, Personalisation(b"second.com"))
    assert managed.session.send(RegistryUpdate(TLS_SE_AID, NO_PRIVILEGES)) == "9000"
    assert managed.session.send(RegistryUpdate(SECOND, Privilege.DEFAULT_SELECTED)) == "9000"
    assert managed.record.sen == "second.com"
    assert managed.record.instances == (ElementInstance("key1.com", TLS_SE_AID.value),)
    assert b"second.com" in managed.card.reset()


def test_an_instance_is_personalised_over_the_domain(managed: Managed):
    session = managed.session
    assert session.install(SECOND, Personalisation(b"draft.com", is_final=False)) == "9000"
    given = Personalisation(b"final.com", psk=b"\x55" * 32, seid=SEID.encode())
    for _ in range(2):
        statuses = [session.send(InstallForPersonalization(SECOND))]
        statuses += [session.send(block) for block in store_blocks(given.encode(), 40)]
        if _ == 0:
            assert set(statuses) == {"9000"}
    assert statuses[1] == "6985"
    assert managed.record.instances == (ElementInstance("final.com", SECOND.value),)
    managed.close()
    store = managed.node.hosts[0].rack.visit(managed.seid).load()
    assert store[f"{SECOND}/object/seid"] == SEID.encode()
    assert store[f"{TLS_SE_AID}/object/seid"] == managed.seid.encode()
    assert managed.node.secrets(managed.seid)["instances"][0]["psk"] == "55" * 32


def test_a_deleted_instance_leaves_no_trace_in_the_files_of_its_element(
    node: LocalNode, managed: Managed
):
    drawn = draw_instance_secrets()
    parameters, content = encode_instance("more.com", managed.seid, drawn)
    install = InstallForInstall(PACKAGE, TLS_SE_AID, SECOND, parameters=parameters)
    requests = [install, InstallForPersonalization(SECOND), *store_blocks(content, 200)]
    assert {managed.session.send(request) for request in requests} == {"9000"}
    file = node.folder.store(managed.seid)

    def found() -> list[str]:
        files = [one.read_bytes() for one in file.parent.glob(f"{file.name}*")]
        wanted = {
            "psk": bytes.fromhex(drawn["psk"]),
            "guest PSK": bytes.fromhex(drawn["guest_psk"]),
            "user PIN": drawn["user_pin"].encode(),
            "administrator PIN": drawn["admin_pin"].encode(),
            "names": f"{SECOND}/".encode(),
        }
        return [name for name, value in wanted.items() if any(value in one for one in files)]

    assert len(found()) == 5
    assert managed.session.send(Delete(SECOND)) == "9000"
    assert found() == []  # though the element is in use


def test_the_identity_module_is_loaded_and_its_pins_given_to_the_owner(managed: Managed):
    shipped = shipped_packages()["tls-im"]
    load_file = shipped.load_file
    data_hash = load_file.hash(PycaCrypto())
    assert (
        managed.session.send(InstallForLoad(load_file.package_aid, data_hash=data_hash)) == "9000"
    )
    for block in load_blocks(load_file.stream, 200):
        assert managed.session.send(block) == "9000"
    parameters = ModulePersonalisation().encode()
    request = InstallForInstall(
        load_file.package_aid, shipped.applet_aid, TLS_IM_AID, parameters=parameters
    )
    assert managed.session.send(request) == "9000"
    assert managed.record.instances == ()
    managed.close()
    (module,) = managed.node.secrets(managed.seid)["instances"]
    assert module["aid"] == str(TLS_IM_AID)
    assert len(module["admin_pin"]) == 8


def test_names_of_instances_are_taken(node: LocalNode, managed: Managed):
    managed.session.install(SECOND, Personalisation(b"second.com"))
    node.depot.take([managed.record.to_json()])
    with pytest.raises(ConfigurationError, match="already named"):
        node.create("Second.com")
    assert node.depot.repeated_sens() == []


def test_a_node_looks_again_when_an_instance_comes_or_goes(node: LocalNode, managed: Managed):
    managed.session.install(SECOND, Personalisation(b"second.com"))
    assert node.depot.take([managed.record.to_json()])
    assert not node.depot.take([managed.record.to_json()])
    managed.session.send(Delete(SECOND))
    assert node.depot.take([managed.record.to_json()])


def test_a_node_looks_again_when_an_instance_takes_less_at_once(node: LocalNode, managed: Managed):
    given = Personalisation(b"second.com", is_final=False)
    managed.session.install(SECOND, given)
    node.depot.take([managed.record.to_json()])
    smaller = replace(given, settings=Settings(limits=Limits.CHIP), is_final=True).encode()
    for request in (InstallForPersonalization(SECOND), *store_blocks(smaller, 200)):
        assert managed.session.send(request) == "9000"
    assert managed.record.chunk_size < node.depot.records[managed.seid].chunk_size
    assert node.depot.take([managed.record.to_json()])
    assert not node.depot.take([replace(managed.record, stamp=1).to_json()])


def test_a_record_of_an_older_index_has_no_instances():
    record = ElementRecord(SEID, instances=(ElementInstance("a.com", SECOND.value),))
    source = record.to_json()
    assert ElementRecord.from_json(source) == record
    del source["instances"]
    assert ElementRecord.from_json(source) == ElementRecord(SEID)


def test_unlock_opens_a_blocked_domain_again(node: LocalNode):
    managed = Managed(node, node.create("key1.com"))
    for _ in range(10):
        managed.session.transmit(SELECT_DOMAIN)
        managed.card.process(bytes.fromhex("8050000008" + "00" * 8))
        managed.card.process(bytes.fromhex("8482010010" + "00" * 16))
    assert managed.card.process(bytes.fromhex("8050000008" + "00" * 8)).hex() == "6983"
    managed.close()
    node.ask("element.unlock", {"element": managed.seid})
    Managed(node, managed.seid).close()


def test_the_card_of_a_copy_knows_that_it_is_one(node: LocalNode):
    assert COPY_NAME == CARD_COPY_NAME
    seid = node.create("key1.com")
    rack = node.hosts[0].rack
    assert COPY_NAME not in rack.visit(seid).load()
    element = rack.visit(seid)
    node.hosts[0].owner._marked(element, Mark(is_copy=True))
    assert rack.visit(seid).load()[COPY_NAME] == b"\x01"


def test_an_element_travels_with_its_instances_and_not_to_where_one_of_their_names_is_used(
    node: LocalNode, managed: Managed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("iose.crypto.passphrase.ScryptParameters.__init__.__defaults__", (4,))
    managed.session.install(SECOND, Personalisation(b"second.com"))
    managed.close()
    file, words = tmp_path / "element.iose", lambda: "a long passphrase"
    export_element(node.ask, managed.seid, file, words, is_copy=True)
    for name, is_refused in (("SECOND.com", True), ("third.com", False)):
        other = LocalNode(tmp_path / name)
        other.create(name)
        if is_refused:
            with pytest.raises(ConfigurationError, match="already named"):
                import_element(other.ask, file, words)
            assert managed.seid not in other.depot.records
        else:
            import_element(other.ask, file, words)
            assert other.show(managed.seid) == node.show(managed.seid)
            assert other.show(managed.seid)["copy"] is True
            kept = other.hosts[0].rack.visit(managed.seid).load()
            assert kept == node.hosts[0].rack.visit(managed.seid).load()
            assert kept[COPY_NAME] == b"\x01"
            assert other.secrets(managed.seid) == node.secrets(managed.seid)
        other.power_off()


def old_store() -> MemoryStore:
    """Return the store of an element as it was made before there were security domains."""
    store = MemoryStore()
    TlsSeMaker().personalise(store, ElementPlan("old.com", has_demo_keys=True))
    objects = store.contents
    for name in [name for name in objects if name.startswith(str(ISD_AID))]:
        del objects[name]
    del objects[f"{TLS_SE_AID}/historical-bytes"]
    objects["card/historical-bytes"] = b"old.com"
    aid = TLS_SE_AID.value
    objects[REGISTRY_NAME] = b"\x01" + bytes((len(aid),)) + aid + b"\x06tls_se\x04\x07"
    store.writes = 0
    return store


def test_an_older_element_gets_a_domain_of_its_own_and_keeps_everything():
    store = old_store()
    before = dict(store.contents)
    described = TlsSeMaker().describe(SEID, before)
    assert described.sen == "old.com"
    card = TlsSeMaker().build(store, SEID)
    assert b"old.com" in card.power_on()
    registry = Registry.decode(store.contents[REGISTRY_NAME])
    assert registry.load_files == (PACKAGE,)
    assert [entry.load_file for entry in registry.entries] == [PACKAGE.value, b""]
    assert TlsSeMaker().describe(SEID, store.contents) == described
    assert "card/historical-bytes" not in store.contents
    assert store.contents[f"{TLS_SE_AID}/object/seid"] == SEID.encode()
    secrets = TlsSeMaker().read_secrets(store.contents)
    assert secrets["isd_enc"] != DEMO_KEY
    assert secrets["psk"] == TlsSeMaker().read_secrets(before)["psk"]
    Session(card, secrets)
    kept = {name for name in before if name.startswith(str(TLS_SE_AID))}
    assert all(store.contents[name] == before[name] for name in kept)


def test_an_older_element_of_a_folder_is_renewed_when_it_is_opened(node: LocalNode):
    seid = node.create("key1.com")
    rack = node.hosts[0].rack
    new = rack.visit(seid).load()
    rack.settle(seid)
    with closing(rack._shelf.open(seid)) as store:
        store.write({**dict.fromkeys(new), **old_store().contents})
    again = LocalNode(node.folder.path)
    assert again.show(seid)["sen"] == "old.com"
    managed = Managed(again, seid)
    assert managed.secrets["isd_enc"] != new[f"{ISD_AID}/object/keys"].hex()
    managed.close()
    again.power_off()


def test_an_element_is_renewed_once():
    store = old_store()
    TlsSeMaker().build(store)
    writes = store.writes
    contents = dict(store.contents)
    TlsSeMaker().build(store)
    assert (store.writes, store.contents) == (writes, contents)


def test_a_renewal_that_is_cut_anywhere_is_finished_by_the_next_one():
    old = old_store()
    old.contents[MARK_NAME] = Mark(is_copy=True).encode()
    whole = MemoryStore(old.contents)
    TlsSeMaker().build(whole, SEID)
    for step in range(whole.steps):
        store = MemoryStore(old.contents)
        store.cut_at = step
        with pytest.raises(PowerFailure):
            TlsSeMaker().build(store, SEID)
        kept = store.contents
        assert TlsSeMaker().read_secrets(kept)["psk"]
        store = MemoryStore(kept)
        TlsSeMaker().build(store, SEID)
        assert store.contents.keys() == whole.contents.keys()
        assert read_domain(store.contents)
        if read_domain(kept):
            assert store.contents == kept
    assert whole.steps == 4


def test_an_older_copy_is_marked_for_the_card():
    store = old_store()
    store.contents[MARK_NAME] = Mark(is_copy=True).encode()
    TlsSeMaker().build(store)
    assert store.contents[COPY_NAME] == b"\x01"


def test_an_older_element_on_a_full_disk_serves_as_before():
    store = old_store()
    before = dict(store.contents)
    store.full = True
    card = TlsSeMaker().build(store, SEID)
    assert b"old.com" in card.power_on()
    assert card.process(bytes.fromhex("00A40400")).hex() == "6a82"
    assert card.process(bytes.fromhex("00D8000000")).hex() == "9000"
    assert store.contents == before
    assert read_domain(before) is None


def test_an_older_element_says_its_secrets_before_it_is_renewed():
    secrets = TlsSeMaker().read_secrets(old_store().contents)
    assert "isd_enc" not in secrets
    assert secrets["psk"]


def test_a_store_without_registry_is_no_element():
    with pytest.raises(ConfigurationError, match="holds no element"):
        TlsSeMaker().build(MemoryStore())
    with pytest.raises(ConfigurationError, match="damaged"):
        TlsSeMaker().build(MemoryStore({REGISTRY_NAME: b"\x09"}))


def test_the_load_files_of_our_modules_name_what_runs():
    packages = {one.modules[0][1]: one for one in card_packages()}
    assert packages.keys() == {"tls_se", "tls_im"}
    for shipped in shipped_packages().values():
        package = packages[shipped.module]
        mark = shipped.load_file.mark
        assert mark is not None
        assert mark.module == shipped.module
        assert package.digest == shipped.load_file.hash(PycaCrypto())
        assert package.modules == ((shipped.applet_aid, shipped.module),)
        assert shipped.version == ".".join(map(str, package.version))
    assert len({package.data for package in packages.values()}) == 2


def test_an_element_without_use_of_its_domain_builds_no_domain():
    store = MemoryStore()
    TlsSeMaker().personalise(store, ElementPlan("key1.com"))
    store.loads = 0
    card = TlsSeMaker().build(store)
    card.power_on()
    assert [*card._channels._instances] == [TLS_SE_AID.value]
    assert store.loads == 2


def test_a_card_that_cannot_be_made_leaves_an_error():
    store = MemoryStore()
    store.full = True
    with pytest.raises(StoreError):
        TlsSeMaker().personalise(store, ElementPlan("key1.com"))
    assert build_card(store, Settings())
    assert store.contents == {}
