# SPDX-License-Identifier: Apache-2.0
"""GnuTLS 3.7 at the other end: gnutls-cli calls our server, our client calls gnutls-serv."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iose.tls import AlertReceived, PreSharedKey, TlsPeerError
from iose.tls.constants import AlertDescription, CipherSuite, NamedGroup
from iose.tls.events import ApplicationData, HandshakeComplete, KeyUpdated, PeerClosed
from tests.interop.openssl_engine.loopback import (
    EngineClient,
    EngineServer,
    PeerProcess,
    free_port,
    run,
    wait_listening,
)
from tests.interop.openssl_engine.test_openssl_client import real_server
from tests.interop.openssl_engine.test_openssl_server import real_client
from tests.support.engine_pair import IDENTITY, KEY
from tests.support.peers import require_peer

pytestmark = pytest.mark.interop
CIPHERS = {
    CipherSuite.TLS_AES_128_GCM_SHA256: "AES-128-GCM",
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: "CHACHA20-POLY1305",
    CipherSuite.TLS_AES_128_CCM_SHA256: "AES-128-CCM",
    CipherSuite.TLS_AES_128_CCM_8_SHA256: "AES-128-CCM-8",
}
GROUPS = {NamedGroup.SECP256R1: "GROUP-SECP256R1", NamedGroup.X25519: "GROUP-X25519"}
ALL = ":+".join((*CIPHERS.values(), "ECDHE-PSK", "PSK"))
# without %ALLOW_SMALL_RECORDS, GnuTLS 3.7 refuses or forgets limits under 512
ANY = f"NORMAL:-VERS-ALL:+VERS-TLS1.3:+{ALL}:%ALLOW_SMALL_RECORDS"


def priority(cipher: str, group: str) -> str:
    """Return a GnuTLS priority with one cipher and one group."""
    return (
        f"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+{cipher}:-GROUP-ALL:+{group}:+ECDHE-PSK:+PSK"
    )


def gnutls_client(server: EngineServer, priorities: str, *arguments: str, key: bytes = KEY) -> str:
    """Send a line with gnutls-cli and return all it says."""
    command = (
        require_peer("gnutls-cli"),
        *("--port", str(server.port), "--priority", priorities),
        *("--pskusername", IDENTITY.decode(), "--pskkey", key.hex()),
        *(*arguments, "127.0.0.1"),
    )
    return run(command, b"here and back\n")


@pytest.fixture
def passwords(tmp_path: Path) -> str:
    """Return a file with our PSK as gnutls-serv wants it."""
    path = tmp_path / "psk.txt"
    path.write_text(f"{IDENTITY.decode()}:{KEY.hex()}\n")
    return str(path)


@contextmanager
def gnutls_server(passwords: str, priorities: str, *arguments: str) -> Iterator[int]:
    """Run gnutls-serv, which echoes; give its port."""
    port = free_port()
    with PeerProcess(
        require_peer("gnutls-serv"),
        *("--echo", "--port", str(port), "--pskpasswd", passwords),
        *("--priority", priorities, *arguments),
    ):
        wait_listening(port)
        yield port


@pytest.mark.parametrize("suite", CIPHERS)
@pytest.mark.parametrize("group", GROUPS)
def test_gnutls_calls_with_every_suite_and_group(suite: CipherSuite, group: NamedGroup) -> None:
    server = EngineServer(real_server())
    said = gnutls_client(server, priority(CIPHERS[suite], GROUPS[group]))
    assert "Handshake was completed" in said
    complete, data, closed = server.wait_ended()
    assert isinstance(complete, HandshakeComplete)
    assert (complete.cipher_suite, complete.group) == (suite, group)
    assert data == ApplicationData(b"here and back\n")
    assert closed == PeerClosed(AlertDescription.CLOSE_NOTIFY)


def test_gnutls_sends_a_second_hello() -> None:
    server = EngineServer(real_server(groups=(NamedGroup.SECP256R1,)))
    priorities = f"{ANY}:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1"
    assert "Handshake was completed" in gnutls_client(server, priorities, "--single-key-share")
    assert server.wait_ended()[1] == ApplicationData(b"here and back\n")


def test_gnutls_and_we_agree_on_record_size_limits() -> None:
    server = EngineServer(real_server(record_size_limit=64))
    said = gnutls_client(server, ANY, "--recordsize", "512")
    assert "Handshake was completed" in said
    assert server.wait_ended()[1] == ApplicationData(b"here and back\n")


def test_gnutls_is_told_of_a_wrong_key() -> None:
    server = EngineServer(real_server())
    said = gnutls_client(server, ANY, key=bytes(32))
    server.wait_ended()
    assert "Handshake was completed" not in said
    assert isinstance(server.fault, TlsPeerError)
    assert server.fault.alert is AlertDescription.DECRYPT_ERROR


@pytest.mark.parametrize("suite", CIPHERS)
@pytest.mark.parametrize("group", GROUPS)
def test_gnutls_answers_with_every_suite_and_group(
    passwords: str, suite: CipherSuite, group: NamedGroup
) -> None:
    config = real_client(suites=(suite,), groups=(group,), server_name="key1.com")
    with gnutls_server(passwords, ANY) as port, EngineClient(config, port) as client:
        complete = client.complete()
        assert (complete.cipher_suite, complete.group) == (suite, group)
        client.send(b"here and back\n")
        assert client.receive_until(b"\n") == b"here and back\n"


def test_gnutls_asks_for_another_share(passwords: str) -> None:
    config = real_client(groups=(NamedGroup.X25519_MLKEM768, NamedGroup.SECP256R1))
    with gnutls_server(passwords, ANY) as port, EngineClient(config, port) as client:
        assert client.complete().group is NamedGroup.SECP256R1


@pytest.mark.parametrize("request_peer", [True, False])
def test_we_change_our_keys(passwords: str, *, request_peer: bool) -> None:
    with gnutls_server(passwords, ANY) as port, EngineClient(real_client(), port) as client:
        client.complete()
        client.engine.send_key_update(request_peer=request_peer)
        client.send(b"after the change\n")
        assert client.receive_until(b"\n") == b"after the change\n"
        assert (KeyUpdated() in client.events) == request_peer


@pytest.mark.parametrize("limit", [64, 600])
def test_gnutls_keeps_our_record_size_limit(passwords: str, limit: int) -> None:
    config = real_client(record_size_limit=limit)
    with gnutls_server(passwords, ANY) as port, EngineClient(config, port) as client:
        client.complete()
        client.send(b"x" * 1_000 + b"\n")
        assert client.receive_until(b"\n") == b"x" * 1_000 + b"\n"
        sizes = [len(event.data) for event in client.events if isinstance(event, ApplicationData)]
        assert max(sizes) < limit


def test_gnutls_agrees_on_a_protocol(passwords: str) -> None:
    config = real_client(alpn_protocols=(b"coap",))
    with gnutls_server(passwords, ANY, "--alpn", "coap") as port, EngineClient(config, port) as c:
        assert c.complete().alpn_protocol == b"coap"


def test_gnutls_refuses_a_wrong_key(passwords: str) -> None:
    config = real_client(PreSharedKey(IDENTITY, bytes(32)))
    with gnutls_server(passwords, ANY) as port, EngineClient(config, port) as client:
        with pytest.raises(AlertReceived):
            client.complete()
        assert client.engine.is_closed
