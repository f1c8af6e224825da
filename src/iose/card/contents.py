# SPDX-License-Identifier: Apache-2.0
"""What is on a card: the registry, the code of its instances, and what they say of each other.

The registry is read from the running transaction, so that a refused command leaves no trace of
what it had changed. Who may change it, and how far, is decided in ``management``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from iose.applet_api import (
    AppletFactory,
    AppletFacts,
    CardManagement,
    IdentityModule,
    ModuleProvider,
    Package,
)
from iose.card.channels import Instance, LogicalChannels
from iose.card.context import InstanceContext
from iose.card.memory import CardMemory
from iose.card.refusals import FaultListener, describe
from iose.card.registry import REGISTRY_NAME, Registry, RegistryEntry
from iose.card.store import StoreError
from iose.crypto.base import CryptoProvider, Rng
from iose.globalplatform.life_cycle import (
    NO_PRIVILEGES,
    CardLifeCycle,
    Privilege,
)
from iose.iso7816.aid import Aid
from iose.iso7816.status import StatusWord, StatusWordError
from iose.wire.errors import DecodeError

COPY_NAME: Final = "card/copy"
HISTORICAL_BYTES: Final = "historical-bytes"  # of an instance, after its AID
OLD_HISTORICAL_BYTES_NAME: Final = "card/historical-bytes"  # of a card with a registry version 1
DIGEST_SIZE: Final = 32
_EMPTY: Final = Registry()


@dataclass(frozen=True, slots=True)
class CardServices:
    """What a card is made of; one value may serve many cards.

    Attributes:
        crypto: The primitives.
        rng: Source of random bytes.
        applets: What can be installed, by module name.
        on_fault: Told of every error that is not a refusal, for the host's log.
        packages: What may be loaded; their modules are among ``applets``.
    """

    crypto: CryptoProvider
    rng: Rng
    applets: Mapping[str, AppletFactory]
    on_fault: FaultListener | None = None
    packages: Sequence[Package] = ()


def shown_name(objects: Callable[[str], bytes | None], registry: Registry) -> bytes:
    """Return the ATR's historical bytes: those of the instance that a reset selects."""
    entry = registry.default
    if entry is None:
        return b""
    name = objects(f"{entry.aid}/{HISTORICAL_BYTES}")
    return name or objects(OLD_HISTORICAL_BYTES_NAME) or b""


