# SPDX-License-Identifier: Apache-2.0
"""``iose credentials``: keys go in by file, pipe or prompt, and never come out."""

import io
import json

import pytest

from iose.cli.main import run
from iose.client.credentials import Credential, CredentialsStore
from iose.client.module import HopModule, RacsModule
from iose.client.uri import ElementUri
from iose.iso7816.aid import Aid
from iose.transport.racs_client import RacsEndpoint, RacsReader
from tests.support.scripted_element import ScriptedElement, listening

PSK = bytes(range(1, 33))
URI = "keyS://key1.com@host:8888/"
ADDRESS = ElementUri.decode(URI).address


@pytest.fixture(autouse=True)
def store(monkeypatch, tmp_path):
    monkeypatch.setenv("IOSE_CREDENTIALS", str(tmp_path / "credentials"))
    return CredentialsStore()


@pytest.fixture
def pipe(monkeypatch):
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


@pytest.fixture(autouse=True)
def no_key_is_ever_printed(capfd):
    yield
    out, err = capfd.readouterr()
    assert PSK.hex() not in out + err


def test_a_key_comes_from_a_pipe(pipe, store):
    pipe(PSK.hex() + "\n")
    assert run(["credentials", "set", URI]) == 0
    assert store.find(ADDRESS) == Credential(ADDRESS, PSK)


def test_a_key_comes_from_a_file(store, tmp_path):
    (tmp_path / "key").write_text(PSK.hex().upper() + "\n")
    assert run(["credentials", "set", URI, "--psk-file", str(tmp_path / "key")]) == 0
    assert store.find(ADDRESS).psk == PSK


def write_secrets(path, **fields):
    path.write_text(json.dumps({"sen": "key1.com", "psk": PSK.hex(), **fields}, indent=2) + "\n")
    return str(path)


def test_a_key_and_whose_it_is_come_from_a_file_of_secrets(store, tmp_path, capfd):
    file = write_secrets(tmp_path / "secrets", psk_identity="owner", user_pin="4711")
    for named in ((), ("--identity", "owner")):
        assert run(["credentials", "set", URI, "--psk-file", file, *named]) == 0
    assert store.credentials() == [Credential(ADDRESS, PSK, identity="owner")]
    assert "4711" not in "".join(capfd.readouterr())


def test_a_file_of_secrets_gives_its_key_to_nobody_else(store, tmp_path, capfd):
    file = write_secrets(tmp_path / "secrets", psk_identity="owner")
    for uri, named in ((URI, ("--identity", "guest")), (URI + ";id=guest", ())):
        assert run(["credentials", "set", uri, "--psk-file", file, *named]) == 1
        assert "expected the PSK of guest, found that of owner" in capfd.readouterr().err
    assert store.credentials() == []


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"psk_identity": 5},
        {"psk": None, "psk_identity": "owner"},
        {"psk": "00", "psk_identity": "owner"},
        {"psk_identity": ""},
        {"psk_identity": "two\nlines"},
    ],
)
def test_a_file_without_its_key_or_identity_is_refused(store, tmp_path, fields):
    file = write_secrets(tmp_path / "secrets", **fields)
    assert run(["credentials", "set", URI, "--psk-file", file]) != 0
    assert store.credentials() == []


@pytest.mark.parametrize("text", ["{", "{}", "[]", "{" * 100_000, '{"psk": "' + PSK.hex() + '"'])
def test_what_is_no_file_of_secrets_is_refused_and_not_repeated(store, tmp_path, text):
    (tmp_path / "secrets").write_text(text)
    assert run(["credentials", "set", URI, "--psk-file", str(tmp_path / "secrets")]) != 0
    assert store.credentials() == []


def test_a_key_is_asked_for_at_a_terminal(monkeypatch, store):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("iose.cli.module_targets.getpass", lambda _prompt: PSK.hex())
    assert run(["credentials", "set", URI]) == 0
    assert store.find(ADDRESS).psk == PSK


def test_a_key_comes_from_a_piped_uri(pipe, store):
    pipe(f"keyS://key1.com:{PSK.hex()}@host:8888/;id=guest\n")
    assert run(["credentials", "set", "--from-uri", "-"]) == 0
    assert store.find(ADDRESS) == Credential(ADDRESS, PSK, identity="guest")


