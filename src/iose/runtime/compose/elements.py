# SPDX-License-Identifier: Apache-2.0
"""Software elements as the cards they are: made, described and changed for their owner.

``ElementMaker`` of the element hosts. Secrets leave here over the owner's channel alone.
"""

from collections.abc import Mapping
from typing import Final

import structlog

from iose.applet_commands.pins import ADMIN_TRIES, USER_TRIES, PinName
from iose.applets.security_domain import DomainName, DomainParameters, read_domain
from iose.applets.tls_im import read_module_secrets
from iose.applets.tls_se import (
    TLS_SE_AID,
    CommandSet,
    Limits,
    Personalisation,
    Settings,
    Wire,
    read_secrets,
)
from iose.applets.tls_se.settings import CHIP_PIECE
from iose.applets.tls_se.state import Name, Profile
from iose.card.card_os import CardOs, CardSettings
from iose.card.contents import COPY_NAME, HISTORICAL_BYTES, shown_name
from iose.card.registry import REGISTRY_NAME, Registry, RegistryEntry
from iose.card.store import NonVolatileStore
from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.life_cycle import Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.atr import Atr, TransmissionProtocol
from iose.protocols.host_frames import ElementInstance
from iose.runtime.compose.cards import (
    IDENTITY_MODULE,
    MODULE,
    add_domain,
    build_card,
    make_element,
)
from iose.runtime.compose.personalisation import text
from iose.runtime.elements.owner import ElementPlan
from iose.runtime.elements.record import MARK_NAME, ElementRecord, Mark
from iose.runtime.errors import ConfigurationError
from iose.wire.errors import DecodeError, StoreError

DESCRIPTIVE: Final = tuple(
    f"/{name}"
    for name in (HISTORICAL_BYTES, f"object/{Name.PROFILE}", f"object/{Name.ELEMENT_NAME}")
)
FULL_TRIES: Final[Mapping[str, bytes | None]] = {
    f"/pin/{PinName.USER}/tries": bytes((USER_TRIES,)),
    f"/pin/{PinName.ADMIN}/tries": bytes((ADMIN_TRIES,)),
    f"/object/{Name.PSK_FAILURES}": None,
    f"/object/{DomainName.FAILURES}": None,
}
"""What ``unlock`` puts where; None removes a counter of failures."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.element_host")


class TlsSeMaker:
    """``ElementMaker`` of elements that come with the TLS-SE applet and its keystore."""

    def build(self, store: NonVolatileStore, seid: str = "") -> CardOs:
        """Return the card on an element's store, without power.

        An element of an older version gets an issuer security domain with random keys first; one
        that cannot be written stays as it is.

        Raises:
            ConfigurationError: The store holds no element.
        """
        objects = store.load()
        registry = _registry(objects)
        card = build_card(store, _settings(objects, registry))
        if registry.issuer is None:
            try:
                _modernise(card, store, objects, registry, seid)
            except StoreError as error:
                log.warning("element.old", seid=seid, error=str(error))
        return card

    def personalise(self, store: NonVolatileStore, plan: ElementPlan) -> None:
        """Make a new element of an empty store; random keys and PINs unless the plan says demo.

        Raises:
            StatusWordError: The plan is refused.
            StoreError: The medium is full or broken.
        """
        settings = Settings(Wire(plan.wire), Limits(plan.limits), CommandSet(plan.commands))
        name = plan.sen.encode("ascii")
        given = Personalisation(
            name, settings, uses_demo_secrets=plan.has_demo_keys, seid=plan.seid.encode()
        )
        make_element(store, given, variant=ScpVariant(plan.scp, plan.scp_i))

    def describe(self, seid: str, objects: Mapping[str, bytes]) -> ElementRecord:
        """Return what is known of an element from its objects.

        Raises:
            ConfigurationError: They are not those of an element.
            DecodeError: One of them is damaged.
        """
        registry = _registry(objects)
        main = _main(registry)
        settings = _settings(objects, registry)
        if main is not None and read_secrets(objects, main.aid) is None:
            raise ConfigurationError("the element has no PSK")
        servers = [entry for entry in registry.matching(b"") if entry.module == MODULE]
        profiles = [_profile(objects, entry.aid).settings for entry in servers] or [settings]
        buffer = min(profile.record_buffer for profile in profiles)
        has_chip_limits = any(profile.has_chip_limits for profile in profiles)
        atr = Atr.for_card(shown_name(objects.get, registry), CardSettings().protocol)
        return ElementRecord(
            seid,
            sen="" if main is None else atr.se_name or "",
            atr=atr.encode(),
            wire=settings.wire.value,
            limits=settings.limits.value,
            commands=settings.commands.value,
            chunk_size=CHIP_PIECE if has_chip_limits else buffer,
            max_record=buffer,
            instances=tuple(
                ElementInstance(_sen(objects, entry.aid), entry.aid.value)
                for entry in servers
                if entry != main
            ),
        )

    def is_descriptive(self, name: str) -> bool:
        """Return whether an object's change changes the record."""
        return name == REGISTRY_NAME or name.endswith(DESCRIPTIVE)

    def read_secrets(self, objects: Mapping[str, bytes]) -> dict[str, object]:
        """Return keys and PINs by name: those of the default-selected applet and of the domain.

        What other instances have is listed under ``instances``.

        Raises:
            ConfigurationError: They are not the objects of an element.
        """
        registry = _registry(objects)
        default = next((entry for entry in _servers(registry) if _is_default(entry)), None)
        named: dict[str, object] = {}
        if default is not None:
            named |= _secrets(objects, default.aid)
        domain = read_domain(objects)
        if domain is not None:
            variant, keys = domain
            named |= {
                "isd_key_version": f"{keys.version:02X}",
                "isd_scp": f"{variant.protocol:02X}",
                "isd_scp_i": f"{variant.i:02X}",
                "isd_enc": keys.enc.hex(),
                "isd_mac": keys.mac.hex(),
                "isd_dek": keys.dek.hex(),
            }
        others: list[dict[str, str]] = [
            {"aid": str(entry.aid), "sen": _sen(objects, entry.aid), **_secrets(objects, entry.aid)}
            for entry in _servers(registry)
            if entry != default
        ]
        for entry in registry.entries:
            pins = read_module_secrets(objects, entry.aid)
            if pins is not None and entry.module == IDENTITY_MODULE:
                known = {"user_pin": text(pins.user_pin), "admin_pin": text(pins.admin_pin)}
                others.append({"aid": str(entry.aid), **known})
        if others:
            named["instances"] = others
        return named

    def rename(self, objects: Mapping[str, bytes], sen: str) -> dict[str, bytes | None]:
        """Return the changes that give an element another SEN, from its next reset on.

        Raises:
            ConfigurationError: No TLS-SE instance is default-selected.
        """
        aid = TLS_SE_AID
        if objects:
            main = _main(_registry(objects))
            if main is None:
                raise ConfigurationError(
                    "the element has no TLS server of its own to name",
                    hint="'iose card list' shows what is on it",
                )
            aid = main.aid
        name = sen.encode("ascii")
        return {f"{aid}/object/{Name.ELEMENT_NAME}": name, f"{aid}/{HISTORICAL_BYTES}": name}

    def unlock(self, objects: Mapping[str, bytes]) -> dict[str, bytes | None]:
        """Return the changes that give back every try: of PINs, PSK change and domain keys."""
        return {
            name: full
            for name, found in objects.items()
            for suffix, full in FULL_TRIES.items()
            if name.endswith(suffix) and found != full
        }


