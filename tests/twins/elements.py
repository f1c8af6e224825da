# SPDX-License-Identifier: Apache-2.0
"""Software cards for twins: the product's own, made as the command line of the twin says."""

import argparse
import sys
from dataclasses import dataclass

from iose.applets.tls_se import CommandSet, Limits, Personalisation, Settings, Wire
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.card.refusals import CardFault
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.atr import TransmissionProtocol
from iose.runtime.compose import card_packages, make_element
from iose.runtime.compose.cards import APPLETS
from iose.runtime.entropy import OsRng
from tests.support.memory_store import MemoryStore

DEMO_PSK = bytes(range(1, 33))


@dataclass(frozen=True)
class Cards:
    """What the cards of a twin are like.

    Attributes:
        wire: ``compatible`` or ``hardened``.
        limits: ``chip`` or ``wide``.
        commands: ``iose``, ``1.3`` or ``2.18``.
        psk: Key of every card.
        protocol: Manners of T=0 or of T=1, and the ATR that announces them.
    """

    wire: str = "compatible"
    limits: str = "chip"
    commands: str = "1.3"
    psk: bytes = DEMO_PSK
    protocol: TransmissionProtocol = TransmissionProtocol.T1

    @classmethod
    def from_arguments(cls, given: argparse.Namespace) -> "Cards":
        """Return what the options of ``add_options`` say."""
        protocol = TransmissionProtocol(given.protocol)
        return cls(given.wire, given.limits, given.commands, bytes.fromhex(given.psk), protocol)

    def make(self, name: str) -> CardOs:
        """Return a new card with the published PINs, without power; its name is its SEN."""
        settings = Settings(Wire(self.wire), Limits(self.limits), CommandSet(self.commands))
        store = MemoryStore()
        given = Personalisation(
            name.encode(), settings, psk=self.psk, uses_demo_secrets=True, seid=name.encode()
        )
        make_element(store, given)
        services = CardServices(PycaCrypto(), OsRng(), APPLETS, _report, card_packages())
        return CardOs(store, services, CardSettings(self.protocol, settings.is_hardened))


def add_options(parser: argparse.ArgumentParser, protocol: int = 1) -> None:
    """Add the options that every twin has; ``protocol`` is what its wire needs."""
    parser.add_argument("--wire", default="compatible", choices=[one.value for one in Wire])
    parser.add_argument("--limits", default="chip", choices=[one.value for one in Limits])
    parser.add_argument("--commands", default="1.3", choices=[one.value for one in CommandSet])
    parser.add_argument("--psk", default=DEMO_PSK.hex(), metavar="HEX")
    parser.add_argument("--protocol", type=int, default=protocol, choices=(0, 1))


def _report(fault: CardFault) -> None:
    sys.stderr.write(f"{fault}\n")
