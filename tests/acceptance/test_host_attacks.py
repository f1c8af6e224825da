# SPDX-License-Identifier: Apache-2.0
"""What a host can do that has an element's APDUs, attack by attack (attestation.md §6).

The user is our real client, the element our real applet; between them stands the host. Each
attack succeeds in the compatible setting, the wire as published, and fails in the hardened one.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from iose.applet_api import AppletFacts
from iose.applets.tls_se import CommandSet, Settings, Wire
from iose.card.context import InstanceContext
from iose.client.attestation import verify_certificate, verify_proof, verify_statement
from iose.client.attestation.checks import proof_digest
from iose.client.attestation.procedure import make_certificate
from iose.client.errors import AnswerError, AttestationError, HandshakeError, PskChangeError
from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.errors import InvalidSignatureError
from iose.iso7816.apdu import ResponseApdu
from iose.protocols.attestation import (
    EXPORTER_LABEL,
    SignedStatement,
    Statement,
    read_first_piece,
    split_pieces,
    statement_digest,
)
from iose.tls import PreSharedKey, ServerEngine
from iose.tls.errors import AlertReceived, TlsPeerError
from iose.tls.events import ApplicationData, BinderNeeded, HandshakeSecretNeeded, PeerClosed
from iose.transport.software import SoftwareReader
from tests.support.element import CRYPTO, DEMO_PSK, Client, Element, demo
from tests.support.element_link import HEADER, HonestHost, Users
from tests.support.engine_pair import server_config

HARDENED = Settings()
COMPATIBLE = Settings(Wire.COMPATIBLE)
PUBLISHED = Settings(Wire.COMPATIBLE, commands=CommandSet.V1_3)
AUTHORITY_PRIVATE = b"\x11" * 32
AUTHORITY = CRYPTO.public_key(Curve.SECP256K1, AUTHORITY_PRIVATE)
IDENTITY = b"Client_identity"
NEW = b"\x77" * 32
REFUSED = "6985"
FACTS = AppletFacts("tls_se", "1.0", b"\xaa" * 32, 0x07, is_copy=False)

open_settings = pytest.mark.parametrize(
    "settings", [COMPATIBLE, PUBLISHED], ids=["compatible", "published"]
)
all_settings = pytest.mark.parametrize(
    "settings", [HARDENED, COMPATIBLE, PUBLISHED], ids=["hardened", "compatible", "published"]
)


@pytest.fixture
def users(tmp_path):
    return Users(tmp_path)


class HeldElement(Element):
    """An element in the reader its host holds: every APDU goes over that connection."""

    def __init__(self, *given: object, **options: object) -> None:
        super().__init__(*given, **options)  # type: ignore[arg-type]
        self.card.power_off()
        self._connection = asyncio.run(SoftwareReader("held", self.card).connect())

    def raw(self, command: bytes) -> bytes:
        return asyncio.run(self._connection.transmit_raw(command))


def certified(settings: Settings, **given: object) -> Element:
    """Return an element whose key the authority has signed; its PINs are the published ones."""
    element = HeldElement(demo(settings, **given))
    client = Client(element).connect()
    public = bytes.fromhex(client.command("?0A"))
    assert client.command("?0E" + make_certificate(AUTHORITY_PRIVATE, public).hex()) == "OK"
    return element


class EndingHost:
    """A host that ends the user's TLS itself, and answers each line as ``answer`` says.

    Attributes:
        lines: What the user said, in clear.
    """

    def __init__(self, psk: PreSharedKey, answer: Callable[[bytes], bytes | None]) -> None:
        self.is_over = False
        self.lines: list[bytes] = []
        self.engine = ServerEngine(server_config(psk))
        self.engine.start()
        self._answer = answer

    def receive(self, data: bytes) -> bytes:
        try:
            self.engine.receive_data(data)
            while not self.is_over and (event := self.engine.next_event()) is not None:
                self._handle(event)
        except (TlsPeerError, AlertReceived):
            self.is_over = True
        return self.engine.data_to_send()

    def _handle(self, event: object) -> None:
        match event:
            case BinderNeeded(transcript_hash=value):
                self.provide_binder(value)
            case HandshakeSecretNeeded(shared_secret=value):
                self.provide_secret(value)
            case ApplicationData(data=line):
                self.lines.append(line)
                answer = self._answer(line)
                if answer is None:
                    self.end()
                else:
                    self.engine.send_data(answer)
            case PeerClosed():
                self.is_over = True

    def end(self) -> None:
        self.engine.close()
        self.is_over = True

    def provide_binder(self, transcript_hash: bytes) -> None:
        raise AssertionError("the host knows the key")

    def provide_secret(self, shared_secret: bytes) -> None:
        raise AssertionError("the host knows the key")

    def has_learnt(self, psk: bytes) -> bool:
        return any(psk.hex().upper().encode() in line.upper() for line in self.lines)


def relay_to(element: Element, forge: Callable[..., bytes | None] = lambda *_: None) -> EndingHost:
    """Return a host with two sessions, lines passed between them; it knows the provider's PSK.

    Args:
        element: Whose host it is.
        forge: Given host and line, an answer in the element's place; None passes the line on.
    """
    inner = Client(element).connect()

    def answer(line: bytes) -> bytes | None:
        return forge(host, line) or inner.line(line) or None

    host = EndingHost(PreSharedKey(IDENTITY, DEMO_PSK), answer)
    return host


# --- 1: the element's own PSK and its line interpreter, by default PINs ---------------------


class ImpostorHost(EndingHost):
    """INS 85 for the key schedule, INS DA for the answers: no key is known, none is needed."""

    def __init__(self, element: Element) -> None:
        element.verify_user()
        element.verify_admin()
        self.element = element
        self.statuses: list[str] = []
        super().__init__(PreSharedKey(IDENTITY, None), self._by_apdu)

    def provide_binder(self, transcript_hash: bytes) -> None:
        self._provide("0085000C20", transcript_hash, self.engine.provide_binder)

    def provide_secret(self, shared_secret: bytes) -> None:
        self._provide("0085000E20", shared_secret, self.engine.provide_handshake_secret)

    def _provide(self, head: str, data: bytes, give: Callable[[bytes], None]) -> None:
        answer = self.element.apdu(head + data.hex())
        self.statuses.append(answer[-4:])
        if answer.endswith("9000"):
            give(bytes.fromhex(answer[:-4]))
        else:
            self.end()

    def _by_apdu(self, line: bytes) -> bytes | None:
        command = bytes.fromhex("00DA00FF") + bytes((len(line),)) + line + b"\x00"
        response = self.element.drain(ResponseApdu.decode(self.element.raw(command)))
        self.statuses.append(f"{response.status:04X}")
        return response.data or None


@open_settings
def test_1_a_host_with_default_pins_passes_the_attestation_itself_and_takes_the_new_key(
    users, settings
):
    element = certified(settings)
    hosts = []

    def open_host() -> ImpostorHost:
        hosts.append(ImpostorHost(element))
        return hosts[-1]

    user = users.connect(open_host)
    attestation = user.take_over(AUTHORITY, new_psk=NEW)
    verify_certificate(AUTHORITY, attestation.public_key, attestation.certificate)
    assert any(host.has_learnt(NEW) for host in hosts), "a full man in the middle"


def test_1_a_hardened_element_gives_its_host_no_part_of_the_key_schedule(users):
    element = certified(HARDENED)
    hosts = []

    def open_host() -> ImpostorHost:
        hosts.append(ImpostorHost(element))
        return hosts[-1]

    with pytest.raises(HandshakeError):
        users.connect(open_host)
    assert hosts[0].statuses == [REFUSED]
    assert element.apdu("0085000E20" + "AB" * 32) == REFUSED
    assert element.apdu("00DA00FF05" + b"?0C\r\n".hex()) == REFUSED
    assert element.apdu("0085000A23010020" + "AB" * 32) == REFUSED, "nor is the PSK replaced"


# --- 2: SEND with P1=01 and 02 reads and forges, without any PIN -----------------------------


class ReadingHost(HonestHost):
    """Passes records on but for the longest, which it opens in the element and answers itself."""

    CHANGE_SIZE = HEADER + len("?AA") + 128 + len("\r\n") + 1 + 16

    def __init__(self, element: Element) -> None:
        super().__init__(element)
        self.read: bytes = b""
        self.statuses: list[str] = []

    def _next_record(self) -> bytes:
        record = super()._next_record()
        if len(record) != self.CHANGE_SIZE:
            return record
        opened = self.element.drain(self._send(1, record))
        self.statuses.append(f"{opened.status:04X}")
        if not opened.data:
            return record  # nothing to be had: on with it, as an honest host
        self.read = opened.data[:-1]
        echo = self.read[len("?AA") + 64 :] + b"\x17"
        self.forged = self.element.drain(self._send(2, echo)).data
        return b""

    def receive(self, data: bytes) -> bytes:
        self.forged = b""
        return super().receive(data) + self.forged

    def _send(self, mode: int, data: bytes) -> ResponseApdu:
        command = bytes((0, 0xD8, mode, 0x03, len(data))) + data + b"\x00"
        return ResponseApdu.decode(self.element.raw(command))


@open_settings
def test_2_a_host_reads_the_new_key_and_answers_in_the_elements_name(users, settings):
    element = certified(settings)
    hosts: list[ReadingHost] = []

    def open_host() -> EndingHost | ReadingHost:
        read = b"".join(host.read for host in hosts)
        if read:  # the new key is known: the confirming session is with the host alone
            stolen = bytes.fromhex(read[len("?AA") + 64 :].decode())
            return EndingHost(PreSharedKey(IDENTITY, stolen), lambda _line: None)
        hosts.append(ReadingHost(element))
        return hosts[-1]

    user = users.connect(open_host)
    user.take_over(AUTHORITY, new_psk=NEW)
    assert hosts[-1].statuses == ["9000"]
    assert NEW.hex().upper().encode() in hosts[-1].read
    assert user.has_psk(NEW), "the user is content"
    assert Client(element).connect().command("?00"), "and the element never heard of the new key"


def test_2_a_hardened_element_opens_no_record_for_its_host(users):
    element = certified(HARDENED)
    hosts = []

    def open_host() -> ReadingHost:
        hosts.append(ReadingHost(element))
        return hosts[-1]

    users.connect(open_host).take_over(AUTHORITY, new_psk=NEW)
    assert hosts[0].statuses == [REFUSED]
    assert hosts[0].read == b""
    assert users.connect_to(element, psk=NEW).version()


# --- 3: the provider knows the key until it is changed ---------------------------------------


@all_settings
def test_3_a_relay_between_two_sessions_reads_everything_but_has_no_proof(users, settings):
    element = certified(settings)
    host = relay_to(element)
    user = users.connect(lambda: host)
    assert user.application_public_key(), "who does not attest is none the wiser"
    with pytest.raises(AttestationError, match="proof"):
        user.take_over(AUTHORITY, new_psk=NEW)
    assert not host.has_learnt(NEW), "it was not even asked for"
    assert user.handshake_secret is None


@all_settings
def test_3_a_change_in_another_session_than_the_proof_goes_to_the_provider(users, settings):
    element = certified(settings)
    assert users.connect_to(element).attest(AUTHORITY)
    host = relay_to(element)
    user = users.connect(lambda: host)  # the next session is not the one that was attested
    with pytest.raises(PskChangeError):
        user.change_psk(NEW)  # the relay has only the old key for the session that confirms
    assert host.has_learnt(NEW)


@all_settings
def test_3_a_take_over_leaves_the_provider_without_a_key(users, settings):
    element = certified(settings)
    hosts = []

    def open_host() -> EndingHost | HonestHost:
        if not users.store.credentials():  # the change was not asked for yet
            return HonestHost(element)
        hosts.append(EndingHost(provider, lambda _line: None))
        return hosts[-1]

    provider = PreSharedKey(IDENTITY, DEMO_PSK)
    user = users.connect(open_host)
    with pytest.raises(PskChangeError):  # the provider gets in between when it is too late
        user.take_over(AUTHORITY, new_psk=NEW)
    assert user.handshake_secret is None
    assert len(hosts) == 1, "the old key is not tried any more"
    assert users.store.credentials()[0].candidates == (NEW,)
    assert not any(host.has_learnt(NEW) for host in hosts)
    again = users.connect_to(element, psk=NEW)
    assert again.attest(AUTHORITY)
    late = Client(element, provider)
    with suppress(AlertReceived):
        late.connect()
    assert not late.engine.is_open


@all_settings
def test_3_a_provider_who_hides_the_answer_to_the_change_cannot_have_its_new_key_forgotten(
    users, settings
):
    element = certified(settings)
    hosts = []

    class DeafeningHost(HonestHost):
        """Passes the change on, and cuts the connection instead of its answer."""

        def receive(self, data: bytes) -> bytes:
            answer = super().receive(data)
            self.is_over = self.is_over or bool(users.store.credentials())
            return b"" if self.is_over else answer

    def open_host() -> EndingHost | HonestHost:
        is_first = not hosts
        provider = PreSharedKey(IDENTITY, DEMO_PSK)
        hosts.append(
            DeafeningHost(element) if is_first else EndingHost(provider, lambda _line: None)
        )
        return hosts[-1]

    user = users.connect(open_host)
    with pytest.raises(PskChangeError, match="somebody else"):
        user.take_over(AUTHORITY)
    assert user.handshake_secret is None, "nothing more is said to whoever has the old key"
    new, old = users.store.credentials()[0].candidates
    assert old == DEMO_PSK
    assert users.connect_to(element, psk=new).attest(AUTHORITY), "the only key that is left"


# --- 4: SIGN with index FE signs anything ----------------------------------------------------


def forge_by_sign(element: Element):
    """Return answers that the element's own key signs for its host (INS 80, index FE)."""

    def forge(host: EndingHost, line: bytes) -> bytes | None:
        if not line.startswith(b"?0C"):
            return None
        challenge = bytes.fromhex(line[3:].strip().decode())
        return hex_line(sign(element, proof_digest(host.engine.handshake_secret, challenge)))

    return forge


