# SPDX-License-Identifier: Apache-2.0
"""Sessions whose PSK is in an identity module: on a card, or with another element."""

import asyncio
import contextlib
import itertools
import json
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iose.applet_commands.psk import derive_psk
from iose.applets.tls_im import ModulePersonalisation, Setting
from iose.client.access import resolve_access
from iose.client.asynchronous import AsyncElement
from iose.client.blocking import Element, _on_loop
from iose.client.credentials import Credential, CredentialsStore
from iose.client.dialogue import Dialogue
from iose.client.errors import (
    AuthenticationError,
    CredentialsError,
    ElementUriError,
    ModuleError,
    ModulePinError,
    UnreachableError,
)
from iose.client.module import HopModule, RacsModule, decode_module
from iose.client.module_card import CardModule
from iose.client.module_session import CHAIN_LIMIT, HopSession, module_of
from iose.client.uri import ElementUri
from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.aid import Aid
from iose.transport.errors import TransportError
from iose.transport.software import SoftwareReader
from iose.wire.errors import LocalProtocolError
from tests.support.identity_module import DEMO_PSK, Module, demo_module
from tests.support.scripted_element import ScriptedElement

TARGET = ElementUri.decode("keyS://key1.com@127.0.0.1:8888/")
HOP = ElementUri.decode("keyS://hop@127.0.0.2:8888/")
HOP_PSK = bytes(range(50, 82))
PKI = Path("/pki")
RACS = RacsModule("host", 7777, "se-1", PKI, pin=b"0000")
CRYPTO = PycaCrypto()
TIMEOUT_S = 5.0


class RecordingReader(SoftwareReader):
    """A reader of a module that writes down what its card is asked.

    Attributes:
        log: Commands in hex, and "on" and "off".
    """

    def __init__(self, module: Module | None = None, log: list[str] | None = None) -> None:
        self.module = module or Module()
        self.module.card.power_off()
        self.log = [] if log is None else log
        self.answers: dict[str, str] = {}
        super().__init__("reader", self.module.card)
        process = self.module.card.process
        reader = self

        class Card:
            def __getattr__(self, name):
                return getattr(reader.module.card, name)

            def process(self, command: bytes) -> bytes:
                reader.log.append(command.hex().upper())
                scripted = reader.answers.get(command[1:2].hex().upper())
                return process(command) if scripted is None else bytes.fromhex(scripted)

            def power_on(self):
                reader.log.append("on")
                return reader.module.card.power_on()

            def power_off(self):
                reader.log.append("off")
                reader.module.card.power_off()

        self.card = Card()


@pytest.fixture
def store(tmp_path):
    return CredentialsStore(tmp_path / "credentials")


def dial(scripted, store, module, *, uri=TARGET):
    """Return a blocking element; a scripted one behind every address, or one per host."""
    access = resolve_access(uri, module=module, store=store)
    return Element(Dialogue(access, opener(scripted), TIMEOUT_S, _session(scripted, access)))


def opener(scripted):
    async def open_link(host, port, timeout_s):
        element = scripted[host] if isinstance(scripted, dict) else scripted
        return await element.open_link(host, port, timeout_s)

    return open_link


def _session(scripted, access):
    return module_of(access, opener(scripted), TIMEOUT_S, _on_loop)


def hop_element(module_psk: bytes | None = DEMO_PSK) -> ScriptedElement:
    """Return an element that computes with a PSK for its clients."""

    def answer(line: bytes) -> bytes:
        if module_psk is None or line[:3] not in (b"?D0", b"?D1", b"?D2"):
            return b"ERROR\r\n"
        psk = derive_psk(CRYPTO, module_psk)
        key = psk.external_finished if line[:3] == b"?D0" else psk.derived
        data = bytes.fromhex(line[3:].decode())
        return CRYPTO.hmac(HashAlgorithm.SHA256, key, data).hex().encode() + b"\r\n"

    return ScriptedElement(HOP_PSK, answer)


# --- on a card


