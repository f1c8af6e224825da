# SPDX-License-Identifier: Apache-2.0
"""openssl s_client calls our server."""

from dataclasses import replace

import pytest

from iose.tls.config import ServerConfig
from iose.tls.constants import AlertDescription, CipherSuite, NamedGroup
from iose.tls.errors import TlsPeerError
from iose.tls.events import ApplicationData, HandshakeComplete, KeyUpdated, PeerClosed
from tests.interop.openssl_engine.loopback import EngineServer, PeerProcess, SystemRng
from tests.support.engine_pair import KEY, server_config
from tests.support.peers import require_peer

pytestmark = pytest.mark.interop
SUITES = [
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_AES_128_CCM_SHA256,
    CipherSuite.TLS_AES_128_CCM_8_SHA256,
]
OPENSSL_GROUPS = {NamedGroup.SECP256R1: "P-256", NamedGroup.X25519: "X25519"}


def real_server(**settings: object) -> ServerConfig:
    """Return a server's configuration with real entropy."""
    config = server_config(**settings)
    return replace(config, engine=replace(config.engine, rng=SystemRng()))


def openssl_client(server: EngineServer, *arguments: str, key: bytes = KEY) -> PeerProcess:
    """Return a running s_client, connected to our server."""
    return PeerProcess(
        require_peer("openssl"),
        *("s_client", "-tls1_3", "-connect", f"127.0.0.1:{server.port}"),
        *("-psk", key.hex(), *arguments),
    )


def check_echo(client: PeerProcess, server: EngineServer) -> HandshakeComplete:
    """Check that a line comes back and the session ends cleanly; return how it began."""
    client.say(b"here and back\n")
    client.wait_for("here and back\n")
    client.say(b"Q\n")
    assert client.wait_ended() == 0
    complete, data, *_, closed = server.wait_ended()
    assert data == ApplicationData(b"here and back\n")
    assert closed == PeerClosed(AlertDescription.CLOSE_NOTIFY)
    assert isinstance(complete, HandshakeComplete)
    return complete


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("group", OPENSSL_GROUPS)
def test_every_suite_and_group_works(suite: CipherSuite, group: NamedGroup) -> None:
    server = EngineServer(real_server())
    names = ("-ciphersuites", suite.name, "-groups", OPENSSL_GROUPS[group])
    with openssl_client(server, *names, "-servername", "key1.com") as client:
        complete = check_echo(client, server)
    assert (complete.cipher_suite, complete.group) == (suite, group)
    assert complete.server_name == "key1.com"


def test_openssl_sends_a_second_hello() -> None:
    server = EngineServer(real_server(groups=(NamedGroup.SECP256R1,)))
    with openssl_client(server, "-groups", "X25519:P-256") as client:
        assert check_echo(client, server).group is NamedGroup.SECP256R1


def test_openssl_goes_on_without_middlebox_compatibility() -> None:
    server = EngineServer(real_server(middlebox_compatibility=False))
    with openssl_client(server, "-no_middlebox") as client:
        check_echo(client, server)


@pytest.mark.parametrize("command", [b"k\n", b"K\n"])
def test_openssl_changes_its_keys(command: bytes) -> None:
    server = EngineServer(real_server())
    with openssl_client(server) as client:
        client.say(command)
        client.wait_for("KEYUPDATE")
        client.say(b"after the change\n")
        client.wait_for("after the change\n")
        client.say(b"Q\n")
        client.wait_ended()
    assert server.wait_ended()[1:3] == [KeyUpdated(), ApplicationData(b"after the change\n")]


def test_openssl_agrees_on_a_protocol() -> None:
    server = EngineServer(real_server(alpn_protocols=(b"coap", b"http/1.1")))
    with openssl_client(server, "-alpn", "http/1.1,coap") as client:
        client.wait_for("ALPN protocol: coap")
        assert check_echo(client, server).alpn_protocol == b"coap"


def test_openssl_and_we_export_the_same() -> None:
    server = EngineServer(real_server())
    names = ("-keymatexport", "EXPORTER-test", "-keymatexportlen", "32")
    with openssl_client(server, *names) as client:
        client.say(b"open\n")
        client.wait_for("open\n")
        value = server.engine.export_keying_material(b"EXPORTER-test", b"", 32)
        assert value.hex().upper() in client.output


@pytest.mark.parametrize("code", ["512", "1024", "2048", "4096"])
def test_openssl_takes_short_fragments(code: str) -> None:
    server = EngineServer(real_server())
    line = b"x" * 6_000 + b"end\n"
    with openssl_client(server, "-maxfraglen", code, "-nocommands") as client:
        client.say(line)
        client.wait_for("end\n")
        client.wait_for(line.decode())
    assert all(
        len(event.data) <= int(code)
        for event in server.wait_ended()
        if isinstance(event, ApplicationData)
    )


def test_openssl_takes_padded_records() -> None:
    server = EngineServer(real_server(record_padding=512))
    with openssl_client(server, "-record_padding", "300") as client:
        check_echo(client, server)


@pytest.mark.parametrize(
    ("arguments", "key", "number"),
    [
        ((), bytes(32), 51),
        (("-psk_identity", "nobody"), KEY, 51),
        (("-groups", "P-521"), KEY, 40),
        (("-ciphersuites", "TLS_AES_256_GCM_SHA384"), KEY, 40),
        (("-servername", "key9.com"), KEY, 112),
        (("-alpn", "h3"), KEY, 120),
    ],
)
def test_openssl_is_told_what_is_wrong(arguments: tuple[str, ...], key: bytes, number: int) -> None:
    server = EngineServer(real_server(server_names=("key1.com",), alpn_protocols=(b"coap",)))
    with openssl_client(server, *arguments, key=key) as client:
        client.wait_for(f"SSL alert number {number}")
        server.wait_ended()
    assert isinstance(server.fault, TlsPeerError)
    assert server.fault.alert == number


def test_openssl_without_tls_1_3_is_told_so() -> None:
    server = EngineServer(real_server())
    with PeerProcess(
        require_peer("openssl"),
        *("s_client", "-tls1_2", "-connect", f"127.0.0.1:{server.port}", "-psk", KEY.hex()),
    ) as client:
        client.wait_for("SSL alert number 70")
        server.wait_ended()