def test_a_key_in_a_uri_on_the_command_line_is_taken_with_a_warning(store, capfd):
    assert run(["credentials", "set", "--from-uri", URI.replace("@", f":{PSK.hex()}@")]) == 0
    assert "warning" in capfd.readouterr().err
    assert store.find(ADDRESS).psk == PSK


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([URI.replace("@", f":{PSK.hex()}@")], 2),
        ([URI, "--from-uri"], 2),
        ([URI, "--psk-file", "/nowhere"], 1),
        (["nonsense"], 2),
        ([URI], 2),
    ],
)
def test_a_key_that_is_not_there_or_not_asked_for_is_refused(arguments, status, pipe, store, capfd):
    pipe("not a key\n")
    assert run(["credentials", "set", *arguments]) == status
    assert "next:" in capfd.readouterr().err or status == 1
    assert store.credentials() == []


@pytest.mark.parametrize("pending", [None, bytes(32)])
def test_a_key_that_nobody_else_may_know_is_not_forgotten_unasked(pipe, store, capfd, pending):
    kept = Credential(ADDRESS, bytes(range(32)), pending_psk=pending)
    store.save(kept)
    pipe(PSK.hex())
    assert run(["credentials", "set", URI]) == 1
    assert "--replace" in capfd.readouterr().err
    assert store.find(ADDRESS) == kept
    pipe(PSK.hex())
    assert run(["credentials", "set", "--replace", URI]) == 0
    assert store.find(ADDRESS) == Credential(ADDRESS, PSK)
    pipe(PSK.hex())
    assert run(["credentials", "set", URI]) == 0