def test_a_session_opens_with_a_psk_that_only_a_card_has(store):
    reader = RecordingReader()
    element = dial(ScriptedElement(DEMO_PSK), store, CardModule(reader, b"0000"))
    element.open()
    assert element.version() == "scripted"
    assert reader.log[:3] == ["on", "00A4040006010203040800", "002000000430303030"]
    assert [entry[:10] for entry in reader.log[3:]] == ["0085000C20", "0085000E20", "off"]
    assert not element.has_psk(DEMO_PSK)
    element.close()
    assert reader.log[-1] == "off"


def test_the_asyncio_form_does_the_same(store):
    reader = RecordingReader()

    async def talk():
        scripted = ScriptedElement(DEMO_PSK)
        access = resolve_access(TARGET, module=CardModule(reader, b"00000000"), store=store)
        module = module_of(access, scripted.open_link, TIMEOUT_S, lambda session: session)
        async with AsyncElement(Dialogue(access, scripted.open_link, TIMEOUT_S, module)) as element:
            return await element.version()

    assert asyncio.run(talk()) == "scripted"
    assert "00200001083030303030303030" in reader.log


def test_the_blocking_form_works_inside_a_running_loop(store):
    async def talk():
        element = dial(ScriptedElement(DEMO_PSK), store, CardModule(RecordingReader(), b"0000"))
        element.open()
        return element.version()

    assert asyncio.run(talk()) == "scripted"


def test_each_session_opens_and_closes_the_module_again(store):
    reader = RecordingReader()
    element = dial(ScriptedElement(DEMO_PSK), store, CardModule(reader, b"0000"))
    for _ in range(2):
        element.open()
        element.close()
    assert reader.log.count("on") == reader.log.count("off") == 2


def test_the_module_is_open_before_the_element_is_called_and_closed_before_we_finish(store):
    log = []
    reader = RecordingReader(log=log)

    class Element(ScriptedElement):
        async def open_link(self, host, port, timeout_s):
            log.append("call")
            link = await super().open_link(host, port, timeout_s)
            send = link.send

            async def noted(data, timeout_s):
                log.append("send")
                await send(data, timeout_s)

            link.send = noted
            return link

    element = dial(Element(DEMO_PSK), store, CardModule(reader, b"0000"))
    element.open()
    assert [entry[:6] for entry in log] == [
        *("on", "00A404", "002000", "call", "008500", "send", "008500", "off", "send"),
    ]


def test_an_element_that_is_not_there_costs_no_pin_and_lets_the_module_go(store):
    reader = RecordingReader()
    scripted = ScriptedElement(DEMO_PSK)
    scripted.unreachable = ConnectionRefusedError(111, "refused")
    element = dial(scripted, store, CardModule(reader, b"0000"))
    with pytest.raises(UnreachableError):
        element.open()
    assert reader.log[-1] == "off"


def test_a_module_with_another_psk_is_refused_by_the_element(store):
    module = CardModule(RecordingReader(Module(demo_module(psk=bytes(32)))), b"0000")
    with pytest.raises(AuthenticationError):
        dial(ScriptedElement(DEMO_PSK), store, module).open()


def test_a_refused_pin_is_never_tried_again(store):
    reader = RecordingReader()
    element = dial(ScriptedElement(DEMO_PSK), store, CardModule(reader, b"1111"))
    with pytest.raises(ModulePinError, match="2 tries are left"):
        element.open()
    assert reader.log[-1] == "off"
    sent = len(reader.log)
    with pytest.raises(ModulePinError, match="refused before"):
        element.open()
    assert len(reader.log) == sent


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("63C2", "2 tries are left"),
        ("63C1", "1 try is left"),
        ("63C0", "0 tries are left"),
        ("6300", "0 tries are left"),
        ("6983", "0 tries are left"),
    ],
)
def test_a_pin_that_another_card_refuses_in_its_own_words_is_not_tried_again(store, answer, left):
    reader = RecordingReader()
    reader.answers["20"] = answer
    element = dial(ScriptedElement(DEMO_PSK), store, CardModule(reader, b"0000"))
    with pytest.raises(ModulePinError, match=f"the PIN was refused, {left}$"):
        element.open()
    with pytest.raises(ModulePinError, match="refused before"):
        element.open()
    assert sum(entry.startswith("0020") for entry in reader.log) == 1


