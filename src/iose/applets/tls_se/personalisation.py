# SPDX-License-Identifier: Apache-2.0
"""What an element is given once, at the start of its life.

``Personalisation`` is encoded into the parameters of INSTALL, or of STORE DATA while the element
is not personalised yet. Secrets it leaves out are drawn inside the element.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from iose.applet_api import AppletContext
from iose.applets.tls_se.pins import PIN_SIZE, ElementPins
from iose.applets.tls_se.psk import PSK_SIZE, derive_psk
from iose.applets.tls_se.settings import Settings
from iose.applets.tls_se.state import (
    DEFAULT_GUEST_IDENTITY,
    DEFAULT_IDENTITY,
    ElementState,
    Flag,
    KeySlot,
    Name,
    Profile,
    decode_settings,
    encode_settings,
)
from iose.crypto.base import Curve, Rng
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter

DEFAULT_NAME: Final = b"key1.com"
NAME_LIMIT: Final = 15  # historical bytes of an ATR (ISO/IEC 7816-3 §8.2.1)
DEMO_PSK: Final = bytes(range(1, PSK_SIZE + 1))
DEMO_USER_PIN: Final = b"0000"
DEMO_ADMIN_PIN: Final = b"00000000"
_PIN_LETTERS: Final = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # 32 that no eye confuses
NO_FLAG: Final = Flag(0)
ALL_FLAGS: Final = Flag.GUEST_ENABLED | Flag.CHECK_SERVER_NAME
_NO: Final = b"\x00"
_YES: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class Personalisation:
    """The first state of an element.

    Attributes:
        name: SEN, the TLS server name, at most 15 bytes; it becomes the ATR's historical bytes.
        settings: Wire, limits and commands.
        psk: PSK of the owner, 32 bytes; None draws one.
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
    """

    name: bytes = DEFAULT_NAME
    settings: Settings = field(default_factory=Settings)
    psk: bytes | None = field(default=None, repr=False)
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

    def encode(self) -> bytes:
        """Return the parameters of INSTALL: a tag, a 2-byte length and a value per field.

        Raises:
            LocalProtocolError: A value has more than 65 535 bytes.
        """
        writer = ByteWriter()
        for tag, (name, encode, _) in _FIELDS.items():
            value = getattr(self, name)
            if value is not None:
                writer.write_uint8(tag)
                writer.write_opaque(encode(value), 2)
        return writer.to_bytes()

    @classmethod
    def decode(cls, data: bytes) -> "Personalisation":
        """Return the personalisation in the parameters of INSTALL; absent fields are default.

        Raises:
            DecodeError: Not what ``encode`` makes, or a value is out of its range.
        """
        reader = ByteReader(data)
        values: dict[str, object] = {}
        while reader.remaining:
            tag = reader.read_uint8()
            if tag not in _FIELDS:
                raise DecodeError(f"unknown field {tag} of a personalisation", offset=reader.offset)
            name, _, decode = _FIELDS[tag]
            values[name] = decode(reader.read_opaque(2))
        return cls(**values)  # type: ignore[arg-type]  # the table pairs each name with its type


def _text(low: int, high: int) -> Callable[[bytes], bytes]:
    def decode(value: bytes) -> bytes:
        if not low <= len(value) <= high:
            raise DecodeError(f"expected {low} to {high} bytes, found {len(value)}")
        return value

    return decode


def _encode_bool(value: bool) -> bytes:  # noqa: FBT001  # an entry of the table below
    return bytes((value,))


def _decode_bool(value: bytes) -> bool:
    if value not in (_NO, _YES):
        raise DecodeError("expected 0 or 1 in one byte")
    return value == _YES


def _encode_flags(value: Flag) -> bytes:
    return bytes((value,))


def _decode_flags(value: bytes) -> Flag:
    flags = Flag(_text(1, 1)(value)[0])
    if flags & ~ALL_FLAGS:
        raise DecodeError(f"unknown flags {flags:02X}")
    return flags


_TEXT_LIMIT: Final = 64
_FIELDS: Final[dict[int, tuple[str, Callable[..., bytes], Callable[[bytes], object]]]] = {
    1: ("settings", encode_settings, decode_settings),
    2: ("name", bytes, _text(0, NAME_LIMIT)),
    3: ("psk", bytes, _text(PSK_SIZE, PSK_SIZE)),
    4: ("identity", bytes, _text(1, _TEXT_LIMIT)),
    5: ("user_pin", bytes, _text(1, PIN_SIZE)),
    6: ("admin_pin", bytes, _text(PIN_SIZE, PIN_SIZE)),
    7: ("guest_psk", bytes, _text(PSK_SIZE, PSK_SIZE)),
    8: ("guest_identity", bytes, _text(1, _TEXT_LIMIT)),
    9: ("flags", _encode_flags, _decode_flags),
    10: ("attestation_private", bytes, _text(PSK_SIZE, PSK_SIZE)),
    11: ("version_text", bytes, _text(0, _TEXT_LIMIT)),
    12: ("shows_handshake_secret", _encode_bool, _decode_bool),
    13: ("uses_demo_secrets", _encode_bool, _decode_bool),
    14: ("is_final", _encode_bool, _decode_bool),
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
    is_new = state.psk() is None
    _set_attestation_key(context, state, given, is_new=is_new)
    state.set_profile(
        Profile(given.settings, given.is_final, given.shows_handshake_secret, given.version_text)
    )
    demo = given.uses_demo_secrets
    rng = context.rng
    if given.user_pin or is_new:
        pins.user.update(given.user_pin or (DEMO_USER_PIN if demo else _random_pin(rng)))
    if given.admin_pin or is_new:
        pins.admin.update(given.admin_pin or (DEMO_ADMIN_PIN if demo else _random_pin(rng)))
    if given.psk or is_new:
        psk = given.psk or (DEMO_PSK if demo else rng.random_bytes(PSK_SIZE))
        state.set_psk(derive_psk(context.crypto, psk, reference=given.settings.is_reference))
    state.store.put(Name.IDENTITY, given.identity)
    if given.settings.has_extensions:
        _set_guest(context, state, given)
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


def _random_pin(rng: Rng) -> bytes:
    letters = len(_PIN_LETTERS)
    return bytes(_PIN_LETTERS[byte % letters] for byte in rng.random_bytes(PIN_SIZE))
