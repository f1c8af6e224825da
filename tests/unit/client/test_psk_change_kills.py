# SPDX-License-Identifier: Apache-2.0
"""A program killed at any line while it changes a PSK: the owner always keeps the one that holds.

Each try is a forked process that dies, without any clean-up, when it is about to run the line of
the client whose turn it is. The element outlives it: its PSK is in a file.
"""

import itertools
import os
import sys
from pathlib import Path

import pytest

from iose.client import credentials, dialogue
from iose.client.access import Access
from iose.client.blocking import Element
from iose.client.credentials import Credential, CredentialsStore
from iose.client.dialogue import Dialogue
from iose.client.uri import ElementUri
from tests.support.scripted_element import ScriptedElement

OLD = bytes(range(1, 33))
NEW = bytes(range(33, 65))
URI = ElementUri.decode("keyS://key1.com@127.0.0.1:8888/")
WATCHED = (credentials.__file__, dialogue.__file__)
SURVIVED, KILLED, FAILED = 0, 7, 8

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.timeout(60),
]


class LastingElement(ScriptedElement):
    """An element that keeps its PSK in a file, before it answers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(path.read_bytes())

    def obey(self, line: bytes):
        reply = super().obey(line)
        self._path.write_bytes(self.psk)
        return reply


def connect(folder: Path) -> Element:
    store = CredentialsStore(folder / "credentials")
    credential = store.find(URI.address)
    assert credential is not None
    link = LastingElement(folder / "element").open_link
    return Element(Dialogue(Access(URI, credential, store), link, 5.0))


def die_at(turn: int):
    lines = itertools.count()

    def watch(frame, event, _argument):
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line" and next(lines) == turn:
            os._exit(KILLED)
        return watch

    return watch


def change_and_die(folder: Path, turn: int) -> int:
    """Change the PSK in a process that dies at a line; return how it ended."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = FAILED
    try:
        element = connect(folder)
        element.open()
        sys.settrace(die_at(turn))
        element.change_psk(NEW)
        status = SURVIVED
    finally:
        os._exit(status)  # the test runner must not see two of itself


def test_the_key_that_holds_is_kept_wherever_the_program_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # the machine itself stays up
    held = set()
    for turn in itertools.count():
        (tmp_path / "element").write_bytes(OLD)
        store = CredentialsStore(tmp_path / "credentials")
        store.save(Credential(URI.address, OLD))
        ending = change_and_die(tmp_path, turn)
        now = (tmp_path / "element").read_bytes()
        kept = store.find(URI.address)
        assert now in kept.candidates, f"lost at line {turn}"
        if now != OLD or kept.pending_psk is not None:
            element = connect(tmp_path)
            element.open()
            assert element.has_psk(now)
            assert store.find(URI.address).candidates == ((NEW,) if now == NEW else (NEW, OLD))
        held.add((now, len(kept.candidates)))
        if ending != KILLED:
            break
    assert ending == SURVIVED
    assert held == {(OLD, 1), (OLD, 2), (NEW, 2), (NEW, 1)}
    assert turn > 100