@pytest.mark.parametrize(
    ("given", "pin", "message"),
    [
        (ModulePersonalisation(user_pin=b"0000"), b"0000", "refuses to compute, 6985"),
        (demo_module(), None, "refuses to compute, 6380"),
        (demo_module(handshake_limit=1), b"0000", None),
    ],
)
def test_a_module_that_refuses_is_told_from_an_element_that_does(store, given, pin, message):
    element = dial(
        ScriptedElement(DEMO_PSK), store, CardModule(RecordingReader(Module(given)), pin)
    )
    if message is None:
        element.open()
        element.close()
        message = "refuses to compute, 6985"
    with pytest.raises(ModuleError, match=message):
        element.open()


@pytest.mark.parametrize(
    ("ins", "answer", "message"),
    [
        ("A4", "6A82", "does not let the module be selected, 6A82"),
        ("20", "6985", "without counting it, 6985"),
        ("85", "AABB9000", "expected 32 bytes of the module, found 2"),
        ("85", "00" * 33 + "9000", "found 33"),
        ("85", "9000", "found 0"),
        ("85", "6F00", "refuses to compute, 6F00"),
        ("85", "", "cannot be reached"),
    ],
)
def test_a_module_that_answers_nonsense_ends_the_session(store, ins, answer, message):
    reader = RecordingReader()
    reader.answers[ins] = answer
    with pytest.raises(ModuleError, match=message):
        dial(ScriptedElement(DEMO_PSK), store, CardModule(reader, b"0000")).open()
    assert reader.log[-1] == "off"


@settings(max_examples=60, deadline=None)
@given(
    ins=st.sampled_from(["A4", "20", "85", "C0"]),
    answer=st.binary(max_size=40)
    | st.sampled_from([b"\x61\x20", b"\x9f\x01", b"\x6c\x20", b"\x63\xc2", b"\x90"]),
    first=st.sampled_from([None, b"\x61\x20"]),
)
def test_whatever_a_card_answers_is_a_secret_or_a_module_error(ins, answer, first):
    reader = RecordingReader()
    reader.answers[ins] = answer.hex()
    if first is not None:
        reader.answers.setdefault("85", first.hex())

    async def use():
        module = CardModule(reader, b"0000")
        try:
            await module.open()
            return await module.handshake_secret(bytes(32))
        finally:
            await module.close()

    with contextlib.suppress(ModuleError):
        assert len(asyncio.run(use())) == 32
    assert reader.log[-1] == "off"


def test_a_card_that_is_held_cannot_be_reached(store):
    reader = RecordingReader()

    @contextlib.asynccontextmanager
    async def held():
        connection = await reader.connect()
        yield
        await connection.close()

    async def attempt():
        async with held():
            with pytest.raises(ModuleError, match="held by another connection"):
                await CardModule(reader, b"0000").open()

    asyncio.run(attempt())


def test_a_card_that_never_answers_is_given_up():
    class SilentReader:
        name = "silent"

        async def connect(self):
            await asyncio.Event().wait()

    with pytest.raises(ModuleError, match="no answer of the module within"):
        asyncio.run(CardModule(SilentReader(), b"0000", timeout_s=0.01).open())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("stuck", ["open", "binder"])
def test_an_interrupt_does_not_wait_for_a_module_that_hangs(store, stuck):
    log = []

    class Module:
        async def open(self):
            log.append("open")
            await self.hang("open")

        async def binder(self, _hash):
            await self.hang("binder")

        async def close(self):
            log.append("close")

        async def hang(self, step):
            if step != stuck:
                return
            try:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                log.append("cancelled")
                raise

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        dial(ScriptedElement(DEMO_PSK), store, Module()).open()
    assert sorted(log) == ["cancelled", "close", "open"]
    assert threading.active_count() == threads


def test_a_module_that_is_not_open_computes_nothing(store):
    with pytest.raises(ModuleError, match="not open"):
        asyncio.run(CardModule(RecordingReader()).binder(bytes(32)))
    with pytest.raises(LocalProtocolError, match="not open"):
        _on_loop(CardModule(RecordingReader())).binder(bytes(32)).send(None)


