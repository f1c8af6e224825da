# SPDX-License-Identifier: Apache-2.0
"""A card with the TLS-IM applet, driven by APDUs."""

from collections.abc import Mapping

from iose.applet_api import AppletContext
from iose.applets.tls_im import TLS_IM_AID, ModulePersonalisation, Setting, TlsIdentityApplet
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.card.refusals import CardFault
from iose.crypto.pyca import PycaCrypto
from tests.support.memory_store import MemoryStore
from tests.support.rng import SeededRng

MODULE = "tls_im"
DEMO_PSK = bytes(range(1, 33))
USER_PIN = "002000000430303030"
ADMIN_PIN = "00200001083030303030303030"


def demo_module(setting: Setting = Setting.HARDENED, **given: object) -> ModulePersonalisation:
    """Return a personalisation with the published PSK and PINs."""
    return ModulePersonalisation(setting, uses_demo_secrets=True, **given)


class Module:
    """One powered module and its store.

    Attributes:
        applet: The instance, as its card calls it.
    """

    def __init__(
        self,
        personalisation: ModulePersonalisation | None = None,
        *,
        parameters: bytes | None = None,
        contents: Mapping[str, bytes] | None = None,
    ) -> None:
        self.faults: list[CardFault] = []
        self.store = MemoryStore(contents)
        services = CardServices(PycaCrypto(), SeededRng(), {MODULE: self._make}, self.faults.append)
        self.card = CardOs(self.store, services, CardSettings(is_class_checked=False))
        if contents is None:
            encoded = (personalisation or demo_module()).encode()
            given = encoded if parameters is None else parameters
            self.card.install(MODULE, TLS_IM_AID, given, default_selected=True)
        self.card.power_on()

    def _make(self, context: AppletContext) -> TlsIdentityApplet:
        self.applet = TlsIdentityApplet(context)
        return self.applet

    def apdu(self, command: str) -> str:
        """Return the answer to one command, both in hex digits."""
        return self.card.process(bytes.fromhex(command)).hex().upper()

    def apdus(self, *commands: str) -> list[str]:
        return [self.apdu(command) for command in commands]

    def verify_user(self) -> None:
        assert self.apdu(USER_PIN) == "9000"

    def verify_admin(self) -> None:
        assert self.apdu(ADMIN_PIN) == "9000"