class CardContents:
    """The instances of a card and their objects.

    Args:
        memory: The card's objects.
        services: Its hardware and its program memory.
        manage: Gives a security domain its way to the contents.
    """

    __slots__ = ("_decoded", "_manage", "_memory", "channels", "services")

    def __init__(
        self,
        memory: CardMemory,
        services: CardServices,
        manage: Callable[["CardContents"], CardManagement],
    ) -> None:
        self._memory = memory
        self._manage = manage
        self._decoded: tuple[bytes | None, Registry] = (None, _EMPTY)
        self.services = services
        self.channels = LogicalChannels(self._build, lambda: self.registry, self.report)

    @property
    def registry(self) -> Registry:
        """The registry as the running transaction has it.

        Raises:
            StoreError: It is damaged.
        """
        stored = self._memory.get(REGISTRY_NAME)
        if stored is not self._decoded[0]:
            try:
                self._decoded = (stored, _EMPTY if stored is None else Registry.decode(stored))
            except DecodeError as error:
                raise StoreError(f"the registry of the card is damaged: {error}") from error
        return self._decoded[1]

    def check(self) -> None:
        """Check that the registry can be read.

        Raises:
            StoreError: It cannot.
        """
        _ = self.registry

    def set_registry(self, registry: Registry) -> None:
        """Replace the registry, in the running transaction."""
        self._memory.put(REGISTRY_NAME, registry.encode())

    def forget(self) -> None:
        """Forget what was read: the power is off."""
        self._decoded = (None, _EMPTY)

    @property
    def historical_bytes(self) -> bytes:
        """What the default-selected instance wants the ATR to say."""
        return shown_name(self._memory.get, self.registry)

    def add_domain(self, module: str, aid: Aid, parameters: bytes, loaded: Sequence[Aid]) -> None:
        """Make a card manageable: give it an issuer security domain and its load files.

        Instances there are already keep everything; those of a loaded package belong to it.

        Raises:
            StatusWordError: The domain refuses its parameters.
        """
        old = self.registry
        origins = {
            name: package.aid.value
            for package in self.services.packages
            if package.aid in loaded
            for _, name in package.modules
        }
        entries = (
            replace(entry, load_file=origins.get(entry.module, b"")) for entry in old.entries
        )
        self.set_registry(Registry(tuple(entries), tuple(loaded)))
        issuer = RegistryEntry(aid, module, Privilege.SECURITY_DOMAIN, CardLifeCycle.OP_READY)
        self.add(issuer, parameters)
        default = self.registry.default
        shown = self._memory.get(OLD_HISTORICAL_BYTES_NAME)
        if default is not None and shown is not None:
            self._memory.put(f"{default.aid}/{HISTORICAL_BYTES}", shown)
        self._memory.put(OLD_HISTORICAL_BYTES_NAME, None)

    def install(self, module: str, aid: Aid, parameters: bytes, *, is_default: bool) -> None:
        """Add an instance by the name of its module, as the maker of a card does.

        Raises:
            StatusWordError: 6A88, no such module; 6985, the AID or the default selection is
                taken; or the applet refuses.
        """
        registry = self.registry
        if module not in self.services.applets:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND, f"no module {module}")
        if registry.find(aid) is not None:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, f"{aid} is installed")
        if is_default and registry.with_privilege(Privilege.DEFAULT_SELECTED) is not None:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, "a default is installed")
        privileges = Privilege.DEFAULT_SELECTED if is_default else NO_PRIVILEGES
        package = self._package_of(module)
        is_loaded = package is not None and package.aid in registry.load_files
        load_file = package.aid.value if package is not None and is_loaded else b""
        self.add(RegistryEntry(aid, module, privileges, load_file=load_file), parameters)

    def add(self, entry: RegistryEntry, parameters: bytes) -> None:
        """Add an instance and have it write its first state, in the running transaction.

        Raises:
            StatusWordError: The applet refuses.
        """
        self.set_registry(self.registry.with_entry(entry))
        self._build(entry).applet.install(parameters)

    def remove(self, aid: Aid) -> None:
        """Remove an instance and all its objects, or a load file, in the running transaction."""
        self.channels.drop(aid)
        for name in self._memory.names(f"{aid}/"):
            self._memory.put(name, None)
        self.set_registry(self.registry.without(aid))

    def facts(self, aid: Aid) -> AppletFacts:
        """Return what is so of an instance: the package is the one whose code runs.

        Raises:
            StatusWordError: 6A88, there is none.
        """
        entry = self._entry(aid)
        package = self._package_of(entry.module)
        version = "" if package is None else ".".join(map(str, package.version))
        digest = bytes(DIGEST_SIZE) if package is None else package.digest
        is_copy = bool(self._memory.get(COPY_NAME))
        return AppletFacts(entry.module, version, digest, entry.life_cycle, is_copy=is_copy)

    def identity_module(self, aid: Aid, client: Aid) -> IdentityModule | None:
        """Return the module that one instance offers to another one."""
        if not any(entry.aid == aid for entry in self.registry.matching(aid.value)):
            return None
        applet = self.instance(aid).applet
        return applet.shared_module(client) if isinstance(applet, ModuleProvider) else None

    def instance(self, aid: Aid) -> Instance:
        """Return a running instance; it is built when it does not run yet.

        Raises:
            StatusWordError: 6A88, there is none.
        """
        return self.channels.instance(self._entry(aid))

    def report(self, fault: Exception) -> None:
        """Tell the host of an error that is not a refusal."""
        if self.services.on_fault is not None:
            self.services.on_fault(describe(fault))

    def _entry(self, aid: Aid) -> RegistryEntry:
        entry = self.registry.find(aid)
        if entry is None:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND, f"no instance {aid}")
        return entry

    def _build(self, entry: RegistryEntry) -> Instance:
        factory = self.services.applets.get(entry.module)
        if factory is None:
            raise StatusWordError(StatusWord.NOT_FOUND, f"no module {entry.module}")
        management = self._manage(self) if entry.is_domain else None
        context = InstanceContext(
            self._memory, self.services.crypto, self.services.rng, entry.aid, self, management
        )
        return Instance(entry, context, factory(context))

    def _package_of(self, module: str) -> Package | None:
        for package in self.services.packages:
            if any(name == module for _, name in package.modules):
                return package
        return None
