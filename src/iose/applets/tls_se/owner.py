# SPDX-License-Identifier: Apache-2.0
"""What an element's owner may do where its store lies: read the secrets, rename, unlock.

For the owner's channel of an element host, while the element has no power. No APDU and no
keystore command leads here. Objects are named as the card names them: after the instance's AID.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from iose.applets.tls_se.personalisation import NAME_LIMIT
from iose.applets.tls_se.pins import ADMIN_TRIES, USER_TRIES, PinName
from iose.applets.tls_se.psk import ElementPsk
from iose.applets.tls_se.state import DEFAULT_GUEST_IDENTITY, DEFAULT_IDENTITY, Name
from iose.iso7816.aid import Aid
from iose.wire.errors import LocalProtocolError

TLS_SE_AID: Final = Aid(b"\x01\x02\x03\x04\x05\x00")


@dataclass(frozen=True, slots=True)
class ElementSecrets:
    """What an element's owner needs to use it; shown to nobody else.

    Attributes:
        name: SEN.
        identity: PSK identity of the owner.
        psk: PSK of the owner.
        user_pin: Without its padding.
        admin_pin: 8 bytes.
        guest_identity: The second identity.
        guest_psk: PSK of the second identity; None where there is none.
    """

    name: bytes
    identity: bytes
    psk: bytes = field(repr=False)
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
    if Name.PSK not in stored:
        return None
    guest = stored.get(Name.GUEST_PSK)
    return ElementSecrets(
        name=stored.get(Name.ELEMENT_NAME, b""),
        identity=stored.get(Name.IDENTITY, DEFAULT_IDENTITY),
        psk=ElementPsk.decode(stored[Name.PSK]).psk,
        user_pin=objects.get(f"{aid}/pin/{PinName.USER}", b"").rstrip(b"\xff"),
        admin_pin=objects.get(f"{aid}/pin/{PinName.ADMIN}", b""),
        guest_identity=stored.get(Name.GUEST_IDENTITY, DEFAULT_GUEST_IDENTITY),
        guest_psk=None if guest is None else ElementPsk.decode(guest).psk,
    )


def rename_changes(name: bytes, aid: Aid = TLS_SE_AID) -> dict[str, bytes | None]:
    """Return the changes that give an element another SEN; the ATR is the card's business.

    Raises:
        LocalProtocolError: The name has more than 15 bytes.
    """
    if len(name) > NAME_LIMIT:
        raise LocalProtocolError(f"a SEN has at most {NAME_LIMIT} bytes, found {len(name)}")
    return {f"{aid}/object/{Name.ELEMENT_NAME}": name}


def unlock_changes(aid: Aid = TLS_SE_AID) -> dict[str, bytes | None]:
    """Return the changes that give back every try of the PINs and of the PSK change."""
    return {
        f"{aid}/pin/{PinName.USER}/tries": bytes((USER_TRIES,)),
        f"{aid}/pin/{PinName.ADMIN}/tries": bytes((ADMIN_TRIES,)),
        f"{aid}/object/{Name.PSK_FAILURES}": None,
    }
