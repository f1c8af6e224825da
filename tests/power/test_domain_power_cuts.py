# SPDX-License-Identifier: Apache-2.0
"""The power is cut at every store step of card management: before or after, never between.

Loading takes many commands: cut anywhere in it, the card is as before the first one.
"""

from collections.abc import Callable

import pytest

from iose.applets.security_domain import ISD_AID
from iose.card.card_os import CardOs, CardServices
from iose.globalplatform.commands import Delete, DeleteKey, SetStatus, StatusScope, StoreData
from iose.globalplatform.install import (
    InstallForInstall,
    InstallForLoad,
    InstallForPersonalization,
    MakeSelectable,
    RegistryUpdate,
)
from iose.globalplatform.keys import KeySet
from iose.globalplatform.life_cycle import Privilege
from iose.globalplatform.put_key import PutKey
from iose.iso7816.apdu import CommandApdu
from tests.support.domain import (
    APPLETS,
    CRYPTO,
    DOMAIN,
    NOTE,
    NOTE_MODULE,
    NOTE_PACKAGE,
    PACKAGES,
    PROBE_PACKAGE,
    Issuer,
    ManagedCard,
    blocks,
)
from tests.support.memory_store import MemoryStore, PowerFailure
from tests.support.probe import PROBE, CountingRng

Make = Callable[[Issuer], CommandApdu]


def put_key(version: int, replaces: int) -> Make:
    keys = KeySet(version, bytes(16), bytes(16), bytes(16))

    def make(issuer: Issuer) -> CommandApdu:
        encrypt = issuer.host.encrypt_key
        return PutKey.for_keys(CRYPTO, keys, encrypt, replaces=replaces).to_command()

    return make


def said(request) -> Make:
    return lambda _: request.to_command()


LOAD: list[Make] = [
    said(InstallForLoad(NOTE_PACKAGE)),
    *(said(block) for block in blocks(PACKAGES[1])),
]
INSTALL = said(InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, NOTE, parameters=b"text"))
WAITING = said(
    InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, NOTE, parameters=b"text", is_selectable=False)
)
LOCK = said(SetStatus(StatusScope.APPLICATIONS, 0x80, NOTE))
SEQUENCES: dict[str, tuple[list[Make], list[Make]]] = {
    "LOAD": ([], LOAD),
    "INSTALL": (LOAD, [INSTALL]),
    "INSTALL, not selectable": (LOAD, [WAITING]),
    "MAKE SELECTABLE": ([*LOAD, WAITING], [said(MakeSelectable(NOTE))]),
    "UPDATE": ([], [said(RegistryUpdate(PROBE, Privilege(0)))]),
    "DELETE an instance": ([*LOAD, INSTALL], [said(Delete(NOTE))]),
    "DELETE the default": ([], [said(Delete(PROBE))]),
    "DELETE a load file": ([*LOAD, INSTALL], [said(Delete(NOTE_PACKAGE, and_related=True))]),
    "PUT KEY, new": ([], [put_key(0x31, 0)]),
    "PUT KEY, replaced": ([], [put_key(0x31, 0x30)]),
    "DELETE a key": ([put_key(0x31, 0)], [said(DeleteKey(0x31))]),
    "LOCK": ([*LOAD, INSTALL], [LOCK]),
    "UNLOCK": ([*LOAD, INSTALL, LOCK], [said(SetStatus(StatusScope.APPLICATIONS, 7, NOTE))]),
    "card state": ([], [said(SetStatus(StatusScope.ISSUER_DOMAIN, 0x07))]),
    "card terminated": ([], [said(SetStatus(StatusScope.ISSUER_DOMAIN, 0xFF))]),
    "STORE DATA": ([], [said(StoreData(0, bytes.fromhex("420111450122"), is_last=True))]),
    "STORE DATA for an instance": (
        [*LOAD, INSTALL],
        [
            said(InstallForPersonalization(NOTE)),
            said(StoreData(0, b"one ", is_last=False)),
            said(StoreData(1, b"two", is_last=True)),
        ],
    ),
}


def prepared(setup: list[Make]) -> dict[str, bytes]:
    card = ManagedCard()
    issuer = Issuer(card).open()
    for make in setup:
        assert issuer.status(make(issuer)) == "9000"
    return card.store.contents


def run(contents: dict[str, bytes], sequence: list[Make], cut_at: int | None) -> tuple:
    """Return the store before and after the sequence, its steps, and whether the power went."""
    card = ManagedCard(contents)
    issuer = Issuer(card).open()
    before = dict(card.store.contents)
    card.store.steps, card.store.cut_at = 0, cut_at
    try:
        for make in sequence:
            assert issuer.status(make(issuer)) == "9000"
    except PowerFailure:
        return before, card.store.contents, card.store.steps, True
    return before, card.store.contents, card.store.steps, False


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_cut_leaves_the_card_before_or_after(name: str):
    setup, sequence = SEQUENCES[name]
    contents = prepared(setup)
    before, after, steps, _ = run(contents, sequence, None)
    assert steps == 2, "one transaction"
    assert before != after
    for step, expected in enumerate((before, after)):
        _, found, _, is_cut = run(contents, sequence, step)
        assert is_cut
        assert found == expected
        if name != "card terminated":
            again = ManagedCard(found)
            key, version = (bytes(16), 0x31) if name == "PUT KEY, replaced" and step else (None, 0)
            options = {"key": key, "version": version} if key else {}
            assert Issuer(again, **options).open()
            assert not again.faults


def test_an_authentication_cut_anywhere_has_counted():
    contents = prepared([])
    states = []
    for step in range(4):
        card = ManagedCard(contents)
        issuer = Issuer(card).select()
        command = issuer.host.authenticate(card.transmit(issuer.host.initialize_update()))
        card.store.steps, card.store.cut_at = 0, step
        with pytest.raises(PowerFailure):
            card.transmit(command)
        found = card.store.contents
        states.append((f"{DOMAIN}failures" in found, found[f"{DOMAIN}counter.30"][-1]))
    assert states == [(False, 1), (True, 2), (True, 2), (False, 2)]


def test_a_guess_is_not_saved_by_cutting_the_power():
    contents = prepared([])
    for _ in range(10):
        card = ManagedCard(contents)
        Issuer(card).select()
        card.send("8050000008" + "00" * 8)
        card.store.steps, card.store.cut_at = 0, 1
        with pytest.raises(PowerFailure):
            card.transmit(CommandApdu(0x84, 0x82, 1, 0, bytes(16)))
        contents = card.store.contents
    card = ManagedCard(contents)
    Issuer(card).select()
    assert card.send("8050000008" + "00" * 8) == "6983"


def test_a_card_becomes_manageable_at_once_or_not_at_all():
    services = CardServices(CRYPTO, CountingRng(), APPLETS, None, PACKAGES)
    store = MemoryStore()
    CardOs(store, services).install("probe", PROBE, b"name", default_selected=True)
    old = dict(store.contents)
    found = []
    for step in range(2):
        store = MemoryStore(old)
        store.cut_at = step
        card = CardOs(store, services)
        with pytest.raises(PowerFailure):
            card.add_domain("security_domain", ISD_AID, loaded=[PROBE_PACKAGE])
        found.append(store.contents)
    assert found[0] == old
    assert f"{DOMAIN}keys" in found[1]
    assert ManagedCard(found[1]).atr == ManagedCard(old).atr
