# SPDX-License-Identifier: Apache-2.0
"""Names given over RACS: what is accepted, what is kept, what a clash does."""

import asyncio
import json
from pathlib import Path

import pytest

from iose.runtime.errors import ConfigurationError
from iose.runtime.names import GivenName, KnownElement, NameBook, read_names


class Node:
    """Three elements, the last one without a name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes = 0
        self.known = [
            KnownElement("se-1", GivenName("key1.com", "")),
            KnownElement("se-2", GivenName("key2.com", "A0000001"), ("alias.example", "two.com")),
            KnownElement("se-3", None),
        ]
        self.book = NameBook(folder, lambda: self.known, self._changed)

    async def _changed(self) -> None:
        self.changes += 1

    def give(self, seid: str, sen: str | None, aid: str = "") -> None:
        asyncio.run(self.book.set_name(seid, sen, aid))

    def name(self, seid: str) -> tuple[str, str] | None:
        return asyncio.run(self.book.name(seid))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_an_element_has_the_name_it_says_itself(node: Node):
    assert node.name("se-1") == ("key1.com", "")
    assert node.name("se-2") == ("key2.com", "A0000001")
    assert node.name("se-3") is None
    assert node.name("se-9") is None


def test_a_given_name_replaces_it_is_kept_and_can_be_taken_back(node: Node):
    node.give("se-1", "given.com", "a000000151")
    assert node.name("se-1") == ("given.com", "A000000151")
    assert Node(node.folder).name("se-1") == ("given.com", "A000000151")
    assert (node.folder / "names.json").stat().st_mode & 0o777 == 0o600
    node.give("se-1", None)
    assert node.name("se-1") == ("key1.com", "")
    assert node.changes == 2


@pytest.mark.parametrize(("sen", "aid"), [("null", ""), ("other.com", "00")])
def test_an_element_can_be_taken_off_the_service_plane(node: Node, sen: str, aid: str):
    node.give("se-1", sen, aid)
    assert not node.book.given["se-1"].is_served
    assert node.name("se-1") == (None if sen == "null" else (sen, aid))
    node.give("se-3", "key1.com")  # its name is free


@pytest.mark.parametrize("sen", ["key2.com", "KEY2.com", "alias.example", "two.com"])
def test_the_name_of_another_element_is_refused_without_a_word_about_that_one(node: Node, sen: str):
    with pytest.raises(ConfigurationError, match="is taken") as refusal:
        node.give("se-1", sen)
    assert "se-2" not in f"{refusal.value} {refusal.value.hint}"
    assert (node.name("se-1"), node.changes) == (("key1.com", ""), 0)


def test_an_own_name_that_another_was_given_meanwhile_cannot_come_back(node: Node):
    node.give("se-1", "null")
    node.give("se-3", "key1.com")
    with pytest.raises(ConfigurationError, match="is taken"):
        node.give("se-1", None)
    assert node.name("se-1") is None


@pytest.mark.parametrize(
    ("sen", "aid"),
    [
        ("", ""),
        ("a name", ""),
        ("sixteen-chars.de", ""),
        ("ok.com", "0"),
        ("ok.com", "0G"),
        ("ok.com", "010203"),
        ("ok.com", "00" * 17),
    ],
)
def test_what_is_no_name_or_no_aid_is_refused(node: Node, sen: str, aid: str):
    with pytest.raises(ConfigurationError):
        node.give("se-1", sen, aid)
    assert read_names(node.folder) == {}


def test_a_full_disk_changes_nothing(node: Node, monkeypatch):
    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iose.runtime.names.write_private", full)
    with pytest.raises(ConfigurationError, match="No space"):
        node.give("se-1", "given.com")
    assert node.name("se-1") == ("key1.com", "")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"se-1": 5}',
        '{"se-1": {"sen": "a"}}',
        '{"se-1": {"sen": "a name", "aid": ""}}',
        '{"se-1": {"sen": "a.com", "aid": "zz"}}',
        "[" * 9999,
    ],
)
def test_a_damaged_file_says_so(tmp_path: Path, content: str):
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"names\.json"):
        read_names(tmp_path)


def test_a_file_as_written_is_read(tmp_path: Path):
    (tmp_path / "names.json").write_text(json.dumps({"se-1": {"sen": "a.com", "aid": ""}}))
    assert read_names(tmp_path) == {"se-1": GivenName("a.com", "")}
