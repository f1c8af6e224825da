# SPDX-License-Identifier: Apache-2.0
"""Damaged files in the data folder: the node starts, says what is wrong, and the others serve."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from iose.tls.constants import AlertDescription
from tests.acceptance.wire import WireClient, assert_serves
from tests.support.node import configured_node
from tests.support.running_node import running_node

pytestmark = pytest.mark.timeout(60)

HISTORICAL = b"010203040500/historical-bytes"


def objects(path: Path) -> dict[bytes, bytes]:
    with closing(sqlite3.connect(path)) as store:
        return dict(store.execute("SELECT name, value FROM object"))


def put(path: Path, name: bytes, value: bytes | None) -> None:
    """Change an object of a store behind its element's back."""
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("DELETE FROM object WHERE name = ?", (name,))
        if value is not None:
            store.execute("INSERT INTO object VALUES (?, ?)", (name, value))


def object_named(path: Path, end: bytes) -> bytes:
    (name,) = [name for name in objects(path) if name.endswith(end)]
    return name


STORE_DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(os.urandom(8192)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "no objects": lambda path: _execute(path, "DELETE FROM object"),
    "no table": lambda path: _execute(path, "DROP TABLE object"),
    "a newer schema": lambda path: _execute(path, "PRAGMA user_version=99"),
    "a profile of noise": lambda path: put(path, object_named(path, b"profile"), b"\xff" * 9),
    "a key of noise": lambda path: put(path, object_named(path, b"object/psk"), b"\xff" * 9),
    "no key": lambda path: put(path, object_named(path, b"object/psk"), None),
    "a mark of noise": lambda path: put(path, b"owner/mark", b"{"),
    "a mark of another kind": lambda path: put(path, b"owner/mark", b"[]"),
    "a name of noise": lambda path: put(path, HISTORICAL, b"\x00\xff \n"),
    "a name too long": lambda path: put(path, HISTORICAL, b"x" * 99),
    "a registry of noise": lambda path: put(path, object_named(path, b"registry"), b"\xff" * 9),
}


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute(statement)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A folder in which each kind of damage was done to one element, and two are well."""
    folder = tmp_path_factory.mktemp("damaged")
    with configured_node(folder, len(STORE_DAMAGES) + 2) as node:
        elements = sorted(node.elements.values(), key=lambda element: element.sen)
    victims = dict(zip(STORE_DAMAGES, elements, strict=False))
    for name, victim in victims.items():
        STORE_DAMAGES[name](node.folder / "elements" / f"{victim.seid}.db")
    return folder, victims, elements[-2:]


@pytest.fixture(scope="module")
def node(damaged):
    """A node on that folder."""
    folder, victims, _ = damaged
    with configured_node(folder, len(victims) + 2) as running:
        yield running


@pytest.mark.parametrize("damage", STORE_DAMAGES)
def test_a_damaged_element_harms_no_other(node, damaged, damage):
    _, victims, well = damaged
    victim = victims[damage]
    with WireClient(node, victim) as client:
        client.handshake()
        assert client.alert in {
            None,
            AlertDescription.UNRECOGNIZED_NAME,
            AlertDescription.INTERNAL_ERROR,
            AlertDescription.DECRYPT_ERROR,
        }
    for element in well:
        assert_serves(node, element)
    assert victim.seid in {one["seid"] for one in node.ask("status")["elements"]}


def copy_of(folder: Path, target: Path) -> Path:
    """Return a data folder with the same elements, which another node may use."""
    shutil.copytree(folder / "elements", target / "elements")
    shutil.copy(folder / "folder.json", target)
    return target


def test_iose_up_starts_with_damaged_elements_too(damaged, tmp_path):
    folder, _, well = damaged
    with running_node(copy_of(folder / "data", tmp_path / "data")) as up:
        ready = {one["sen"] for one in up.ready["elements"]}
        assert ready >= {element.sen for element in well}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A folder of a node that has stopped, and what is in it."""
    folder = tmp_path_factory.mktemp("healthy") / "data"
    with running_node(folder) as node:
        elements = [(one["seid"], one["sen"]) for one in node.ready["elements"]]
    return folder, elements


INDEX_DAMAGES = {
    "empty": b"",
    "a number": b"5",
    "null": b"null",
    "an object": b"{}",
    "a list of numbers": b"[5]",
    "a list of lists": b"[[]]",
    "too deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "a record of another kind": b'[{"seid": 1}]',
    "a text": b'"x"',
}


@pytest.mark.parametrize("content", list(INDEX_DAMAGES.values()), ids=list(INDEX_DAMAGES))
def test_a_damaged_index_is_made_anew(healthy, tmp_path, content):
    folder, elements = healthy
    data = copy_of(folder, tmp_path / "data")
    (data / "index.json").write_bytes(content)
    with running_node(data) as again:
        assert [(one["seid"], one["sen"]) for one in again.ready["elements"]] == elements
    index = json.loads((data / "index.json").read_bytes())
    assert {(one["seid"], one["sen"]) for one in index} == set(elements)
