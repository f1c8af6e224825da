# SPDX-License-Identifier: Apache-2.0
"""``iose racs`` against the strict twin of the published server."""

import io
import json
import sys
import tomllib

import pytest

from iose.cli import racs_access
from iose.cli.main import run
from iose.cli.racs_access import open_reader
from iose.runtime.config import read_config
from iose.runtime.errors import ConfigurationError
from iose.transport.errors import NoCardError
from tests.support.certificates import issue, make_authority
from tests.support.racs_cards import ChunkCard, element
from tests.support.racs_twin import Closed, Twin, serving

SELECT = "00A4040006010203040500"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Certificates of a server with an RSA key and of the user admin."""
    path, authority = tmp_path_factory.mktemp("pki"), make_authority()
    issue(authority, path, "server", is_server=True, is_rsa=True)
    return issue(authority, path, "admin")


@pytest.fixture
def twin():
    card = ChunkCard(0x9F)
    elements = [
        element(card, "key1", "0", sen="key1.com"),
        element(ChunkCard(), "tls1"),
        element(ChunkCard(), "bad", is_broken=True),
    ]
    twin = Twin(elements, {"admin": None})
    twin.card = card
    yield twin
    assert twin.crashes == []


@pytest.fixture
def racs(folder, twin, capsys):
    """Give a function that runs ``iose racs`` and returns status, stdout and stderr."""
    with serving(twin, folder) as server:

        def work(command, *arguments):
            options = ("--server", f"127.0.0.1:{server.port}", "--pki", str(folder))
            status = run(["racs", command, *options, *arguments])
            return status, *capsys.readouterr()

        work.server = server
        yield work


def test_list_prints_every_seid_with_its_name(racs):
    assert racs("list") == (0, "key1\tkey1.com\t\ntls1\t\t\nbad\t\t\n0\tkey1.com\t\n", "")


def test_list_is_one_document_when_asked_for(racs):
    status, out, _ = racs("list", "--json")
    document = json.loads(out)
    assert status == 0
    assert document["server"] == f"127.0.0.1:{racs.server.port}"
    assert document["elements"][0] == {"seid": "key1", "sen": "key1.com", "aid": ""}


@pytest.mark.parametrize("name", ["key1", "KEY1.com", "0"])
def test_an_element_is_found_by_its_seid_an_alias_and_its_name(racs, twin, name):
    assert racs("power", name, "on")[0] == 0
    assert twin.elements[0].log == ["on", "off"]


def test_an_element_nobody_shows_is_named_with_the_next_step(racs):
    status, out, err = racs("power", "key9", "on")
    assert (status, out) == (1, "")
    assert "no element 'key9' among the 4" in err
    assert "next: iose racs list" in err


def test_an_element_that_does_not_start_fails(racs):
    status, _, err = racs("power", "bad", "on")
    assert status == 1
    assert "refused, -908" in err


def test_power_off_cuts_another_session_where_the_server_lets_it(racs, twin):
    twin.elements[1].holder = object()
    assert racs("power", "tls1", "on")[0] == 1
    status, out, _ = racs("power", "tls1", "off", "--json")
    assert (status, json.loads(out)["power"]) == (0, "off")
    assert twin.elements[1].holder is None


@pytest.mark.parametrize(("options", "way"), [((), "reset"), (("--warm",), "warm")])
def test_reset_powers_on_and_off_around_it(racs, twin, options, way):
    status, out, _ = racs("reset", "key1", *options)
    assert (status, out) == (0, "key1 was reset\n")
    assert twin.elements[0].log == ["on", way, "off"]
    assert json.loads(racs("reset", "key1", "--json", *options)[1])["warm"] == bool(options)


def test_apdus_go_in_order_between_power_on_and_power_off(racs, twin):
    status, out, _ = racs("apdu", "key1.com", "00:A4:04:00 06 010203040500", "00EE0000")
    assert status == 0
    assert out == "9000  done\n6D00  the card does not know this command\n"
    assert twin.elements[0].log == ["on", SELECT, "00EE0000", "off"]


def test_a_long_answer_is_fetched_when_asked_for(racs):
    _, out, _ = racs("apdu", "key1", SELECT, "00CA012C00")
    assert out.splitlines()[1].split()[1] == "9F64"
    _, out, _ = racs("apdu", "key1", SELECT, "00CA012C00", "--more")
    data, status, *_ = out.splitlines()[1].split()
    assert (len(data), status) == (600, "9000")


def test_the_header_of_fetching_can_be_given(racs, twin):
    racs("apdu", "tls1", SELECT, "00CA00C800", "--fetch", "A0C00000")
    assert "A0C0000064" in twin.elements[1].log


def test_another_status_word_than_asked_for_ends_the_run(racs, twin):
    status, out, err = racs("apdu", "key1", "--continue", "9000", SELECT, "00EE0000", SELECT)
    assert status == 1
    assert len(out.splitlines()) == 2
    assert "expected status word 9000, found 6D00" in err
    assert twin.elements[0].log == ["on", SELECT, "00EE0000", "off"]


def test_answers_so_far_are_in_the_document_of_a_failure(racs):
    status, out, _ = racs("apdu", "key1", "--json", "--continue", "9000", SELECT, "00EE0000123456")
    document = json.loads(out)
    assert status == 1
    assert [one["status"] for one in document["exchanges"]] == ["9000", "6D00"]
    assert document["error"]["type"] == "StatusWordError"
    assert "123456" not in out  # what is sent may be a PIN


def test_apdus_are_read_from_stdin(racs, twin, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"// a PIN need not be seen\n\n{SELECT}\n"))
    assert racs("apdu", "key1", "-")[0] == 0
    assert SELECT in twin.elements[0].log


@pytest.mark.parametrize(
    "arguments",
    [
        ("apdu", "key1", "0g"),
        ("apdu", "key1", "00A404"),
        ("apdu", "key1", SELECT, "--continue", "90"),
        ("apdu", "key1", SELECT, "--fetch", "00C000"),
        ("apdu", "key1"),
        ("power", "key1", "up"),
        ("power", "key1"),
        ("sen", "key1", "--aid", "0102030405"),
        ("sen", "key1", "name", "--clear"),
    ],
)
def test_wrong_usage_sends_nothing(racs, twin, arguments):
    status, out, _ = racs(*arguments)
    assert (status, out) == (2, "")
    assert twin.requests == []


def test_what_is_no_hex_is_told_by_its_place_and_not_repeated(racs, monkeypatch):
    wrong = "002000000431323334x"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"// PIN\n{wrong}\n"))
    for arguments, place in (((SELECT, wrong), "command 2"), (("-",), "line 2 of stdin")):
        err = racs("apdu", "key1", *arguments)[2]
        assert place in err
        assert "31323334" not in err


def test_who_may_see_no_element_is_told(racs, twin):
    twin.users.clear()
    status, out, err = racs("list")
    assert (status, out) == (0, "")
    assert "shows you no element" in err
    assert json.loads(racs("list", "--json")[1])["elements"] == []


def test_sen_shows_gives_and_takes_back_a_name(racs, twin):
    assert racs("sen", "key1") == (0, "key1\tkey1.com\t\n", "")
    assert racs("sen", "key1", "new.com", "--aid", "010203040800")[1] == (
        "key1\tnew.com\t010203040800\n"
    )
    assert twin.elements[0].sen == "new.com"
    assert racs("sen", "tls1", "--json")[1].count('"sen": ""') == 1
    assert racs("sen", "key1", "--clear")[0] == 0


def test_a_script_is_run_block_by_block(racs, twin, tmp_path):
    script = tmp_path / "script.txt"
    script.write_text(
        f"// Prüfung\nBEGIN a\nPOWERON key1 APPEND\n\n// select\nAPDU key1 {SELECT}\nEND\n"
        "BEGIN\nGET-SEN tls1\nEND\nBEGIN c\nLIST\nEND\n"
    )
    status, out, err = racs("run", str(script))
    assert (status, err) == (1, "")
    assert out.splitlines()[:4] == [
        "BEGIN a",
        "+008 001 SEID key1 has been powered on",
        "+006 002 9000",
        "END",
    ]
    assert out.splitlines()[4:] == [
        "BEGIN",
        "-911 001 GET-SEN error, SEID tls1 has no name",
        "END",
        "BEGIN c",
        "+004 001 key1 tls1 bad 0 ",
        "END",
    ]
    assert twin.elements[0].log[-1] == "off"


def test_a_script_that_is_wrong_at_its_end_does_nothing(racs, twin, tmp_path):
    script = tmp_path / "script.txt"
    script.write_text("BEGIN\nLIST\nEND\nBEGIN\nLIST\n")
    status, _, err = racs("run", str(script))
    assert status == 1
    assert "line 4: this block has no END" in err
    assert twin.requests == []


def test_a_script_from_stdin_is_one_document_when_asked_for(racs, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("BEGIN t\nLIST\nEND\nLIST\n"))
    status, out, _ = racs("run", "-", "--json")
    document = json.loads(out)
    assert status == 1
    assert document["responses"] == [
        {"name": "t", "lines": [{"status": "+004", "line": 1, "text": "key1 tls1 bad 0 "}]}
    ]
    assert "line 4: expected BEGIN" in document["error"]["message"]


def test_the_shell_sends_what_was_typed_at_an_empty_line(racs, monkeypatch, twin):
    typed = f"POWERON key1 APPEND\nAPDU key1 {SELECT}\n\nFOO\n\nLIST\n\nquit\nLIST\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    status, out, _ = racs("shell")
    assert status == 0
    assert out.splitlines() == [
        "BEGIN RACS-Console",
        "+008 001 SEID key1 has been powered on",
        "+006 002 9000",
        "END",
        "BEGIN RACS-Console",
        "-900 001 FOO unknown command...",
        "END",
        "BEGIN RACS-Console",
        "+004 001 key1 tls1 bad 0 ",
        "END",
    ]
    assert twin.requests[0] == (
        f"BEGIN RACS-Console\r\nPOWERON key1 APPEND\r\nAPDU key1 {SELECT}\r\nEND\r\n".encode()
    )


def test_the_shell_talks_with_a_person(racs, monkeypatch):
    typed = iter(["help", "LIST", KeyboardInterrupt(), "GET-VERSION", "", "END", "", EOFError()])

    def answer(prompt):
        assert prompt.endswith("> ")
        word = next(typed)
        if isinstance(word, str):
            return word
        raise word

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", answer)
    status, out, err = racs("shell")
    assert status == 0
    assert "POWERON SEID" in out
    assert out.endswith("BEGIN RACS-Console\n+002 001 0.3\nEND\n")
    assert "line 1 is END" in err


def test_an_element_that_another_session_has_by_now_is_left_alone(racs, twin):
    element = twin.elements[1]

    def cut(_):
        element.holder = "another session"
        raise Closed

    element.process = cut
    status, _, err = racs("apdu", "tls1", SELECT)
    assert (status, element.holder) == (1, "another session")
    assert "may have been obeyed" in err


def test_an_interrupt_while_waiting_tells_what_is_lost(racs, monkeypatch, twin):
    typed = iter(["POWERON key1", "", "LIST", "", "quit"])

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def interrupt(_):
        monkeypatch.undo()
        monkeypatch.setattr("builtins.input", lambda _: next(typed))
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    monkeypatch.setattr("iose.cli.racs_console._print_response", interrupt)
    status, _, err = racs("shell")
    assert status == 0
    assert "all it held is off" in err


def test_the_published_server_needs_legacy(folder, twin, capsys):
    with serving(twin, folder, is_modern=False) as server:
        options = ["--server", f"127.0.0.1:{server.port}", "--pki", str(folder)]
        assert run(["racs", "list", *options]) == 1
        assert "--legacy" in capsys.readouterr().err
        assert run(["racs", "list", "--legacy", *options]) == 0


def test_whoever_takes_any_server_is_warned(folder, twin, capsys):
    with serving(twin, folder) as server:
        options = ["--server", f"127.0.0.1:{server.port}", "--pki", str(folder), "--insecure"]
        assert run(["racs", "list", *options]) == 0
        assert "the server is not verified" in capsys.readouterr().err


def test_a_folder_without_a_certificate_is_named(tmp_path, capsys):
    assert run(["racs", "list", "--server", "127.0.0.1", "--pki", str(tmp_path)]) == 1
    assert f"{tmp_path} holds no user.pem" in capsys.readouterr().err


@pytest.mark.parametrize("server", ["", "a:b:c", "127.0.0.1:0", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused(folder, capsys, server):
    assert run(["racs", "list", "--server", server, "--pki", str(folder)]) == 1
    assert "error" in capsys.readouterr().err


def test_without_a_node_the_next_step_is_told(tmp_path, capsys):
    assert run(["racs", "list", "--data", str(tmp_path)]) == 1
    assert "no node runs on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "host"),
    [("127.0.0.1:7", "127.0.0.1"), ("0.0.0.0:7", "127.0.0.1"), ("[::]:7", "::1"), ("h:7", "h")],
)
def test_the_local_node_is_asked_where_it_listens(folder, monkeypatch, told, host):
    monkeypatch.setattr(racs_access, "_status", lambda _: {"racs": [told]})
    endpoint = racs_access.resolve_racs(None, None, folder)
    assert (endpoint.host, endpoint.port) == (host, 7)


@pytest.mark.parametrize("status", [{}, {"racs": []}])
def test_a_node_without_the_plane_is_told_as_such(folder, monkeypatch, status):
    monkeypatch.setattr(racs_access, "_status", lambda _: status)
    with pytest.raises(ConfigurationError, match="no administration plane"):
        racs_access.resolve_racs(None, None, folder)


def test_a_reader_is_opened_by_name_and_by_address(folder, twin):
    with serving(twin, folder) as server:
        where = f"127.0.0.1:{server.port}"
        assert open_reader("key1.com", server=where, pki=folder).seid == "key1"
        reader = open_reader(f"RACS://{where}/tls1", pki=folder)
        assert reader.name == f"{where}/tls1"
        assert reader.atr == bytes.fromhex("3B00")
        assert racs_access.served_names(reader) == ["key1.com"] * 2  # an alias has it, too
        with pytest.raises(NoCardError):
            open_reader(f"racs://{where}/key9", pki=folder)
        with pytest.raises(ConfigurationError, match="and so does --server"):
            open_reader(f"racs://{where}/tls1", server=where, pki=folder)


@pytest.mark.parametrize(
    "target", ["racs://", "racs://h", "racs://h/", "racs://h/a/b", "racs://[/a"]
)
def test_a_target_that_names_no_element_is_refused(target):
    with pytest.raises(ConfigurationError, match="does not name an element"):
        open_reader(target)


# --- import ---------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.txt").write_text("server_port 127.0.0.1:7777\n")
    (folder / "users.txt").write_text("alice 1 a\n")
    return folder


def test_a_published_directory_becomes_a_configuration(published, capsys):
    assert run(["racs", "import", str(published)]) == 0
    out, err = capsys.readouterr()
    config = load(out)
    assert config.racs.rules[0].user == "alice"
    assert "# Not carried over" in out
    assert err == ""


def test_a_configuration_is_written_once_and_its_notes_are_printed(published, tmp_path, capsys):
    target = tmp_path / "node.toml"
    assert run(["racs", "import", str(published), "--out", str(target)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "warning: what no policy speaks of" in err
    assert load(target.read_text()).racs.listen == ("127.0.0.1:7777",)
    assert run(["racs", "import", str(published), "--out", str(target)]) == 1


def test_an_import_is_one_document_when_asked_for(published, capsys):
    assert run(["racs", "import", str(published), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert load(document["toml"]).racs.rules
    assert document["notes"]


def test_what_is_no_published_directory_is_refused(tmp_path, capsys):
    assert run(["racs", "import", str(tmp_path)]) == 1
    assert "next: give the directory the published server" in capsys.readouterr().err


def load(text):
    return read_config(tomllib.loads(text))


@pytest.mark.parametrize(
    ("ins", "status", "meaning"),
    [
        ("20", 0x6302, "wrong PIN, 2 tries left"),
        ("20", 0x6301, "wrong PIN, 1 try left"),
        ("24", 0x6300, "wrong PIN, 0 tries left"),
        ("8B", 0x6380, "pin required"),
        ("D8", 0x9001, "tls open"),
        ("D8", 0x9000, "done"),
        ("D8", 0x6ABC, "status word 6ABC"),
    ],
)
def test_status_words_are_explained(racs, twin, ins, status, meaning):
    def process(command):
        return b"\x90\x00" if command[1] == 0xA4 else status.to_bytes(2, "big")

    twin.elements[0].process = process
    _, out, _ = racs("apdu", "key1", SELECT, f"00{ins}0000")
    assert out.splitlines()[1] == f"{status:04X}  {meaning}"


def test_a_node_that_knows_no_old_suites_says_how_to_go_on(folder, twin, capsys):
    with serving(twin, folder) as server:
        server._context.set_ciphers("ECDHE+AESGCM")
        options = ["--server", f"127.0.0.1:{server.port}", "--pki", str(folder)]
        assert run(["racs", "list", "--legacy", *options]) == 1
    assert "leave it out" in capsys.readouterr().err
