# SPDX-License-Identifier: Apache-2.0
"""The command line's front door: usage, help, and terminals, pipes and files that are not there."""

import errno
import subprocess
import sys

import pytest

from iose.cli.main import COMMANDS, run
from iose.cli.output import print_error
from iose.client.credentials import Credential, CredentialsStore
from iose.client.uri import ElementUri
from iose.wire.errors import IoseError
from tests.support.running_node import PROGRAM

PSK = bytes(range(0xA0, 0xC0))
URI = f"keyS://key1.com:{PSK.hex()}@host:8888/"


@pytest.fixture
def typed(tmp_path):
    """Type a line into a shell in which ``iose`` is this program; gives what came back."""
    store = CredentialsStore(tmp_path / "credentials")
    store.save(
        Credential(
            ElementUri.decode(URI).address, PSK, identity="\N{LATIN SMALL LETTER E WITH ACUTE}"
        )
    )

    def typed(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
        iose = f"{sys.executable} -c '{PROGRAM[-1]}'"
        return subprocess.run(
            ["bash", "-c", f'iose() {{ {iose} "$@"; }}; {line}'],
            env={"IOSE_CREDENTIALS": str(store.path), "PATH": "/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return typed


@pytest.mark.parametrize(
    "arguments",
    [[URI], ["call", "x", URI], ["call", "--jsn"], ["call"], ["nope"], ["element", "show"]],
)
def test_wrong_usage_is_told_with_a_next_step_and_without_the_key(arguments, capfd):
    assert run(arguments) == 2
    out, err = capfd.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert "--help" in err.splitlines()[1]
    assert PSK.hex() not in err


@pytest.mark.parametrize("arguments", [[], ["credentials"], ["node"]])
def test_who_types_nothing_gets_the_help(arguments, capfd):
    assert run(arguments) == 2
    assert "Commands:" in capfd.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_for_who_types_and_not_for_who_calls(name, capfd):
    assert run([name, "--help"]) == 0
    first = capfd.readouterr().out
    inner = first.partition("Commands:\n")[2]
    pages = [first]
    for line in inner.splitlines():
        assert run([name, line.split()[0], "--help"]) == 0
        pages.append(capfd.readouterr().out)
    for page in pages:
        assert "Raises" not in page
        assert "..." not in page.partition("Commands:")[2], "a summary does not fit its line"


def test_an_unknown_fault_never_shows_a_key(capfd, monkeypatch):
    def fail(*_arguments, **_options):
        raise ZeroDivisionError(f"{PSK.hex()} {URI}")

    monkeypatch.setattr("iose.cli.call.connect", fail)
    monkeypatch.setenv("IOSE_DEBUG", "1")
    assert run(["call", URI + "?p00"]) == 1
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert PSK.hex() not in err


def test_what_was_typed_comes_back_without_its_key(capfd):
    print_error(IoseError(f"no element {URI!r} among the 2 you may see", hint=f"not {URI}"))
    assert capfd.readouterr().err == (
        "error: no element 'keyS://key1.com:***@host:8888/' among the 2 you may see\n"
        "  next: not keyS://key1.com:***@host:8888/\n"
    )


def test_a_fault_of_the_machine_is_told_in_its_words(capfd, monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError(errno.EMFILE, "Too many open files", "/dev/null")

    monkeypatch.setattr("iose.cli.call.connect", fail)
    assert run(["call", "keyS://a@b/?p00"]) == 1
    assert capfd.readouterr().err == "error: /dev/null: Too many open files\n"


def test_who_reads_may_stop_early(typed):
    done = typed("iose credentials list | true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) in {(1, ""), (0, "")}


def test_a_full_disk_is_told_once(typed):
    done = typed("iose credentials list > /dev/full")
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(typed, closed):
    done = typed(f"iose credentials list {closed}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_the_character_shows_its_number(typed):
    done = typed("iose credentials list", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9" in done.stdout
