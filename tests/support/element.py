# SPDX-License-Identifier: Apache-2.0
"""A software element with the TLS-SE applet, driven by APDUs as its host would."""

from collections.abc import Mapping

from iose.applets.tls_im import TLS_IM_AID, ModulePersonalisation, TlsIdentityApplet
from iose.applets.tls_se import (
    TLS_SE_AID,
    CommandSet,
    Limits,
    Personalisation,
    Settings,
    TlsServerApplet,
    Wire,
)
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.card.refusals import CardFault
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.tls import ClientEngine, PreSharedKey
from iose.tls.constants import CipherSuite, NamedGroup
from iose.tls.events import ApplicationData, Event
from tests.support.engine_pair import PSK, client_config, events_of
from tests.support.memory_store import MemoryStore
from tests.support.rng import SeededRng

MODULE = "tls-se"
REFERENCE = Settings(Wire.COMPATIBLE, Limits.CHIP, CommandSet.V1_3)
REFERENCE_VERSION = b"Ethertrust keystore 1.3"
DEMO_PSK = bytes(range(1, 33))
CRYPTO = PycaCrypto()
HashRng = SeededRng  # by its name in the tests of the card


def demo(settings: Settings = Settings(), **given: object) -> Personalisation:  # noqa: B008  # frozen
    """Return a personalisation with the published PSK and PINs."""
    return Personalisation(settings=settings, uses_demo_secrets=True, **given)


def reference(**given: object) -> Personalisation:
    """Return the personalisation that behaves as the published 1.3 applet."""
    return demo(REFERENCE, version_text=REFERENCE_VERSION, **given)


class Element:
    """One powered element and its store."""

    def __init__(
        self,
        personalisation: Personalisation | None = None,
        *,
        contents: Mapping[str, bytes] | None = None,
        seed: bytes = b"",
        module: ModulePersonalisation | None = None,
    ) -> None:
        self.faults: list[CardFault] = []
        self.store = MemoryStore(contents)
        applets = {MODULE: TlsServerApplet, "tls_im": TlsIdentityApplet}
        services = CardServices(CRYPTO, SeededRng(seed), applets, self.faults.append)
        self.card = CardOs(self.store, services, CardSettings(is_class_checked=False))
        if module is not None:
            self.card.install("tls_im", TLS_IM_AID, module.encode())
        if contents is None:
            parameters = (personalisation or demo()).encode()
            self.card.install(MODULE, TLS_SE_AID, parameters, default_selected=True)
        self.atr = self.card.power_on()
        self.apdus = 0
        self.statuses: list[str] = []

    @property
    def applet(self) -> TlsServerApplet:
        """The code behind the default selection."""
        return self.card._channels.selected(0).applet

    def apdu(self, command: str) -> str:
        """Return the answer to one command, both in hex digits."""
        return self.raw(bytes.fromhex(command)).hex().upper()

    def raw(self, command: bytes) -> bytes:
        self.apdus += 1
        answer = self.card.process(command)
        self.statuses.append(answer[-2:].hex().upper())
        return answer

    def transmit(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu.decode(self.raw(command.encode()))

    def verify_admin(self) -> None:
        assert self.apdu("00200001083030303030303030") == "9000"

    def verify_user(self) -> None:
        assert self.apdu("002000000430303030") == "9000"

    def send(self, record: bytes, chunk: int = 240, *, le: int | None = None) -> ResponseApdu:
        """Return the drained answer to one record, sent in fragments."""
        response = ResponseApdu()
        for start in range(0, len(record), chunk):
            piece = record[start : start + chunk]
            last = start + chunk >= len(record)
            response = self.transmit(
                CommandApdu(0, 0xD8, 0, (not start) | last << 1, piece, le if last else None)
            )
            if not last:
                assert response == ResponseApdu()
        return self.drain(response)

    def drain(self, response: ResponseApdu) -> ResponseApdu:
        """Return the answer with everything that 61xx and 9Fxx announced."""
        data = response.data
        while response.status.sw1 in (0x61, 0x9F):
            response = self.transmit(CommandApdu(0, 0xC0, 0, 0, b"", response.status.sw2 or 256))
            data += response.data
        return ResponseApdu(data, response.status)

    def reset_session(self) -> None:
        assert self.apdu("00D8000000") == "9000"


REFERENCE_CLIENT = {
    "suites": (CipherSuite.TLS_AES_128_CCM_SHA256,),
    "groups": (NamedGroup.SECP256R1,),
}


class Client:
    """A TLS client in front of an element; what a front does between them is done here.

    Attributes:
        engine: The client's engine.
        status: Status word of the last record sent.
        received: What the element gave for it.
        events: All that the engine told.
    """

    def __init__(self, element: Element, psk: PreSharedKey = PSK, **settings: object) -> None:
        self.element = element
        self.engine = ClientEngine(client_config(psk, **settings))
        self.status = StatusWord.OK
        self.received = b""
        self.events: list[Event] = []
        self.chunk = 240
        self.le: int | None = None

    def connect(self) -> "Client":
        """Run the handshake as far as it goes."""
        self.element.reset_session()
        self.engine.start()
        return self.flush()

    def flush(self) -> "Client":
        """Send what the client has to send, record by record, and take what comes back."""
        while records := self.engine.records_to_send():
            for record in records:
                self.send(record)
        return self

    def send(self, record: bytes) -> StatusWord:
        """Send one record and give the answer to the client."""
        response = self.element.send(record, self.chunk, le=self.le)
        self.status, self.received = response.status, response.data
        self.engine.receive_data(response.data)
        self.events += events_of(self.engine)
        return self.status

    def line(self, text: bytes) -> bytes:
        """Return the answer to one line, as the client reads it."""
        self.events.clear()
        self.engine.send_data(text)
        self.flush()
        return b"".join(item.data for item in self.events if isinstance(item, ApplicationData))

    def command(self, text: str) -> str:
        """Return the answer to one keystore command, both without line ends."""
        return self.line(text.encode() + b"\r\n").decode().removesuffix("\r\n")


def reference_client(element: Element, psk: PreSharedKey = PSK, **settings: object) -> Client:
    """Return a client that the published applets can serve."""
    return Client(element, psk, **{**REFERENCE_CLIENT, **settings})
