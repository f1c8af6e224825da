# SPDX-License-Identifier: Apache-2.0
"""Attest, certify and take over, by a real client against software elements of every kind."""

import asyncio
from dataclasses import replace

import pytest

from iose.applet_api import AppletFacts
from iose.applets.tls_se import CommandSet, Flag, Limits, Settings, Wire
from iose.card.context import InstanceContext
from iose.client.attestation import procedure, verify_certificate, verify_proof, verify_statement
from iose.client.attestation.authority import DEMO_AUTHORITY_PRIVATE
from iose.client.attestation.checks import proof_digest
from iose.client.attestation.commands import begin_statement
from iose.client.attestation.procedure import make_certificate
from iose.client.attestation.result import DEMO_AUTHORITY
from iose.client.blocking import Element as ElementClient
from iose.client.errors import (
    AnswerError,
    AttestationError,
    KeystoreError,
    PskChangeError,
    SessionClosedError,
)
from iose.crypto.base import Curve
from iose.crypto.errors import CryptoError, InvalidSignatureError
from iose.protocols.attestation import (
    EXPORTER_LABEL,
    SignedStatement,
    Statement,
    sign_statement,
    statement_digest,
)
from iose.wire.errors import DecodeError, LocalProtocolError
from tests.support.element import CRYPTO, DEMO_PSK, Client, Element, demo, reference
from tests.support.element_link import HonestHost, Users
from tests.support.scripted_element import CLOSE, ScriptedElement

AUTHORITY_PRIVATE = b"\x11" * 32
AUTHORITY = CRYPTO.public_key(Curve.SECP256K1, AUTHORITY_PRIVATE)
OTHER_AUTHORITY = CRYPTO.public_key(Curve.SECP256K1, b"\x12" * 32)
NEW = b"\x77" * 32
GUEST = b"\x47" * 32
FACTS = AppletFacts("tls_se", "1.2", bytes(range(32)), 0x07, is_copy=False)


@pytest.fixture
def users(tmp_path):
    return Users(tmp_path)


def certified(personalisation=None, **options) -> Element:
    """Return an element whose key the authority has signed."""
    element = Element(personalisation, **options)
    client = Client(element).connect()
    public = bytes.fromhex(client.command("?0A"))
    signature = make_certificate(AUTHORITY_PRIVATE, public)
    assert client.command("?0E" + signature.hex()) == "OK"
    return element


@pytest.mark.parametrize("limits", list(Limits), ids=lambda one: one.value)
def test_everything_a_hardened_element_shows_is_verified(users, limits):
    element = certified(demo(Settings(limits=limits)))
    client = users.connect_to(element)
    attestation = client.attest(AUTHORITY)
    assert attestation.statement is not None
    assert attestation.statement.sen == b"key1.com"
    assert attestation.sen == "key1.com"
    assert attestation.version == "iose keystore/1"
    assert client.handshake_secret is not None, "the session goes on"
    assert client.echo(b"still here") == b"still here"
    verify_certificate(AUTHORITY, attestation.public_key, attestation.certificate)
    verify_proof(
        attestation.public_key,
        client.handshake_secret,
        attestation.challenge,
        attestation.proof,
    )


def test_each_attestation_has_a_challenge_of_its_own(users):
    client = users.connect_to(certified())
    first, second = client.attest(AUTHORITY), client.attest(AUTHORITY)
    assert first.challenge != second.challenge
    assert len(first.challenge) == 32


def test_the_asyncio_form_does_the_same(users):
    element = certified()

    async def work():
        async with users.asynchronous(element) as client:
            attestation = await client.attest(AUTHORITY)
            await client.take_over(AUTHORITY, new_psk=NEW)
            assert client.has_psk(NEW)
            with pytest.raises(AttestationError, match="already"):
                await client.certify(AUTHORITY_PRIVATE)
            return attestation

    assert asyncio.run(work()).statement is not None


@pytest.mark.parametrize("commands", list(CommandSet), ids=lambda one: one.value)
def test_a_compatible_element_is_attested_without_statement(users, commands):
    element = certified(demo(Settings(Wire.COMPATIBLE, commands=commands)))
    client = users.connect_to(element)
    attestation = client.attest(AUTHORITY)
    assert attestation.statement is None
    assert not attestation.is_copy
    assert any("no statement" in point for point in attestation.not_verified())
    assert client.version() == attestation.version, "with a session that is open"