def _modernise(
    card: CardOs,
    store: NonVolatileStore,
    objects: Mapping[str, bytes],
    registry: Registry,
    seid: str,
) -> None:
    """Give an element of an older version what new ones have; the registry comes last."""
    added: dict[str, bytes | None] = {
        f"{entry.aid}/object/{Name.SEID}": seid.encode() for entry in _servers(registry) if seid
    }
    if Mark.decode(objects.get(MARK_NAME)).is_copy:
        added[COPY_NAME] = b"\x01"
    if added:
        store.write(added)
    add_domain(card, DomainParameters())


def _registry(objects: Mapping[str, bytes]) -> Registry:
    stored = objects.get(REGISTRY_NAME)
    if stored is None:
        raise ConfigurationError("the store holds no element")
    try:
        return Registry.decode(stored)
    except DecodeError as error:
        raise ConfigurationError(f"the registry of the card is damaged: {error}") from error


def _servers(registry: Registry) -> list[RegistryEntry]:
    return [entry for entry in registry.entries if entry.module == MODULE]


def _is_default(entry: RegistryEntry) -> bool:
    return bool(entry.privileges & Privilege.DEFAULT_SELECTED)


def _main(registry: Registry) -> RegistryEntry | None:
    """Return the TLS server that a reset selects, or None."""
    default = registry.default
    return default if default is not None and default.module == MODULE else None


def _settings(objects: Mapping[str, bytes], registry: Registry) -> Settings:
    """Return the settings of an element: of its default-selected TLS server, or the first one."""
    servers = sorted(_servers(registry), key=lambda entry: not _is_default(entry))
    return _profile(objects, servers[0].aid).settings if servers else Settings()


def _profile(objects: Mapping[str, bytes], aid: Aid) -> Profile:
    stored = objects.get(f"{aid}/object/{Name.PROFILE}")
    if stored is None:
        raise ConfigurationError("the store holds no element")
    try:
        return Profile.decode(stored)
    except DecodeError as error:
        raise ConfigurationError(f"the element's profile is damaged: {error}") from error


def _sen(objects: Mapping[str, bytes], aid: Aid) -> str:
    name = objects.get(f"{aid}/{HISTORICAL_BYTES}", b"")
    return Atr.for_card(name, TransmissionProtocol.T1).se_name or ""


def _secrets(objects: Mapping[str, bytes], aid: Aid) -> dict[str, str]:
    secrets = read_secrets(objects, aid)
    if secrets is None:
        raise ConfigurationError("the store holds no element")
    named = {
        **({} if secrets.psk is None else {"psk": secrets.psk.hex()}),
        "psk_identity": text(secrets.identity),
        "user_pin": text(secrets.user_pin),
        "admin_pin": text(secrets.admin_pin),
    }
    if secrets.guest_psk is not None:
        named["guest_psk"] = secrets.guest_psk.hex()
        named["guest_psk_identity"] = text(secrets.guest_identity)
    return named
