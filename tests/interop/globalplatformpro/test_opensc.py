# SPDX-License-Identifier: Apache-2.0
"""OpenSC's tools reach one of our cards through PC/SC, as any program for smart cards does."""

import subprocess

import pytest

from iose.runtime.compose import make_element
from tests.support.element import demo
from tests.support.memory_store import MemoryStore
from tests.support.peers import require_peer
from tests.support.rng import SeededRng
from tests.support.virtual_card import VirtualCard, virtual_reader

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory):
    with virtual_reader(tmp_path_factory.mktemp("pcsc")):
        yield


@pytest.fixture
def card(reader: None):
    inserted = VirtualCard(make_element(MemoryStore(), demo(name=b"key1.com"), SeededRng()))
    yield inserted
    inserted.remove()


def opensc(*arguments: str) -> str:
    result = subprocess.run(
        [require_peer("opensc-tool"), "--reader", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_opensc_reads_the_name_of_the_element_in_its_atr(card: VirtualCard):
    answer = bytes.fromhex(opensc("--atr").replace(":", ""))
    assert b"key1.com" in answer


def test_opensc_selects_the_issuer_security_domain(card: VirtualCard):
    out = opensc("--card-driver", "default", "-s", "00A4040008A000000151000000")
    assert "SW1=0x90, SW2=0x00" in out
    assert bytes.fromhex("00A4040008A000000151000000") in [
        command[:13] for command in card.commands
    ]
