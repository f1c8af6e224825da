# SPDX-License-Identifier: Apache-2.0
"""``?0F``: a hardened element states what it is, in pieces, inside a TLS session only."""

import pytest

from iose.applet_api import AppletFacts
from iose.applets.tls_se import CommandSet, Flag, Limits, Settings, Wire
from iose.applets.tls_se.state import Name
from iose.card.context import InstanceContext
from iose.crypto.base import Curve
from iose.iso7816.status import StatusWord
from iose.protocols.attestation import (
    EXPORTER_LABEL,
    SignedStatement,
    Statement,
    read_first_piece,
    statement_digest,
)
from iose.tls import PreSharedKey
from tests.support.element import CRYPTO, Client, Element, demo, reference_client

CHALLENGE = bytes(range(32))
GUEST = PreSharedKey(b"guest", b"\x47" * 32)
CHIP = Settings(limits=Limits.CHIP)
LINE_OF_A_CHIP = 490


def signed_statement(client: Client, challenge: bytes = CHALLENGE) -> SignedStatement:
    """Return the statement that a client is given for a challenge."""
    count, data = read_first_piece(bytes.fromhex(client.command("?0F" + challenge.hex())))
    for index in range(1, count):
        data += bytes.fromhex(client.command(f"?0F{index:02X}"))
    return SignedStatement.decode(data)


def statement(client: Client) -> Statement:
    return signed_statement(client).statement()


@pytest.mark.parametrize("settings", [Settings(), CHIP], ids=["wide", "chip"])
def test_a_statement_is_signed_by_the_application_key_for_this_session(settings):
    client = Client(Element(demo(settings))).connect()
    signed = signed_statement(client)
    stated = signed.statement()
    assert stated.sen == b"key1.com"
    assert stated.seid == b""
    assert stated.challenge == CHALLENGE
    assert stated.exporter == client.engine.export_keying_material(EXPORTER_LABEL, b"", 32)
    assert stated.public_key.hex().upper() == client.command("?0A")
    digest = statement_digest(CRYPTO, signed.content)
    CRYPTO.ecdsa_verify(Curve.SECP256K1, stated.public_key, digest, signed.signature)


def test_every_piece_fits_the_record_of_a_chip():
    client = Client(Element(demo(CHIP, name=b"a-long-name.com"))).connect()
    client.line(b"?0F" + CHALLENGE.hex().encode() + b"\r\n")
    assert all(
        len(client.command(line)) + len("\r\n") <= LINE_OF_A_CHIP
        for line in ("?0F" + CHALLENGE.hex(), "?0F00", "?0F01")
    )


def test_the_card_says_what_the_applet_cannot_choose(monkeypatch):
    facts = AppletFacts("tls_se", "1.2", bytes(range(32)), 0x0F, is_copy=True)
    monkeypatch.setattr(InstanceContext, "facts", lambda _self: facts)
    stated = statement(Client(Element()).connect())
    assert (stated.module, stated.version) == (b"tls_se", b"1.2")
    assert (stated.package_hash, stated.life_cycle) == (bytes(range(32)), 0x0F)
    assert stated.is_copy


def test_the_seid_given_at_personalisation_is_stated():
    element = Element()
    element.store.contents[f"010203040500/object/{Name.SEID}"] = b"se-00000001"
    again = Element(contents=element.store.contents)
    assert statement(Client(again).connect()).seid == b"se-00000001"


def test_the_guest_may_ask_too():
    element = Element(demo(guest_psk=GUEST.key, flags=Flag.GUEST_ENABLED))
    assert statement(Client(element, GUEST).connect()).challenge == CHALLENGE


def test_a_second_challenge_gets_a_second_statement():
    client = Client(Element()).connect()
    first, second = signed_statement(client), signed_statement(client, b"\x99" * 32)
    assert second.statement().challenge == b"\x99" * 32
    assert first.signature != second.signature


def test_pieces_are_given_only_in_the_session_that_asked():
    element = Element()
    client = Client(element).connect()
    assert client.command("?0F00") == "ERROR", "nothing was asked yet"
    client.command("?0F" + CHALLENGE.hex())
    assert client.command("?0F01") != "ERROR"
    assert client.command("?0F01") != "ERROR", "a piece may be asked for again"
    other = Client(element).connect()
    assert other.command("?0F01") == "ERROR"


@pytest.mark.parametrize("payload", ["", "02", "FF", "0000", "00" * 31, "00" * 33, "zz"])
def test_what_is_neither_challenge_nor_piece_is_an_error(payload):
    client = Client(Element()).connect()
    client.command("?0F" + CHALLENGE.hex())
    assert client.command("?0F" + payload) == "ERROR"


OTHERS = [
    Settings(wire, commands=commands)
    for wire in Wire
    for commands in CommandSet
    if (wire, commands) != (Wire.HARDENED, CommandSet.IOSE)
]


@pytest.mark.parametrize(
    "settings", OTHERS, ids=lambda one: f"{one.wire.value}-{one.commands.value}"
)
def test_in_other_settings_it_is_an_unknown_command(settings):
    client = reference_client(Element(demo(settings))).connect()
    assert client.command("?0F" + CHALLENGE.hex()) == ""
    hardened = settings.wire is Wire.HARDENED
    assert client.status == (StatusWord.TLS_CLOSED if hardened else StatusWord.TLS_ERROR)


def test_an_element_that_is_not_personalised_yet_makes_no_statement():
    client = Client(Element(demo(is_final=False))).connect()
    assert client.command("?0F" + CHALLENGE.hex()) == "ERROR"


def test_the_host_cannot_ask_past_the_session():
    line = (b"?0F" + CHALLENGE.hex().encode() + b"\n").hex()
    command = f"00DA00FF{len(line) // 2:02X}{line}"
    for personalisation, answer in (
        (demo(), "6985"),
        (demo(is_final=False), b"ERROR\r\n".hex().upper() + "9000"),
    ):
        element = Element(personalisation)
        Client(element).connect()
        element.verify_admin()
        assert element.apdu(command) == answer


def test_an_element_without_application_key_makes_no_statement():
    element = Element()
    del element.store.contents[f"010203040500/object/{Name.ATTESTATION}"]
    client = Client(Element(contents=element.store.contents)).connect()
    assert client.command("?0F" + CHALLENGE.hex()) == "ERROR"
