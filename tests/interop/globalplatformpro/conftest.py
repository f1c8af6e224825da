# SPDX-License-Identifier: Apache-2.0
"""A virtual reader for the module, and a card with the published keys in it for each test."""

import pytest

from iose.runtime.compose import make_element
from tests.support.element import demo
from tests.support.memory_store import MemoryStore
from tests.support.rng import SeededRng
from tests.support.virtual_card import VirtualCard, virtual_reader


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory):
    with virtual_reader(tmp_path_factory.mktemp("pcsc")):
        yield


@pytest.fixture
def card(reader: None):
    inserted = VirtualCard(make_element(MemoryStore(), demo(name=b"key1.com"), SeededRng()))
    yield inserted
    inserted.remove()
