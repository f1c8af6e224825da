# SPDX-License-Identifier: Apache-2.0
"""Configurations that cannot work are refused when they are made."""

from dataclasses import replace

import pytest

from iose.crypto.base import HashAlgorithm
from iose.tls import ClientConfig, PreSharedKey, ServerConfig
from iose.tls.constants import CipherSuite, ExtensionType
from iose.tls.messages import ClientHello
from iose.wire.errors import LocalProtocolError
from tests.support.engine_pair import PSK, client_config, engine_config, server_config
from tests.unit.tls.forge import hello_of


@pytest.mark.parametrize("size", [0, 65_536])
def test_an_identity_has_1_to_65535_bytes(size: int) -> None:
    PreSharedKey(bytes(65_535), b"key")
    with pytest.raises(LocalProtocolError):
        PreSharedKey(bytes(size), b"key")


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        PreSharedKey(b"identity", b"")


def test_keys_are_not_shown() -> None:
    psk = PreSharedKey(b"identity", b"very secret")
    assert "secret" not in repr(client_config(psk)) + repr(server_config(psk))


@pytest.mark.parametrize(
    "settings",
    [
        {"record_size_limit": 63},
        {"record_size_limit": 16_386},
        {"record_padding": -1},
        {"record_padding": 16_386},
        {"alpn_protocols": (b"",)},
        {"alpn_protocols": (bytes(256),)},
    ],
)
def test_a_setting_the_wire_cannot_carry_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        engine_config(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"server_name": ""},
        {"server_name": "with space"},
        {"server_name": "élément.com"},
        {"max_fragment_length": 0},
        {"max_fragment_length": 5},
        {"groups": ()},
        {"suites": ()},
        {"suites": (CipherSuite.TLS_AES_256_GCM_SHA384,)},
    ],
)
def test_a_client_that_could_not_begin_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        client_config(**settings)


def test_a_server_without_a_psk_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        ServerConfig(engine_config(), ())


def test_only_suites_with_the_hash_of_the_psk_are_offered() -> None:
    suites = (CipherSuite.TLS_AES_256_GCM_SHA384, CipherSuite.TLS_AES_128_CCM_SHA256)
    assert hello_of(client_config(suites=suites)).cipher_suites == (0x1304,)
    config = ClientConfig(engine_config(suites=suites), replace(PSK, hash=HashAlgorithm.SHA384))
    assert config.suites == (CipherSuite.TLS_AES_256_GCM_SHA384,)


def test_a_client_says_its_extensions_in_the_order_asked_for() -> None:
    order = (
        ExtensionType.KEY_SHARE,
        ExtensionType.COOKIE,
        ExtensionType.SUPPORTED_VERSIONS,
        ExtensionType.PRE_SHARED_KEY,
    )
    hello: ClientHello = hello_of(client_config(server_name="key1.com", extension_order=order))
    kinds = [ExtensionType(kind) for kind in hello.extensions]
    assert kinds == [
        ExtensionType.KEY_SHARE,
        ExtensionType.SUPPORTED_VERSIONS,
        ExtensionType.SERVER_NAME,
        ExtensionType.SUPPORTED_GROUPS,
        ExtensionType.PSK_KEY_EXCHANGE_MODES,
        ExtensionType.PRE_SHARED_KEY,
    ]