def sign(element: Element, digest: bytes) -> bytes:
    element.verify_user()
    answer = element.apdu(f"008000FE20{digest.hex()}")
    return bytes.fromhex(answer[4:-4]) if answer.endswith("9000") else b"\x30\x00"


def hex_line(value: bytes) -> bytes:
    return value.hex().upper().encode() + b"\r\n"


@open_settings
def test_4_a_signature_by_apdu_is_a_proof_for_any_session(users, settings):
    element = certified(settings)
    hosts = []

    def open_host() -> EndingHost:
        hosts.append(relay_to(element, forge_by_sign(element)))
        return hosts[-1]

    with pytest.raises(PskChangeError):  # for the session that confirms is with the old key again
        users.connect(open_host).take_over(AUTHORITY, new_psk=NEW)
    assert any(host.has_learnt(NEW) for host in hosts), "the proof was good enough to go on"


def test_4_a_hardened_element_signs_nothing_for_its_host_with_that_key(users):
    element = certified(HARDENED)
    element.verify_user()
    element.verify_admin()
    for index in ("FE", "05"):
        for kind in ("00", "21"):
            assert element.apdu(f"0080{kind}{index}20" + "AB" * 32) == REFUSED
    host = relay_to(element, forge_by_sign(element))
    with pytest.raises((AttestationError, AnswerError), match=r"proof|DER"):
        users.connect(lambda: host).take_over(AUTHORITY, new_psk=NEW)
    assert not host.has_learnt(NEW)