def test_an_element_that_behaves_as_the_published_one_is_attested(users):
    attestation = users.connect_to(certified(reference())).attest(AUTHORITY)
    assert attestation.version == "Ethertrust keystore 1.3"
    assert attestation.statement is None


@pytest.mark.parametrize("options", [{"requires_statement": True}, {"package_hash": bytes(32)}])
@pytest.mark.parametrize("commands", [CommandSet.IOSE, CommandSet.V1_3])
def test_an_element_without_statement_is_refused_where_one_is_required(users, options, commands):
    client = users.connect_to(certified(demo(Settings(Wire.COMPATIBLE, commands=commands))))
    with pytest.raises(AttestationError, match="no statement"):
        client.attest(AUTHORITY, **options)
    assert client.handshake_secret is None


def test_a_statement_that_is_required_is_asked_for_whatever_the_version(users):
    element = certified(demo(version_text=b"my own"))
    assert users.connect_to(element).attest(AUTHORITY).statement is None
    assert users.connect_to(element).attest(AUTHORITY, requires_statement=True).statement


@pytest.mark.parametrize("size", [1, 7])
def test_answers_may_come_in_any_pieces(users, size):
    element = certified()

    class SlowHost(HonestHost):
        def receive(self, data: bytes) -> bytes:
            pieces = [data[start : start + size] for start in range(0, len(data), size)]
            return b"".join(super(SlowHost, self).receive(piece) for piece in pieces)

    client = users.connect(lambda: SlowHost(element), piece=size)
    assert client.take_over(AUTHORITY, new_psk=NEW).statement is not None


def test_an_element_that_is_not_certified_fails_clearly(users):
    client = users.connect_to(Element())
    with pytest.raises(AttestationError, match="not certified") as failure:
        client.attest(AUTHORITY)
    assert failure.value.hint
    assert client.handshake_secret is None, "the session is closed"


def test_another_authority_fails(users):
    client = users.connect_to(certified())
    with pytest.raises(AttestationError, match="not certified by this authority"):
        client.attest(OTHER_AUTHORITY)
    assert client.handshake_secret is None


def test_an_authority_that_is_no_key_fails(users):
    client = users.connect_to(certified())
    with pytest.raises(AttestationError):
        client.attest(b"\x04" + bytes(64))


def test_the_element_must_have_the_name_it_was_asked_for_by(users):
    client = users.connect_to(certified(), sen="key2.com")
    with pytest.raises(AttestationError, match="another name"):
        client.attest(AUTHORITY)
    assert users.connect_to(certified(), sen="KEY1.com").attest(AUTHORITY)


def test_what_only_a_hardened_element_keeps_its_host_from_is_said(users):
    points = users.connect_to(certified()).attest(AUTHORITY).not_verified()
    assert any("certifies no others" in point for point in points)


def test_the_package_must_be_the_one_expected(users, monkeypatch):
    monkeypatch.setattr(InstanceContext, "facts", lambda _self: FACTS)
    element = certified()
    attestation = users.connect_to(element).attest(AUTHORITY, package_hash=FACTS.package_hash)
    assert any("the package you expect" in point for point in attestation.verified())
    assert not any("package" in point for point in attestation.not_verified())
    client = users.connect_to(element)
    with pytest.raises(AttestationError, match="another package: 00010203"):
        client.attest(AUTHORITY, package_hash=bytes(32))
    assert client.handshake_secret is None


def test_a_guest_may_attest_but_not_take_over(users):
    element = certified(demo(guest_psk=GUEST, flags=Flag.GUEST_ENABLED))
    client = users.connect_to(element, psk=GUEST, identity="guest")
    assert client.attest(AUTHORITY).statement is not None
    with pytest.raises(KeystoreError):
        client.take_over(AUTHORITY)
    assert users.connect_to(element).version(), "the PSK is as it was"


# --- take over ------------------------------------------------------------------------------


