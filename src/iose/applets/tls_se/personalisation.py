# SPDX-License-Identifier: Apache-2.0
"""What an element is given once, at the start of its life.

``Personalisation`` is encoded into the parameters of INSTALL, or of STORE DATA while the element
is not personalised yet. Secrets it leaves out are drawn inside the element.
"""

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
from iose.applet_commands.key_pairs import KeySlot
from iose.applet_commands.pins import (
    PIN_SIZE,
    ElementPins,
    GivenPins,
)
from iose.applet_commands.psk import DEMO_PSK, PSK_SIZE, derive_psk
from iose.applets.tls_se.settings import Settings
from iose.applets.tls_se.state import (
    DEFAULT_GUEST_IDENTITY,
    DEFAULT_IDENTITY,
    ElementState,
    Flag,
    Name,
    Profile,
    decode_settings,
    encode_settings,
)
from iose.crypto.base import Curve
from iose.iso7816.aid import Aid
from iose.wire.errors import DecodeError

DEFAULT_NAME: Final = b"key1.com"
SEID_LIMIT: Final = 63
NAME_LIMIT: Final = 15  # historical bytes of an ATR (ISO/IEC 7816-3 §8.2.1)
NO_FLAG: Final = Flag(0)
ALL_FLAGS: Final = Flag.GUEST_ENABLED | Flag.CHECK_SERVER_NAME


@dataclass(frozen=True, slots=True)
class Personalisation:
    """The first state of an element.

    Attributes:
        name: SEN, the TLS server name, at most 15 bytes; it becomes the ATR's historical bytes.
        settings: Wire, limits and commands.
        psk: PSK of the owner, 32 bytes; None draws one.
        module: Instance of the same card that computes with the owner's PSK; none is stored then.
        identity: PSK identity of the owner.
        user_pin: At most 8 bytes; None draws one.
        admin_pin: 8 bytes; None draws one.
        guest_psk: PSK of the second identity, 32 bytes; None draws one.
        guest_identity: The second identity.
        flags: Flags of ``?A5``.
        attestation_private: Scalar of the application key; None draws one.
        version_text: Answer to ``?00``; empty for our own.
        shows_handshake_secret: Whether ``?0D`` answers in the command set ``iose``.
        uses_demo_secrets: Take the published PSK and PINs where none is given. Whoever asks for
            it must warn.
        is_final: Whether the element is personalised with this; else STORE DATA may follow.
        seid: Name on the administration plane, at most 63 bytes, for what the element states of
            itself; empty leaves the one it has.
    """

    name: bytes = DEFAULT_NAME
    settings: Settings = field(default_factory=Settings)
    psk: bytes | None = field(default=None, repr=False)
    module: Aid | None = None
    identity: bytes = DEFAULT_IDENTITY
    user_pin: bytes | None = field(default=None, repr=False)
    admin_pin: bytes | None = field(default=None, repr=False)
    guest_psk: bytes | None = field(default=None, repr=False)
    guest_identity: bytes = DEFAULT_GUEST_IDENTITY
    flags: Flag = NO_FLAG
    attestation_private: bytes | None = field(default=None, repr=False)
    version_text: bytes = b""
    shows_handshake_secret: bool = False
    uses_demo_secrets: bool = False
    is_final: bool = True
    seid: bytes = b""

    def encode(self) -> bytes:
        """Return the parameters of INSTALL: a tag, a 2-byte length and a value per field.

        Raises:
            LocalProtocolError: A value has more than 65 535 bytes.
        """
        return encode_fields(self, _FIELDS)

    @classmethod
    def decode(cls, data: bytes) -> "Personalisation":
        """Return the personalisation in the parameters of INSTALL; absent fields are default.

        Raises:
            DecodeError: Not what ``encode`` makes, or a value is out of its range.
        """
        return cls(**decode_fields(data, _FIELDS))


def _encode_flags(value: Flag) -> bytes:
    return bytes((value,))


def _decode_flags(value: bytes) -> Flag:
    flags = Flag(sized(1, 1)(value)[0])
    if flags & ~ALL_FLAGS:
        raise DecodeError(f"unknown flags {flags:02X}")
    return flags


