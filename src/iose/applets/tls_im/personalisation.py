# SPDX-License-Identifier: Apache-2.0
"""What an identity module is given once, at the start of its life.

Encoded into the parameters of INSTALL, or into STORE DATA through its security domain while it is
not personalised yet. PINs left out are drawn inside; a PSK left out is provisioned later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from iose.applet_api import AppletContext
from iose.applet_commands.fields import (
    Field,
    decode_bool,
    decode_fields,
    encode_bool,
    encode_fields,
    sized,
)
from iose.applet_commands.pins import (
    PIN_SIZE,
    ElementPins,
    GivenPins,
)
from iose.applet_commands.psk import DEMO_PSK, PSK_SIZE, derive_psk
from iose.applets.tls_im.state import (
    LIMIT_SIZE,
    ModuleProfile,
    ModuleState,
    Name,
    Setting,
    decode_clients,
    decode_setting,
)
from iose.iso7816.aid import Aid

USER_PIN_SIZE: Final = 4  # clients take a PIN of 4 characters for the user's (tls-im.md §2)


@dataclass(frozen=True, slots=True)
class ModulePersonalisation:
    """The first state of an identity module.

    Attributes:
        setting: Hardened, or as the published module 1.0.
        psk: 32 bytes; None leaves it to a later provisioning.
        user_pin: At most 8 bytes; None draws 4 characters.
        admin_pin: 8 bytes; None draws one.
        handshake_limit: Handshake secrets between two right PINs of the administrator; 0 for no
            limit.
        clients: Instances of the same card that may use the module without a PIN.
        uses_demo_secrets: Take the published PSK and PINs where none is given. Whoever asks for
            it must warn.
        is_final: Whether the module is personalised with this; else STORE DATA may follow.
    """

    setting: Setting = Setting.HARDENED
    psk: bytes | None = field(default=None, repr=False)
    user_pin: bytes | None = field(default=None, repr=False)
    admin_pin: bytes | None = field(default=None, repr=False)
    handshake_limit: int = 0
    clients: tuple[Aid, ...] = ()
    uses_demo_secrets: bool = False
    is_final: bool = True

    def encode(self) -> bytes:
        """Return the parameters of INSTALL.

        Raises:
            LocalProtocolError: A value has more than 65 535 bytes.
        """
        return encode_fields(self, _FIELDS)

    @classmethod
    def decode(cls, data: bytes) -> "ModulePersonalisation":
        """Return the personalisation in the parameters of INSTALL; absent fields are default.

        Raises:
            DecodeError: Not what ``encode`` makes, or a value is out of its range.
        """
        return cls(**decode_fields(data, _FIELDS))


def _encode_setting(setting: Setting) -> bytes:
    return bytes((list(Setting).index(setting),))


def _encode_limit(limit: int) -> bytes:
    return limit.to_bytes(LIMIT_SIZE, "big")


def _decode_limit(data: bytes) -> int:
    return int.from_bytes(sized(LIMIT_SIZE, LIMIT_SIZE)(data), "big")


def _encode_clients(clients: Sequence[Aid]) -> bytes:
    return b"".join(bytes((len(client.value),)) + client.value for client in clients)


_FIELDS: Final[dict[int, Field]] = {
    1: ("setting", _encode_setting, decode_setting),
    2: ("psk", bytes, sized(PSK_SIZE, PSK_SIZE)),
    3: ("user_pin", bytes, sized(1, PIN_SIZE)),
    4: ("admin_pin", bytes, sized(PIN_SIZE, PIN_SIZE)),
    5: ("handshake_limit", _encode_limit, _decode_limit),
    6: ("clients", _encode_clients, decode_clients),
    7: ("uses_demo_secrets", encode_bool, decode_bool),
    8: ("is_final", encode_bool, decode_bool),
}


def personalise(
    context: AppletContext, state: ModuleState, pins: ElementPins, given: ModulePersonalisation
) -> None:
    """Write the state of a module, in the running transaction.

    Secrets that are there already stay, unless others are given.
    """
    is_new = context.store.get(Name.PROFILE) is None
    state.set_profile(
        ModuleProfile(given.setting, given.is_final, given.handshake_limit, given.clients)
    )
    demo = given.uses_demo_secrets
    given_pins = GivenPins(given.user_pin, given.admin_pin, demo, USER_PIN_SIZE)
    pins.personalise(given_pins, context.rng, is_new=is_new)
    psk = given.psk or (DEMO_PSK if demo and is_new else None)
    if psk is not None:
        reference = given.setting is Setting.COMPATIBLE
        state.set_psk(derive_psk(context.crypto, psk, reference=reference))
