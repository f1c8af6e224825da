# SPDX-License-Identifier: Apache-2.0
"""The composition root: the only place that puts card, applets and stores together.

Element hosts use it through ``TlsSeMaker``; tests and programs without a node call ``build_card``.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Final

import structlog

from iose.applet_api import AppletFactory, Package
from iose.applet_commands.pins import ADMIN_TRIES, USER_TRIES, PinName, random_pin
from iose.applet_commands.psk import PSK_SIZE
from iose.applets.security_domain import (
    DEFAULT_VARIANT,
    ISD_AID,
    DomainName,
    DomainParameters,
    SecurityDomainApplet,
    read_domain,
)
from iose.applets.tls_im import ModulePersonalisation, TlsIdentityApplet, read_module_secrets
from iose.applets.tls_im.personalisation import USER_PIN_SIZE
from iose.applets.tls_se import (
    TLS_SE_AID,
    CommandSet,
    Limits,
    Personalisation,
    Settings,
    TlsServerApplet,
    Wire,
    read_secrets,
)
from iose.applets.tls_se.settings import CHIP_PIECE
from iose.applets.tls_se.state import (
    DEFAULT_GUEST_IDENTITY,
    DEFAULT_IDENTITY,
    Name,
    Profile,
)
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.card.contents import COPY_NAME, HISTORICAL_BYTES, shown_name
from iose.card.refusals import CardFault
from iose.card.registry import REGISTRY_NAME, Registry, RegistryEntry
from iose.card.store import NonVolatileStore
from iose.crypto.base import Rng
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.channel import ScpVariant
from iose.globalplatform.life_cycle import Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.atr import Atr, TransmissionProtocol
from iose.protocols.host_frames import ElementInstance
from iose.runtime.elements.owner import ElementPlan
from iose.runtime.elements.record import MARK_NAME, ElementRecord, Mark
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.runtime.packages import shipped_packages
from iose.wire.errors import DecodeError, StoreError

MODULE: Final = "tls_se"
IDENTITY_MODULE: Final = "tls_im"
DOMAIN_MODULE: Final = "security_domain"
APPLETS: Final[Mapping[str, AppletFactory]] = {
    MODULE: TlsServerApplet,
    IDENTITY_MODULE: TlsIdentityApplet,
    DOMAIN_MODULE: SecurityDomainApplet,
}
PRELOADED: Final = (MODULE,)
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


@cache
def card_packages() -> tuple[Package, ...]:
    """Return what may be loaded onto our cards."""
    crypto = PycaCrypto()
    return tuple(
        Package(
            shipped.load_file.package_aid,
            shipped.load_file.version,
            ((shipped.applet_aid, shipped.module),),
            shipped.load_file.data,
            shipped.load_file.hash(crypto),
        )
        for shipped in shipped_packages().values()
    )


def build_card(store: NonVolatileStore, settings: Settings, rng: Rng | None = None) -> CardOs:
    """Return the card on a store, without power.

    Args:
        store: Its persistent memory, empty or that of an element.
        settings: The element's settings, which also say how strict the card OS is.
        rng: Source of random bytes; None for the operating system's.
    """
    services = CardServices(
        crypto=PycaCrypto(),
        rng=rng or OsRng(),
        applets=APPLETS,
        on_fault=_log_fault,
        packages=card_packages(),
    )
    return CardOs(store, services, CardSettings(is_class_checked=settings.is_hardened))


def make_element(
    store: NonVolatileStore,
    personalisation: Personalisation,
    rng: Rng | None = None,
    variant: ScpVariant = DEFAULT_VARIANT,
) -> CardOs:
    """Return the card of a new element, made on an empty store, without power.

    It has an issuer security domain, with the published keys if the personalisation takes the
    published secrets.

    Raises:
        StatusWordError: The personalisation or the variant is refused.
        StoreError: The medium is full or broken; what was written is not an element.
    """
    card = build_card(store, personalisation.settings, rng)
    _add_domain(card, DomainParameters(variant, personalisation.uses_demo_secrets))
    card.install(MODULE, TLS_SE_AID, personalisation.encode(), default_selected=True)
    return card


def _add_domain(card: CardOs, parameters: DomainParameters) -> None:
    loaded = [
        package.aid
        for package in card_packages()
        if any(name in PRELOADED for _, name in package.modules)
    ]
    card.add_domain(DOMAIN_MODULE, ISD_AID, parameters.encode(), loaded=loaded)


def draw_instance_secrets(rng: Rng | None = None) -> dict[str, str]:
    """Return secrets of a new TLS-SE instance, by the names ``read_secrets`` gives them."""
    source = rng or OsRng()
    return {
        "psk": source.random_bytes(PSK_SIZE).hex(),
        "psk_identity": _text(DEFAULT_IDENTITY),
        "user_pin": _text(random_pin(source)),
        "admin_pin": _text(random_pin(source)),
        "guest_psk": source.random_bytes(PSK_SIZE).hex(),
        "guest_psk_identity": _text(DEFAULT_GUEST_IDENTITY),
    }


def encode_instance(sen: str, seid: str, secrets: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return what a new TLS-SE instance is given: parameters of INSTALL, content of STORE DATA.

    Until it has both it is not personalised, and what it drew itself is known to nobody.

    Args:
        sen: Its TLS server name.
        seid: Name of its element on the administration plane.
        secrets: What ``draw_instance_secrets`` returned.
    """
    first = Personalisation(sen.encode("ascii"), seid=seid.encode(), is_final=False)
    final = replace(
        first,
        psk=bytes.fromhex(secrets["psk"]),
        identity=secrets["psk_identity"].encode(),
        user_pin=secrets["user_pin"].encode(),
        admin_pin=secrets["admin_pin"].encode(),
        guest_psk=bytes.fromhex(secrets["guest_psk"]),
        guest_identity=secrets["guest_psk_identity"].encode(),
        is_final=True,
    )
    return first.encode(), final.encode()


def draw_module_secrets(rng: Rng | None = None) -> dict[str, str]:
    """Return PINs of a new identity module, by the names ``read_secrets`` gives them."""
    source = rng or OsRng()
    return {
        "user_pin": _text(random_pin(source, USER_PIN_SIZE)),
        "admin_pin": _text(random_pin(source)),
    }


def encode_module(secrets: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return what a new identity module is given: parameters of INSTALL, content of STORE DATA.

    Its PSK is provisioned later, by who holds the PIN.
    """
    first = ModulePersonalisation(is_final=False)
    final = ModulePersonalisation(
        user_pin=secrets["user_pin"].encode(), admin_pin=secrets["admin_pin"].encode()
    )
    return first.encode(), final.encode()


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
                known = {"user_pin": _text(pins.user_pin), "admin_pin": _text(pins.admin_pin)}
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
    _add_domain(card, DomainParameters())


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
        "psk_identity": _text(secrets.identity),
        "user_pin": _text(secrets.user_pin),
        "admin_pin": _text(secrets.admin_pin),
    }
    if secrets.guest_psk is not None:
        named["guest_psk"] = secrets.guest_psk.hex()
        named["guest_psk_identity"] = _text(secrets.guest_identity)
    return named


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _log_fault(fault: CardFault) -> None:
    log.warning("card.fault", fault=str(fault))