def test_a_module_may_be_opened_twice(store):
    reader = RecordingReader()
    module = _on_loop(CardModule(reader, b"0000"))
    for step in (module.open(), module.open(), module.close(), module.close()):
        with pytest.raises(StopIteration):
            step.send(None)
    assert reader.log.count("on") == reader.log.count("off") == 2


def test_the_psk_of_a_module_is_not_changed_from_here(store):
    element = dial(ScriptedElement(DEMO_PSK), store, CardModule(RecordingReader(), b"0000"))
    element.open()
    with pytest.raises(ModuleError, match="in an identity module"):
        element.change_psk()
    assert element.version() == "scripted"


def test_a_compatible_module_serves_too(store):
    reader = RecordingReader(Module(demo_module(Setting.COMPATIBLE)))
    element = dial(ScriptedElement(DEMO_PSK), store, CardModule(reader, b"0000"))
    element.open()
    assert element.version() == "scripted"


# --- with another element


def hop_access(store):
    store.save(Credential(HOP.address, HOP_PSK))
    return HopModule(HOP)


def test_a_session_opens_with_a_psk_that_another_element_has(store):
    hop = hop_element()
    scripted = {"127.0.0.1": ScriptedElement(DEMO_PSK), "127.0.0.2": hop}
    element = dial(scripted, store, hop_access(store))
    element.open()
    assert element.version() == "scripted"
    assert [line[:3] for line in hop.lines] == [b"?D0", b"?D1"]
    assert hop.links[0].is_closed
    assert hop.links[0].saw_close_notify


def test_a_hop_may_ask_for_its_button(store):
    hop = hop_element()
    store.save(Credential(HOP.address, HOP_PSK))
    scripted = {"127.0.0.1": ScriptedElement(DEMO_PSK), "127.0.0.2": hop}
    dial(scripted, store, HopModule(HOP, is_confirmed=True)).open()
    assert [line[:3] for line in hop.lines] == [b"?D0", b"?D2"]


def test_the_hop_is_open_before_the_element_is_called(store):
    hop = hop_element()
    hop.unreachable = ConnectionRefusedError(111, "refused")
    target = ScriptedElement(DEMO_PSK)
    with pytest.raises(ModuleError, match=r"hop hop@127\.0\.0\.2:8888: nothing answers"):
        dial({"127.0.0.1": target, "127.0.0.2": hop}, store, hop_access(store)).open()
    assert not target.links


@pytest.mark.parametrize(
    ("hop", "message"),
    [
        (hop_element(None), "refuses to compute"),
        (ScriptedElement(HOP_PSK, lambda _line: b"00\r\n"), "hop hop@"),
        (ScriptedElement(HOP_PSK, lambda _line: "close"), "hop hop@"),
        (ScriptedElement(bytes(32)), "refused the PSK"),
    ],
    ids=["no module PSK", "short answer", "closed", "wrong PSK"],
)
def test_a_hop_that_does_not_serve_is_named(store, hop, message):
    target = ScriptedElement(DEMO_PSK)
    element = dial({"127.0.0.1": target, "127.0.0.2": hop}, store, hop_access(store))
    with pytest.raises(ModuleError, match=message):
        element.open()
    assert all(link.is_closed for link in [*target.links, *hop.links])


def chain(store, length: int) -> HopModule:
    """Keep a chain of hops, each opened by the next; the last has its own key."""
    uris = [ElementUri.decode(f"keyS://h@127.0.1.{index}:1/") for index in range(length)]
    for uri, following in itertools.pairwise(uris):
        store.save(Credential(uri.address, module=HopModule(following)))
    store.save(Credential(uris[-1].address, HOP_PSK))
    return HopModule(uris[0])


def test_a_chain_of_hops_is_followed(store):
    scripted = {"127.0.0.1": ScriptedElement(DEMO_PSK)}
    for index in range(CHAIN_LIMIT):
        hop = scripted[f"127.0.1.{index}"] = hop_element()
        hop.psk = HOP_PSK if index == CHAIN_LIMIT - 1 else DEMO_PSK
    element = dial(scripted, store, chain(store, CHAIN_LIMIT))
    element.open()
    assert element.version() == "scripted"


