# SPDX-License-Identifier: Apache-2.0
"""Key pairs over APDUs: sign, clear, generate, read, set, ECDH, the certificate (tls-se.md §4).

Index 0 to 3 are the general pairs the keystore shares, FF the ephemeral pair of ECDH, FE or 5 the
application (attestation) key: of it, only the public part is read.
"""

from typing import Final

from iose.applet_api import AppletContext
from iose.applet_commands.key_pairs import (
    KeySlot,
    cleared,
    generated,
    is_private_parameter,
    parameter,
    private_of,
    public_of,
    shared_secret,
    sign,
    with_curve,
    with_parameter,
)
from iose.applets.tls_se.der import raw_signature
from iose.applets.tls_se.state import CERTIFICATE_SIZE, KEY_SLOTS, ElementState
from iose.crypto.base import Curve, HashAlgorithm
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError

EPHEMERAL: Final = 0xFF
ATTESTATION: Final = (0xFE, 0x05)
_CURVE_SECP256K1: Final = 0xFF
_SELF_SIGN: Final = 0xFF


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
        return sign(self._context.crypto, slot, command)

    def clear(self, command: CommandApdu) -> ResponseApdu:
        """Clear both halves of a pair (INS 81); curve, seal and seed stay.

        Raises:
            StatusWordError: 6985, index above 3.
        """
        self._state.set_key_slot(command.p2, cleared(self._general(command.p2)))
        return ResponseApdu()

    def generate(self, command: CommandApdu) -> ResponseApdu:
        """Generate a pair on the curve its slot was given (INS 82).

        Raises:
            StatusWordError: 6985 index, 6401 or 6402 a half exists, 6D10 no curve.
        """
        slot = self._general(command.p2)
        self._state.set_key_slot(command.p2, self._generated(slot))
        return ResponseApdu()

    def parameter(self, command: CommandApdu) -> ResponseApdu:
        """Return a 2-byte length and one parameter of a key (INS 84).

        Raises:
            StatusWordError: 6985 index or a private key that stays inside, 6401 or 6402 missing,
                6A86 for P1, 6D30 no curve.
        """
        return parameter(self._slot(command.p2), command)

    def set_parameter(self, command: CommandApdu) -> ResponseApdu:
        """Set one parameter of a key (INS 88).

        Domain parameters are accepted when they are those of a curve the element knows.

        Raises:
            StatusWordError: 6985 index or hardened rule, 6401 or 6402 already set, 6A86 for P1,
                6D40 the value is refused.
        """
        slot = self._general(command.p2)
        if is_private_parameter(command) and self._state.profile.is_locked:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        changed = with_parameter(self._context.crypto, slot, command)
        self._state.set_key_slot(command.p2, changed)
        return ResponseApdu()

    def init_curve(self, command: CommandApdu) -> ResponseApdu:
        """Choose the curve of an empty pair (INS 89).

        Raises:
            StatusWordError: 6985, index above 3, or a key of the other curve is there.
        """
        curve = Curve.SECP256K1 if command.p1 == _CURVE_SECP256K1 else Curve.SECP256R1
        self._state.set_key_slot(command.p2, with_curve(self._general(command.p2), curve))
        return ResponseApdu()

    def ecdh(self, command: CommandApdu) -> ResponseApdu:
        """Return the X coordinate of a shared point (INS 8A); index FF makes a new pair first.

        Raises:
            StatusWordError: 6985 index, 6402 no key, 6D50 the peer's point is the generator, or
                not on the curve.
        """
        if command.p2 == EPHEMERAL:
            slot = self._ephemeral = self._generated(KeySlot(Curve.SECP256R1))
        else:
            slot = self._general(command.p2)
        return shared_secret(self._context.crypto, slot, command.data)

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
        private = private_of(signer)
        public = public_of(self._state.attestation_key)
        crypto = self._context.crypto
        digest = crypto.hash(HashAlgorithm.SHA256, public[1:])
        signature = crypto.ecdsa_sign(signer.curve or Curve.SECP256K1, private, digest)
        self._state.set_certificate(raw_signature(signature))
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

    def _generated(self, slot: KeySlot) -> KeySlot:
        return generated(self._context.crypto, self._context.rng, slot)
