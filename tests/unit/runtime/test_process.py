# SPDX-License-Identifier: Apache-2.0
"""Processes that hold keys: no core file, and with an encrypted folder nobody looks in."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from iose.runtime.crew import hold_folder
from iose.runtime.folder import DataFolder
from iose.runtime.host import ElementHost

PROGRAM = """
import ctypes, resource
from iose.runtime.process import {call}
{call}()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3))
"""


@pytest.mark.parametrize(("call", "dumpable"), [("forbid_core_files", 1), ("hide_memory", 0)])
def test_a_process_with_keys_leaves_no_core_file_and_can_be_hidden(call: str, dumpable: int):
    program = PROGRAM.format(call=call)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"(0, 0) {dumpable}\n"


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    monkeypatch.setattr("iose.runtime.crew.hide_memory", lambda: calls.append("holder"))
    monkeypatch.setattr("iose.runtime.host.hide_memory", lambda: calls.append("host"))
    monkeypatch.setattr("iose.crypto.passphrase.ScryptParameters.__init__.__defaults__", (4,))
    yield calls
    structlog.reset_defaults()


@pytest.mark.parametrize(("words", "expected"), [(None, []), ("a long passphrase", ["holder"])])
def test_the_holder_of_an_encrypted_folder_hides(tmp_path: Path, hidden, words, expected):
    with hold_folder(tmp_path / "data", lambda *, is_new: words) as held:
        assert (held.data_key is None) == (words is None)
    assert hidden == expected


@pytest.mark.parametrize(("key", "expected"), [({}, []), ({"key": "00" * 32}, ["host"])])
def test_a_host_with_a_key_hides(tmp_path: Path, hidden, key, expected):
    DataFolder(tmp_path).hold().release()
    host = ElementHost()
    asyncio.run(host.handle("open", {"folder": str(tmp_path), "elements": [], "log": {}, **key}))
    assert hidden == expected


CHILD = """
import sys
from iose.runtime.process import run_child

async def handle(op, arguments):
    return {"op": op}

async def stop():
    print("stopped", flush=True)

run_child(int(sys.argv[1]), handle, stop, lambda channel: None)
"""


@pytest.mark.parametrize("ends_by", ["a signal", "its channel"])
def test_a_child_closes_what_it_holds_before_it_leaves(ends_by: str):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", CHILD, str(theirs.fileno())]
        with subprocess.Popen(
            command, pass_fds=(theirs.fileno(),), stdout=subprocess.PIPE, text=True
        ) as child:
            theirs.close()
            ours.settimeout(10)
            ours.sendall(b'{"id":1,"op":"echo"}\n')
            assert b"echo" in ours.recv(100)
            if ends_by == "a signal":
                child.terminate()
            else:
                ours.close()
            assert child.stdout.read() == "stopped\n"
        assert child.returncode == 0
