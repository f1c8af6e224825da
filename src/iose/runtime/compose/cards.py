# SPDX-License-Identifier: Apache-2.0
"""Cards of our applets and load files, on any store.

Element hosts come here through ``elements``; tests and programs without a node call ``build_card``.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

import structlog

from iose.applet_api import AppletFactory, Package
from iose.applets.security_domain import (
    DEFAULT_VARIANT,
    ISD_AID,
    DomainParameters,
    SecurityDomainApplet,
)
from iose.applets.tls_im import TlsIdentityApplet
from iose.applets.tls_se import TLS_SE_AID, Personalisation, Settings, TlsServerApplet
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.card.refusals import CardFault
from iose.card.store import NonVolatileStore
from iose.crypto.base import Rng
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.channel import ScpVariant
from iose.runtime.entropy import OsRng
from iose.runtime.packages import shipped_packages

MODULE: Final = "tls_se"
IDENTITY_MODULE: Final = "tls_im"
DOMAIN_MODULE: Final = "security_domain"
APPLETS: Final[Mapping[str, AppletFactory]] = {
    MODULE: TlsServerApplet,
    IDENTITY_MODULE: TlsIdentityApplet,
    DOMAIN_MODULE: SecurityDomainApplet,
}
PRELOADED: Final = (MODULE,)

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
    add_domain(card, DomainParameters(variant, personalisation.uses_demo_secrets))
    card.install(MODULE, TLS_SE_AID, personalisation.encode(), default_selected=True)
    return card


def add_domain(card: CardOs, parameters: DomainParameters) -> None:
    """Give a card its issuer security domain and the load files that elements come with.

    Raises:
        StatusWordError: The parameters are refused.
        StoreError: The medium is full or broken. Nothing is stored.
    """
    loaded = [
        package.aid
        for package in card_packages()
        if any(name in PRELOADED for _, name in package.modules)
    ]
    card.add_domain(DOMAIN_MODULE, ISD_AID, parameters.encode(), loaded=loaded)


def _log_fault(fault: CardFault) -> None:
    log.warning("card.fault", fault=str(fault))
