# SPDX-License-Identifier: Apache-2.0
"""What a module's owner may read where its store lies: the PINs, and no key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from iose.applet_commands.pins import PIN_PADDING, PinName
from iose.iso7816.aid import Aid

TLS_IM_AID: Final = Aid(b"\x01\x02\x03\x04\x08\x00")


@dataclass(frozen=True, slots=True)
class ModuleSecrets:
    """What a module's owner needs to use it; shown to nobody else.

    Attributes:
        user_pin: Without its padding.
        admin_pin: 8 bytes.
    """

    user_pin: bytes = field(repr=False)
    admin_pin: bytes = field(repr=False)


def read_module_secrets(
    objects: Mapping[str, bytes], aid: Aid = TLS_IM_AID
) -> ModuleSecrets | None:
    """Return the PINs in the stored objects of a card, or None without such an instance."""
    user, admin = (objects.get(f"{aid}/pin/{name}") for name in (PinName.USER, PinName.ADMIN))
    if user is None or admin is None:
        return None
    return ModuleSecrets(user.rstrip(PIN_PADDING), admin)
