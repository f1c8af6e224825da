# SPDX-License-Identifier: Apache-2.0
"""A card with an issuer security domain and two small packages, and the issuer who manages it."""

from collections.abc import Mapping

from iose.applet_api import AppletContext, IdentityModule, Package
from iose.applets.security_domain import ISD_AID, DomainParameters, SecurityDomainApplet
from iose.applets.security_domain.state import DEFAULT_VARIANT
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.card.refusals import CardFault
from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.globalplatform.channel import ScpVariant, SecurityLevel
from iose.globalplatform.commands import GetStatus, LoadBlock, StatusScope
from iose.globalplatform.data_objects import StatusEntry
from iose.globalplatform.host import HostChannel
from iose.globalplatform.install import InstallForInstall, InstallForLoad
from iose.globalplatform.keys import KeySet
from iose.globalplatform.life_cycle import NO_PRIVILEGES, Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord, StatusWordError
from iose.iso7816.tlv import Tlv
from tests.support.memory_store import MemoryStore
from tests.support.probe import PROBE, CountingRng, ProbeApplet

CRYPTO = PycaCrypto()
DEMO = bytes(range(0x40, 0x50))
SELECT_DOMAIN = "00A4040008A000000151000000"
PROBE_PACKAGE = Aid.from_hex("A0000000C1")
PROBE_MODULE = Aid.from_hex("A0000000C101")
NOTE_PACKAGE = Aid.from_hex("A0000000C2")
NOTE_MODULE = Aid.from_hex("A0000000C201")
NOTE = Aid.from_hex("A0000000C20101")
DOMAIN = f"{ISD_AID}/object/"


def package(aid: Aid, module: Aid, name: str, size: int = 300) -> Package:
    data = (name.encode() * size)[:size]
    return Package(aid, (1, 2), ((module, name),), data, CRYPTO.hash(HashAlgorithm.SHA256, data))


PACKAGES = (
    package(PROBE_PACKAGE, PROBE_MODULE, "probe"),
    package(NOTE_PACKAGE, NOTE_MODULE, "note", 700),
)


class NoteApplet:
    """Keeps what it is given, answers it, and tells others what the card says of it."""

    def __init__(self, context: AppletContext) -> None:
        self.context = context
        self.blocks = b""

    def install(self, parameters: bytes) -> None:
        if parameters == b"refuse":
            raise StatusWordError(StatusWord.WRONG_DATA)
        self.context.store.put("note", parameters)
        self.context.set_historical_bytes(parameters[:15])

    def select(self) -> ResponseApdu:
        return ResponseApdu()

    def deselect(self) -> None:
        self.blocks = b""

    def process(self, command: CommandApdu) -> ResponseApdu:
        if command.ins == 0x01:
            return ResponseApdu(repr(self.context.facts()).encode())
        if command.ins == 0x02:
            module = self.context.identity_module(Aid(command.data))
            return ResponseApdu(module.binder(b"hash") if module else b"none")
        if command.ins == 0x03:
            self.context.store.put("note", command.data)
        return ResponseApdu(self.context.store.get("note") or b"")

    def receive_data(self, block: bytes, *, is_last: bool) -> None:
        self.blocks += block
        if b"!" in block:
            raise StatusWordError(StatusWord.WRONG_DATA)
        if is_last:
            self.context.store.put("note", self.blocks)
            self.blocks = b""

    def shared_module(self, client: Aid) -> IdentityModule | None:
        return EchoModule(client) if client != PROBE else None


class EchoModule:
    """Names its client."""

    def __init__(self, client: Aid) -> None:
        self.client = client

    def binder(self, transcript_hash: bytes) -> bytes:
        return self.client.value + transcript_hash

    def handshake_secret(self, shared_secret: bytes) -> bytes:
        return shared_secret


APPLETS = {"probe": ProbeApplet, "note": NoteApplet, "security_domain": SecurityDomainApplet}


