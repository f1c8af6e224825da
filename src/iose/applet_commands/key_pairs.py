# SPDX-License-Identifier: Apache-2.0
"""What SIGN, GENERATE, ECDH and the key parameters do to one key pair (tls-se.md §4).

Functions on ``KeySlot`` values: which index names which slot, who may use it and where it is
stored, each applet decides.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from iose.applet_commands.curves import (
    PARAMETERS,
    POINT_SIZE,
    SCALAR_SIZE,
    KeyParameter,
    domain_parameter,
)
from iose.crypto.base import CryptoProvider, Curve, HashAlgorithm, Rng
from iose.crypto.errors import CryptoError
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader

_CURVES: Final = (None, Curve.SECP256R1, Curve.SECP256K1)


class KeyInput(IntEnum):
    """P1 of SIGN: what the data is."""

    DIGEST = 0x00
    MESSAGE = 0x21


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One general key pair.

    Attributes:
        curve: None until a command chose one.
        public: The uncompressed point, or None.
        private: The scalar, or None.
        is_sealed: Whether the private key and the seed of this slot never leave the element.
    """

    curve: Curve | None = None
    public: bytes | None = None
    private: bytes | None = field(default=None, repr=False)
    is_sealed: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it holds neither half of a pair."""
        return self.public is None and self.private is None

    def encode(self) -> bytes:
        """Return the bytes of the object."""
        head = (
            _CURVES.index(self.curve),
            self.is_sealed,
            self.public is not None,
            self.private is not None,
        )
        return bytes(head) + (self.public or b"") + (self.private or b"")

    @classmethod
    def decode(cls, data: bytes) -> "KeySlot":
        """Return the slot that ``encode`` made.

        Raises:
            DecodeError: It ends early, or its curve is not known.
        """
        reader = ByteReader(data)
        curve, sealed, has_public, has_private = reader.read_bytes(4)
        if curve >= len(_CURVES):
            raise DecodeError("a key slot of an unknown curve")
        return cls(
            _CURVES[curve],
            reader.read_bytes(POINT_SIZE) if has_public else None,
            reader.read_bytes(SCALAR_SIZE) if has_private else None,
            bool(sealed),
        )


def public_of(slot: KeySlot) -> bytes:
    """Return the point.

    Raises:
        StatusWordError: 6401, there is none.
    """
    if slot.public is None:
        raise StatusWordError(StatusWord.PUBLIC_KEY_CONFLICT)
    return slot.public


def private_of(slot: KeySlot) -> bytes:
    """Return the scalar.

    Raises:
        StatusWordError: 6402, there is none.
    """
    if slot.private is None:
        raise StatusWordError(StatusWord.PRIVATE_KEY_CONFLICT)
    return slot.private


def sign(crypto: CryptoProvider, slot: KeySlot, command: CommandApdu) -> ResponseApdu:
    """Return a 2-byte length and a DER signature (INS 80).

    Raises:
        StatusWordError: 6402 no key, 6A86 for P1, 6D20 not a digest.
    """
    private = private_of(slot)
    match command.p1:
        case KeyInput.DIGEST:
            digest = command.data
        case KeyInput.MESSAGE:
            digest = crypto.hash(HashAlgorithm.SHA256, command.data)
        case _:
            raise StatusWordError(StatusWord.WRONG_P1P2)
    if len(digest) != HashAlgorithm.SHA256.digest_size:
        raise StatusWordError(StatusWord.SIGNATURE_FAILURE)
    return _with_length(crypto.ecdsa_sign(slot.curve or Curve.SECP256K1, private, digest))


def cleared(slot: KeySlot) -> KeySlot:
    """Return the slot without both halves of its pair (INS 81); curve and seal stay."""
    return replace(slot, public=None, private=None)


def generated(crypto: CryptoProvider, rng: Rng, slot: KeySlot) -> KeySlot:
    """Return the empty slot with a new pair on the curve it was given (INS 82).

    Raises:
        StatusWordError: 6401 or 6402 a half exists, 6D10 no curve.
    """
    if slot.public is not None:
        raise StatusWordError(StatusWord.PUBLIC_KEY_CONFLICT)
    if slot.private is not None:
        raise StatusWordError(StatusWord.PRIVATE_KEY_CONFLICT)
    if slot.curve is None:
        raise StatusWordError(StatusWord.KEY_GENERATION_FAILURE)
    private = crypto.generate_private_key(slot.curve, rng)
    return replace(slot, public=crypto.public_key(slot.curve, private), private=private)


def is_private_parameter(command: CommandApdu) -> bool:
    """Return whether GET KEY PARAMETER asks for a private key, which takes the administrator."""
    return command.p1 == KeyParameter.PRIVATE


def parameter(slot: KeySlot, command: CommandApdu) -> ResponseApdu:
    """Return a 2-byte length and one parameter of a key (INS 84).

    Raises:
        StatusWordError: 6985 a private key that stays inside, 6401 or 6402 missing, 6A86 for P1,
            6D30 no curve.
    """
    wanted = _parameter_of(command)
    if wanted is KeyParameter.PUBLIC:
        return _with_length(public_of(slot))
    if wanted is KeyParameter.PRIVATE:
        if slot.is_sealed:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        return _with_length(private_of(slot))
    if slot.curve is None:
        raise StatusWordError(StatusWord.KEY_READ_FAILURE)
    return _with_length(domain_parameter(slot.curve, wanted))


def with_parameter(crypto: CryptoProvider, slot: KeySlot, command: CommandApdu) -> KeySlot:
    """Return the slot with one parameter of its key set (INS 88).

    Domain parameters are accepted when they are those of a curve we know.

    Raises:
        StatusWordError: 6401 or 6402 already set, 6A86 for P1, 6D40 the value is refused.
    """
    wanted = _parameter_of(command)
    try:
        if wanted is KeyParameter.PUBLIC:
            return _with_public(crypto, slot, command.data)
        if wanted is KeyParameter.PRIVATE:
            return _with_private(crypto, slot, command.data)
    except CryptoError:
        raise StatusWordError(StatusWord.KEY_SET_FAILURE) from None
    return _with_domain(slot, wanted, command.data)


def with_curve(slot: KeySlot, curve: Curve) -> KeySlot:
    """Return the slot with its curve chosen (INS 89).

    Raises:
        StatusWordError: 6985, a key of another curve is there.
    """
    if not slot.is_empty and slot.curve is not curve:
        raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
    return replace(slot, curve=curve)


def shared_secret(crypto: CryptoProvider, slot: KeySlot, point: bytes) -> ResponseApdu:
    """Return the X coordinate of a shared point (INS 8A).

    Raises:
        StatusWordError: 6402 no key, 6D50 the peer's point is the generator, or not on the curve.
    """
    private = private_of(slot)
    curve = slot.curve or Curve.SECP256R1
    if point == domain_parameter(curve, KeyParameter.GENERATOR):
        raise StatusWordError(StatusWord.ECDH_FAILURE)
    try:
        return ResponseApdu(crypto.ecdh(curve, private, point))
    except CryptoError:
        raise StatusWordError(StatusWord.ECDH_FAILURE) from None


def _parameter_of(command: CommandApdu) -> KeyParameter:
    if command.p1 > KeyParameter.PRIVATE:
        raise StatusWordError(StatusWord.WRONG_P1P2)
    return KeyParameter(command.p1)


def _with_public(crypto: CryptoProvider, slot: KeySlot, value: bytes) -> KeySlot:
    if slot.public is not None:
        raise StatusWordError(StatusWord.PUBLIC_KEY_CONFLICT)
    if slot.curve is None:
        raise StatusWordError(StatusWord.KEY_SET_FAILURE)
    crypto.check_public_key(slot.curve, value)
    return replace(slot, public=value)


def _with_private(crypto: CryptoProvider, slot: KeySlot, value: bytes) -> KeySlot:
    if slot.private is not None:
        raise StatusWordError(StatusWord.PRIVATE_KEY_CONFLICT)
    if slot.curve is None or len(value) > SCALAR_SIZE:
        raise StatusWordError(StatusWord.KEY_SET_FAILURE)
    private = value.rjust(SCALAR_SIZE, b"\x00")
    crypto.public_key(slot.curve, private)  # refuses what is no scalar
    return replace(slot, private=private)


def _with_domain(slot: KeySlot, wanted: KeyParameter, value: bytes) -> KeySlot:
    for curve in PARAMETERS if slot.curve is None else (slot.curve,):
        if domain_parameter(curve, wanted) == value:
            return replace(slot, curve=curve)
    raise StatusWordError(StatusWord.KEY_SET_FAILURE)


def _with_length(value: bytes) -> ResponseApdu:
    return ResponseApdu(len(value).to_bytes(2, "big") + value)
