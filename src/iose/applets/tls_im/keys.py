# SPDX-License-Identifier: Apache-2.0
"""The sixteen key pairs of a module, on secp256r1, and the ephemeral one (tls-im.md §2).

Index 0 to 15 are stored. Index FF is the ephemeral pair of newer modules: it lives no longer than
a selection, and the published module 1.0 has none.
"""

from typing import Final

from iose.applet_api import AppletContext
from iose.applet_commands.key_pairs import (
    KeySlot,
    cleared,
    generated,
    is_private_parameter,
    parameter,
    shared_secret,
    sign,
    with_curve,
    with_parameter,
)
from iose.applets.tls_im.state import KEY_PAIRS, ModuleState
from iose.crypto.base import Curve
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError

EPHEMERAL: Final = 0xFF
_KNOWN_CURVES: Final = (0x00, 0x01)  # P1 of INIT CURVE, both secp256r1
_NO_PAIR: Final = KeySlot(Curve.SECP256R1)


class ModuleKeys:
    """INS 80, 81, 82, 84, 88, 89 and 8A; PINs are checked already."""

    def __init__(self, context: AppletContext, state: ModuleState) -> None:
        self._context = context
        self._state = state
        self._ephemeral = _NO_PAIR

    def clear_ephemeral(self) -> None:
        """Forget the ephemeral pair."""
        self._ephemeral = _NO_PAIR

    def is_ephemeral(self, command: CommandApdu) -> bool:
        """Whether a command is about the ephemeral pair, which takes no administrator."""
        return command.p2 == EPHEMERAL and self._state.profile.is_hardened

    def sign(self, command: CommandApdu) -> ResponseApdu:
        """Return a 2-byte length and a DER signature (INS 80).

        Raises:
            StatusWordError: 6985 index, 6402 no key, 6A86 for P1, 6D20 not a digest.
        """
        return sign(self._context.crypto, self._stored(command.p2), command)

    def clear(self, command: CommandApdu) -> ResponseApdu:
        """Clear both halves of a pair (INS 81).

        Raises:
            StatusWordError: 6985, the index.
        """
        self._put(command, cleared(self._pair(command)))
        return ResponseApdu()

    def generate(self, command: CommandApdu) -> ResponseApdu:
        """Generate a pair (INS 82); a new ephemeral pair takes the place of the last.

        Raises:
            StatusWordError: 6985 index, 6401 or 6402 a half exists, 6D10 no curve.
        """
        pair = _NO_PAIR if self.is_ephemeral(command) else self._stored(command.p2)
        self._put(command, generated(self._context.crypto, self._context.rng, pair))
        return ResponseApdu()

    def parameter(self, command: CommandApdu) -> ResponseApdu:
        """Return a 2-byte length and one parameter of a key (INS 84).

        Raises:
            StatusWordError: 6985 index, or a private key of a hardened module or of the ephemeral
                pair; 6401 or 6402 missing, 6A86 for P1, 6D30 no curve.
        """
        pair = self._pair(command)
        if is_private_parameter(command) and self._state.profile.is_hardened:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        return parameter(pair, command)

    def set_parameter(self, command: CommandApdu) -> ResponseApdu:
        """Set one parameter of a key (INS 88).

        Raises:
            StatusWordError: 6985 index, 6401 or 6402 already set, 6A86 for P1, 6D40 the value is
                refused, as is a parameter of another curve.
        """
        pair = with_parameter(self._context.crypto, self._stored(command.p2), command)
        if pair.curve is not Curve.SECP256R1:
            raise StatusWordError(StatusWord.KEY_SET_FAILURE)
        self._put(command, pair)
        return ResponseApdu()

    def init_curve(self, command: CommandApdu) -> ResponseApdu:
        """Give an empty pair its curve (INS 89).

        Raises:
            StatusWordError: 6985 index, 6A86 for P1.
        """
        if command.p1 not in _KNOWN_CURVES:
            raise StatusWordError(StatusWord.WRONG_P1P2)
        self._put(command, with_curve(self._stored(command.p2), Curve.SECP256R1))
        return ResponseApdu()

    def ecdh(self, command: CommandApdu) -> ResponseApdu:
        """Return the X coordinate of a shared point (INS 8A).

        Raises:
            StatusWordError: 6985 index, 6402 no key, 6D50 the peer's point is the generator, or
                not on the curve.
        """
        return shared_secret(self._context.crypto, self._pair(command), command.data)

    def _pair(self, command: CommandApdu) -> KeySlot:
        return self._ephemeral if self.is_ephemeral(command) else self._stored(command.p2)

    def _stored(self, index: int) -> KeySlot:
        if index >= KEY_PAIRS:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        return self._state.key_pair(index)

    def _put(self, command: CommandApdu, pair: KeySlot) -> None:
        if self.is_ephemeral(command):
            self._ephemeral = pair
        else:
            self._state.set_key_pair(command.p2, pair)
