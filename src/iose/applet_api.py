# SPDX-License-Identifier: Apache-2.0
"""All that a card and an applet know of each other.

The card implements ``AppletContext``, ``AppletStore`` and ``Pin``; an applet implements
``Applet``. Neither imports the other. Names follow the Java Card API where one exists.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from iose.crypto.base import CryptoProvider, Rng
from iose.globalplatform.commands import StatusScope
from iose.globalplatform.data_objects import StatusEntry
from iose.globalplatform.install import InstallForInstall
from iose.globalplatform.life_cycle import Privilege
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


@dataclass(frozen=True, slots=True)
class AppletFacts:
    """What the card OS itself says of one instance; an applet cannot claim otherwise.

    Attributes:
        module: Name of the module it is an instance of.
        version: Version of the package the module came in.
        package_hash: SHA-256 of that package's load file, 32 bytes.
        life_cycle: State byte of the instance (GPCS 2.3.1 §11.1.1).
        is_copy: Whether another element may hold the same keys.
    """

    module: str
    version: str
    package_hash: bytes
    life_cycle: int
    is_copy: bool


class IdentityModule(Protocol):
    """The two operations with a PSK that a TLS 1.3 endpoint asks of a module (tls-im.md §1)."""

    def binder(self, transcript_hash: bytes) -> bytes:
        """Return the binder over the hash of the truncated ClientHello, 32 bytes each.

        Raises:
            StatusWordError: The module has no PSK, or refuses.
        """

    def handshake_secret(self, shared_secret: bytes) -> bytes:
        """Return the handshake secret that follows from the ECDHE secret, 32 bytes each.

        Raises:
            StatusWordError: The module has no PSK, or refuses.
        """


@dataclass(frozen=True, slots=True)
class Package:
    """One load file of ours, as it may be loaded onto a card (GPCS 2.3.1 §11.6).

    Attributes:
        aid: Identifier of the load file.
        version: Major and minor number.
        modules: Its applets: identifier and name.
        data: The load file data block, without its tag.
        digest: SHA-256 of ``data``.
    """

    aid: Aid
    version: tuple[int, int]
    modules: tuple[tuple[Aid, str], ...]
    data: bytes = field(repr=False)
    digest: bytes


class CardManagement(Protocol):
    """What the card does for its issuer security domain, in the running transaction.

    Every method refuses what the life cycles forbid, with ``StatusWordError``: 6985, and nothing
    is changed; 6A88, there is no such thing.
    """

    @property
    def card_state(self) -> int:
        """Life cycle of the card (GPCS 2.3.1 §11.1.1)."""

    def set_card_state(self, state: int) -> None:
        """Change the life cycle of the card; locked or terminated, only the domain is left."""

    def contents(self, scope: StatusScope) -> Sequence[StatusEntry]:
        """Return what is on the card of one kind, in the order of its arrival."""

    def packages(self) -> Sequence[Package]:
        """Return what may be loaded, or is."""

    def check_is_new(self, aid: Aid) -> None:
        """Refuse an identifier that something on the card has."""

    def load(self, package: Package) -> None:
        """Add a load file that was received whole."""

    def install(self, request: InstallForInstall) -> None:
        """Add an instance together with its first state; or 6A80, the applet refuses."""

    def make_selectable(self, aid: Aid, privileges: Privilege) -> None:
        """Let an instance be selected, with more privileges."""

    def set_privileges(self, aid: Aid, privileges: Privilege) -> None:
        """Replace the privileges of an instance."""

    def set_locked(self, aid: Aid, *, is_locked: bool) -> None:
        """Lock or unlock an instance; locked, it is deselected."""

    def receiver(self, aid: Aid) -> "DataReceiver":
        """Return the instance that takes data of STORE DATA; or 6985, it takes none."""

    def delete(self, aid: Aid, *, with_related: bool) -> None:
        """Remove an instance or a load file, with the instances of its modules if told so."""


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

        They show while this instance is the default-selected one.

        Raises:
            StatusWordError: 6A80, more than 15 bytes.
        """

    @property
    def management(self) -> CardManagement | None:
        """The card's contents, for a security domain; None for any other applet."""

    def facts(self) -> AppletFacts:
        """Return what the card says of this instance, as it is now."""

    def identity_module(self, aid: Aid) -> IdentityModule | None:
        """Return the module that another instance of this card offers; None when there is none.

        As JCSystem.getAppletShareableInterfaceObject: the other instance decides.
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


@runtime_checkable
class DataReceiver(Protocol):
    """An applet that its security domain hands data to, after INSTALL [for personalisation]."""

    def receive_data(self, block: bytes, *, is_last: bool) -> None:
        """Take one block of STORE DATA, unwrapped (GPCS 2.3.1 §11.11).

        Raises:
            StatusWordError: The data are refused; the blocks so far are forgotten.
        """


@runtime_checkable
class ModuleProvider(Protocol):
    """An applet that other instances of its card may use as an identity module."""

    def shared_module(self, client: Aid) -> IdentityModule | None:
        """Return the module for the instance ``client``; None refuses it."""


AppletFactory = Callable[[AppletContext], Applet]
