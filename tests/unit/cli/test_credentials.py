# SPDX-License-Identifier: Apache-2.0
"""``iose credentials``: keys go in by file, pipe or prompt, and never come out."""

import io
import json

import pytest

from iose.cli.main import run
from iose.client.credentials import Credential, CredentialsStore
from iose.client.uri import ElementUri
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


def test_a_key_is_asked_for_at_a_terminal(monkeypatch, store):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("iose.cli.credentials.getpass", lambda _prompt: PSK.hex())
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
        "key1.com\thost\t8888\tClient_identity\t-\nkey1.com\thost\t8888\tguest\tpending\n"
    )
    assert run(["credentials", "list", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["credentials"][1] == {
        "sen": "key1.com",
        "host": "host",
        "port": 8888,
        "identity": "guest",
        "change_pending": True,
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