def test_a_chain_may_end_in_a_card(store):
    reader = RecordingReader()
    hop = hop_element()
    hop.psk = DEMO_PSK
    target = ScriptedElement(DEMO_PSK)
    links = opener({"127.0.0.1": target, "127.0.0.2": hop})
    inner = resolve_access(HOP, module=CardModule(reader, b"0000"), store=store)
    session = module_of(inner, links, TIMEOUT_S, _on_loop)
    way = HopSession(Dialogue(inner, links, TIMEOUT_S, session), is_confirmed=False)
    access = resolve_access(TARGET, module=way, store=store)
    element = Element(Dialogue(access, links, TIMEOUT_S, way))
    element.open()
    assert element.version() == "scripted"
    assert reader.log[-1] == "off"


def test_the_hop_of_a_chain_that_fails_is_the_one_named(store):
    first, second = hop_element(), hop_element()
    second.unreachable = ConnectionRefusedError(111, "refused")
    scripted = {"127.0.0.1": ScriptedElement(DEMO_PSK), "127.0.1.0": first, "127.0.1.1": second}
    with pytest.raises(ModuleError, match=r"hop h@127\.0\.1\.1:1: nothing answers"):
        dial(scripted, store, chain(store, 2)).open()
    assert not first.links


def test_a_chain_that_is_too_long_is_refused_before_anything_is_opened(store):
    with pytest.raises(ModuleError, match=f"longer than {CHAIN_LIMIT} hops"):
        dial({}, store, chain(store, CHAIN_LIMIT + 1))


def test_a_chain_that_leads_back_to_itself_is_refused(store):
    store.save(Credential(HOP.address, module=HopModule(HOP)))
    with pytest.raises(ModuleError, match="longer than"):
        dial({}, store, HopModule(HOP))


# --- how a module is named and kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("racs://host/se-1", RacsModule("host", 7777, "se-1", PKI)),
        ("RACS://host:1/se-1", RacsModule("host", 1, "se-1", PKI)),
        ("racs://[::1]:7/a%2Fb", RacsModule("::1", 7, "a/b", PKI)),
        (
            "racs://h/x?aid=A000000151000000",
            RacsModule("h", 7777, "x", PKI, Aid.from_hex("A000000151000000")),
        ),
        ("keyS://hop@127.0.0.2:8888", HopModule(HOP)),
    ],
)
def test_a_module_is_named_by_a_uri_and_printed_as_one(text, expected):
    assert decode_module(text, pki=PKI) == expected
    assert decode_module(str(expected), pki=PKI) == expected


@pytest.mark.parametrize(
    "text",
    [
        "racs:",
        "racs://host",
        "racs:///se-1",
        "racs://host/a b",
        "racs://host:0/se",
        "racs://host:99999/se",
        "racs://host:x/se",
        "racs://[::1/se",
        "racs://me@host/se",
        "racs://host/se#x",
        "racs://host/se?aid=01",
        "racs://host/se?aid=zz",
        "racs://host/se?pin=0000",
        "racs://host/se?aid=0102030405&aid=0102030405",
        "keyS://nobody",
        "host",
    ],
)
def test_what_names_no_module_is_refused(text):
    with pytest.raises(ElementUriError):
        decode_module(text, pki=PKI)


@pytest.mark.parametrize("pin", [b"", b"123", b"12345", b"123456789"])
def test_a_pin_has_four_or_eight_characters(pin):
    with pytest.raises(ElementUriError, match="PIN of 4 or 8"):
        decode_module("racs://host/se", pki=PKI, pin=pin)


@pytest.mark.parametrize(
    "module",
    [RACS, RacsModule("::1", 1, "x", PKI, Aid(b"other"), None), HopModule(HOP, is_confirmed=True)],
)
def test_a_module_is_kept_and_found_again(store, module):
    store.save(Credential(TARGET.address, module=module))
    found = store.find(TARGET.address)
    assert found is not None
    assert (found.module, found.psk) == (module, None)
    assert json.loads(store.path.read_text())["version"] == 2


def test_a_file_without_modules_stays_readable_for_an_older_iose(store):
    store.save(Credential(TARGET.address, module=RACS))
    store.save(Credential(TARGET.address, HOP_PSK))
    assert json.loads(store.path.read_text())["version"] == 1