def _encode_aid(aid: Aid) -> bytes:
    return aid.value


_TEXT_LIMIT: Final = 64
_FIELDS: Final[dict[int, Field]] = {
    1: ("settings", encode_settings, decode_settings),
    2: ("name", bytes, sized(0, NAME_LIMIT)),
    3: ("psk", bytes, sized(PSK_SIZE, PSK_SIZE)),
    4: ("identity", bytes, sized(1, _TEXT_LIMIT)),
    5: ("user_pin", bytes, sized(1, PIN_SIZE)),
    6: ("admin_pin", bytes, sized(PIN_SIZE, PIN_SIZE)),
    7: ("guest_psk", bytes, sized(PSK_SIZE, PSK_SIZE)),
    8: ("guest_identity", bytes, sized(1, _TEXT_LIMIT)),
    9: ("flags", _encode_flags, _decode_flags),
    10: ("attestation_private", bytes, sized(PSK_SIZE, PSK_SIZE)),
    11: ("version_text", bytes, sized(0, _TEXT_LIMIT)),
    12: ("shows_handshake_secret", encode_bool, decode_bool),
    13: ("uses_demo_secrets", encode_bool, decode_bool),
    14: ("is_final", encode_bool, decode_bool),
    15: ("seid", bytes, sized(0, SEID_LIMIT)),
    16: ("module", _encode_aid, Aid),
}


def personalise(
    context: AppletContext, state: ElementState, pins: ElementPins, given: Personalisation
) -> None:
    """Write the state of an element, in the running transaction; secrets not given are drawn.

    Secrets that are there already stay, unless others are given.

    Raises:
        CryptoError: The attestation key is not a scalar of secp256k1. Nothing is written.
        DecodeError: Owner and guest have one identity. Nothing is written.
    """
    if given.settings.has_extensions and given.identity == given.guest_identity:
        raise DecodeError("the guest needs an identity of its own")
    is_new = state.store.get(Name.PROFILE) is None
    _set_attestation_key(context, state, given, is_new=is_new)
    state.set_profile(
        Profile(given.settings, given.is_final, given.shows_handshake_secret, given.version_text)
    )
    demo = given.uses_demo_secrets
    rng = context.rng
    pins.personalise(GivenPins(given.user_pin, given.admin_pin, demo), rng, is_new=is_new)
    state.set_module(given.module)
    if given.module is not None:
        state.store.delete(Name.PSK)
    elif given.psk or state.psk() is None:
        psk = given.psk or (DEMO_PSK if demo else rng.random_bytes(PSK_SIZE))
        state.set_psk(derive_psk(context.crypto, psk, reference=given.settings.is_reference))
    state.store.put(Name.IDENTITY, given.identity)
    if given.settings.has_extensions:
        _set_guest(context, state, given)
    if given.seid:
        state.store.put(Name.SEID, given.seid)
    set_name(context, state, given.name)


def _set_attestation_key(
    context: AppletContext, state: ElementState, given: Personalisation, *, is_new: bool
) -> None:
    private = given.attestation_private
    if private is None:
        if not is_new:
            return
        private = context.crypto.generate_private_key(Curve.SECP256K1, context.rng)
    public = context.crypto.public_key(Curve.SECP256K1, private)
    state.set_attestation_key(KeySlot(Curve.SECP256K1, public, private, is_sealed=True))


def _set_guest(context: AppletContext, state: ElementState, given: Personalisation) -> None:
    if given.guest_psk or state.psk(Name.GUEST_PSK) is None:
        psk = given.guest_psk or context.rng.random_bytes(PSK_SIZE)
        state.set_psk(derive_psk(context.crypto, psk), Name.GUEST_PSK)
    state.store.put(Name.GUEST_IDENTITY, given.guest_identity)
    state.store.put(Name.FLAGS, bytes((given.flags,)))


def set_name(context: AppletContext, state: ElementState, name: bytes) -> None:
    """Store the SEN; it shows in the ATR from the next reset on."""
    state.store.put(Name.ELEMENT_NAME, name)
    context.set_historical_bytes(name)