def test_a_take_over_happens_in_the_session_of_the_proof_and_is_confirmed_by_another(users):
    element = certified()
    hosts = []

    class CountingHost(HonestHost):
        def __init__(self) -> None:
            super().__init__(element)
            hosts.append(self)

    client = users.connect(CountingHost)
    attestation = client.take_over(AUTHORITY, new_psk=NEW)
    assert attestation.statement is not None
    assert len(hosts) == 2, "one for proof and change, one that confirms"
    assert client.has_psk(NEW)
    (kept,) = users.store.credentials()
    assert (kept.psk, kept.pending_psk) == (NEW, None)
    assert users.connect_to(element, psk=NEW).version()


def test_a_take_over_draws_a_random_key(users):
    client = users.connect_to(certified())
    client.take_over(AUTHORITY)
    assert not client.has_psk(DEMO_PSK)


@pytest.mark.parametrize("commands", list(CommandSet), ids=lambda one: one.value)
def test_a_compatible_element_is_taken_over_too(users, commands):
    element = certified(demo(Settings(Wire.COMPATIBLE, commands=commands)))
    client = users.connect_to(element)
    assert client.take_over(AUTHORITY, new_psk=NEW).statement is None
    assert users.connect_to(element, psk=NEW).version()


def test_both_keys_are_written_down_before_the_change_is_asked_for(users):
    element = certified()
    seen = []

    class WatchingHost(HonestHost):
        def receive(self, data: bytes) -> bytes:
            seen.append([(one.psk, one.pending_psk) for one in users.store.credentials()])
            return super().receive(data)

    users.connect(lambda: WatchingHost(element)).take_over(AUTHORITY, new_psk=NEW)
    assert [(DEMO_PSK, NEW)] in seen


@pytest.mark.parametrize("change", ["uncertified", "other authority", "other name"])
def test_nothing_is_taken_over_that_does_not_hold(users, change):
    element = Element() if change == "uncertified" else certified()
    authority = OTHER_AUTHORITY if change == "other authority" else AUTHORITY
    sen = "key2.com" if change == "other name" else "key1.com"
    client = users.connect_to(element, sen=sen)
    with pytest.raises(AttestationError):
        client.take_over(authority, new_psk=NEW)
    assert users.connect_to(element).version(), "the PSK is as it was"
    assert not users.store.credentials()


def test_a_copy_is_shown_and_not_taken_over_unless_accepted(users, monkeypatch):
    monkeypatch.setattr(InstanceContext, "facts", lambda _self: replace(FACTS, is_copy=True))
    element = certified()
    client = users.connect_to(element)
    attestation = client.attest(AUTHORITY)
    assert attestation.is_copy
    assert any("marked as a copy" in point for point in attestation.not_verified())
    with pytest.raises(AttestationError, match="marked as a copy"):
        client.take_over(AUTHORITY, new_psk=NEW)
    assert users.connect_to(element).version()
    assert users.connect_to(element).take_over(AUTHORITY, new_psk=NEW, accepts_copy=True).is_copy
    assert users.connect_to(element, psk=NEW).version()


def test_the_new_key_may_not_be_the_old_one(users):
    client = users.connect_to(certified())
    with pytest.raises(LocalProtocolError, match="the old one"):
        client.take_over(AUTHORITY, new_psk=DEMO_PSK)


# --- certify --------------------------------------------------------------------------------


def test_a_provider_certifies_an_element_once(users):
    element = Element()
    attestation = users.connect_to(element).certify(AUTHORITY_PRIVATE)
    assert attestation.statement is not None
    verify_certificate(AUTHORITY, attestation.public_key, attestation.certificate)
    client = users.connect_to(element)
    with pytest.raises(AttestationError, match="already"):
        client.certify(AUTHORITY_PRIVATE)
    assert client.handshake_secret is None
    assert users.connect_to(element).attest(AUTHORITY)


def test_an_element_of_another_kind_is_certified_only_when_told_so(users):
    element = Element(reference())
    with pytest.raises(AttestationError, match="nothing was signed"):
        users.connect_to(element).certify(AUTHORITY_PRIVATE)
    client = users.connect_to(element)
    with pytest.raises(AttestationError, match="is not certified"):
        client.attest(AUTHORITY)
    client = users.connect_to(element)
    assert client.certify(AUTHORITY_PRIVATE, accepts_no_statement=True).statement is None


