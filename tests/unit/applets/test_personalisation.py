# SPDX-License-Identifier: Apache-2.0
"""How an element begins, and what its owner reads where it is stored."""

import pytest

from iose.applets.tls_se import (
    CommandSet,
    Flag,
    Limits,
    Personalisation,
    Settings,
    TlsServerApplet,
    Wire,
    read_secrets,
)
from iose.applets.tls_se.keystore.bip32 import derive_private_key, master_key
from iose.applets.tls_se.keystore.seeds import SeedCommands
from iose.applets.tls_se.state import Profile
from iose.card.card_os import CardOs, CardServices
from iose.crypto.base import HashAlgorithm
from iose.iso7816.aid import Aid
from iose.iso7816.status import StatusWordError
from iose.wire.errors import DecodeError
from tests.support.element import CRYPTO, DEMO_PSK, MODULE, Element, demo, reference
from tests.support.memory_store import MemoryStore
from tests.support.rng import SeededRng


def test_hardened_wide_and_our_own_commands_are_the_default():
    assert Personalisation.decode(b"") == Personalisation()
    assert Settings() == Settings(Wire.HARDENED, Limits.WIDE, CommandSet.IOSE)
    assert Profile().is_locked


def test_the_owner_reads_the_secrets_where_they_are_stored():
    element = Element(
        demo(name=b"key7.com", identity=b"me", guest_psk=b"\x11" * 32, guest_identity=b"you")
    )
    secrets = read_secrets(element.store.contents)
    assert secrets is not None
    assert (secrets.name, secrets.identity, secrets.psk) == (b"key7.com", b"me", DEMO_PSK)
    assert (secrets.user_pin, secrets.admin_pin) == (b"0000", b"00000000")
    assert (secrets.guest_identity, secrets.guest_psk) == (b"you", b"\x11" * 32)
    assert DEMO_PSK.hex() not in repr(secrets)
    assert b"00000000" not in repr(secrets).encode()


def test_the_reference_has_no_guest():
    secrets = read_secrets(Element(reference()).store.contents)
    assert secrets is not None
    assert secrets.guest_psk is None


def test_the_owner_reads_a_changed_pin():
    element = Element(reference())
    assert element.apdu("0024000010" + "30303030FFFFFFFF" + "313233FFFFFFFFFF") == "9000"
    secrets = read_secrets(element.store.contents)
    assert secrets is not None
    assert secrets.user_pin == b"123"


def test_another_card_has_no_secrets():
    assert read_secrets({}) is None
    assert read_secrets(Element().store.contents, Aid.from_hex("A000000001")) is None


def test_nothing_secret_is_printed():
    printed = repr(Personalisation(psk=DEMO_PSK, user_pin=b"1234", admin_pin=b"12345678"))
    assert "1234" not in printed
    assert repr(DEMO_PSK)[2:-1] not in printed
    assert "\\x11" not in repr(Personalisation(guest_psk=b"\x11" * 32))


@pytest.mark.parametrize(
    "parameters",
    [
        "63",
        "630000",
        "01000100",
        "0100030300FF",
        "010003000009",
        "0200104141414141414141414141414141414141",
        "03001F" + "00" * 31,
        "0400",
        "040000",
        "050000",
        "050009" + "30" * 9,
        "060007" + "30" * 7,
        "090000",
        "0A0020" + "00" * 32,
        "0A0020" + "FF" * 32,
    ],
)
def test_what_is_no_personalisation_is_refused_and_leaves_nothing(parameters: str):
    store = MemoryStore()
    services = CardServices(CRYPTO, SeededRng(), {MODULE: TlsServerApplet})
    card = CardOs(store, services)
    with pytest.raises(StatusWordError) as refusal:
        card.install(MODULE, Aid.from_hex("010203040500"), bytes.fromhex(parameters))
    assert refusal.value.status == 0x6A80
    assert store.contents == {}


def test_unknown_settings_are_no_settings():
    with pytest.raises(DecodeError):
        Profile.decode(b"\x00\x00\x07\x00")


def test_flags_are_kept():
    element = Element(demo(flags=Flag.GUEST_ENABLED | Flag.CHECK_SERVER_NAME))
    again = Element(contents=element.store.contents)
    applet = next(iter(again.card._channels._instances.values())).applet
    assert applet._state.flags == Flag.GUEST_ENABLED | Flag.CHECK_SERVER_NAME


class ConstantHmac:
    """Primitives whose HMAC is chosen, to reach what chance reaches once in 2**127."""

    def __init__(self, *outputs: bytes) -> None:
        self.outputs = list(outputs)

    def hmac(self, algorithm: HashAlgorithm, key: bytes, data: bytes) -> bytes:
        return self.outputs.pop(0) if len(self.outputs) > 1 else self.outputs[0]


ORDER = bytes.fromhex("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141")


@pytest.mark.parametrize("key", [bytes(32), ORDER, b"\xff" * 32])
def test_a_seed_or_level_that_makes_no_key_is_refused(key: bytes):
    assert master_key(ConstantHmac(key + bytes(32)), b"seed") is None
    root = bytes(31) + b"\x01" + bytes(32)
    assert derive_private_key(ConstantHmac(key + bytes(32)), root, b"\x80\x00\x00\x00") is None


def test_a_level_whose_sum_is_zero_makes_no_key():
    less = (int.from_bytes(ORDER, "big") - 1).to_bytes(32, "big")
    root = bytes(31) + b"\x01" + bytes(32)
    crypto = ConstantHmac(less + bytes(32))
    assert derive_private_key(crypto, root, b"\x80\x00\x00\x00") is None


def test_a_derivation_that_makes_no_key_leaves_the_pair():
    element = Element(demo(is_final=False))
    element.verify_admin()
    applet = next(iter(element.card._channels._instances.values())).applet
    keystore = applet._keystore
    session = applet._session.caller()
    for line in (b"t00\n", b"g00\n"):
        assert keystore.handle(line, session).data == b"OK\r\n"
    public = keystore.handle(b"p00\n", session).data
    seeds = keystore._groups[SeedCommands]
    seeds._context = type("Context", (), {"crypto": ConstantHmac(bytes(64))})()
    assert keystore.handle(b"b0080000000\n", session).data == b"ERROR\r\n"
    assert keystore.handle(b"p00\n", session).data == public
    assert keystore.handle(b"t04\n", session).data == b"ERROR\r\n"
