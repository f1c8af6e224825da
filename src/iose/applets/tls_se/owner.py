# SPDX-License-Identifier: Apache-2.0
"""What an element's owner may read where its store lies: the secrets.

For the owner's channel of an element host; no APDU and no keystore command leads here. Objects
are named as the card names them: after the instance's AID.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from iose.applet_commands.pins import PinName
from iose.applet_commands.psk import ElementPsk
from iose.applets.tls_se.state import DEFAULT_GUEST_IDENTITY, DEFAULT_IDENTITY, Name
from iose.iso7816.aid import Aid

TLS_SE_AID: Final = Aid(b"\x01\x02\x03\x04\x05\x00")


@dataclass(frozen=True, slots=True)
class ElementSecrets:
    """What an element's owner needs to use it; shown to nobody else.

    Attributes:
        name: SEN.
        identity: PSK identity of the owner.
        psk: PSK of the owner; None where a module of the same card has it.
        user_pin: Without its padding.
        admin_pin: 8 bytes.
        guest_identity: The second identity.
        guest_psk: PSK of the second identity; None where there is none.
    """

    name: bytes
    identity: bytes
    psk: bytes | None = field(repr=False)
    user_pin: bytes = field(repr=False)
    admin_pin: bytes = field(repr=False)
    guest_identity: bytes
    guest_psk: bytes | None = field(repr=False)


def read_secrets(objects: Mapping[str, bytes], aid: Aid = TLS_SE_AID) -> ElementSecrets | None:
    """Return the secrets in the stored objects of a card, or None without such an instance."""
    stored = {
        name.removeprefix(f"{aid}/object/"): value
        for name, value in objects.items()
        if name.startswith(f"{aid}/object/")
    }
    psk = stored.get(Name.PSK)
    if Name.MODULE in stored:
        psk = None
    elif psk is None:
        return None
    guest = stored.get(Name.GUEST_PSK)
    return ElementSecrets(
        name=stored.get(Name.ELEMENT_NAME, b""),
        identity=stored.get(Name.IDENTITY, DEFAULT_IDENTITY),
        psk=None if psk is None else ElementPsk.decode(psk).psk,
        user_pin=objects.get(f"{aid}/pin/{PinName.USER}", b"").rstrip(b"\xff"),
        admin_pin=objects.get(f"{aid}/pin/{PinName.ADMIN}", b""),
        guest_identity=stored.get(Name.GUEST_IDENTITY, DEFAULT_GUEST_IDENTITY),
        guest_psk=None if guest is None else ElementPsk.decode(guest).psk,
    )