def test_an_element_that_only_claims_to_state_what_it_is_is_not_certified(users, monkeypatch):
    monkeypatch.setattr(procedure, "STATING_VERSIONS", "")
    element = Element(reference())
    with pytest.raises(AttestationError, match="no statement"):
        users.connect_to(element).certify(AUTHORITY_PRIVATE)
    monkeypatch.undo()
    with pytest.raises(AttestationError, match="is not certified"):
        users.connect_to(element).attest(AUTHORITY)


def test_numbers_of_a_certificate_are_padded_to_their_size():
    sizes = set()
    for number in range(1, 3000):
        public = b"\x04" + number.to_bytes(64, "big")
        certificate = make_certificate(AUTHORITY_PRIVATE, public)
        verify_certificate(AUTHORITY, public, certificate)
        sizes.add(len(certificate))
        if not certificate[0] or not certificate[32]:
            break
    else:
        pytest.fail("no number was short: the test shows nothing")
    assert sizes == {64}


def test_a_key_that_is_no_scalar_certifies_nothing(users):
    with pytest.raises(CryptoError):
        users.connect_to(Element()).certify(bytes(32))


# --- elements that lie ----------------------------------------------------------------------

PRIVATE = b"\x05" * 32
PUBLIC = CRYPTO.public_key(Curve.SECP256K1, PRIVATE)


def scripted(answers: dict[bytes, bytes | str]) -> ScriptedElement:
    return ScriptedElement(
        DEMO_PSK,
        lambda line: answers.get(line[:3], b"ERROR\r\n") or CLOSE,
    )


def connect_scripted(users, element: ScriptedElement):
    dialogue = users.dialogue(lambda: None)
    dialogue._open_link = element.open_link
    client = ElementClient(dialogue)
    client.open()
    return client


HONEST = {
    b"?00": b"iose keystore/1\r\n",
    b"?0A": PUBLIC.hex().encode() + b"\r\n",
    b"?0B": make_certificate(AUTHORITY_PRIVATE, PUBLIC).hex().encode() + b"\r\n",
}


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"?0A", b"02" + PUBLIC.hex().encode()[2:] + b"\r\n"),
        (b"?0A", b"04" + b"00" * 64 + b"\r\n"),
        (b"?0A", PUBLIC.hex().encode()[:-2] + b"\r\n"),
        (b"?0B", b"00" * 64 + b"\r\n"),
        (b"?0B", b"00" * 32 + b"11" * 32 + b"\r\n"),
        (b"?0B", b"11" * 64 + b"\r\n"),
        (b"?0B", b"11" * 63 + b"\r\n"),
        (b"?0C", b"ERROR\r\n"),
        (b"?0C", b"3006020101020101\r\n"),
        (b"?0C", b"\r\n"),
        (b"?0C", CLOSE),
    ],
)
def test_any_mismatch_closes_the_session(users, line, answer):
    element = scripted({**HONEST, line: answer})
    client = connect_scripted(users, element)
    with pytest.raises((AttestationError, AnswerError, KeystoreError, SessionClosedError)):
        client.take_over(AUTHORITY)
    assert client.handshake_secret is None
    assert element.links[0].is_closed
    assert not any(one.startswith(b"?AA") for one in element.lines)
    assert not users.store.credentials()


def test_the_lines_are_those_of_the_published_procedure(users):
    element = scripted({**HONEST, b"?0C": b"3006020101020101\r\n"})
    client = connect_scripted(users, element)
    with pytest.raises(AttestationError, match="proof"):
        client.attest(AUTHORITY)
    assert [one[:3] for one in element.lines] == [b"?00", b"?0A", b"?0B", b"?0C"]
    assert len(element.lines[3]) == 3 + 64


def test_an_echo_of_another_key_does_not_pass_for_a_change(users):
    client = connect_scripted(users, ScriptedElement(DEMO_PSK, lambda _line: b"99" * 32 + b"\r\n"))
    with pytest.raises(PskChangeError, match="kept its old PSK"):
        client.change_psk(NEW)
    assert client.has_psk(DEMO_PSK)


