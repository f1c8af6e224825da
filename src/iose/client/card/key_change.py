# SPDX-License-Identifier: Apache-2.0
"""The plan to give a card new keys (GPCS 2.3.1 §11.8).

The new set has a version number of its own unless told otherwise, so that whoever comes after a
cut can see which set the card holds.
"""

from collections.abc import Callable
from typing import Final

from iose.client.card.channel import CardChannel
from iose.client.card.errors import CardManagementError
from iose.client.card.key_files import CardKeys
from iose.client.card.plan import KeyChange, Plan, Step
from iose.crypto.base import CryptoProvider, Rng
from iose.globalplatform.channel import SCP03, ScpVariant
from iose.globalplatform.put_key import VERSION_MAX, PutKey

KEY_SIZE: Final = 16
# version numbers by protocol (GPCS 2.3.1 §E.1.2, Amendment D 1.2 §7.2)
SCP02_VERSIONS: Final = range(0x20, 0x30)
SCP03_VERSIONS: Final = range(0x30, 0x40)


def draw_keys(rng: Rng, version: int, variant: ScpVariant, size: int = KEY_SIZE) -> CardKeys:
    """Return a random key set."""
    enc, mac, dek = (rng.random_bytes(size) for _ in range(3))
    return CardKeys(enc, mac, dek, version=version, variant=variant)


def next_version(current: int, variant: ScpVariant) -> int:
    """Return the version number for the set that follows on another."""
    versions = SCP03_VERSIONS if variant.protocol == SCP03 else SCP02_VERSIONS
    return current + 1 if current + 1 in versions else versions.start


def plan_key_change(
    channel: CardChannel,
    keys: CardKeys,
    crypto: CryptoProvider,
    *,
    save: Callable[[], None] | None,
    file: str,
) -> Plan:
    """Return the plan to put new keys in the place of those the channel was opened with.

    Args:
        channel: An open secure channel.
        keys: The new keys, with their version.
        crypto: The primitives.
        save: Writes the new keys down, durably; None when they are in ``file`` already.
        file: Where they are kept, to tell the administrator.

    Raises:
        CardManagementError: The keys do not fit the card's protocol, or the version is none.
    """
    title = f"change the keys of the card to version {keys.version:02X}"
    if channel.keys == keys or _is_same(channel.keys, keys):
        return Plan(title, notes=(f"the card holds the keys in {file} already",))
    if not 1 <= keys.version <= VERSION_MAX:
        raise CardManagementError(f"a key version is 01 to {VERSION_MAX:02X}")
    # a factory version above 7F has no number in P1, and gives way to the first set that comes
    replaces = channel.key_version if channel.key_version <= VERSION_MAX else 0
    derived = channel.derive(keys)
    blank = PutKey.for_keys(crypto, derived, lambda key: bytes(len(key)), replaces=replaces)
    change = KeyChange(keys, replaces, len(blank.to_command().encode()))
    steps = [
        Step(
            f"put keys of version {keys.version:02X} in the place of version "
            f"{channel.key_version:02X}, and open a secure channel with them to prove it",
            change=change,
        )
    ]
    if save is not None:
        steps.insert(0, Step(f"write the new keys to {file} (mode 0600)", action=save))
    return Plan(title, tuple(steps))


def _is_same(held: CardKeys, wanted: CardKeys) -> bool:
    values = [(keys.enc, keys.mac, keys.dek, keys.diversification) for keys in (held, wanted)]
    return values[0] == values[1] and held.version in {0, wanted.version}
