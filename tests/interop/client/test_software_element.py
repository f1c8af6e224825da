# SPDX-License-Identifier: Apache-2.0
"""Our client and a software element of a running node, in every set of commands and of limits."""

import asyncio
import hashlib
import hmac

import pytest

import iose
from iose.client.attestation import verify_proof
from iose.client.credentials import CredentialsStore
from iose.client.errors import (
    AuthenticationError,
    ElementBusyError,
    HandshakeError,
    KeystoreError,
    PskChangeError,
    SessionClosedError,
    UnknownNameError,
)
from iose.client.signature import decode_signature
from iose.crypto.base import Curve, HashAlgorithm
from iose.crypto.pyca import ORDERS
from tests.support.node import configured_node
from tests.support.running_node import iose as run_iose

pytestmark = pytest.mark.interop

DIGEST = hashlib.sha256(b"a message").digest()
BIP32_SEED = bytes(range(16))  # vector 1 of BIP 32
BIP32_KEY = "EDB2E14F9EE77D26DD93B4ECEDE8D16ED408CE149B6CD80B0715A2D911A0AFEA"
AES_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")  # NIST SP 800-38A F.1.1
AES_PLAIN = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
AES_CIPHER = bytes.fromhex("3ad77bb40d7a3660a89ecaf32466ef97")

MANNERS = {
    "chip.com": ("--wire", "compatible", "--limits", "chip", "--commands", "1.3"),
    "old.com": ("--wire", "compatible", "--limits", "wide", "--commands", "2.18"),
}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with configured_node(tmp_path_factory.mktemp("node"), 2) as running:
        for sen, manners in MANNERS.items():
            folder = ("--data", str(running.folder))
            made = run_iose("element", "create", "--sen", sen, *manners, *folder)
            assert made.returncode == 0, made.stderr
        running.refresh_elements()
        yield running


@pytest.fixture
def credentials(tmp_path):
    return CredentialsStore(tmp_path / "credentials")


@pytest.fixture
def open_element(node, credentials):
    opened = []

    def connect(sen="key1.com", **options):
        uri = iose.ElementUri.decode(node.uri(sen))
        element = iose.connect(uri, credentials=credentials, **options)
        opened.append(element)
        return element

    yield connect
    for element in opened:
        element.close()


@pytest.mark.parametrize("curve", list(Curve))
def test_generates_a_key_and_signs_with_it(open_element, curve):
    element = open_element()
    element.clear_key(0, curve=curve)
    with pytest.raises(KeystoreError):
        element.public_key(0)
    element.generate_key(0, curve=curve)
    with pytest.raises(KeystoreError):
        element.generate_key(0, curve=curve)
    public = element.public_key(0)
    for digest in (DIGEST, b"\x01", bytes(31) + b"\x02"):
        signature = element.sign(0, digest, low_s=True, curve=curve)
        iose.verify_signature(public, digest, signature, curve=curve)
        assert decode_signature(signature)[1] <= ORDERS[curve] // 2


def test_a_private_key_goes_in_and_out_unless_it_is_sealed(open_element):
    element = open_element()
    element.clear_key(1)
    assert not element.is_key_sealed(1)
    element.set_private_key(1, b"\x12\x34")
    assert element.private_key(1) == b"\x12\x34".rjust(32, b"\0")
    with pytest.raises(KeystoreError):
        element.seal_key(1)
    element.clear_key(1)
    element.seal_key(1)
    element.generate_key(1)
    assert element.is_key_sealed(1)
    with pytest.raises(KeystoreError, match="private key"):
        element.private_key(1)


def test_a_public_key_alone_is_kept(open_element):
    element = open_element()
    element.clear_key(1)
    public = element.application_public_key()
    element.set_public_key(1, public)
    assert element.public_key(1) == public


@pytest.mark.parametrize("path", ["m/0'", [0x80000000]])
def test_derives_a_key_from_a_seed(open_element, path):
    element = open_element()
    element.clear_key(3)
    element.set_seed(3, BIP32_SEED)
    assert element.seed(3) == BIP32_SEED
    element.derive(3, path)
    assert element.private_key(3).hex().upper() == BIP32_KEY
    element.generate_seed(3)
    assert len(element.seed(3)) == 32


@pytest.mark.parametrize("algorithm", [HashAlgorithm.SHA256, HashAlgorithm.SHA512])
def test_computes_an_hmac(open_element, algorithm):
    element = open_element()
    element.set_seed(2, b"key")
    assert element.hmac(2, b"message", algorithm=algorithm) == hmac.digest(
        b"key", b"message", algorithm.hashlib_name
    )


