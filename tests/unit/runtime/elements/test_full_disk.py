# SPDX-License-Identifier: Apache-2.0
"""Every operation of the owner on a disk that is full after any page: done, or refused whole."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from iose.runtime.elements.ownership import export_element, import_element
from iose.wire.errors import IoseError
from tests.unit.runtime.elements.local_node import LocalNode

PAGE = 4096
PAGES = 14  # with so many free ones, everything succeeds
WORDS = "a long passphrase"


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("iose.crypto.passphrase.ScryptParameters.__init__.__defaults__", (4,))


@pytest.fixture
def disk(tmp_path: Path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave_room(disk: Path, pages: int) -> None:
    state = os.statvfs(disk)
    size = (state.f_bavail - pages) * state.f_frsize
    with (disk / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, size)


def create(node: LocalNode, _file: Path) -> None:
    node.create("new.com")


def rename(node: LocalNode, _file: Path) -> None:
    node.ask("element.rename", {"element": "key1.com", "sen": "new.com"})


def delete(node: LocalNode, _file: Path) -> None:
    node.ask("element.delete", {"element": "key1.com"})


def export(node: LocalNode, file: Path) -> None:
    export_element(node.ask, "key1.com", file, lambda: WORDS, is_copy=False)


def copy(node: LocalNode, file: Path) -> None:
    export_element(node.ask, "key1.com", file, lambda: WORDS, is_copy=True)


def import_back(node: LocalNode, file: Path) -> None:
    import_element(node.ask, file, lambda: WORDS)


AFTER = {
    create: ({"key1.com": "ready", "new.com": "ready"}, False),
    rename: ({"new.com": "ready"}, False),
    delete: ({}, False),
    export: ({}, True),
    copy: ({"key1.com": "ready"}, True),
    import_back: ({"key1.com": "ready"}, False),
}
"""What there is when it is done: the elements, and whether there is a file."""


@pytest.mark.parametrize("operation", AFTER)
def test_a_full_disk_does_an_operation_or_refuses_it_whole(operation, disk: Path):
    outcomes = [try_with_room(operation, disk, pages) for pages in range(PAGES + 1)]
    assert outcomes[-1]
    assert operation is delete or not outcomes[0]


def try_with_room(operation, disk: Path, pages: int) -> bool:
    """Return whether an operation is done with so many free pages; check what it leaves."""
    file = disk / "key1.iose"
    shutil.rmtree(disk / "data", ignore_errors=True)
    file.unlink(missing_ok=True)
    keys = prepare(operation, disk, file)
    node = LocalNode(disk / "data")
    before = node.states(), file.exists()
    leave_room(disk, pages)
    is_done = attempt(operation, node, file)
    (disk / "filler").unlink()
    states = node.states()
    node.power_off()
    node = LocalNode(disk / "data")
    assert node.states() == states
    if not is_done and states.get("key1.com") in ("exporting", "importing"):
        operation(node, file)  # an unfinished move: the same command finishes it
        is_after = True
    else:
        is_after = is_done
    assert (node.states(), file.exists()) == (AFTER[operation] if is_after else before)
    for sen in node.states().keys() - {"new.com" if operation is create else ""}:
        assert node.secrets(sen) == keys
    node.power_off()
    assert not list(disk.rglob(".*"))
    return is_done


def prepare(operation, disk: Path, file: Path):
    node = LocalNode(disk / "data")
    node.create("key1.com")
    keys = node.secrets("key1.com")
    if operation is import_back:
        export(node, file)
    node.power_off()
    return keys


def attempt(operation, node: LocalNode, file: Path) -> bool:
    try:
        operation(node, file)
    except IoseError:
        return False
    return True