# --- statements that lie --------------------------------------------------------------------

STATED = Statement(
    *(b"key1.com", b"", b"tls_se", b"1.0", bytes(32), 7, False, b"\xee" * 32, b"\xcc" * 32),
    public_key=PUBLIC,
)


def test_a_statement_is_verified_for_its_session_challenge_and_key():
    signed = sign_statement(CRYPTO, PRIVATE, STATED)
    verify_statement(PUBLIC, STATED.exporter, STATED.challenge, signed)
    with pytest.raises(InvalidSignatureError, match="another session"):
        verify_statement(PUBLIC, b"\xef" * 32, STATED.challenge, signed)
    with pytest.raises(InvalidSignatureError, match="another challenge"):
        verify_statement(PUBLIC, STATED.exporter, b"\xcd" * 32, signed)
    with pytest.raises(InvalidSignatureError, match="does not verify"):
        verify_statement(AUTHORITY, STATED.exporter, STATED.challenge, signed)
    other = sign_statement(CRYPTO, AUTHORITY_PRIVATE, STATED)
    with pytest.raises(InvalidSignatureError, match="another application key"):
        verify_statement(AUTHORITY, STATED.exporter, STATED.challenge, other)


def test_every_bit_of_a_statement_is_signed():
    signed = sign_statement(CRYPTO, PRIVATE, STATED)
    for place in range(len(signed.content)):
        content = bytearray(signed.content)
        content[place] ^= 1
        broken = SignedStatement(bytes(content), signed.signature)
        with pytest.raises(InvalidSignatureError):
            verify_statement(PUBLIC, STATED.exporter, STATED.challenge, broken)


def test_a_signature_over_what_is_no_statement_is_refused():
    content = b"\x02" + STATED.encode()[1:]
    signature = CRYPTO.ecdsa_sign(Curve.SECP256K1, PRIVATE, statement_digest(CRYPTO, content))
    with pytest.raises(DecodeError):
        verify_statement(
            PUBLIC, STATED.exporter, STATED.challenge, SignedStatement(content, signature)
        )


@pytest.mark.parametrize("answer", [b"", b"00", b"09" + b"00" * 240, b"0", b"zz"])
def test_a_first_piece_that_is_none_is_refused(answer):
    with pytest.raises(AnswerError):
        begin_statement(bytes(32)).read_answer(answer)


def test_a_challenge_has_32_bytes():
    with pytest.raises(LocalProtocolError):
        begin_statement(bytes(31))


@pytest.mark.parametrize("pieces", [[b"01"], [b"01" + b"00" * 20], [b"02AA", b"BB"], [b"02AA"]])
def test_pieces_that_join_to_no_statement_close_the_session(users, pieces):
    proof = {}

    def answer(line: bytes) -> bytes:
        if line[:3] == b"?0C":
            secret = client.handshake_secret
            digest = proof_digest(secret, bytes.fromhex(line[3:].decode()))
            proof[b"?0C"] = CRYPTO.ecdsa_sign(Curve.SECP256K1, PRIVATE, digest).hex().encode()
        if line[:3] == b"?0F":
            return (pieces[0] if len(line) > 5 else pieces[-1]) + b"\r\n"
        return HONEST.get(line[:3]) or proof[line[:3]] + b"\r\n"

    client = connect_scripted(users, ScriptedElement(DEMO_PSK, answer))
    with pytest.raises(AttestationError, match="statement does not hold"):
        client.attest(AUTHORITY)
    assert client.handshake_secret is None


def test_the_published_authority_is_called_so(users):
    assert CRYPTO.public_key(Curve.SECP256K1, DEMO_AUTHORITY_PRIVATE) == DEMO_AUTHORITY
    attestation = users.connect_to(Element()).certify(DEMO_AUTHORITY_PRIVATE)
    assert any("published" in point for point in attestation.not_verified())


def test_the_session_exports_what_the_statement_holds(users):
    client = users.connect_to(certified())
    stated = client.attest(AUTHORITY).statement
    assert stated.exporter == client._dialogue.export(EXPORTER_LABEL, 32)
    client.close()
    with pytest.raises(SessionClosedError):
        client._dialogue.export(EXPORTER_LABEL, 32)
