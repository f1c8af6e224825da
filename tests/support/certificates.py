# SPDX-License-Identifier: Apache-2.0
"""A small authority in memory, for tests of what reads its certificates, requests and lists."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from cryptography import x509 as pyca
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from iose.client.access import SystemRng
from iose.crypto import x509
from iose.crypto.x509 import Authority, KeyKind, Subject, Usage
from tests.support.rng import SeededRng

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=3650)


@dataclass(frozen=True)
class Certified:
    """An authority, one certificate of it, and its revocation list, all in PEM."""

    authority: Authority
    certificate: bytes
    crl: bytes


def certified(name: str = "alice", usage: Usage = Usage.USER) -> Certified:
    """Return a new authority that certified a name and revoked two others."""
    rng = SeededRng()
    key = x509.generate_key(KeyKind.P256, rng)
    own = x509.self_sign(key, Subject("test authority", Usage.AUTHORITY, LATER), rng, NOW)
    authority = Authority(own, key)
    public = x509.public_of_key(x509.generate_key(KeyKind.P256, rng))
    subject = Subject(name, usage, LATER, ("localhost", "::1"))
    certificate = authority.certify(public, subject, rng, NOW)
    return Certified(authority, certificate, authority.revoke({7: NOW, 8: NOW}, 3, NOW, LATER))


def request(key: bytes, name: str = "mallory") -> bytes:
    """Return a certificate request in PEM, made as somebody else's program makes it."""
    private = load_pem_private_key(key, None)
    subject = pyca.Name([pyca.NameAttribute(pyca.NameOID.COMMON_NAME, name)])
    builder = pyca.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(private, SHA256()).public_bytes(Encoding.PEM)


def make_authority() -> Authority:
    """Return a new authority, whose keys are of the system's randomness."""
    rng = SystemRng()
    key = x509.generate_key(KeyKind.P256, rng)
    own = x509.self_sign(key, Subject("test authority", Usage.AUTHORITY, LATER), rng, NOW)
    return Authority(own, key)


def issue(
    authority: Authority,
    folder: Path,
    common_name: str,
    *,
    is_server: bool = False,
    is_rsa: bool = False,
) -> Path:
    """Write ``ca.pem`` and ``user.pem``, ``user.key`` (or ``server.…``) into a folder; return it.

    A server's certificate is good for localhost and 127.0.0.1. Names are certified that ours would
    not certify, as authorities of others do.
    """
    rng = SystemRng()
    key = x509.generate_key(KeyKind.RSA if is_rsa else KeyKind.P256, rng)
    usage, hosts = (Usage.NODE, ("localhost", "127.0.0.1")) if is_server else (Usage.USER, ())
    subject = Subject(common_name, usage, LATER, hosts)
    folder.mkdir(parents=True, exist_ok=True)
    stem = "server" if is_server else "user"
    with mock.patch.object(x509, "check_name"):
        certificate = authority.certify(x509.public_of_key(key), subject, rng, NOW)
    (folder / f"{stem}.pem").write_bytes(certificate)
    (folder / f"{stem}.key").write_bytes(key)
    (folder / "ca.pem").write_bytes(authority.certificate)
    return folder
