# SPDX-License-Identifier: Apache-2.0
"""What a card lets its issuer security domain do to its contents (GPCS 2.3.1 §9).

Here are the rules of life cycles, privileges and references; the commands and who sends them are
the domain's business. Everything happens in the running transaction.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from iose.applet_api import DataReceiver, Package
from iose.card.contents import CardContents
from iose.card.registry import Registry, RegistryEntry
from iose.globalplatform.commands import StatusScope
from iose.globalplatform.data_objects import StatusEntry
from iose.globalplatform.install import InstallForInstall
from iose.globalplatform.life_cycle import (
    LOCK_BIT,
    ApplicationLifeCycle,
    CardLifeCycle,
    LoadFileLifeCycle,
    Privilege,
)
from iose.iso7816.aid import Aid
from iose.iso7816.status import StatusWord, StatusWordError

INSTANCE_LIMIT: Final = 64  # bounds the registry, which is written whole
GRANTED: Final = Privilege.DEFAULT_SELECTED  # all that an instance of ours may be given
_NEXT_STATES: Final[dict[int, tuple[int, ...]]] = {
    CardLifeCycle.OP_READY: (CardLifeCycle.INITIALIZED, CardLifeCycle.TERMINATED),
    CardLifeCycle.INITIALIZED: (CardLifeCycle.SECURED, CardLifeCycle.TERMINATED),
    CardLifeCycle.SECURED: (CardLifeCycle.CARD_LOCKED, CardLifeCycle.TERMINATED),
    CardLifeCycle.CARD_LOCKED: (CardLifeCycle.SECURED, CardLifeCycle.TERMINATED),
}


class DomainManagement:
    """``CardManagement`` of one card."""

    __slots__ = ("_card",)

    def __init__(self, card: CardContents) -> None:
        self._card = card

    @property
    def card_state(self) -> int:
        """Life cycle of the card (GPCS 2.3.1 §11.1.1)."""
        return self._card.registry.card_state

    def set_card_state(self, state: int) -> None:
        """Change the life cycle of the card (GPCS 2.3.1 §5.1).

        Raises:
            StatusWordError: 6985, it does not follow on the one there is.
        """
        issuer = self._card.registry.issuer
        if issuer is None or state not in _NEXT_STATES.get(issuer.life_cycle, ()):
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        self._change(replace(issuer, life_cycle=state))
        if state in {CardLifeCycle.CARD_LOCKED, CardLifeCycle.TERMINATED}:
            self._card.channels.drop_applications()

    def contents(self, scope: StatusScope) -> Sequence[StatusEntry]:
        """Return what is on the card of one kind, in the order of its arrival."""
        registry = self._card.registry
        issuer = None if registry.issuer is None else registry.issuer.aid
        if scope in {StatusScope.ISSUER_DOMAIN, StatusScope.APPLICATIONS}:
            is_wanted = scope is StatusScope.ISSUER_DOMAIN
            entries = [entry for entry in registry.entries if entry.is_domain == is_wanted]
            return [_shown(entry, issuer) for entry in entries]
        has_modules = scope is StatusScope.LOAD_FILES_AND_MODULES
        load_files = [self._load_file(aid, issuer) for aid in registry.load_files]
        return [one if has_modules else replace(one, modules=()) for one in load_files]

    def packages(self) -> Sequence[Package]:
        """Return what may be loaded, or is."""
        return self._card.services.packages

    def check_is_new(self, aid: Aid) -> None:
        """Refuse an identifier that something on the card has.

        Raises:
            StatusWordError: 6985.
        """
        registry = self._card.registry
        if registry.find(aid) is not None or aid in registry.load_files:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, f"{aid} is there already")

    def load(self, package: Package) -> None:
        """Add a load file that was received whole.

        Raises:
            StatusWordError: 6985, it is there already.
        """
        self.check_is_new(package.aid)
        registry = self._card.registry
        self._card.set_registry(replace(registry, load_files=(*registry.load_files, package.aid)))

    def install(self, request: InstallForInstall) -> None:
        """Add an instance together with its first state.

        Raises:
            StatusWordError: 6A88, no such load file or module; 6985, the AID or the default
                selection is taken; 6A80, other privileges; 6A84, too many; or the applet refuses.
        """
        registry = self._card.registry
        module = self._module(registry, request.load_file, request.module)
        self.check_is_new(request.instance)
        if len(registry.entries) >= INSTANCE_LIMIT:
            raise StatusWordError(StatusWord.NOT_ENOUGH_MEMORY)
        privileges = _granted(registry, request.instance, request.privileges)
        state = (
            ApplicationLifeCycle.SELECTABLE
            if request.is_selectable
            else ApplicationLifeCycle.INSTALLED
        )
        entry = RegistryEntry(request.instance, module, privileges, state, request.load_file.value)
        self._card.add(entry, request.parameters)

    def make_selectable(self, aid: Aid, privileges: Privilege) -> None:
        """Let an instance be selected, with more privileges (GPCS 2.3.1 §11.5.2.3.3).

        Raises:
            StatusWordError: 6A88 no such instance; 6985 it is not just installed, or the default
                selection is taken; 6A80 other privileges.
        """
        entry = self._application(aid)
        if entry.life_cycle != ApplicationLifeCycle.INSTALLED:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        more = _granted(self._card.registry, aid, privileges)
        changed = replace(entry, privileges=entry.privileges | more)
        self._change(replace(changed, life_cycle=ApplicationLifeCycle.SELECTABLE))

    def set_privileges(self, aid: Aid, privileges: Privilege) -> None:
        """Replace the privileges of an instance (GPCS 2.3.1 §11.5.2.3.5).

        Raises:
            StatusWordError: 6A88 no such instance; 6985 the default selection is taken; 6A80
                other privileges.
        """
        entry = self._application(aid)
        granted = _granted(self._card.registry, aid, privileges)
        self._change(replace(entry, privileges=granted))

    def set_locked(self, aid: Aid, *, is_locked: bool) -> None:
        """Lock or unlock an instance; locked, it is deselected (GPCS 2.3.1 §11.10).

        Raises:
            StatusWordError: 6A88 no such instance; 6985 it is so already.
        """
        entry = self._application(aid)
        if bool(entry.life_cycle & LOCK_BIT) == is_locked:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        self._change(replace(entry, life_cycle=entry.life_cycle ^ LOCK_BIT))
        if is_locked:
            self._card.channels.drop(aid)

    def receiver(self, aid: Aid) -> DataReceiver:
        """Return the instance that takes data of STORE DATA, deselected and without memory.

        Blocks of a sequence that was cut must not become part of the next one.

        Raises:
            StatusWordError: 6A88 no such instance; 6985 it is locked, or takes no data.
        """
        entry = self._application(aid)
        if entry.life_cycle & LOCK_BIT:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        self._card.channels.drop(aid)
        applet = self._card.instance(aid).applet
        if not isinstance(applet, DataReceiver):
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED)
        return applet

    def delete(self, aid: Aid, *, with_related: bool) -> None:
        """Remove an instance or a load file; what an instance had stored is wiped.

        Raises:
            StatusWordError: 6A88 no such thing; 6985 a load file in use, or the domain itself.
        """
        registry = self._card.registry
        if aid not in registry.load_files:
            self._application(aid)
            self._card.remove(aid)
            return
        users = [entry.aid for entry in registry.entries if entry.load_file == aid.value]
        if users and not with_related:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, "the load file is in use")
        for user in users:
            self._card.remove(user)
        self._card.remove(aid)

    def _change(self, entry: RegistryEntry) -> None:
        self._card.set_registry(self._card.registry.with_entry(entry))

    def _application(self, aid: Aid) -> RegistryEntry:
        entry = self._card.registry.find(aid)
        if entry is None:
            raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND, f"no instance {aid}")
        if entry.is_domain:
            raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, "a security domain stays")
        return entry

    def _module(self, registry: Registry, load_file: Aid, module: Aid) -> str:
        for package in self.packages():
            if package.aid == load_file and load_file in registry.load_files:
                for aid, name in package.modules:
                    if aid == module and name in self._card.services.applets:
                        return name
        raise StatusWordError(StatusWord.REFERENCED_DATA_NOT_FOUND, f"no module {module}")

    def _load_file(self, aid: Aid, issuer: Aid | None) -> StatusEntry:
        for package in self.packages():
            if package.aid == aid:
                modules = tuple(module for module, _ in package.modules)
                version = bytes(package.version)
                state = LoadFileLifeCycle.LOADED
                return StatusEntry(aid, state, None, None, modules, version, issuer)
        return StatusEntry(aid, LoadFileLifeCycle.LOADED, domain=issuer)  # of another version of us


def _granted(registry: Registry, aid: Aid, privileges: Privilege) -> Privilege:
    if privileges & ~GRANTED:
        raise StatusWordError(StatusWord.WRONG_DATA, "a privilege that is not given")
    holders = [entry for entry in registry.entries if entry.privileges & Privilege.DEFAULT_SELECTED]
    if privileges and any(entry.aid != aid for entry in holders):
        raise StatusWordError(StatusWord.CONDITIONS_NOT_SATISFIED, "a default is installed")
    return privileges


def _shown(entry: RegistryEntry, issuer: Aid | None) -> StatusEntry:
    load_file = Aid(entry.load_file) if entry.load_file else None
    return StatusEntry(entry.aid, entry.life_cycle, entry.privileges, load_file, domain=issuer)