def test_the_list_shows_elements_and_no_keys(store, capfd):
    store.save(Credential(ADDRESS, PSK))
    store.save(Credential(ADDRESS, bytes(32), identity="guest", pending_psk=PSK))
    assert run(["credentials", "list"]) == 0
    assert capfd.readouterr().out == (
        "key1.com\thost\t8888\tClient_identity\t-\t-\nkey1.com\thost\t8888\tguest\tpending\t-\n"
    )
    assert run(["credentials", "list", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["credentials"][1] == {
        "sen": "key1.com",
        "host": "host",
        "port": 8888,
        "identity": "guest",
        "change_pending": True,
        "module": None,
    }


def test_the_list_is_framed_on_a_terminal(store, capfd, monkeypatch):
    store.save(Credential(ADDRESS, PSK))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(["credentials", "list"]) == 0
    assert "change of PSK" in capfd.readouterr().out


def test_a_key_is_forgotten(store, capfd):
    store.save(Credential(ADDRESS, PSK))
    assert run(["credentials", "remove", URI]) == 0
    assert store.credentials() == []
    assert run(["credentials", "remove", URI]) == 1
    assert "no PSK is kept" in capfd.readouterr().err


def test_a_key_is_changed_at_the_element_and_in_the_file(store):
    scripted = ScriptedElement(PSK)
    with listening(scripted) as port:
        uri = f"keyS://key1.com@127.0.0.1:{port}/"
        address = ElementUri.decode(uri).address
        store.save(Credential(address, PSK))
        assert run(["credentials", "rotate", uri]) == 0
    assert store.find(address).candidates == (scripted.psk,)
    assert scripted.psk != PSK


# --- keys that are in a module


@pytest.fixture
def pki(tmp_path):
    folder = tmp_path / "pki"
    folder.mkdir()
    for name in ("user.pem", "user.key", "ca.pem"):
        (folder / name).touch()
    return folder


def set_module(module, pki, *options):
    return run(["credentials", "set", URI, "--module", module, "--pki", str(pki), *options])


def test_a_module_is_kept_with_its_pin_and_listed_without(store, tmp_path, pki, capfd):
    (tmp_path / "pin").write_text("4711\n")
    place = "racs://host:7777/se-1?aid=010203040800"
    assert set_module("racs://host/se-1", pki, "--pin-file", str(tmp_path / "pin")) == 0
    kept = store.find(ADDRESS)
    assert kept.module == RacsModule("host", 7777, "se-1", pki, pin=b"4711")
    assert run(["credentials", "list"]) == 0
    assert run(["credentials", "list", "--json"]) == 0
    out = capfd.readouterr().out
    assert out.count(place) == 3
    assert "4711" not in out


def test_a_pin_comes_from_a_pipe_or_a_terminal(store, pki, pipe, monkeypatch):
    pipe("4711\n")
    assert set_module("racs://host/se-1?aid=0102030405", pki) == 0
    assert store.find(ADDRESS).module.aid == Aid.from_hex("0102030405")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("iose.cli.module_targets.getpass", lambda _prompt: "12345678")
    assert set_module("racs://host/se-1", pki, "--replace") == 0
    assert store.find(ADDRESS).module.pin == b"12345678"


def test_a_local_element_is_found_by_its_name(store, pki, pipe, monkeypatch):
    endpoint = RacsEndpoint("::1", 7, pki / "user.pem", pki / "user.key", pki / "ca.pem")
    reader = RacsReader(endpoint, "se-7")
    monkeypatch.setattr("iose.cli.module_targets.open_reader", lambda *_, **__: reader)
    pipe("4711\n")
    assert set_module("key7.com?aid=0102030405", pki) == 0
    aid = Aid.from_hex("0102030405")
    assert store.find(ADDRESS).module == RacsModule("::1", 7, "se-7", pki, aid, b"4711")


def test_another_element_is_kept_as_a_hop(store, pki, capfd):
    assert set_module("keyS://hop@host2:1", pki, "--button") == 0
    assert store.find(ADDRESS).module == HopModule(
        ElementUri.decode("keyS://hop@host2:1/"), is_confirmed=True
    )
    assert "hop@host2:1" in capfd.readouterr().out


def test_a_hop_with_its_key_is_kept_and_warned_of(store, pki, capfd):
    assert set_module(f"keyS://hop:{PSK.hex()}@host2:1", pki) == 0
    assert store.find(ADDRESS).module.uri.psk == PSK
    assert "on the command line" in capfd.readouterr().err


def test_a_refused_pin_shows_in_the_list(store, pki, capfd):
    store.save(Credential(ADDRESS, module=RacsModule("host", 7777, "se-1", pki)))
    assert run(["credentials", "list"]) == 0
    assert "its PIN was refused" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("racs://host/se-1", ("--from-uri",)),
        ("racs://host/se-1", ("--psk-file", "x")),
        ("racs://host/", ()),
        ("ftp://host/se", ()),
    ],
)
def test_wrong_modules_are_refused(store, pki, module, options, pipe):
    pipe("4711\n")
    assert set_module(module, pki, *options) != 0
    assert store.find(ADDRESS) is None


@pytest.mark.parametrize("pin", [b"47\xe91", b"\xe9a", "é11".encode(), b"\xff\xff\xff\xff"])
def test_a_pin_that_no_card_has_is_not_sent_to_one(store, pki, tmp_path, pin):
    (tmp_path / "pin").write_bytes(pin)
    assert set_module("racs://host/se-1", pki, "--pin-file", str(tmp_path / "pin")) != 0
    assert store.find(ADDRESS) is None


def test_options_of_one_kind_of_module_are_refused_for_another(store, pki, tmp_path, pipe, capfd):
    (tmp_path / "pin").write_text("4711")
    pin = ("--pin-file", str(tmp_path / "pin"))
    assert set_module("racs://host/se-1", pki, *pin, "--button") != 0
    assert set_module("keyS://hop@host2:1", pki, *pin) != 0
    for options in (pin, ("--button",)):
        pipe(PSK.hex() + "\n")
        assert run(["credentials", "set", URI, *options]) != 0
        assert "are for --module" in capfd.readouterr().err
    assert store.credentials() == []


def test_a_module_without_certificates_or_with_a_wrong_pin_is_refused(store, pki, pipe):
    pipe("123\n")
    assert set_module("racs://host/se-1", pki) != 0
    (pki / "ca.pem").unlink()
    assert set_module("racs://host/se-1", pki) != 0
    assert store.find(ADDRESS) is None
