# SPDX-License-Identifier: Apache-2.0
"""``iose call``: what it prints where, its exit status, and that a key is never printed."""

import json
from io import BytesIO, TextIOWrapper

import pytest

from iose.cli.main import run
from iose.client.credentials import Credential, CredentialsStore
from iose.client.uri import ElementUri
from tests.support.scripted_element import CUT, ScriptedElement, listening

PSK = bytes(range(1, 33))
NEW = bytes(range(33, 65))


@pytest.fixture
def scripted():
    return ScriptedElement(PSK)


@pytest.fixture
def uri(scripted, monkeypatch, tmp_path):
    monkeypatch.setenv("IOSE_CREDENTIALS", str(tmp_path / "credentials"))
    monkeypatch.delenv("IOSE_PSK", raising=False)
    monkeypatch.delenv("IOSE_DEBUG", raising=False)
    with listening(scripted) as port:
        text = f"keyS://key1.com@127.0.0.1:{port}/"
        CredentialsStore().save(Credential(ElementUri.decode(text).address, PSK))
        yield text


def test_prints_one_answer_per_command(uri, capfdbinary, scripted):
    scripted.answer = lambda line: line[::-1] + b"\r\n"
    assert run(["call", uri + "?p00&Z00%FF"]) == 0
    assert capfdbinary.readouterr() == (b"00p\n\xff00Z\n", b"")


@pytest.mark.parametrize("command", ["call", "shell"])
def test_a_change_that_was_not_obeyed_is_warned_of_until_it_is_settled(
    uri, capfd, monkeypatch, scripted, command
):
    address = ElementUri.decode(uri).address
    CredentialsStore().save(Credential(address, PSK).begin_change(NEW))
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"?00\n")))
    assert run([command, uri + "??00"]) == 0
    out, err = capfd.readouterr()
    assert set(out.splitlines()) == {"scripted"}
    assert err.startswith("warning: a change of this element's PSK is not settled")
    assert err.count("warning") == 1
    assert f"next: iose credentials rotate 'keyS://{address}/'" in err
    scripted.psk = NEW
    assert run(["call", uri + "??00"]) == 0
    assert not capfd.readouterr().err


def test_prints_one_json_document(uri, capfd):
    assert run(["call", "--json", uri + "??00"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {
        "sen": "key1.com",
        "answers": [{"command": "?00", "answer": "scripted"}],
        "error": None,
    }
    assert not err


def test_error_stops_with_what_happened_and_the_next_step(uri, capfd, scripted):
    assert run(["call", uri + "??00&p00&?00"]) == 1
    out, err = capfd.readouterr()
    assert out == "scripted\n"
    assert err.startswith("error: the element refused: read the public key\n  next: ")
    assert scripted.lines == [b"?00", b"p00"]


def test_the_json_document_tells_the_error_too(uri, capfd):
    assert run(["call", "--json", uri + "?p00"]) == 1
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["answers"] == []
    assert document["error"]["type"] == "KeystoreError"
    assert document["error"]["hint"]
    assert err.startswith("error: ")


@pytest.mark.parametrize("arguments", [[], ["keyS://nowhere"], ["key://a@b/?p00"], ["keyS://a@b/"]])
def test_wrong_usage_is_status_2(arguments, capfd):
    assert run(["call", *arguments]) == 2
    assert capfd.readouterr().err


def test_no_key_is_told(uri, capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("IOSE_CREDENTIALS", str(tmp_path / "none"))
    assert run(["call", uri + "?p00"]) == 1
    assert "iose credentials set" in capfd.readouterr().err


def test_a_wrong_key_is_told_but_not_shown(uri, capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("IOSE_CREDENTIALS", str(tmp_path / "none"))
    monkeypatch.setenv("IOSE_PSK", NEW.hex())
    assert run(["call", uri + "?p00"]) == 1
    out, err = capfd.readouterr()
    assert "refused the PSK" in err
    assert NEW.hex() not in out + err


def test_a_key_on_the_command_line_works_with_a_warning_and_is_not_shown(uri, capfd):
    given = uri.replace("@", f":{PSK.hex()}@")
    assert run(["call", given + "??00"]) == 0
    out, err = capfd.readouterr()
    assert out == "scripted\n"
    assert err.startswith("warning: the PSK is on the command line")
    assert "iose credentials set" in err
    assert PSK.hex() not in out + err


def test_a_change_of_key_is_kept_and_not_shown(uri, capfd, scripted):
    change = f"?%3FAA{PSK.hex()}{NEW.hex()}"
    assert run(["call", "--json", uri + change]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["answers"] == [{"command": "?AA***", "answer": "OK"}]
    assert NEW.hex() not in (out + err).lower()
    assert scripted.psk == NEW
    assert run(["call", uri + "??00"]) == 0


def test_a_change_with_a_wrong_old_key_is_refused_by_the_element(uri, capfd, scripted):
    assert run(["call", uri + f"??AA{NEW.hex()}{NEW.hex()}"]) == 1
    out, err = capfd.readouterr()
    assert "old PSK was wrong" in err
    assert NEW.hex() not in (out + err).lower()
    assert scripted.psk == PSK
    assert run(["call", uri + "??00"]) == 0


def test_an_identity_can_be_given(uri, capfd, scripted):
    scripted.identity = "guest"
    CredentialsStore().save(Credential(ElementUri.decode(uri).address, PSK, identity="guest"))
    assert run(["call", "--identity", "guest", uri + "??00"]) == 0
    assert run(["call", uri + ";id=guest??00"]) == 0


def test_an_end_that_was_asked_for_is_no_failure(uri, capfd):
    assert run(["call", uri + "??00&?02"]) == 0
    assert capfd.readouterr() == ("scripted\n", "")


def test_a_command_after_the_end_is_not_answered(uri, capfd, scripted):
    assert run(["call", "--json", uri + "??02&?00"]) == 1
    assert json.loads(capfd.readouterr().out)["error"]["type"] == "SessionClosedError"
    assert scripted.lines == [b"?02"]


def test_a_closed_session_is_told(uri, capfd, scripted):
    scripted.answer = lambda _line: CUT
    assert run(["call", uri + "??99"]) == 1
    assert "closed the session instead of answering" in capfd.readouterr().err


def test_nothing_at_the_port_is_told(capfd, monkeypatch):
    monkeypatch.setenv("IOSE_PSK", PSK.hex())
    assert run(["call", "keyS://a@127.0.0.1:1/?p00"]) == 1
    assert "nothing answers at 127.0.0.1 port 1: connection refused" in capfd.readouterr().err


def test_no_answer_in_time_is_told(uri, capfd, scripted):
    scripted.answer = lambda _line: "silence"
    assert run(["call", "--timeout", "0.1", uri + "?p00"]) == 1
    assert "no answer within 0.1 s" in capfd.readouterr().err


def test_an_unknown_fault_is_one_line_and_how_to_report_it(uri, capfd, monkeypatch):
    def fail(*_arguments, **_options):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("iose.cli.call.connect", fail)
    assert run(["call", uri + "?p00"]) == 1
    out, err = capfd.readouterr()
    assert not out
    assert err.splitlines()[0] == "error: ZeroDivisionError: by zero"
    assert "report it" in err
    assert "Traceback" not in err
    monkeypatch.setenv("IOSE_DEBUG", "1")
    assert run(["call", uri + "?p00"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_an_answer_cannot_command_a_terminal(uri, capfd, scripted, monkeypatch):
    scripted.answer = lambda _line: b"\x1b[2Jgone\r\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(["call", uri + "?I00"]) == 0
    assert capfd.readouterr().out == "\\x1b[2Jgone\n"
