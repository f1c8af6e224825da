# SPDX-License-Identifier: Apache-2.0
"""Both ends of a secure channel, joined."""

from dataclasses import dataclass

from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.card import CardChannel
from iose.globalplatform.channel import ScpVariant, SecurityLevel
from iose.globalplatform.host import HostChannel
from iose.globalplatform.keys import KeySet, KeyType
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from tests.support.rng import SeededRng

CRYPTO = PycaCrypto()
AID = bytes.fromhex("A000000151000000")
DIVERSIFICATION = bytes(range(10))
VERSION = 0x30
COUNTER = 7
SCP02 = ScpVariant(2, 0x15)
SCP02_COMPUTED = ScpVariant(2, 0x55)
S8 = ScpVariant(3, 0x70)
S16 = ScpVariant(3, 0x71)
RANDOM_S8 = ScpVariant(3, 0x60)
RANDOM_S16 = ScpVariant(3, 0x61)
BARE = ScpVariant(3, 0x00)
VARIANTS = (SCP02, SCP02_COMPUTED, S8, S16, RANDOM_S8, RANDOM_S16, BARE)
LEVELS = tuple(SecurityLevel(value) for value in (0x01, 0x03, 0x11, 0x13, 0x33))
CASES = [(variant, level) for variant in VARIANTS for level in LEVELS if variant.supports(level)]
PLAIN = CommandApdu(0x80, 0xF2, 0x40, 0x02, bytes.fromhex("4F00"), 256)


def key_set(key_type: KeyType, *, size: int = 16, version: int = VERSION) -> KeySet:
    enc, mac, dek = (bytes(range(start, start + size)) for start in (0x10, 0x50, 0x90))
    return KeySet(version, enc, mac, dek, key_type)


def make_card(
    host: HostChannel, variant: ScpVariant, keys: KeySet, *, counter: int = COUNTER
) -> CardChannel:
    """Return the card's end for the first command of a host."""
    challenge = bytes(range(variant.card_challenge_size))
    return CardChannel(
        CRYPTO,
        variant,
        keys,
        sequence_counter=counter,
        host_challenge=host.initialize_update().data,
        card_challenge=challenge if variant.has_random_challenge else None,
        aid=AID,
        diversification_data=DIVERSIFICATION,
    )


@dataclass
class Pair:
    """A host and a card with an open channel."""

    host: HostChannel
    card: CardChannel

    @classmethod
    def make(
        cls,
        variant: ScpVariant = S8,
        level: SecurityLevel = SecurityLevel.C_MAC,
        keys: KeySet | None = None,
    ) -> "Pair":
        keys = keys or key_set(variant.key_type)
        host = HostChannel(CRYPTO, SeededRng(), keys, level, expected=variant)
        card = make_card(host, variant, keys)
        card.authenticate(host.authenticate(ResponseApdu(card.response_data())))
        host.unwrap(ResponseApdu())
        return cls(host, card)

    def exchange(self, command: CommandApdu, response: ResponseApdu) -> ResponseApdu:
        """Carry a command over, and an answer back."""
        wire = CommandApdu.decode(self.host.wrap(command).encode())
        assert self.card.unwrap(wire) == command
        return self.host.unwrap(ResponseApdu.decode(self.card.wrap(response).encode()))