def test_4_whose_key_signs_anything_also_signs_a_statement(users):
    """Why an authority keeps one key for hardened elements alone (docs/attestation.md)."""
    element = certified(COMPATIBLE)
    public = bytes.fromhex(Client(element).connect().command("?0A"))
    by_sign = forge_by_sign(element)
    pieces: list[bytes] = []

    def forge(host: EndingHost, line: bytes) -> bytes | None:
        if not line.startswith(b"?0F"):
            return by_sign(host, line)
        payload = bytes.fromhex(line[3:].strip().decode())
        if len(payload) == 32:
            exporter = host.engine.export_keying_material(EXPORTER_LABEL, b"", 32)
            claims = (b"key1.com", b"se-1", b"tls_se", b"1.0", bytes(32), 7, False)
            content = Statement(*claims, exporter, payload, public).encode()
            signature = sign(element, statement_digest(CRYPTO, content))
            pieces[:] = split_pieces(SignedStatement(content, signature).encode())
            payload = b"\0"
        return hex_line(pieces[payload[0]])

    host = relay_to(element, forge)
    assert users.connect(lambda: host).attest(AUTHORITY, requires_statement=True).statement


# --- 5: the certificate binds no name, no code ------------------------------------------------


@open_settings
def test_5_two_certified_elements_swapped_pass_the_first_attestation(users, settings):
    other = certified(settings, name=b"key2.com")
    assert users.connect_to(other, sen="key1.com").attest(AUTHORITY)


