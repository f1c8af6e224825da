# SPDX-License-Identifier: Apache-2.0
"""The composition root: the only place that puts card, applets and stores together.

Element hosts use it through ``TlsSeMaker``; tests and programs without a node call ``build_card``.
"""

from collections.abc import Mapping
from typing import Final

import structlog

from iose.applet_commands.pins import ADMIN_TRIES, USER_TRIES, PinName
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
from iose.applets.tls_se.state import Name, Profile
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.card.context import HISTORICAL_BYTES_NAME
from iose.card.refusals import CardFault
from iose.card.store import NonVolatileStore
from iose.crypto.base import Rng
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.atr import Atr
from iose.runtime.elements.owner import ElementPlan
from iose.runtime.elements.record import ElementRecord
from iose.runtime.entropy import OsRng
from iose.runtime.errors import ConfigurationError
from iose.wire.errors import DecodeError

MODULE: Final = "tls_se"
_OBJECTS: Final = f"{TLS_SE_AID}/object/"
_PINS: Final = f"{TLS_SE_AID}/pin/"
PROFILE_NAME: Final = _OBJECTS + Name.PROFILE
DESCRIPTIVE: Final = frozenset({HISTORICAL_BYTES_NAME, PROFILE_NAME})

log: structlog.stdlib.BoundLogger = structlog.get_logger("iose.element_host")


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
        applets={MODULE: TlsServerApplet},
        on_fault=_log_fault,
    )
    return CardOs(store, services, CardSettings(is_class_checked=settings.is_hardened))


def make_element(
    store: NonVolatileStore, personalisation: Personalisation, rng: Rng | None = None
) -> CardOs:
    """Return the card of a new element, made on an empty store, without power.

    Raises:
        StatusWordError: The personalisation is refused.
        StoreError: The medium is full or broken; nothing was written.
    """
    card = build_card(store, personalisation.settings, rng)
    card.install(MODULE, TLS_SE_AID, personalisation.encode(), default_selected=True)
    return card


class TlsSeMaker:
    """``ElementMaker`` of elements that hold the TLS-SE applet with its keystore."""

    def build(self, store: NonVolatileStore) -> CardOs:
        """Return the card on an element's store, without power.

        Raises:
            ConfigurationError: The store holds no element.
        """
        return build_card(store, _profile(store.load()).settings)

    def personalise(self, store: NonVolatileStore, plan: ElementPlan) -> None:
        """Make a new element of an empty store; random keys and PINs unless the plan says demo.

        Raises:
            StatusWordError: The plan is refused.
            StoreError: The medium is full or broken.
        """
        settings = Settings(Wire(plan.wire), Limits(plan.limits), CommandSet(plan.commands))
        name = plan.sen.encode("ascii")
        demo = plan.has_demo_keys
        make_element(store, Personalisation(name, settings, uses_demo_secrets=demo))

    def describe(self, seid: str, objects: Mapping[str, bytes]) -> ElementRecord:
        """Return what is known of an element from its objects.

        Raises:
            ConfigurationError: They are not those of an element.
            DecodeError: One of them is damaged.
        """
        settings = _profile(objects).settings
        if read_secrets(objects) is None:
            raise ConfigurationError("the element has no PSK")
        card = CardSettings()
        atr = Atr.for_card(objects.get(HISTORICAL_BYTES_NAME, b""), card.protocol)
        buffer = settings.record_buffer
        return ElementRecord(
            seid,
            sen=atr.se_name or "",
            atr=atr.encode(),
            wire=settings.wire.value,
            limits=settings.limits.value,
            commands=settings.commands.value,
            chunk_size=CHIP_PIECE if settings.has_chip_limits else buffer,
            max_record=buffer,
        )

    def is_descriptive(self, name: str) -> bool:
        """Return whether an object's change changes the record."""
        return name in DESCRIPTIVE

    def read_secrets(self, objects: Mapping[str, bytes]) -> dict[str, str]:
        """Return keys and PINs by name.

        Raises:
            ConfigurationError: They are not the objects of an element.
        """
        secrets = read_secrets(objects)
        if secrets is None:
            raise ConfigurationError("the store holds no element")
        named = {
            "psk": secrets.psk.hex(),
            "psk_identity": _text(secrets.identity),
            "user_pin": _text(secrets.user_pin),
            "admin_pin": _text(secrets.admin_pin),
        }
        if secrets.guest_psk is not None:
            named["guest_psk"] = secrets.guest_psk.hex()
            named["guest_psk_identity"] = _text(secrets.guest_identity)
        return named

    def rename(self, objects: Mapping[str, bytes], sen: str) -> dict[str, bytes | None]:
        """Return the changes that give an element another SEN, from its next reset on."""
        del objects
        name = sen.encode("ascii")
        return {_OBJECTS + Name.ELEMENT_NAME: name, HISTORICAL_BYTES_NAME: name}

    def unlock(self, objects: Mapping[str, bytes]) -> dict[str, bytes | None]:
        """Return the changes that give back every try of PINs and PSK change."""
        full: dict[str, bytes | None] = {
            f"{_PINS}{PinName.USER}/tries": bytes((USER_TRIES,)),
            f"{_PINS}{PinName.ADMIN}/tries": bytes((ADMIN_TRIES,)),
            _OBJECTS + Name.PSK_FAILURES: None,
        }
        return {name: value for name, value in full.items() if objects.get(name) != value}


def _profile(objects: Mapping[str, bytes]) -> Profile:
    stored = objects.get(PROFILE_NAME)
    if stored is None:
        raise ConfigurationError("the store holds no element")
    try:
        return Profile.decode(stored)
    except DecodeError as error:
        raise ConfigurationError(f"the element's profile is damaged: {error}") from error


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _log_fault(fault: CardFault) -> None:
    log.warning("card.fault", fault=str(fault))