def test_encrypts_and_decrypts_blocks(open_element):
    element = open_element()
    element.set_seed(2, AES_KEY)
    assert element.aes_encrypt(2, AES_PLAIN) == AES_CIPHER
    assert element.aes_decrypt(2, AES_CIPHER * 2) == AES_PLAIN * 2


def test_keeps_records(open_element):
    element = open_element()
    element.write_record(31, b"raw \xff text")
    assert element.read_record(31) == b"raw \xff text"
    element.write_record(31, b"")
    assert element.read_record(31) == b""
    with pytest.raises(KeystoreError):
        element.write_record(32, b"x")


def test_echoes(open_element):
    element = open_element()
    assert element.echo(b"ERROR") == b"ERROR"
    assert element.echo_bytes(bytes(128)) == bytes(128)
    assert element.echo(b"x" * 10_000) == b"x" * 10_000
    assert "keystore" in element.version()


def test_proves_that_it_is_the_end_of_this_session(open_element):
    element = open_element()
    proof = element.prove(b"challenge")
    verify_proof(element.application_public_key(), element.handshake_secret, b"challenge", proof)


def test_a_certificate_is_written_once(open_element):
    element = open_element("key2.com")
    assert element.certificate() is None
    element.set_certificate(b"\x01" * 64)
    assert element.certificate() == b"\x01" * 64
    with pytest.raises(KeystoreError, match="certificate"):
        element.set_certificate(b"\x02" * 64)


def test_a_guest_may_use_keys_and_not_change_them(open_element):
    guest_psk = b"\x07" * 32
    root = open_element()
    root.set_guest_identity("guest")
    root.set_guest_psk(guest_psk)
    root.set_flags(1)
    root.close()
    guest = open_element(psk=guest_psk, identity="guest")
    assert guest.application_public_key()
    with pytest.raises(KeystoreError):
        guest.clear_key(0)
    with pytest.raises((KeystoreError, PskChangeError)):
        guest.change_psk()


def test_the_key_is_changed_and_changed_back(open_element, node, credentials):
    element = open_element()
    first = node["key1.com"].psk
    element.change_psk()
    assert "keystore" in element.version()
    assert not element.has_psk(first)
    element.close()
    with pytest.raises(AuthenticationError):
        open_element()
    kept = credentials.find(element.uri.address)
    again = open_element(psk=kept.psk)
    again.change_psk(first)
    again.close()
    open_element()


def test_wrong_key_and_wrong_name_are_told_apart(open_element, node, credentials):
    with pytest.raises(AuthenticationError):
        open_element(psk=bytes(32))
    with pytest.raises(AuthenticationError):
        open_element(identity="nobody")
    uri = f"keyS://nobody.com@{node.front}"
    with pytest.raises(UnknownNameError):
        iose.connect(uri, psk=bytes(32), credentials=credentials)


def test_an_unknown_command_closes_the_session_and_another_opens(open_element):
    element = open_element()
    with pytest.raises(SessionClosedError) as caught:
        element.command("?99")
    assert caught.value.command_sent
    element.open()
    assert element.version()


def test_a_second_caller_waits_for_the_first(open_element, node, credentials):
    async def hold_then_leave():
        uri = iose.ElementUri.decode(node.uri("key2.com"))
        async with iose.connect_async(uri, credentials=credentials) as first:
            second = iose.connect_async(uri, credentials=credentials)
            waiting = asyncio.create_task(second.open())
            assert await first.version()
            assert not waiting.done()
        await waiting
        assert await second.version()
        await second.close()

    asyncio.run(hold_then_leave())


def test_a_chip_of_the_published_kind_is_served_too(open_element):
    element = open_element("chip.com")
    element.clear_key(3)
    element.set_private_key(3, b"\x12\x34")
    assert element.private_key(3).hex().endswith("1234")
    iose.verify_signature(element.public_key(3), DIGEST, element.sign(3, DIGEST))
    assert len(element.session_secret()) == 32
    assert element.session_secret() == element.handshake_secret
    assert element.echo(b"x" * 480) == b"x" * 480
    with pytest.raises(KeystoreError):
        element.hmac(0, b"")


def test_a_chip_of_the_published_kind_does_not_say_why_it_refuses(open_element):
    with pytest.raises(HandshakeError) as caught:
        open_element("chip.com", psk=bytes(32))
    assert isinstance(caught.value, ElementBusyError | AuthenticationError)
    assert "PSK" in caught.value.hint


def test_the_other_published_set_is_served_too(open_element):
    element = open_element("old.com")
    element.set_guest_psk(b"\x09" * 32)
    assert element.guest_psk() == b"\x09" * 32
    element.set_module_psk(b"\x0a" * 32)
    assert len(element.module_binder(bytes(32))) == 32
    assert element.module_binder(bytes(32)) != element.module_handshake_secret(bytes(32))
