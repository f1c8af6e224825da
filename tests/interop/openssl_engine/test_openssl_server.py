# SPDX-License-Identifier: Apache-2.0
"""Our client calls openssl s_server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from iose.tls import AlertReceived, ClientConfig, PreSharedKey
from iose.tls.constants import AlertDescription, CipherSuite, NamedGroup
from iose.tls.events import ApplicationData, KeyUpdated, PeerClosed
from tests.interop.openssl_engine.loopback import EngineClient, PeerProcess, SystemRng, free_port
from tests.interop.openssl_engine.test_openssl_client import OPENSSL_GROUPS, SUITES
from tests.support.engine_pair import IDENTITY, KEY, PSK, client_config
from tests.support.peers import require_peer

pytestmark = pytest.mark.interop
ALL_SUITES = ":".join(suite.name for suite in SUITES)


def real_client(psk: PreSharedKey = PSK, **settings: object) -> ClientConfig:
    """Return a client's configuration with real entropy."""
    config = client_config(psk, **settings)
    return replace(config, engine=replace(config.engine, rng=SystemRng()))


@contextmanager
def openssl_server(*arguments: str) -> Iterator[tuple[PeerProcess, int]]:
    """Run s_server; give it and its port."""
    port = free_port()
    options = ("-ciphersuites", ALL_SUITES) if "-ciphersuites" not in arguments else ()
    with PeerProcess(
        require_peer("openssl"),
        *("s_server", "-tls1_3", "-accept", f"127.0.0.1:{port}", "-nocert"),
        *("-psk", KEY.hex(), *options, *arguments),
    ) as server:
        server.wait_for("ACCEPT")
        yield server, port


def check_reversed(client: EngineClient) -> None:
    """Check that data comes back in reverse, as -rev does."""
    client.send(b"forth\n")
    assert client.receive_until(b"\n") == b"htrof\n"


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("group", OPENSSL_GROUPS)
def test_every_suite_and_group_works(suite: CipherSuite, group: NamedGroup) -> None:
    config = real_client(suites=(suite,), groups=(group,), server_name="key1.com")
    with openssl_server("-rev") as (_, port), EngineClient(config, port) as client:
        complete = client.complete()
        assert (complete.cipher_suite, complete.group) == (suite, group)
        check_reversed(client)


def test_openssl_asks_for_another_share() -> None:
    config = real_client(groups=(NamedGroup.X25519_MLKEM768, NamedGroup.SECP256R1))
    with openssl_server("-rev") as (_, port), EngineClient(config, port) as client:
        assert client.complete().group is NamedGroup.SECP256R1
        check_reversed(client)


def test_a_stateless_openssl_gives_a_cookie() -> None:
    config = real_client(groups=(NamedGroup.SECP256R1,))
    with openssl_server("-rev", "-stateless") as (_, port), EngineClient(config, port) as client:
        client.complete()
        check_reversed(client)


@pytest.mark.parametrize("request_peer", [True, False])
def test_we_change_our_keys(*, request_peer: bool) -> None:
    with openssl_server("-rev") as (_, port), EngineClient(real_client(), port) as client:
        client.complete()
        client.engine.send_key_update(request_peer=request_peer)
        check_reversed(client)
        assert (KeyUpdated() in client.events) == request_peer


@pytest.mark.parametrize("command", [b"k\n", b"K\n"])
def test_openssl_changes_its_keys(command: bytes) -> None:
    with openssl_server() as (server, port), EngineClient(real_client(), port) as client:
        client.complete()
        client.send(b"up\n")
        server.wait_for("up\n")
        server.say(command)
        client.wait_for(KeyUpdated)
        server.say(b"down\n")
        assert client.receive_until(b"\n") == b"down\n"
        client.send(b"after the change\n")
        server.wait_for("after the change\n")


def test_openssl_agrees_on_a_protocol() -> None:
    config = real_client(alpn_protocols=(b"coap", b"http/1.1"))
    with openssl_server("-rev", "-alpn", "http/1.1") as (_, port), EngineClient(config, port) as c:
        assert c.complete().alpn_protocol == b"http/1.1"


@pytest.mark.parametrize("code", [1, 4])
def test_openssl_sends_short_fragments(code: int) -> None:
    config = real_client(max_fragment_length=code)
    with openssl_server("-rev") as (_, port), EngineClient(config, port) as client:
        client.complete()
        client.send(b"\n" + b"x" * 5_000 + b"\n")
        client.receive_until(b"x\n")
        sizes = [len(event.data) for event in client.events if isinstance(event, ApplicationData)]
        assert max(sizes) <= 256 << code


def test_openssl_takes_padded_records() -> None:
    config = real_client(record_padding=400)
    with openssl_server("-rev") as (_, port), EngineClient(config, port) as client:
        client.complete()
        check_reversed(client)


def test_openssl_says_goodbye() -> None:
    with openssl_server("-rev") as (_, port), EngineClient(real_client(), port) as client:
        client.complete()
        client.send(b"CLOSE\n")
        assert client.wait_for(PeerClosed) == PeerClosed(AlertDescription.CLOSE_NOTIFY)
        assert client.engine.is_closed


@pytest.mark.parametrize(
    ("psk", "alert"),
    [
        (PreSharedKey(IDENTITY, bytes(32)), AlertDescription.ILLEGAL_PARAMETER),
        # without a PSK it knows, OpenSSL looks for what certificates need
        (PreSharedKey(b"nobody", KEY), AlertDescription.MISSING_EXTENSION),
    ],
)
def test_a_wrong_key_or_identity_is_refused_by_openssl(
    psk: PreSharedKey, alert: AlertDescription
) -> None:
    with openssl_server() as (_, port), EngineClient(real_client(psk), port) as client:
        with pytest.raises(AlertReceived) as caught:
            client.complete()
        assert caught.value.alert is alert
