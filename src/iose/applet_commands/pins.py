# SPDX-License-Identifier: Apache-2.0
"""VERIFY and CHANGE PIN on the two PINs, and who may do what (tls-se.md §2)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from iose.applet_api import AppletContext, Pin
from iose.crypto.base import Rng
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError

PIN_SIZE: Final = 8
USER_TRIES: Final = 3
ADMIN_TRIES: Final = 10
PIN_PADDING: Final = b"\xff"
_P2_USER: Final = 0x00
_P2_ADMIN: Final = 0x01
_P2_RESTORE_USER: Final = 0xFF
DEMO_USER_PIN: Final = b"0000"
DEMO_ADMIN_PIN: Final = b"00000000"
_PIN_LETTERS: Final = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # 32 that no eye confuses


class PinName:
    """Names of the PIN objects."""

    USER: Final = "user"
    ADMIN: Final = "admin"


@dataclass(frozen=True, slots=True)
class GivenPins:
    """What a personalisation says of PINs.

    Attributes:
        user: At most 8 bytes; None draws one.
        admin: 8 bytes; None draws one.
        uses_demo: Take the published PINs instead of drawing.
        user_size: Characters of a drawn user PIN.
    """

    user: bytes | None = field(repr=False)
    admin: bytes | None = field(repr=False)
    uses_demo: bool = False
    user_size: int = PIN_SIZE


class ElementPins:
    """Both PINs and the commands on them.

    Args:
        context: Services of the card.
        is_locked: Whether the applet is past the time when a PIN may become the published one.
        admin_verified: Told of each right PIN of the administrator.
    """

    def __init__(
        self,
        context: AppletContext,
        is_locked: Callable[[], bool],
        admin_verified: Callable[[], None] = lambda: None,
    ) -> None:
        self._is_locked = is_locked
        self._admin_verified = admin_verified
        self.user: Pin = context.pin(PinName.USER, max_tries=USER_TRIES)
        self.admin: Pin = context.pin(PinName.ADMIN, max_tries=ADMIN_TRIES)

    def personalise(self, given: "GivenPins", rng: Rng, *, is_new: bool) -> None:
        """Set the PINs that are given; of a new applet, all: what is left out is drawn."""
        if given.user or is_new:
            drawn = DEMO_USER_PIN if given.uses_demo else random_pin(rng, given.user_size)
            self.user.update(given.user or drawn)
        if given.admin or is_new:
            drawn = DEMO_ADMIN_PIN if given.uses_demo else random_pin(rng)
            self.admin.update(given.admin or drawn)

    def require_any(self) -> None:
        """Check that the user or the administrator was verified.

        Raises:
            StatusWordError: 6380, neither was.
        """
        if not (self.user.is_validated or self.admin.is_validated):
            raise StatusWordError(StatusWord.PIN_REQUIRED)

    def require_admin(self) -> None:
        """Check that the administrator was verified.

        Raises:
            StatusWordError: 6380, it was not.
        """
        if not self.admin.is_validated:
            raise StatusWordError(StatusWord.PIN_REQUIRED)

    def verify(self, command: CommandApdu) -> ResponseApdu:
        """Carry out VERIFY (INS 20).

        The right administrator's PIN also gives the user all tries back.

        Raises:
            StatusWordError: 6B00 for P2, 6700 for the size, 630t with the tries left, 6985.
        """
        size = len(command.data)
        if command.p2 not in (_P2_USER, _P2_ADMIN, _P2_RESTORE_USER):
            raise StatusWordError(StatusWord.WRONG_P2)
        if command.p2 == _P2_USER:
            if not 1 <= size <= PIN_SIZE:
                raise StatusWordError(StatusWord.WRONG_LENGTH)
            _verify(self.user, command.data)
            return ResponseApdu()
        if size != PIN_SIZE:
            raise StatusWordError(StatusWord.WRONG_LENGTH)
        if command.p2 == _P2_RESTORE_USER and self._is_locked():
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        _verify(self.admin, command.data)
        self._admin_verified()
        if command.p2 == _P2_RESTORE_USER:
            self.user.update(DEMO_USER_PIN)
        else:
            self.user.reset_and_unblock()
        return ResponseApdu()

    def change(self, command: CommandApdu) -> ResponseApdu:
        """Carry out CHANGE PIN (INS 24).

        Raises:
            StatusWordError: 6B00 for P2, 6700 for the size, 630t with the tries left.
        """
        if command.p2 not in (_P2_USER, _P2_ADMIN):
            raise StatusWordError(StatusWord.WRONG_P2)
        if len(command.data) != 2 * PIN_SIZE:
            raise StatusWordError(StatusWord.WRONG_LENGTH)
        pin = self.user if command.p2 == _P2_USER else self.admin
        _verify(pin, command.data[:PIN_SIZE])
        pin.update(command.data[PIN_SIZE:])
        return ResponseApdu()


def _verify(pin: Pin, value: bytes) -> None:
    if not pin.verify(value.ljust(PIN_SIZE, PIN_PADDING)):
        raise StatusWordError(StatusWord.PIN_WRONG | pin.tries_remaining)


def random_pin(rng: Rng, size: int = PIN_SIZE) -> bytes:
    """Return characters that no eye confuses."""
    letters = len(_PIN_LETTERS)
    return bytes(_PIN_LETTERS[byte % letters] for byte in rng.random_bytes(size))
