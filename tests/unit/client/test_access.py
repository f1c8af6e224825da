# SPDX-License-Identifier: Apache-2.0
"""Where a key comes from: the argument, the URI, the store, the environment, in this order."""

import pytest

from iose.client.access import GROUPS, SUITES, resolve_access
from iose.client.credentials import Credential, CredentialsStore
from iose.client.errors import CredentialsError, ElementUriError, MissingPskError
from iose.client.uri import ElementUri
from iose.tls.constants import CipherSuite, NamedGroup

ARGUMENT, IN_URI, KEPT, VARIABLE = (bytes([number]) * 32 for number in range(1, 5))
PLAIN = "keyS://key1.com@host:8888/"
WITH_PSK = f"keyS://key1.com:{IN_URI.hex()}@host:8888/"
ENVIRONMENT = {"IOSE_PSK": VARIABLE.hex()}


@pytest.fixture
def store(tmp_path):
    kept = CredentialsStore(tmp_path / "credentials")
    kept.save(Credential(ElementUri.decode(PLAIN).address, KEPT, identity="kept"))
    return kept


@pytest.fixture
def empty(tmp_path):
    return CredentialsStore(tmp_path / "none")


def test_the_first_key_found_is_taken(store, empty):
    def key(uri, **options):
        access = resolve_access(uri, environment=ENVIRONMENT, **options)
        assert access.credential.address == ElementUri.decode(PLAIN).address
        return access.credential.psk

    assert key(WITH_PSK, psk=ARGUMENT, store=store) == ARGUMENT
    assert key(WITH_PSK, store=store) == IN_URI
    assert key(PLAIN, store=store) == KEPT
    assert key(PLAIN, store=empty) == VARIABLE


@pytest.mark.parametrize(
    ("uri", "identity", "expected"),
    [
        (PLAIN, None, "kept"),
        (WITH_PSK, None, "Client_identity"),
        (WITH_PSK + ";id=guest", None, "guest"),
        (WITH_PSK + ";id=guest", "root", "root"),
    ],
)
def test_the_identity_is_the_callers_the_uris_the_stores_or_the_usual(
    store, uri, identity, expected
):
    access = resolve_access(uri, identity=identity, store=store, environment={})
    assert access.credential.identity == expected


def test_another_identitys_key_is_not_taken(store):
    with pytest.raises(MissingPskError):
        resolve_access(PLAIN + ";id=guest", store=store, environment={})


def test_no_key_is_told_with_the_command_that_keeps_one(empty):
    with pytest.raises(MissingPskError, match="no PSK is known") as caught:
        resolve_access(PLAIN, store=empty, environment={})
    assert isinstance(caught.value, CredentialsError)
    assert "iose credentials set 'keyS://key1.com@host:8888/'" in caught.value.hint


def test_a_malformed_key_in_the_environment_is_refused_without_repeating_it(empty):
    with pytest.raises(ElementUriError) as caught:
        resolve_access(PLAIN, store=empty, environment={"IOSE_PSK": "secret"})
    assert str(caught.value) == "IOSE_PSK: expected a PSK of 64 hexadecimal digits, found 6"
    assert "URI" not in caught.value.hint


def test_the_process_environment_and_the_users_file_are_the_defaults(monkeypatch, tmp_path):
    monkeypatch.setenv("IOSE_CREDENTIALS", str(tmp_path / "credentials"))
    monkeypatch.setenv("IOSE_PSK", VARIABLE.hex())
    access = resolve_access(PLAIN)
    assert access.credential.psk == VARIABLE
    assert access.store.path == tmp_path / "credentials"


def test_the_engine_offers_what_a_chip_knows_first(store):
    access = resolve_access(PLAIN, store=store)
    config = access.client_config(KEPT)
    assert config.server_name == "key1.com"
    assert config.psk.identity == b"kept"
    assert config.psk.key == KEPT
    assert config.engine.suites == SUITES
    assert SUITES[0] is CipherSuite.TLS_AES_128_CCM_SHA256
    assert GROUPS[0] is NamedGroup.SECP256R1
    assert KEPT.hex() not in repr(access)
