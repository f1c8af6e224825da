# SPDX-License-Identifier: Apache-2.0
"""Hostile commands for the security domain, in clear and with the keys in hand.

Whatever comes, the card answers, reports no fault of ours, and its issuer can manage it after.
Bounded here, longer with IOSE_FUZZ_RUNS.
"""

import os
import random

import pytest

from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.commands import Delete, DeleteKey, GetStatus, SetStatus, StatusScope
from iose.globalplatform.install import (
    InstallForInstall,
    InstallForLoad,
    InstallForPersonalization,
    MakeSelectable,
    RegistryUpdate,
)
from iose.globalplatform.life_cycle import Privilege
from iose.iso7816.apdu import CommandApdu
from iose.wire.errors import DecodeError, LocalProtocolError
from tests.support.domain import (
    NOTE,
    NOTE_MODULE,
    NOTE_PACKAGE,
    PACKAGES,
    SELECT_DOMAIN,
    Issuer,
    ManagedCard,
    blocks,
)
from tests.support.mutation import mutate
from tests.support.probe import PROBE

RUNS = int(os.environ.get("IOSE_FUZZ_RUNS", "150"))
CHANGES = range(4)
REQUESTS = [
    InstallForLoad(NOTE_PACKAGE),
    *blocks(PACKAGES[1]),
    InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, NOTE, parameters=b"text"),
    InstallForInstall(NOTE_PACKAGE, NOTE_MODULE, NOTE, is_selectable=False),
    MakeSelectable(NOTE, Privilege.DEFAULT_SELECTED),
    InstallForPersonalization(NOTE),
    RegistryUpdate(PROBE, Privilege(0)),
    SetStatus(StatusScope.APPLICATIONS, 0x80, NOTE),
    SetStatus(StatusScope.ISSUER_DOMAIN, 0x07),
    GetStatus(StatusScope.APPLICATIONS, tags=b"\x4f\x9f\x70"),
    GetStatus(StatusScope.LOAD_FILES_AND_MODULES, is_next=True),
    Delete(NOTE),
    Delete(NOTE_PACKAGE, and_related=True),
    DeleteKey(0x31),
]
COMMANDS = [request.to_command().encode() for request in REQUESTS]
COMMANDS += [bytes.fromhex("80D8008155" + "31" + "8811" + "10" + "00" * 16 + "03000000")]
COMMANDS += [bytes.fromhex("80E2800003420111"), bytes.fromhex("80CA9F7F00")]
CLEAR = [
    *COMMANDS,
    bytes.fromhex(SELECT_DOMAIN),
    bytes.fromhex("8050000008001122334455667700"),
    bytes.fromhex("8482010010" + "00" * 16),
    bytes.fromhex("84F24002084F00" + "00" * 6),
]


@pytest.mark.timeout(0)
def test_mutated_commands_in_clear_change_nothing_but_the_counters():
    rng = random.Random("clear")  # noqa: S311  # repeatable
    made = ManagedCard().store.contents
    for _ in range(RUNS):
        card = ManagedCard(made)
        card.send(SELECT_DOMAIN)
        for _ in range(rng.randint(1, 20)):
            command = mutate(rng.choice(CLEAR), rng, CHANGES)
            assert len(card.card.process(command)) >= 2, command.hex()
            card.send(SELECT_DOMAIN)
        changed = {name for name in made | card.store.contents if is_changed(name, made, card)}
        assert all(name.endswith(("failures", "counter.30", "deselected")) for name in changed)
        assert not card.faults


def is_changed(name: str, made: dict[str, bytes], card: ManagedCard) -> bool:
    return made.get(name) != card.store.contents.get(name)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("variant", "level"), [(ScpVariant(3, 0x70), 0x33), (ScpVariant(2, 0x15), 0x03)], ids=str
)
def test_mutated_commands_of_a_keyholder_leave_a_card_that_works(variant: ScpVariant, level: int):
    rng = random.Random(f"{variant}")  # noqa: S311  # repeatable
    made = ManagedCard(variant=variant).store.contents
    for _ in range(RUNS):
        card = ManagedCard(made, variant)
        issuer = Issuer(card, level).open()
        for _ in range(rng.randint(1, 25)):
            send(issuer, mutate(rng.choice(COMMANDS), rng, CHANGES))
        assert not card.faults
        again = card.again()
        assert Issuer(again, level).open()
        assert not again.faults


def send(issuer: Issuer, raw: bytes) -> None:
    """Send a command under the channel's protection, where it still is one that fits."""
    try:
        command = CommandApdu.decode(raw)
        wrapped = issuer.host.wrap(CommandApdu(0x80, *raw[1:4], command.data, 256))
    except (DecodeError, LocalProtocolError):
        return
    if wrapped.ins == 0xF0 and wrapped.p1 == 0x80:
        return  # a card that is terminated is not to be tested any more
    if wrapped.ins in {0x70, 0xA4, 0x50, 0x82}:
        return
    issuer.host.unwrap(issuer._transmit(wrapped))
