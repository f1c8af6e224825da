# SPDX-License-Identifier: Apache-2.0
"""Our client and the servers of others: openssl s_server, gnutls-serv."""

import asyncio
import subprocess

import pytest

import iose
from iose.client.access import SystemRng
from iose.client.credentials import CredentialsStore
from iose.client.errors import AuthenticationError, HandshakeError, SessionClosedError
from tests.support.openssl_server import awaited, openssl_servers
from tests.support.peers import require_peer

pytestmark = pytest.mark.interop

PSK = bytes(range(1, 33))
DEADLINE_S = 10.0


@pytest.fixture
def credentials(tmp_path):
    return CredentialsStore(tmp_path / "credentials")


@pytest.fixture
def openssl_server(tmp_path):
    """Start ``openssl s_server -rev``, which answers a line with its reverse; gives its port."""
    with openssl_servers(tmp_path, PSK) as start:
        yield start


@pytest.mark.parametrize(
    "suite",
    ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"],
)
@pytest.mark.parametrize("group", ["P-256", "X25519"])
def test_openssl_answers_in_every_suite_and_group(openssl_server, credentials, suite, group):
    port = openssl_server("-ciphersuites", suite, "-groups", group)
    uri = f"keyS://key1.com@127.0.0.1:{port}"
    with iose.connect(uri, psk=PSK, credentials=credentials) as element:
        assert element.command("abc") == b"cba"
        assert element.command("x" * 16_000) == b"x" * 16_000
        assert len(element.handshake_secret) == 32


def test_asyncio_asks_openssl_too(openssl_server, credentials):
    port = openssl_server()

    async def ask():
        uri = f"keyS://key1.com@127.0.0.1:{port}"
        async with iose.connect_async(uri, psk=PSK, credentials=credentials) as element:
            asked = (element.command(f"a{number}") for number in range(5))
            return await asyncio.gather(*asked)

    assert asyncio.run(ask()) == [b"0a", b"1a", b"2a", b"3a", b"4a"]


def test_openssl_refuses_a_wrong_key(openssl_server, credentials):
    port = openssl_server()
    with pytest.raises(AuthenticationError):
        iose.connect(f"keyS://a@127.0.0.1:{port}", psk=bytes(32), credentials=credentials)


def test_openssl_refuses_a_wrong_identity(openssl_server, credentials):
    port = openssl_server()
    with pytest.raises(HandshakeError):
        iose.connect(f"keyS://a@127.0.0.1:{port}/;id=b", psk=PSK, credentials=credentials)


def test_openssl_ends_the_session_while_nobody_asks(openssl_server, credentials):
    port = openssl_server("-naccept", "1")
    uri = f"keyS://key1.com@127.0.0.1:{port}"
    with iose.connect(uri, psk=PSK, credentials=credentials) as element:
        assert element.command("CLOS") == b"SOLC"
        with pytest.raises(SessionClosedError):
            element.command("CLOSE")  # what -rev takes as its own command


@pytest.mark.parametrize("priority", ["+AES-128-CCM", "+AES-128-GCM", "+CHACHA20-POLY1305"])
def test_gnutls_echoes(tmp_path, credentials, priority):
    program = require_peer("gnutls-serv")
    (tmp_path / "psk").write_text(f"Client_identity:{PSK.hex()}\n")
    port = 20_000 + int.from_bytes(SystemRng().random_bytes(2), "big") % 30_000
    cipher = f"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:{priority}:+DHE-PSK:+ECDHE-PSK:+PSK"
    arguments = [program, "--echo", "--pskpasswd", str(tmp_path / "psk"), "--port", str(port)]
    log = tmp_path / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [*arguments, "--priority", cipher], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        awaited(log, rb"IPv4.*(done)")
        with iose.connect(
            f"keyS://key1.com@127.0.0.1:{port}", psk=PSK, credentials=credentials
        ) as element:
            assert element.echo_bytes is not None
            assert element.command("hello") == b"hello"
            assert element.command("x" * 1000) == b"x" * 1000
    finally:
        server.kill()
        server.wait()
