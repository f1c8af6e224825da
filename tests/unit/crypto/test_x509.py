# SPDX-License-Identifier: Apache-2.0
"""Certificates, requests and revocation lists: what they say, and what is refused."""

import ssl
from datetime import timedelta

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.name import _ASN1Type

from iose.crypto import x509
from iose.crypto.errors import CryptoError
from iose.crypto.x509 import Authority, KeyKind, Subject, Usage
from tests.support.certificates import LATER, NOW, certified, request
from tests.support.rng import SeededRng

MADE = certified()


def pem_of(key: object) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_certificate_says_what_was_asked_for_in_pem_and_in_der():
    facts = x509.decode_certificate(MADE.certificate)
    assert (facts.name, facts.usage, facts.hosts) == ("alice", Usage.USER, ("localhost", "::1"))
    assert facts.not_before < NOW
    assert facts.not_after == LATER
    der = ssl.PEM_cert_to_DER_cert(MADE.certificate.decode())
    assert x509.decode_certificate(der) == facts


@pytest.mark.parametrize("usage", [Usage.NODE, Usage.USER])
def test_each_certificate_is_for_one_thing(usage: Usage):
    certificate = pyca.load_pem_x509_certificate(certified(usage=usage).certificate)
    assert not certificate.extensions.get_extension_for_class(pyca.BasicConstraints).value.ca
    (purpose,) = certificate.extensions.get_extension_for_class(pyca.ExtendedKeyUsage).value
    assert (
        purpose
        == {
            Usage.NODE: pyca.ExtendedKeyUsageOID.SERVER_AUTH,
            Usage.USER: pyca.ExtendedKeyUsageOID.CLIENT_AUTH,
        }[usage]
    )
    keys = certificate.extensions.get_extension_for_class(pyca.KeyUsage)
    assert keys.critical
    assert not keys.value.key_cert_sign


