# SPDX-License-Identifier: Apache-2.0
"""A session as the first page promises it, by the programs of others."""

import hashlib
import os
import subprocess

import pytest

from tests.acceptance.programs import CCM, SUITES, LineClient, gnutls, openssl
from tests.acceptance.signatures import P256, is_verified
from tests.support.node import read_access
from tests.support.peers import require_peer
from tests.support.running_node import running_node

pytestmark = pytest.mark.interop

PROFILES = [
    pytest.param(suite, group, id=f"{suite}-{group}")
    for suite in SUITES
    for group in ("P-256", "X25519")
]
HEX = set("0123456789ABCDEF")


def assert_serves(client: LineClient, folder) -> None:
    """Do all that the acceptance lists, up to the goodbye."""
    assert client.ask("?00") == "iose keystore/1"
    assert client.ask("c00") == "OK"
    assert client.ask("p00") == "ERROR"
    assert client.ask("g00") == "OK"
    public = client.ask("p00")
    assert len(public) == 130
    assert set(public) <= HEX
    digest = os.urandom(32)
    signature = bytes.fromhex(client.ask("s00" + digest.hex()))
    point = bytes.fromhex(public)
    assert is_verified(folder, point, digest, signature)
    assert not is_verified(folder, point, bytes((digest[0] ^ 1,)) + digest[1:], signature)
    short = bytes.fromhex(client.ask("s00abcd"))
    assert is_verified(folder, point, bytes(30) + b"\xab\xcd", short)
    client.send("?02")


def assert_clean_end(client: LineClient) -> None:
    outcome = client.finish()
    assert outcome.status == 0, outcome
    assert "unexpected eof" not in outcome.errors.lower()
    assert "error" not in outcome.errors.lower()


def test_what_iose_up_prints_is_enough_for_openssl(tmp_path, capfd):
    with running_node(tmp_path / "data") as node:
        elements = [read_access(told) for told in node.ready["elements"]]
        assert {len(element.psk) for element in elements} == {32}
        assert len({element.psk for element in elements}) == len(elements)
        with openssl(node.ready["front"], elements[0]) as client:
            assert_serves(client, tmp_path)
            assert_clean_end(client)
    assert node.process.returncode == 0
    assert capfd.readouterr() == ("", ""), "nothing went wrong, so nothing was to be said"


@pytest.mark.parametrize(("suite", "group"), PROFILES)
def test_openssl_gets_answers_and_a_clean_end(node, tmp_path, suite, group):
    mark = node.log_mark()
    with openssl(node.front, node["key1.com"], suite=suite, group=group) as client:
        assert_serves(client, tmp_path)
        assert_clean_end(client)
    line = node.wait_logged("session.ended", mark, sen="key1.com")
    assert (line["reason"], line["status"]) == ("element_closed", "9002")


@pytest.mark.parametrize(("suite", "group"), PROFILES)
def test_gnutls_gets_answers_and_a_clean_end(node, tmp_path, suite, group):
    mark = node.log_mark()
    with gnutls(node.front, node["key2.com"], suite=suite, group=group) as client:
        banner = client.read_until("Simple Client Mode")
        assert "PSK authentication. Connected as 'Client_identity'" in banner
        assert "TLS1.3" in banner
        assert not client.read_line()
        assert_serves(client, tmp_path)
        outcome = client.finish()
    assert outcome.status == 0, outcome
    assert "Peer has closed the GnuTLS connection" in outcome.output
    assert "Fatal" not in outcome.errors
    line = node.wait_logged("session.ended", mark, sen="key2.com")
    assert (line["reason"], line["status"]) == ("element_closed", "9002")


@pytest.mark.parametrize(("suite", "group"), PROFILES)
def test_openssl_agrees_on_exactly_what_it_offered(node, suite, group):
    program = require_peer("openssl")
    element = node["key1.com"]
    command = [program, "s_client", "-brief", "-tls1_3", "-connect", node.front]
    command += ["-psk", element.psk.hex(), "-groups", group, "-ciphersuites", suite]
    command += ["-servername", element.sen]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=15, check=False)
    shown = done.stderr.decode()
    assert done.returncode == 0, shown
    assert "Protocol version: TLSv1.3" in shown
    assert f"Ciphersuite: {suite}" in shown
    expected = {"P-256": "ECDH, prime256v1, 256 bits", "X25519": "X25519, 253 bits"}[group]
    assert f"Server Temp Key: {expected}" in shown


def test_openssl_with_its_own_choice_of_groups_is_asked_to_retry(node):
    # its first share is for a group of its liking; where it is not ours, HelloRetryRequest follows
    with openssl(node.front, node["key1.com"], group="P-384:P-256") as client:
        assert client.ask("?00") == "iose keystore/1"
        client.send("?02")
        assert_clean_end(client)


def test_openssl_that_hangs_up_ends_the_session_in_order(node):
    mark = node.log_mark()
    with openssl(node.front, node["key1.com"], "-no_ign_eof") as client:  # -quiet alone stays
        assert client.ask("?00") == "iose keystore/1"
        assert client.finish(hang_up=True).status == 0
    line = node.wait_logged("session.ended", mark, sen="key1.com")
    assert line["reason"] in {"element_closed", "client_closed"}


def test_p256_signatures_verify_too(node, tmp_path):
    with openssl(node.front, node["key1.com"]) as client:
        assert client.ask("C01") == "OK"
        assert client.ask("G01") == "OK"
        point = bytes.fromhex(client.ask("p01"))
        digest = hashlib.sha256(b"a message").digest()
        signature = bytes.fromhex(client.ask("s01" + digest.hex()))
    assert is_verified(tmp_path, point, digest, signature, P256)
    assert not is_verified(tmp_path, point, digest[::-1], signature, P256)


def test_keys_outlive_the_session(node):
    with openssl(node.front, node["key3.com"]) as client:
        assert client.ask("c02") == "OK"
        assert client.ask("g02") == "OK"
        public = client.ask("p02")
    with gnutls(node.front, node["key3.com"]) as client:
        client.read_until("Simple Client Mode")
        assert not client.read_line()
        assert client.ask("p02") == public


def test_openssl_renews_its_keys_and_goes_on(node):
    # without -quiet a line of K is a command of s_client: KeyUpdate, asking for the same
    element = node["key1.com"]
    command = [require_peer("openssl"), "s_client", "-tls1_3", "-connect", node.front, "-brief"]
    command += ["-psk", element.psk.hex(), "-groups", "P-256", "-ciphersuites", CCM]
    command += ["-servername", element.sen]
    with LineClient(command, joins_errors=True) as client:
        client.read_until("Server Temp Key")
        for _ in range(3):
            assert client.ask("?00") == "iose keystore/1"
            assert client.ask("K") == "KEYUPDATE"
        assert client.ask("?01still here") == "still here"
