# SPDX-License-Identifier: Apache-2.0
"""What the card gives one applet instance: ``AppletContext`` (applet_api)."""

from typing import Protocol

from iose.applet_api import AppletFacts, AppletStore, CardManagement, IdentityModule, Pin
from iose.card.memory import CardMemory, InstanceStore
from iose.card.pin import CardPin
from iose.crypto.base import CryptoProvider, Rng
from iose.iso7816.aid import Aid
from iose.iso7816.atr import HISTORICAL_LIMIT
from iose.iso7816.status import StatusWord, StatusWordError


class Surroundings(Protocol):
    """What the card knows of its instances, and they do not."""

    def facts(self, aid: Aid) -> AppletFacts:
        """Return what is so of an instance."""

    def identity_module(self, aid: Aid, client: Aid) -> IdentityModule | None:
        """Return the module that one instance offers to another one."""


class InstanceContext:
    """Services of the card for one instance; its objects are named after its AID."""

    __slots__ = (
        "_memory", "_pins", "_prefix", "_surroundings", "aid", "crypto", "management", "rng",
        "store",
    )  # fmt: skip

    def __init__(  # what the card gives, one by one
        self,
        memory: CardMemory,
        crypto: CryptoProvider,
        rng: Rng,
        aid: Aid,
        surroundings: Surroundings,
        management: CardManagement | None = None,
    ) -> None:
        self._memory = memory
        self._surroundings = surroundings
        self.management = management
        self._prefix = f"{aid}/"
        self._pins: dict[str, CardPin] = {}
        self.crypto = crypto
        self.rng = rng
        self.aid = aid
        self.store: AppletStore = InstanceStore(memory, f"{self._prefix}object/")

    def pin(self, name: str, *, max_tries: int) -> Pin:
        """Return the PIN object ``name``; without a value yet, it refuses every verification."""
        if name not in self._pins:
            full_name = f"{self._prefix}pin/{name}"
            self._pins[name] = CardPin(self._memory, self.crypto, full_name, max_tries)
        return self._pins[name]

    def set_historical_bytes(self, value: bytes) -> None:
        """Set the ATR's historical bytes, at most 15, from the next reset on.

        They show while this instance is the default-selected one.

        Raises:
            StatusWordError: 6A80, more than 15 bytes.
        """
        if len(value) > HISTORICAL_LIMIT:
            raise StatusWordError(StatusWord.WRONG_DATA, "more than 15 historical bytes")
        self._memory.put(f"{self._prefix}historical-bytes", bytes(value))

    def facts(self) -> AppletFacts:
        """Return what the card says of this instance, as it is now."""
        return self._surroundings.facts(self.aid)

    def identity_module(self, aid: Aid) -> IdentityModule | None:
        """Return the module that another instance of this card offers; None when there is none."""
        return self._surroundings.identity_module(aid, self.aid)

    def invalidate_pins(self) -> None:
        """Forget every PIN given: selection, deselection or reset."""
        for pin in self._pins.values():
            pin.invalidate()