class ManagedCard:
    """A powered card with the domain and, unless it is found so, a default-selected probe."""

    def __init__(
        self,
        contents: Mapping[str, bytes] | None = None,
        variant: ScpVariant = DEFAULT_VARIANT,
        *,
        is_class_checked: bool = True,
        packages: tuple[Package, ...] = PACKAGES,
    ) -> None:
        self.store = MemoryStore(contents)
        self.faults: list[CardFault] = []
        services = CardServices(CRYPTO, CountingRng(), APPLETS, self.faults.append, packages)
        self.card = CardOs(self.store, services, CardSettings(is_class_checked=is_class_checked))
        if contents is None:
            parameters = DomainParameters(variant, uses_demo_keys=True).encode()
            self.card.add_domain("security_domain", ISD_AID, parameters, loaded=[PROBE_PACKAGE])
            self.card.install("probe", PROBE, b"name", default_selected=True)
        self.variant = variant
        self.atr = self.card.power_on()

    def send(self, command: str) -> str:
        return self.card.process(bytes.fromhex(command)).hex().upper()

    def transmit(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu.decode(self.card.process(command.encode()))

    def again(self) -> "ManagedCard":
        """Return a new card on what the memory kept."""
        return ManagedCard(self.store.contents, self.variant)


class Issuer:
    """Who holds the keys: a host with a channel to the domain of one card."""

    def __init__(
        self,
        card: ManagedCard,
        level: int = 0x01,
        *,
        key: bytes = DEMO,
        version: int = 0,
        channel: int = 0,
    ) -> None:
        keys = KeySet(version, key, key, key, card.variant.key_type)
        self.card = card
        self.number = channel
        self.host = HostChannel(
            CRYPTO, CountingRng(), keys, SecurityLevel(level), expected=card.variant
        )

    def select(self) -> "Issuer":
        answer = self.card.send(f"{self.number:02X}{SELECT_DOMAIN[2:]}")
        assert answer.endswith("9000"), answer
        return self

    def open(self) -> "Issuer":
        """Select the domain and open the channel."""
        self.select()
        answer = self._transmit(self.host.initialize_update())
        assert answer.status == StatusWord.OK, answer
        answer = self.host.unwrap(self._transmit(self.host.authenticate(answer)))
        assert answer.status == StatusWord.OK, answer
        return self

    def send(self, command: CommandApdu) -> ResponseApdu:
        """Return the answer to one command, sent and received under the channel's protection."""
        answer = self._transmit(self.host.wrap(command))
        return self.host.unwrap(answer)

    def status(self, command: CommandApdu) -> str:
        return str(self.send(command).status)

    def raw(self, text: str) -> str:
        return self.send(CommandApdu.decode(bytes.fromhex(text))).encode().hex().upper()

    def load(self, one: Package, size: int = 200, *, data_hash: bytes = b"") -> list[str]:
        """Return the status words of INSTALL [for load] and of each LOAD."""
        statuses = [self.status(InstallForLoad(one.aid, data_hash=data_hash).to_command())]
        for block in blocks(one, size):
            statuses.append(self.status(block.to_command()))
        return statuses

    def install(
        self,
        aid: Aid = NOTE,
        parameters: bytes = b"text",
        privileges: Privilege = NO_PRIVILEGES,
        *,
        is_selectable: bool = True,
    ) -> str:
        request = InstallForInstall(
            NOTE_PACKAGE, NOTE_MODULE, aid, privileges, parameters, is_selectable=is_selectable
        )
        return self.status(request.to_command())

    def listed(self, scope: StatusScope, criterion: bytes = b"") -> list[StatusEntry]:
        """Return what GET STATUS lists, however many answers it takes."""
        entries: list[StatusEntry] = []
        is_next = False
        while True:
            answer = self.send(GetStatus(scope, criterion, is_next).to_command())
            assert answer.status in (StatusWord.OK, StatusWord.MORE_DATA_AVAILABLE), answer
            entries += StatusEntry.decode_all(answer.data)
            if answer.status == StatusWord.OK:
                return entries
            is_next = True

    def _transmit(self, command: CommandApdu) -> ResponseApdu:
        raw = bytearray(command.encode())
        raw[0] |= self.number
        return ResponseApdu.decode(self.card.card.process(bytes(raw)))


def blocks(one: Package, size: int = 200) -> list[LoadBlock]:
    """Return a load file in blocks."""
    data = Tlv(0xC4, one.data).encode()
    starts = range(0, len(data), size)
    return [
        LoadBlock(number, data[start : start + size], start + size >= len(data))
        for number, start in enumerate(starts)
    ]
