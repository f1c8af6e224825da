# SPDX-License-Identifier: Apache-2.0
"""The page on readers names every key of every type and its default; its examples are read."""

import json
import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from iose.runtime.config import read_config
from iose.runtime.readers.place import Place
from iose.runtime.readers.settings import READER_TYPES, PcscSettings, ReaderSettings
from iose.transport.bank import Slot, SlotState

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "readers.md").read_text()
SECTIONS = {
    title.strip("`"): text
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMON = "What every table has"
ROW = re.compile(r"^\| `(\w+)` \| (.*?) ?\| ", re.MULTILINE)


def written(default: object) -> str:
    """Return a default as the page writes it."""
    if default is MISSING:
        return ""
    if default is None:
        return "not set"
    return f"`{json.dumps(list(default) if isinstance(default, tuple) else default)}`"


def keys(schema: type) -> dict[str, str]:
    """Return every key of a dataclass and its default, as the page writes it."""
    found = {}
    for one in fields(schema):
        factory = one.default_factory
        found[one.name] = written(one.default if factory is MISSING else factory())
    return found


def test_keys_that_every_table_has_are_named():
    assert dict(ROW.findall(SECTIONS[COMMON])) == keys(ReaderSettings)


@pytest.mark.parametrize("kind", sorted(READER_TYPES))
def test_keys_of_a_type_are_named(kind: str):
    common = keys(ReaderSettings)
    own = {k: v for k, v in keys(READER_TYPES[kind]).items() if k not in common}
    assert dict(ROW.findall(SECTIONS[kind])) == own


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_is_a_configuration(number: int):
    assert read_config(tomllib.loads(EXAMPLES[number])).readers


def test_every_type_has_an_example_of_its_own():
    for kind in READER_TYPES:
        assert f'type = "{kind}"' in SECTIONS[kind]


def test_every_name_of_the_document_is_told():
    view = Place(PcscSettings("pcsc"), Slot("a", "b", SlotState.EMPTY)).view()
    names = [name for one in (view, view["health"]) for name in one]
    text = SECTIONS["iose reader list"]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_state_is_explained():
    table = SECTIONS["iose reader list"]
    assert all(f"| `{state.value}` |" in table for state in SlotState)
