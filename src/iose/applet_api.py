# SPDX-License-Identifier: Apache-2.0
"""All that a card and an applet know of each other.

The card implements ``AppletContext``, ``AppletStore`` and ``Pin``; an applet implements
``Applet``. Neither imports the other. Names follow the Java Card API where one exists.
"""

from collections.abc import Callable
from typing import Protocol

from iose.crypto.base import CryptoProvider, Rng
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu, ResponseApdu


class AppletStore(Protocol):
    """Persistent objects of one applet instance, by name.

    Writes made while a command is processed form one transaction: the card stores them all when
    the applet returns a response, and forgets them all when it raises.
    """

    def get(self, name: str) -> bytes | None:
        """Return the object, pending writes included; None when there is none."""

    def put(self, name: str, value: bytes) -> None:
        """Write an object as part of the running transaction."""

    def delete(self, name: str) -> None:
        """Remove an object as part of the running transaction; an absent one is no error."""

    def commit(self) -> None:
        """Store the pending writes now, durably, and go on with an empty transaction.

        For what must survive whatever follows: a counter that limits guessing is committed
        before the secret is compared. The card calls it before a response leaves.

        Raises:
            StatusWordError: 6581, the writes could not be stored; none of them was.
        """


class Pin(Protocol):
    """A PIN with a try counter, as javacard.framework.OwnerPIN; values are at most 8 bytes."""

    @property
    def tries_remaining(self) -> int:
        """Wrong values accepted before the PIN is blocked."""

    @property
    def is_validated(self) -> bool:
        """Whether the right value was given since the last selection or reset."""

    def verify(self, value: bytes) -> bool:
        """Return whether ``value`` is right; the counter is stored before the comparison."""

    def update(self, value: bytes) -> None:
        """Set a new value, with all its tries, not validated; part of the transaction."""

    def reset_and_unblock(self) -> None:
        """Give all tries back; the PIN is then not validated."""


class AppletContext(Protocol):
    """Services of the card for one applet instance."""

    @property
    def crypto(self) -> CryptoProvider:
        """The cryptographic primitives, metered where the chip profile asks for it."""

    @property
    def rng(self) -> Rng:
        """The card's source of random bytes."""

    @property
    def store(self) -> AppletStore:
        """Persistent objects of this instance."""

    @property
    def aid(self) -> Aid:
        """Identifier of this instance."""

    def pin(self, name: str, *, max_tries: int) -> Pin:
        """Return the PIN object ``name``; without a value yet, it refuses every verification."""

    def set_historical_bytes(self, value: bytes) -> None:
        """Set the ATR's historical bytes, at most 15, from the next reset on.

        Raises:
            StatusWordError: 6A80, more than 15 bytes.
        """


class Applet(Protocol):
    """One selectable application of a card. Instances are volatile: built at each power-on.

    Everything an instance must remember over a power cut is in ``AppletContext.store``.
    """

    def install(self, parameters: bytes) -> None:
        """Write the first state, once in the life of the instance (GPCS 2.3.1 §11.5).

        Raises:
            StatusWordError: The parameters are refused; nothing is stored.
        """

    def select(self) -> ResponseApdu:
        """Return the answer to SELECT; sessions and PIN states are cleared."""

    def deselect(self) -> None:
        """Drop volatile state: another applet was selected, or the channel closed."""

    def process(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to one command of this applet.

        Raises:
            StatusWordError: The command is refused; its uncommitted writes are forgotten.
        """


AppletFactory = Callable[[AppletContext], Applet]
