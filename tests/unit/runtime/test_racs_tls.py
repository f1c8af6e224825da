# SPDX-License-Identifier: Apache-2.0
"""Whom the administration plane trusts: handshakes in memory, and revocations."""

import ssl
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from iose.runtime.errors import ConfigurationError
from iose.runtime.pki import Pki, wall_clock
from iose.runtime.racs_settings import RacsSettings
from iose.runtime.racs_tls import load_revocations, server_context, trust_files


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path)
    made.ensure(("localhost",), needs_rsa=True)
    return made


def context_of(pki: Pki, *, legacy_rsa_kx: bool = False) -> ssl.SSLContext:
    settings = RacsSettings(legacy_rsa_kx=legacy_rsa_kx)
    return server_context(trust_files(settings, pki.path), legacy_rsa_kx=legacy_rsa_kx)


def client_of(pki: Pki, *, certificate: str = "user") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pki.path / "ca.pem")
    if certificate:
        names = (pki.path / f"{certificate}.{kind}" for kind in ("pem", "key"))
        context.load_cert_chain(*names)
    return context


def meet(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both ends of a finished handshake."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    far = server.wrap_bio(up, down, server_side=True)
    near = client.wrap_bio(down, up, server_hostname="localhost", session=session)
    for side in (near, far) * 4:
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return far, near


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_user_of_the_authority_is_known_by_name(pki: Pki, version: ssl.TLSVersion):
    client = client_of(pki)
    client.minimum_version = client.maximum_version = version
    far, near = meet(context_of(pki), client)
    assert (("commonName", "operator"),) in far.getpeercert()["subject"]
    name, protocol, _ = near.cipher()
    assert protocol == ("TLSv1.2" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
    assert protocol == "TLSv1.3" or name.startswith("ECDHE-")


def test_who_has_no_certificate_a_node_s_or_one_of_another_authority_is_refused(pki, tmp_path):
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other")
    other.ensure(("localhost",))
    stranger = client_of(other)
    stranger.load_verify_locations(pki.path / "ca.pem")
    for client in (client_of(pki, certificate=""), client_of(pki, certificate="node"), stranger):
        with pytest.raises(ssl.SSLError):
            meet(context_of(pki), client)


def test_authorities_of_the_system_certify_nobody(pki: Pki):
    (only,) = context_of(pki).get_ca_certs()
    assert only["subject"][0][0][1].startswith("iose authority ")


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_client_that_knows_rsa_alone_is_let_in_where_it_is_asked_for(pki: Pki, is_legacy):
    client = client_of(pki)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("AES128-GCM-SHA256")
    server = context_of(pki, legacy_rsa_kx=is_legacy)
    if is_legacy:
        assert meet(server, client)[1].cipher()[0] == "AES128-GCM-SHA256"
    else:
        with pytest.raises(ssl.SSLError):
            meet(server, client)


def test_no_session_is_resumed_by_a_ticket(pki: Pki):
    client = client_of(pki)
    far, near = meet(context_of(pki), client)
    far.write(b"hello")
    assert near.read(5) == b"hello"
    assert near.session is None or not near.session.has_ticket


def test_who_resumes_a_session_of_tls_1_2_is_known_and_can_be_found_revoked(pki: Pki):
    server, client = context_of(pki), client_of(pki)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    _, near = meet(server, client)
    far, again = meet(server, client, near.session)
    assert far.getpeercert(binary_form=True) == der(pki)
    assert again.version() == "TLSv1.2"
    pki.revoke("operator")
    assert revocations(pki).is_revoked(far.getpeercert(binary_form=True))


def test_rsa_alone_needs_an_rsa_certificate(pki: Pki):
    settings = RacsSettings(
        certificate=str(pki.path / "node.pem"), key=str(pki.path / "node.key"), legacy_rsa_kx=True
    )
    with pytest.raises(ConfigurationError, match="needs an RSA certificate"):
        server_context(trust_files(settings, pki.path), legacy_rsa_kx=True)


@pytest.mark.parametrize("name", ["node.pem", "node.key", "ca.pem"])
@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_that_is_damaged_is_named(pki: Pki, name: str, content: str | None):
    path = pki.path / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"node\.pem|ca\.pem"):
        context_of(pki)


def revocations(pki: Pki, **settings: str):
    return load_revocations(trust_files(RacsSettings(**settings), pki.path))


def der(pki: Pki, name: str = "user.pem") -> bytes:
    return ssl.PEM_cert_to_DER_cert((pki.path / name).read_text())


def test_who_is_revoked_is_found_and_nobody_else(pki: Pki):
    assert not revocations(pki).is_revoked(der(pki))
    pki.revoke("operator")
    assert revocations(pki).is_revoked(der(pki))
    assert not revocations(pki).is_revoked(der(pki, "node.pem"))
    assert revocations(pki).is_revoked(b"no certificate")


def test_the_same_number_of_another_authority_is_another_certificate(tmp_path: Path):
    found = []
    for first in (0, 100):
        folder = tmp_path / str(first)
        folder.mkdir()
        rng = _Counting(first)
        found.append(Pki(folder, rng=rng))
        found[-1].ensure(("localhost",))
        rng.count = 1000
        found[-1].certify_user("bob", timedelta(days=1))
        found[-1].revoke("bob")
    (mine, other) = [
        next(one for one in pki.certificates() if one.facts.name == "bob") for pki in found
    ]
    assert mine.facts.serial == other.facts.serial
    assert revocations(found[0]).is_revoked(ssl.PEM_cert_to_DER_cert(mine.pem.decode()))
    assert not revocations(found[0]).is_revoked(ssl.PEM_cert_to_DER_cert(other.pem.decode()))


class _Counting:
    def __init__(self, count: int) -> None:
        self.count = count

    def random_bytes(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")


def test_an_old_list_is_obeyed_and_says_that_it_is_old(tmp_path: Path):
    long_ago = wall_clock() - timedelta(days=90)
    pki = Pki(tmp_path, now=lambda: long_ago)
    pki.ensure(("localhost",))
    pki.certify_user("bob", timedelta(days=300))
    pki.revoke("bob")
    found = revocations(pki)
    assert found.next_update < wall_clock()
    assert not found.is_revoked(der(pki))
    (bob,) = [one.pem for one in pki.certificates() if one.facts.name == "bob"]
    assert found.is_revoked(ssl.PEM_cert_to_DER_cert(bob.decode()))


def test_other_authorities_have_a_list_of_their_own_or_none(pki: Pki, tmp_path: Path):
    ca = str(pki.path / "ca.pem")
    assert revocations(pki, ca=ca).next_update is None
    assert revocations(pki, ca=ca, crl=str(pki.path / "crl.pem")).next_update is not None
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other")
    other.ensure(("localhost",))
    with pytest.raises(ConfigurationError, match="no authority"):
        revocations(pki, ca=ca, crl=str(other.path / "crl.pem"))
