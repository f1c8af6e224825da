# SPDX-License-Identifier: Apache-2.0
"""``iose shell``: scripts on stdin, a person at a terminal, help, and sessions that end."""

import builtins
import io

import pytest

from iose.cli.call import ask
from iose.cli.main import run
from iose.client.credentials import Credential, CredentialsStore
from iose.client.uri import ElementUri
from tests.support.scripted_element import CUT, ScriptedElement, listening

PSK = bytes(range(1, 33))


@pytest.fixture
def scripted():
    return ScriptedElement(PSK)


@pytest.fixture
def uri(scripted, monkeypatch, tmp_path):
    monkeypatch.setenv("IOSE_CREDENTIALS", str(tmp_path / "credentials"))
    with listening(scripted) as port:
        text = f"keyS://key1.com@127.0.0.1:{port}/"
        CredentialsStore().save(Credential(ElementUri.decode(text).address, PSK))
        yield text


@pytest.fixture
def script(monkeypatch):
    def give(text: bytes):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))

    return give


@pytest.fixture
def person(monkeypatch):
    """Somebody at a terminal, who types the lines given and then ends the input."""

    def give(*lines):
        waiting = iter(lines)

        def answer(_prompt):
            line = next(waiting, EOFError)
            if isinstance(line, type):
                raise line
            return line() if callable(line) else line

        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr(builtins, "input", answer)

    return give


def test_a_script_prints_answers_alone(uri, script, capfd):
    script(b"?00\r\n\n?00")
    assert run(["shell", uri]) == 0
    assert capfd.readouterr() == ("scripted\nscripted\n", "")


def test_a_script_goes_on_after_error_and_its_status_tells(uri, script, capfd):
    script(b"p00\n?00\n")
    assert run(["shell", uri]) == 1
    out, err = capfd.readouterr()
    assert out == "scripted\n"
    assert "error: the element refused" in err


def test_raw_bytes_reach_the_element(uri, script, scripted, capfd):
    scripted.answer = lambda _line: b"OK\r\n"
    script(b"Z00\xff \xc3\xa9 \n")
    assert run(["shell", uri]) == 0
    assert scripted.lines == [b"Z00\xff \xc3\xa9 "]


def test_the_commands_of_the_uri_come_first(uri, script, scripted, capfd):
    script(b"?01b\n")
    run(["shell", uri + "??00"])
    assert scripted.lines == [b"?00", b"?01b"]


@pytest.mark.parametrize("ending", [b"quit", b"exit", b"?02"])
def test_the_session_ends_when_asked(uri, script, scripted, capfd, ending):
    script(b"?00\n" + ending + b"\n?00\n")
    assert run(["shell", uri]) == 0
    assert capfd.readouterr() == ("scripted\n", "")
    assert scripted.lines.count(b"?00") == 1


def test_a_command_that_closes_the_session_is_told_and_not_sent_again(uri, script, scripted, capfd):
    scripted.answer = lambda line: CUT if line == b"?99" else scripted.obey(line)
    script(b"?99\n?00\n")
    assert run(["shell", uri]) == 1
    out, err = capfd.readouterr()
    assert out == "scripted\n"
    assert "instead of answering" in err
    assert scripted.lines == [b"?99", b"?00"]


def test_a_person_does_not_notice_that_an_idle_session_was_closed(uri, person, scripted, capfd):
    def end_then_ask():
        scripted.links[0].end_by_itself()
        return "?00"

    person("?00", end_then_ask)
    assert run(["shell", uri]) == 0
    assert capfd.readouterr().out == "scripted\nscripted\n"
    assert len(scripted.links) == 2


def test_a_script_that_is_interrupted_ends(uri, script, scripted, monkeypatch, capfd):
    def interrupt(_element, _line):
        raise KeyboardInterrupt

    monkeypatch.setattr("iose.cli.shell.ask", interrupt)
    script(b"?00\n?00\n")
    assert run(["shell", uri]) == 130
    assert scripted.lines == []


def test_an_interrupted_command_of_a_person_leaves_the_prompt(
    uri, person, scripted, monkeypatch, capfd
):
    def interrupt_once(element, line):
        if not scripted.lines:
            scripted.lines.append(b"interrupted")
            raise KeyboardInterrupt
        return ask(element, line)

    monkeypatch.setattr("iose.cli.shell.ask", interrupt_once)
    person("p00", "?00")
    assert run(["shell", uri]) == 0
    assert capfd.readouterr().out == "scripted\n"


def test_a_persons_mistakes_do_not_end_the_shell(uri, person, capfd):
    person("p00", KeyboardInterrupt, "", "?00")
    assert run(["shell", uri]) == 0
    assert "scripted" in capfd.readouterr().out


def test_help_lists_the_commands_in_words(uri, person, capfd):
    person("help", "help s", "help ?0C", "help y")
    assert run(["shell", uri]) == 0
    out = capfd.readouterr().out
    assert "read the public key" in out
    assert "s<key><2 to 64 digits>: sign a digest, ECDSA" in out
    assert "?0C<2 to 64 digits>: prove possession" in out
    assert "a command iose does not know" in out
    assert "digits are hexadecimal" in out


def test_a_script_stops_when_the_element_answers_no_more(uri, script, scripted, capfd):
    scripted.answer = lambda _line: "silence"
    script(b"?00\n?00\n")
    assert run(["shell", "--timeout", "0.1", uri]) == 1
    assert scripted.lines == [b"?00"]