def test_an_authority_certifies_no_further_authority():
    own = pyca.load_pem_x509_certificate(MADE.authority.certificate)
    limits = own.extensions.get_extension_for_class(pyca.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
    assert x509.decode_certificate(MADE.authority.certificate).usage is Usage.AUTHORITY


def test_a_certificate_ends_with_its_authority_at_the_latest():
    public = x509.public_of_certificate(MADE.certificate)
    subject = Subject("bob", Usage.USER, LATER + timedelta(days=9))
    pem = MADE.authority.certify(public, subject, SeededRng(), NOW)
    assert x509.decode_certificate(pem).not_after == LATER
    with pytest.raises(CryptoError, match="ended"):
        MADE.authority.certify(public, subject, SeededRng(), LATER)


def test_serial_numbers_differ_and_are_positive():
    public, subject = x509.public_of_certificate(MADE.certificate), Subject("b", Usage.USER, LATER)
    rng = SeededRng()
    made = [MADE.authority.certify(public, subject, rng, NOW) for _ in range(20)]
    serials = {x509.decode_certificate(pem).serial for pem in made}
    assert len(serials) == 20
    assert all(0 < serial < 1 << 159 for serial in serials)


def test_keys_come_from_the_rng_and_rsa_has_2048_bits():
    keys = [x509.generate_key(KeyKind.P256, SeededRng(b"a")) for _ in range(2)]
    assert keys[0] == keys[1] != x509.generate_key(KeyKind.P256, SeededRng(b"b"))
    private = load_pem_private_key(x509.generate_key(KeyKind.RSA, SeededRng()), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 2048


def test_a_key_of_another_authority_does_not_certify():
    mixed = Authority(MADE.authority.certificate, x509.generate_key(KeyKind.P256, SeededRng(b"x")))
    public = x509.public_of_certificate(MADE.certificate)
    with pytest.raises(CryptoError, match="not that of its certificate"):
        mixed.certify(public, Subject("b", Usage.USER, LATER), SeededRng(), NOW)
    with pytest.raises(CryptoError, match="not that of its certificate"):
        mixed.revoke({}, 1, NOW, LATER)


def test_a_request_gives_its_key_when_it_is_signed_by_it():
    key = x509.generate_key(KeyKind.P256, SeededRng())
    pem = request(key)
    assert x509.public_of_request(pem) == x509.public_of_key(key)
    der = bytearray(pyca.load_pem_x509_csr(pem).public_bytes(Encoding.DER))
    der[-5] ^= 1
    forged = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(CryptoError):
        x509.public_of_request(forged.encode())


def test_a_request_of_an_unknown_version_is_refused():
    pem = request(x509.generate_key(KeyKind.P256, SeededRng()))
    der = pyca.load_pem_x509_csr(pem).public_bytes(Encoding.DER)
    later = der.replace(bytes((2, 1, 0)), bytes((2, 1, 7)), 1)
    odd = ssl.DER_cert_to_PEM_cert(later).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(CryptoError, match="no certificate request"):
        x509.public_of_request(odd.encode())


def test_requests_of_keys_that_are_too_short_are_refused():
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505  # what is refused
    with pytest.raises(CryptoError, match="kind or size"):
        x509.public_of_request(request(pem_of(short)))
    with pytest.raises(CryptoError, match="neither EC nor RSA"):
        x509.public_of_key(pem_of(ed25519.Ed25519PrivateKey.generate()))


def test_a_key_under_a_passphrase_is_refused_without_a_question():
    private = load_pem_private_key(x509.generate_key(KeyKind.P256, SeededRng()), None)
    locked = private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    with pytest.raises(CryptoError, match="without a passphrase"):
        x509.public_of_key(locked)


def test_a_list_says_who_is_revoked_and_by_whom():
    facts = x509.decode_revocations(MADE.crl, [MADE.authority.certificate])
    assert (facts.number, dict(facts.revoked)) == (3, {7: NOW, 8: NOW})
    assert (facts.last_update, facts.next_update) == (NOW, LATER)
    assert facts.issuer == x509.decode_certificate(MADE.certificate).issuer


def test_a_list_that_no_authority_signed_is_refused():
    other = certified("bob")
    with pytest.raises(CryptoError, match="no authority"):
        x509.decode_revocations(MADE.crl, [])
    with pytest.raises(CryptoError, match="no authority"):
        x509.decode_revocations(MADE.crl, [MADE.certificate])
    key = x509.generate_key(KeyKind.P256, SeededRng(b"stranger"))
    subject = Subject("test authority", Usage.AUTHORITY, LATER)
    stranger = x509.self_sign(key, subject, SeededRng(), NOW)
    with pytest.raises(CryptoError, match="no authority"):
        x509.decode_revocations(other.crl, [stranger])


def test_a_list_that_is_not_the_whole_one_is_refused():
    with pytest.raises(CryptoError, match="more than one"):
        x509.decode_revocations(MADE.crl + MADE.crl, [MADE.authority.certificate])
    private = load_pem_private_key(MADE.authority.key, None)
    issuer = pyca.load_pem_x509_certificate(MADE.authority.certificate).subject
    builder = pyca.CertificateRevocationListBuilder(issuer, NOW, LATER)
    pem = builder.add_extension(pyca.DeltaCRLIndicator(2), critical=True)
    with pytest.raises(CryptoError, match="not for every certificate"):
        x509.decode_revocations(
            pem.sign(private, SHA256()).public_bytes(Encoding.PEM), [MADE.authority.certificate]
        )


def test_an_issuer_is_the_same_however_its_name_is_written():
    private = load_pem_private_key(MADE.authority.key, None)
    found = set()
    for text, kind in (
        ("test authority", _ASN1Type.UTF8String),
        ("Test  Authority", _ASN1Type.PrintableString),
        ("test authority 2", _ASN1Type.UTF8String),
    ):
        name = pyca.Name([pyca.NameAttribute(pyca.NameOID.COMMON_NAME, text, kind)])
        builder = pyca.CertificateBuilder(name, name, private.public_key(), 7, NOW, LATER)
        pem = builder.sign(private, SHA256()).public_bytes(Encoding.PEM)
        found.add(x509.decode_certificate(pem).issuer)
    assert len(found) == 2
    assert x509.decode_certificate(MADE.certificate).issuer in found


def test_a_bundle_is_split():
    bundle = MADE.certificate + b"# a remark\n" + MADE.authority.certificate
    assert x509.split_certificates(bundle) == (MADE.certificate, MADE.authority.certificate)
    with pytest.raises(CryptoError, match="no certificate"):
        x509.split_certificates(b"")


@pytest.mark.parametrize("host", ["bücher.example", "\N{SNOWMAN}"])
def test_a_host_name_beyond_ascii_is_refused(host: str):
    public = x509.public_of_certificate(MADE.certificate)
    with pytest.raises(CryptoError, match="no host name"):
        MADE.authority.certify(public, Subject("n", Usage.NODE, LATER, (host,)), SeededRng(), NOW)


EC_KEY = bytes.fromhex("06072A8648CE3D0201")
UNKNOWN_KEY = bytes.fromhex("06072A8648CE3D0209")


def with_unknown_key(certificate: bytes) -> bytes:
    der = ssl.PEM_cert_to_DER_cert(certificate.decode())
    assert der.count(EC_KEY) == 1
    return ssl.DER_cert_to_PEM_cert(der.replace(EC_KEY, UNKNOWN_KEY)).encode()


def foreign(private: object, *extensions: pyca.ExtensionType, signer: object = None) -> bytes:
    """Return a certificate as others make them, in PEM."""
    name = pyca.Name([])
    builder = pyca.CertificateBuilder(name, name, private.public_key(), 5, NOW, LATER)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    algorithm = None if isinstance(private, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(signer or private, algorithm).public_bytes(Encoding.PEM)


def test_certificates_of_others_say_what_they_say():
    private = ed25519.Ed25519PrivateKey.generate()
    both = [pyca.ExtendedKeyUsageOID.SERVER_AUTH, pyca.ExtendedKeyUsageOID.CLIENT_AUTH]
    limits = pyca.BasicConstraints(ca=False, path_length=None)
    for extensions in ((), (pyca.ExtendedKeyUsage(both), limits)):
        pem = foreign(private, *extensions)
        facts = x509.decode_certificate(pem)
        assert (facts.name, facts.usage, facts.hosts) == ("", Usage.OTHER, ())
        assert x509.public_of_certificate(pem) == private.public_key()


def test_a_key_or_an_extension_that_cannot_be_understood_is_refused():
    with pytest.raises(CryptoError, match="cannot be used"):
        x509.public_of_certificate(with_unknown_key(MADE.certificate))
    der = ssl.PEM_cert_to_DER_cert(MADE.certificate.decode())
    key_usage, identifier = bytes.fromhex("0603551D0F"), bytes.fromhex("0603551D0E")
    with pytest.raises(CryptoError, match="cannot be understood"):
        x509.decode_certificate(der.replace(key_usage, identifier))


def test_a_list_without_a_number_has_number_0_and_an_unknown_key_signs_none():
    private = load_pem_private_key(MADE.authority.key, None)
    issuer = pyca.load_pem_x509_certificate(MADE.authority.certificate).subject
    builder = pyca.CertificateRevocationListBuilder(issuer, NOW, LATER)
    for extra in (False, True):
        if extra:
            names = pyca.IssuerAlternativeName([pyca.DNSName("a.example")])
            builder = builder.add_extension(names, critical=False)
        pem = builder.sign(private, SHA256()).public_bytes(Encoding.PEM)
        assert x509.decode_revocations(pem, [MADE.authority.certificate]).number == 0
    with pytest.raises(CryptoError, match="no authority"):
        x509.decode_revocations(pem, [with_unknown_key(MADE.authority.certificate)])


def test_what_is_no_list_no_request_and_no_certificate_is_refused():
    for decode in (
        lambda: x509.decode_revocations(b"-----BEGIN X509 CRL-----", []),
        lambda: x509.public_of_request(b""),
        lambda: x509.decode_certificate(b""),
        lambda: x509.decode_certificate(b"-----BEGIN CERTIFICATE-----"),
        lambda: x509.public_of_key(b""),
    ):
        with pytest.raises(CryptoError):
            decode()


def test_rsa_keys_are_told_from_others():
    assert not x509.is_rsa(MADE.certificate)
    private = load_pem_private_key(x509.generate_key(KeyKind.RSA, SeededRng()), None)
    assert x509.is_rsa(foreign(private))
    pem = MADE.authority.certify(
        private.public_key(), Subject("n", Usage.NODE, LATER), SeededRng(), NOW
    )
    keys = pyca.load_pem_x509_certificate(pem).extensions.get_extension_for_class(pyca.KeyUsage)
    assert keys.value.key_encipherment  # what clients without forward secrecy need


@pytest.mark.parametrize("name", ["", "a" * 65, "*", "sha256:00", "psk:board", " a", "a\nb"])
def test_a_name_that_is_none_is_refused_and_its_neighbour_is_not(name: str):
    public = x509.public_of_certificate(MADE.certificate)
    with pytest.raises(CryptoError, match="cannot be a user's name"):
        MADE.authority.certify(public, Subject(name, Usage.USER, LATER), SeededRng(), NOW)
    subject = Subject("a" * 64, Usage.USER, LATER)
    pem = MADE.authority.certify(public, subject, SeededRng(), NOW)
    assert x509.decode_certificate(pem).name == "a" * 64
