# SPDX-License-Identifier: Apache-2.0
"""Key pairs over APDUs: sign, clear, generate, read, set, ECDH, the certificate (tls-se.md §4).

Index 0 to 3 are the general pairs the keystore shares, FF the ephemeral pair of ECDH, FE or 5 the
application (attestation) key: of it, only the public part is read.
"""

from dataclasses import replace
from enum import IntEnum
from typing import Final

from iose.applet_api import AppletContext
from iose.applets.tls_se.curves import PARAMETERS, SCALAR_SIZE, KeyParameter, domain_parameter
from iose.applets.tls_se.der import raw_signature
from iose.applets.tls_se.state import CERTIFICATE_SIZE, KEY_SLOTS, ElementState, KeySlot
from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.errors import CryptoError
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError

EPHEMERAL: Final = 0xFF
ATTESTATION: Final = (0xFE, 0x05)
_CURVE_SECP256K1: Final = 0xFF
_SELF_SIGN: Final = 0xFF


class KeyInput(IntEnum):
    """P1 of SIGN: what the data is."""

    DIGEST = 0x00
    MESSAGE = 0x21


class KeyCommands:
    """INS 80, 81, 82, 84, 88, 89, 8A, 8E and 8F; PINs are checked already."""

    def __init__(self, context: AppletContext, state: ElementState) -> None:
        self._context = context
        self._state = state
        self._ephemeral = KeySlot(Curve.SECP256R1)

    def clear_ephemeral(self) -> None:
        """Forget the ephemeral pair: it lives no longer than a selection."""
        self._ephemeral = KeySlot(Curve.SECP256R1)

    def sign(self, command: CommandApdu) -> ResponseApdu:
        """Return a 2-byte length and a DER signature (INS 80).

        Raises:
            StatusWordError: 6985 index or hardened rule, 6402 no key, 6A86 for P1, 6D20 failed.
        """
        slot = self._slot(command.p2)
        if command.p2 in ATTESTATION and self._state.profile.is_locked:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        private = _private(slot)
        match command.p1:
            case KeyInput.DIGEST:
                digest = command.data
            case KeyInput.MESSAGE:
                digest = self._context.crypto.hash(HashAlgorithm.SHA256, command.data)
            case _:
                raise StatusWordError(StatusWord.WRONG_P1P2)
        if len(digest) != HashAlgorithm.SHA256.digest_size:
            raise StatusWordError(StatusWord.SIGNATURE_FAILURE)
        return _with_length(self._sign(slot, private, digest))

    def clear(self, command: CommandApdu) -> ResponseApdu:
        """Clear both halves of a pair (INS 81); curve, seal and seed stay.

        Raises:
            StatusWordError: 6985, index above 3.
        """
        slot = self._general(command.p2)
        self._state.set_key_slot(command.p2, replace(slot, public=None, private=None))
        return ResponseApdu()

    def generate(self, command: CommandApdu) -> ResponseApdu:
        """Generate a pair on the curve its slot was given (INS 82).

        Raises:
            StatusWordError: 6985 index, 6401 or 6402 a half exists, 6D10 no curve.
        """
        slot = self._general(command.p2)
        if slot.public is not None:
            raise StatusWordError(StatusWord.PUBLIC_KEY_CONFLICT)
        if slot.private is not None:
            raise StatusWordError(StatusWord.PRIVATE_KEY_CONFLICT)
        if slot.curve is None:
            raise StatusWordError(StatusWord.KEY_GENERATION_FAILURE)
        self._state.set_key_slot(command.p2, self._new_pair(slot, slot.curve))
        return ResponseApdu()

    @staticmethod
    def is_private_parameter(command: CommandApdu) -> bool:
        """Whether GET KEY PARAMETER asks for a private key, which takes the administrator."""
        return command.p1 == KeyParameter.PRIVATE

    def parameter(self, command: CommandApdu) -> ResponseApdu:
        """Return a 2-byte length and one parameter of a key (INS 84).

        Raises:
            StatusWordError: 6985 index or a private key that stays inside, 6401 or 6402 missing,
                6A86 for P1, 6D30 no curve.
        """
        slot = self._slot(command.p2)
        if command.p1 > KeyParameter.PRIVATE:
            raise StatusWordError(StatusWord.WRONG_P1P2)
        parameter = KeyParameter(command.p1)
        if parameter is KeyParameter.PUBLIC:
            return _with_length(_public(slot))
        if parameter is KeyParameter.PRIVATE:
            if slot.is_sealed:
                raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
            return _with_length(_private(slot))
        if slot.curve is None:
            raise StatusWordError(StatusWord.KEY_READ_FAILURE)
        return _with_length(domain_parameter(slot.curve, parameter))

    def set_parameter(self, command: CommandApdu) -> ResponseApdu:
        """Set one parameter of a key (INS 88).

        Domain parameters are accepted when they are those of a curve the element knows.

        Raises:
            StatusWordError: 6985 index or hardened rule, 6401 or 6402 already set, 6A86 for P1,
                6D40 the value is refused.
        """
        slot = self._general(command.p2)
        if command.p1 > KeyParameter.PRIVATE:
            raise StatusWordError(StatusWord.WRONG_P1P2)
        parameter = KeyParameter(command.p1)
        try:
            if parameter is KeyParameter.PUBLIC:
                changed = self._with_public(slot, command.data)
            elif parameter is KeyParameter.PRIVATE:
                changed = self._with_private(slot, command.data)
            else:
                changed = _with_domain(slot, parameter, command.data)
        except CryptoError:
            raise StatusWordError(StatusWord.KEY_SET_FAILURE) from None
        self._state.set_key_slot(command.p2, changed)
        return ResponseApdu()

    def init_curve(self, command: CommandApdu) -> ResponseApdu:
        """Choose the curve of an empty pair (INS 89).

        Raises:
            StatusWordError: 6985, index above 3, or a key of the other curve is there.
        """
        slot = self._general(command.p2)
        curve = Curve.SECP256K1 if command.p1 == _CURVE_SECP256K1 else Curve.SECP256R1
        if not slot.is_empty and slot.curve is not curve:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        self._state.set_key_slot(command.p2, replace(slot, curve=curve))
        return ResponseApdu()

    def ecdh(self, command: CommandApdu) -> ResponseApdu:
        """Return the X coordinate of a shared point (INS 8A); index FF makes a new pair first.

        Raises:
            StatusWordError: 6985 index, 6402 no key, 6D50 the peer's point is the generator, or
                not on the curve.
        """
        if command.p2 == EPHEMERAL:
            self._ephemeral = self._new_pair(KeySlot(Curve.SECP256R1), Curve.SECP256R1)
            slot = self._ephemeral
        else:
            slot = self._general(command.p2)
        private = _private(slot)
        curve = slot.curve or Curve.SECP256R1
        if command.data == domain_parameter(curve, KeyParameter.GENERATOR):
            raise StatusWordError(StatusWord.ECDH_FAILURE)
        try:
            return ResponseApdu(self._context.crypto.ecdh(curve, private, command.data))
        except CryptoError:
            raise StatusWordError(StatusWord.ECDH_FAILURE) from None

    def certificate(self, _command: CommandApdu) -> ResponseApdu:
        """Return the application certificate, zeros while there is none (INS 8E)."""
        return ResponseApdu(self._state.certificate or bytes(CERTIFICATE_SIZE))

    def set_certificate(self, command: CommandApdu) -> ResponseApdu:
        """Store the application certificate, once (INS 8F); P1=FF has pair P2 sign it.

        Raises:
            StatusWordError: 6984 already written, 6700 not 64 bytes, 6985 index, 6402 no key.
        """
        if self._state.certificate is not None:
            raise StatusWordError(StatusWord.DATA_INVALID)
        if command.p1 != _SELF_SIGN:
            if len(command.data) != CERTIFICATE_SIZE:
                raise StatusWordError(StatusWord.WRONG_LENGTH)
            self._state.set_certificate(command.data)
            return ResponseApdu()
        signer = self._general(command.p2)
        private = _private(signer)
        public = _public(self._state.attestation_key)
        digest = self._context.crypto.hash(HashAlgorithm.SHA256, public[1:])
        self._state.set_certificate(raw_signature(self._sign(signer, private, digest)))
        return ResponseApdu()

    def _general(self, index: int) -> KeySlot:
        if index >= KEY_SLOTS:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        return self._state.key_slot(index)

    def _slot(self, index: int) -> KeySlot:
        if index == EPHEMERAL:
            return self._ephemeral
        if index in ATTESTATION:
            return self._state.attestation_key
        return self._general(index)

    def _sign(self, slot: KeySlot, private: bytes, digest: bytes) -> bytes:
        return self._context.crypto.ecdsa_sign(slot.curve or Curve.SECP256K1, private, digest)

    def _new_pair(self, slot: KeySlot, curve: Curve) -> KeySlot:
        private = self._context.crypto.generate_private_key(curve, self._context.rng)
        public = self._context.crypto.public_key(curve, private)
        return replace(slot, curve=curve, public=public, private=private)

    def _with_public(self, slot: KeySlot, value: bytes) -> KeySlot:
        if slot.public is not None:
            raise StatusWordError(StatusWord.PUBLIC_KEY_CONFLICT)
        if slot.curve is None:
            raise StatusWordError(StatusWord.KEY_SET_FAILURE)
        self._context.crypto.check_public_key(slot.curve, value)
        return replace(slot, public=value)

    def _with_private(self, slot: KeySlot, value: bytes) -> KeySlot:
        if self._state.profile.is_locked:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        if slot.private is not None:
            raise StatusWordError(StatusWord.PRIVATE_KEY_CONFLICT)
        if slot.curve is None or len(value) > SCALAR_SIZE:
            raise StatusWordError(StatusWord.KEY_SET_FAILURE)
        private = value.rjust(SCALAR_SIZE, b"\x00")
        self._context.crypto.public_key(slot.curve, private)  # refuses what is no scalar
        return replace(slot, private=private)


def _with_domain(slot: KeySlot, parameter: KeyParameter, value: bytes) -> KeySlot:
    for curve in PARAMETERS if slot.curve is None else (slot.curve,):
        if domain_parameter(curve, parameter) == value:
            return replace(slot, curve=curve)
    raise StatusWordError(StatusWord.KEY_SET_FAILURE)


def _public(slot: KeySlot) -> bytes:
    if slot.public is None:
        raise StatusWordError(StatusWord.PUBLIC_KEY_CONFLICT)
    return slot.public


def _private(slot: KeySlot) -> bytes:
    if slot.private is None:
        raise StatusWordError(StatusWord.PRIVATE_KEY_CONFLICT)
    return slot.private


def _with_length(value: bytes) -> ResponseApdu:
    return ResponseApdu(len(value).to_bytes(2, "big") + value)