def test_5_a_hardened_element_says_its_own_name(users):
    other = certified(HARDENED, name=b"key2.com")
    user = users.connect_to(other, sen="key1.com")
    with pytest.raises(AttestationError, match="another name"):
        user.take_over(AUTHORITY, new_psk=NEW)
    assert users.connect_to(other, sen="key2.com").attest(AUTHORITY).statement.sen == b"key2.com"


class CuttingHost(HonestHost):
    """Passes records on until one has the size of a line; then the connection is cut."""

    def __init__(self, element: Element, line: str) -> None:
        super().__init__(element)
        self.size = HEADER + len(line) + len("\r\n") + 1 + 16
        self.records = 0

    def _next_record(self) -> bytes:
        record = super()._next_record()
        if len(record) != self.size:
            return record
        self.records += 1
        self.is_over = self.records == 2  # a proof is asked for by a line of that size, too
        return b"" if self.is_over else record


def test_5_cutting_the_connection_does_not_spare_another_element_its_statement(users):
    """A cut needs no key: whoever is on the way could hide name, package and copy mark."""
    other = certified(HARDENED, name=b"key2.com")
    hosts = []

    def open_host() -> HonestHost:
        hosts.append(CuttingHost(other, "?0F" + "00" * 32))
        return hosts[-1]

    with pytest.raises(AttestationError, match="no statement"):
        users.connect(open_host, sen="key1.com").take_over(AUTHORITY, new_psk=NEW)
    assert [host.records for host in hosts] == [2], "and there is no other session"
    assert not users.store.credentials()


