# SPDX-License-Identifier: Apache-2.0
"""PIN objects: the counter of tries is stored before a value is compared (tls-se.md §2).

As javacard.framework.OwnerPIN: the counter lives outside the running transaction, so that no
refusal and no power cut gives a try back. Whether the PIN was given is volatile.
"""

from typing import Final

from iose.card.memory import CardMemory
from iose.card.store import StoreError
from iose.crypto.base import CryptoProvider
from iose.iso7816.status import StatusWord, StatusWordError

PIN_SIZE: Final = 8
PADDING: Final = b"\xff"


class CardPin:
    """One PIN of an applet instance; values are compared padded with FF to 8 bytes."""

    __slots__ = ("_crypto", "_is_validated", "_max_tries", "_memory", "_tries_name", "_value_name")

    def __init__(
        self, memory: CardMemory, crypto: CryptoProvider, name: str, max_tries: int
    ) -> None:
        self._memory = memory
        self._crypto = crypto
        self._value_name = name
        self._tries_name = f"{name}/tries"
        self._max_tries = max_tries
        self._is_validated = False

    @property
    def tries_remaining(self) -> int:
        """Wrong values accepted before the PIN is blocked; 0 while it has no value."""
        tries = self._memory.get(self._tries_name)
        return 0 if tries is None else tries[0]

    @property
    def is_validated(self) -> bool:
        """Whether the right value was given since the last selection or reset."""
        return self._is_validated

    def verify(self, value: bytes) -> bool:
        """Return whether ``value`` is right; the counter is stored before the comparison.

        Raises:
            StatusWordError: 6581, the counter could not be stored; nothing was compared.
        """
        self._is_validated = False
        stored = self._memory.get(self._value_name)
        tries = self.tries_remaining
        if stored is None or not tries:
            return False
        try:
            self._memory.write_through(self._tries_name, bytes((tries - 1,)))
        except StoreError as error:
            raise StatusWordError(StatusWord.MEMORY_FAILURE, str(error)) from error
        padded = value.ljust(PIN_SIZE, PADDING)
        if not self._crypto.constant_time_equal(stored, padded):
            return False
        self._memory.put(self._tries_name, bytes((self._max_tries,)))
        self._is_validated = True
        return True

    def update(self, value: bytes) -> None:
        """Set a new value, with all its tries, not validated; part of the transaction.

        Raises:
            StatusWordError: 6700, more than 8 bytes.
        """
        if len(value) > PIN_SIZE:
            raise StatusWordError(StatusWord.WRONG_LENGTH, f"a PIN has at most {PIN_SIZE} bytes")
        self._memory.put(self._value_name, value.ljust(PIN_SIZE, PADDING))
        self.reset_and_unblock()

    def reset_and_unblock(self) -> None:
        """Give all tries back; the PIN is then not validated."""
        self._memory.put(self._tries_name, bytes((self._max_tries,)))
        self._is_validated = False

    def invalidate(self) -> None:
        """Forget that the right value was given: selection or reset."""
        self._is_validated = False