def test_a_reader_of_ones_own_is_not_kept(store):
    with pytest.raises(CredentialsError, match="can be kept"):
        store.save(Credential(TARGET.address, module=CardModule(RecordingReader())))


def test_a_credential_has_a_key_or_a_module():
    for values in ({}, {"psk": HOP_PSK, "module": RACS}):
        with pytest.raises(ElementUriError, match="a key or a module"):
            Credential(TARGET.address, **values)


def test_a_key_and_a_module_are_one_too_many(store):
    with pytest.raises(ElementUriError, match="a key and a module"):
        resolve_access(TARGET, psk=HOP_PSK, module=RACS, store=store)


def test_no_pin_shows_in_print():
    credential = Credential(TARGET.address, module=RACS)
    assert "0000'" not in repr(credential)
    assert "30303030" not in repr(credential) + str(RACS)


def test_a_pin_that_was_refused_is_forgotten(store, monkeypatch):
    store.save(Credential(TARGET.address, module=RacsModule("h", 1, "se", PKI, pin=b"1111")))
    reader = RecordingReader()
    monkeypatch.setattr("iose.transport.racs_client.RacsReader", lambda *_, **__: reader)
    element = dial(ScriptedElement(DEMO_PSK), store, None)
    with pytest.raises(ModulePinError):
        element.open()
    with pytest.raises(CredentialsError, match="no PIN is kept for the module"):
        dial(ScriptedElement(DEMO_PSK), store, None)
    assert sum(entry.startswith("0020") for entry in reader.log) == 1


def test_the_server_of_a_module_keeps_no_session_of_ours_between_handshakes(store, monkeypatch):
    store.save(Credential(TARGET.address, module=RACS))
    made = []

    def make(*_, **options):
        made.append(options)
        return RecordingReader()

    monkeypatch.setattr("iose.transport.racs_client.RacsReader", make)
    dial(ScriptedElement(DEMO_PSK), store, None).open()
    assert made == [{}]  # no pool


def test_a_pin_that_was_refused_is_forgotten_for_every_element_of_that_module(store, monkeypatch):
    wrong = RacsModule("h", 1, "se", PKI, pin=b"1111")
    others = [replace(wrong, pin=b"2222"), replace(wrong, seid="se-2"), HopModule(HOP)]
    same = replace(wrong, pki=Path("/elsewhere"))
    uris = [ElementUri.decode(f"keyS://e{index}@127.0.0.1:1/") for index in range(5)]
    for uri, module in zip(uris, [wrong, same, *others], strict=True):
        store.save(Credential(uri.address, module=module))
    reader = RecordingReader()
    monkeypatch.setattr("iose.transport.racs_client.RacsReader", lambda *_, **__: reader)
    with pytest.raises(ModulePinError):
        dial(ScriptedElement(DEMO_PSK), store, None, uri=uris[0]).open()
    for uri in uris[:2]:
        with pytest.raises(CredentialsError, match="no PIN is kept"):
            dial(ScriptedElement(DEMO_PSK), store, None, uri=uri)
    assert [store.find(uri.address).module for uri in uris[2:]] == others


def test_a_refused_pin_that_cannot_be_forgotten_is_told_as_refused(store, monkeypatch):
    store.save(Credential(TARGET.address, module=RacsModule("h", 1, "se", PKI, pin=b"1111")))
    reader = RecordingReader()
    monkeypatch.setattr("iose.transport.racs_client.RacsReader", lambda *_, **__: reader)
    element = dial(ScriptedElement(DEMO_PSK), store, None)
    store.path.chmod(0o644)
    with pytest.raises(ModulePinError, match=r"was refused, and is still kept: .*mode 0600"):
        element.open()
    assert reader.log[-1] == "off"


def test_a_module_behind_a_server_that_is_not_there_is_told(store, monkeypatch):
    class Reader:
        name = "h:1/se"

        async def connect(self):
            raise TransportError(self.name, "no server", hint="start it")

    monkeypatch.setattr("iose.transport.racs_client.RacsReader", lambda *_, **__: Reader())
    with pytest.raises(ModuleError, match="cannot be reached: h:1/se: no server") as caught:
        dial(ScriptedElement(DEMO_PSK), store, RACS).open()
    assert caught.value.hint == "start it"