@all_settings
def test_5_an_applet_that_was_replaced_shows_in_the_hash_of_its_package(
    users, settings, monkeypatch
):
    replaced = AppletFacts("tls_se", "1.0", b"\xbb" * 32, 0x07, is_copy=False)
    monkeypatch.setattr(InstanceContext, "facts", lambda _self: replaced)
    element = certified(settings)
    if settings is not HARDENED:
        assert users.connect_to(element).attest(AUTHORITY).statement is None, "nobody can tell"
        return
    user = users.connect_to(element)
    with pytest.raises(AttestationError, match="another package: bbbb"):
        user.take_over(AUTHORITY, new_psk=NEW, package_hash=FACTS.package_hash)
    assert users.connect_to(element).attest(AUTHORITY, package_hash=replaced.package_hash)


@all_settings
def test_5_a_copy_shows(users, settings, monkeypatch):
    copied = AppletFacts("tls_se", "1.0", b"\xaa" * 32, 0x07, is_copy=True)
    monkeypatch.setattr(InstanceContext, "facts", lambda _self: copied)
    element = certified(settings)
    twin = HeldElement(contents=element.store.contents)
    for one in (element, twin):
        attestation = users.connect_to(one).attest(AUTHORITY)
        assert attestation.is_copy == (settings is HARDENED)
    if settings is HARDENED:
        with pytest.raises(AttestationError, match="copy"):
            users.connect_to(twin).take_over(AUTHORITY)


# --- what was said before, or elsewhere --------------------------------------------------------


@all_settings
def test_an_old_proof_is_of_no_use(users, settings):
    element = certified(settings)
    heard = {}

    def forge(_host: EndingHost, line: bytes) -> bytes | None:
        return heard.get("proof") if line.startswith(b"?0C") else None

    user = users.connect_to(element)
    challenge = b"\x01" * 32
    public, proof = user.application_public_key(), user.prove(challenge)
    verify_proof(public, user.handshake_secret, challenge, proof)
    heard["proof"] = hex_line(proof)
    later = users.connect(lambda: relay_to(element, forge))
    with pytest.raises(AttestationError, match="proof"):
        later.attest(AUTHORITY)
    secret = users.connect_to(element).handshake_secret
    with pytest.raises(InvalidSignatureError):
        verify_proof(public, secret, challenge, proof)


def test_a_statement_of_another_session_is_of_no_use():
    element = certified(HARDENED)
    challenge = b"\x02" * 32
    first = Client(element).connect()
    public = bytes.fromhex(first.command("?0A"))
    count, data = read_first_piece(bytes.fromhex(first.command("?0F" + challenge.hex())))
    for index in range(1, count):
        data += bytes.fromhex(first.command(f"?0F{index:02X}"))
    signed = SignedStatement.decode(data)
    here = first.engine.export_keying_material(EXPORTER_LABEL, b"", 32)
    verify_statement(public, here, challenge, signed)
    second = Client(element).connect()
    there = second.engine.export_keying_material(EXPORTER_LABEL, b"", 32)
    with pytest.raises(InvalidSignatureError, match="another session"):
        verify_statement(public, there, challenge, signed)


def test_a_statement_passes_for_no_proof_and_a_proof_for_no_statement():
    element = certified(HARDENED)
    client = Client(element).connect()
    public = bytes.fromhex(client.command("?0A"))
    challenge = b"\x03" * 32
    proof = bytes.fromhex(client.command("?0C" + challenge.hex()))
    content = client.engine.handshake_secret + challenge
    with pytest.raises(InvalidSignatureError):
        CRYPTO.ecdsa_verify(Curve.SECP256K1, public, statement_digest(CRYPTO, content), proof)
    verify_proof(public, client.engine.handshake_secret, challenge, proof)
    plain = CRYPTO.hash(HashAlgorithm.SHA256, content)
    CRYPTO.ecdsa_verify(Curve.SECP256K1, public, plain, proof)
