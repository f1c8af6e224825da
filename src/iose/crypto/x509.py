# SPDX-License-Identifier: Apache-2.0
"""Certificates, requests and revocation lists of the administration plane (RFC 5280, RFC 2986).

A private authority certifies nodes and users, each for its own purpose alone. Keys and
certificates are PEM at this door. Time comes as an argument; files are ``runtime.pki``'s.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from iose.crypto.base import Curve, Rng
from iose.crypto.errors import CryptoError
from iose.crypto.pyca import PycaCrypto

OTHER_CREDENTIALS: Final = ("sha256:", "psk:")  # what rules call users without a name by
NAME_LIMIT: Final = 64  # ub-common-name, RFC 5280 appendix A.1
SERIAL_SIZE: Final = 19  # below the 20 bytes of RFC 5280 §4.1.2.2, and always positive
RSA_BITS: Final = 2048
RSA_BITS_LIMIT: Final = 8192  # more would keep a verifier busy
RSA_EXPONENT: Final = 65_537
LIST_MARK: Final = b"-----BEGIN X509 CRL-----"
CLOCK_SKEW: Final = timedelta(minutes=5)  # the other side's clock may be slow
_FAULTS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

CertificateKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
IssuerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyKind(Enum):
    """Keys we make for certificates."""

    P256 = "p256"
    RSA = "rsa"


class Usage(Enum):
    """What a certificate of ours is for; each is for one thing alone."""

    AUTHORITY = "authority"
    NODE = "node"
    USER = "user"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says.

    Attributes:
        name: Common name of the subject, "" for none.
        issuer: The issuer's whole name, in the form in which names are compared.
        serial: Serial number.
        usage: What it is for.
        not_before: Start of its validity.
        not_after: End of its validity.
        hosts: Host names and addresses it is valid for.
        fingerprint: SHA-256 of its DER form, in lower-case hex.
    """

    name: str
    issuer: str
    serial: int
    usage: Usage
    not_before: datetime
    not_after: datetime
    hosts: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate is for.

    Attributes:
        name: Common name, 1 to 64 printable characters.
        usage: What it is for.
        until: End of its validity.
        hosts: Host names and addresses.
    """

    name: str
    usage: Usage
    until: datetime
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RevocationFacts:
    """What a revocation list says.

    Attributes:
        issuer: The issuer's whole name, in the form in which names are compared.
        number: Its number; each list of one issuer has a higher one.
        revoked: Serial numbers, and when each was revoked.
        last_update: When it was made.
        next_update: When the next one should be there.
    """

    issuer: str
    number: int
    revoked: Mapping[int, datetime]
    last_update: datetime
    next_update: datetime


def generate_key(kind: KeyKind, rng: Rng) -> bytes:
    """Return a new private key in PEM (PKCS #8); the randomness of RSA is OpenSSL's own."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind is KeyKind.RSA:
        key = rsa.generate_private_key(RSA_EXPONENT, RSA_BITS)
    else:
        scalar = PycaCrypto().generate_private_key(Curve.SECP256R1, rng)
        key = ec.derive_private_key(int.from_bytes(scalar), ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def self_sign(key: bytes, subject: Subject, rng: Rng, now: datetime) -> bytes:
    """Return an authority's own certificate in PEM.

    Raises:
        CryptoError: The key or the name is unfit.
    """
    private = _decode_key(key)
    builder = _builder(subject, private.public_key(), rng, now).issuer_name(_name(subject.name))
    return builder.sign(private, SHA256()).public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Authority:
    """Who certifies: a certificate and its key.

    Attributes:
        certificate: In PEM.
        key: Its private key, in PEM.
    """

    certificate: bytes
    key: bytes

    def certify(self, public: CertificateKey, subject: Subject, rng: Rng, now: datetime) -> bytes:
        """Return a certificate in PEM; it ends with the authority's own at the latest.

        Raises:
            CryptoError: The name is unfit, the authority's time is over, or its key and
                certificate do not fit.
        """
        authority, private = self._open()
        until = min(subject.until, authority.not_valid_after_utc)
        if until <= now:
            raise CryptoError(
                f"the authority's certificate ended on {authority.not_valid_after_utc:%Y-%m-%d}"
            )
        shorter = Subject(subject.name, subject.usage, until, subject.hosts)
        builder = _builder(shorter, public, rng, now).issuer_name(authority.subject)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key())
        builder = builder.add_extension(identifier, critical=False)
        return builder.sign(private, SHA256()).public_bytes(Encoding.PEM)

    def revoke(
        self, revoked: Mapping[int, datetime], number: int, now: datetime, until: datetime
    ) -> bytes:
        """Return a revocation list in PEM (RFC 5280 §5).

        Raises:
            CryptoError: Key and certificate of the authority do not fit.
        """
        authority, private = self._open()
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=authority.subject, last_update=now, next_update=until
        )
        for serial, when in revoked.items():
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
            builder = builder.add_revoked_certificate(one.build())
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key())
        builder = builder.add_extension(identifier, critical=False)
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        return builder.sign(private, SHA256()).public_bytes(Encoding.PEM)

    def _open(self) -> tuple[x509.Certificate, IssuerKey]:
        certificate, private = _decode(self.certificate), _decode_key(self.key)
        if certificate.public_key() != private.public_key():
            raise CryptoError("the authority's key is not that of its certificate")
        return certificate, private


def public_of_key(key: bytes) -> CertificateKey:
    """Return the public half of a private key in PEM.

    Raises:
        CryptoError: It is no private key of a kind we use.
    """
    return _decode_key(key).public_key()


def public_of_certificate(certificate: bytes) -> CertificateKey:
    """Return the public key of a certificate.

    Raises:
        CryptoError: It is no certificate, or its key is of another kind or too short.
    """
    try:
        return _check_public(_decode(certificate).public_key())
    except _FAULTS as error:
        raise CryptoError("the certificate's key cannot be used") from error


def is_rsa(certificate: bytes) -> bool:
    """Return whether a certificate's key is an RSA key.

    Raises:
        CryptoError: It is no certificate, or its key is of another kind or too short.
    """
    return isinstance(public_of_certificate(certificate), rsa.RSAPublicKey)


def public_of_request(request: bytes) -> CertificateKey:
    """Return the public key of a certificate request, which its holder has signed (RFC 2986).

    The name in it is not looked at: who certifies says who it is.

    Raises:
        CryptoError: It is no request in PEM, is not signed by its key, or the key is unfit.
    """
    try:
        decoded = x509.load_pem_x509_csr(request)
        is_signed = decoded.is_signature_valid
        public = decoded.public_key()
    except (*_FAULTS, InvalidSignature) as error:
        raise CryptoError("this is no certificate request in PEM") from error
    if not is_signed:
        raise CryptoError("the certificate request is not signed by its own key")
    return _check_public(public)


def decode_certificate(certificate: bytes) -> CertificateFacts:
    """Return what a certificate says, in PEM or DER; its signature is not looked at.

    Raises:
        CryptoError: It is no certificate.
    """
    decoded = _decode(certificate)
    try:
        extensions = decoded.extensions
        return CertificateFacts(
            name=_common_name(decoded.subject),
            issuer=_compared(decoded.issuer),
            serial=decoded.serial_number,
            usage=_usage(extensions),
            not_before=decoded.not_valid_before_utc,
            not_after=decoded.not_valid_after_utc,
            hosts=_hosts(extensions),
            fingerprint=decoded.fingerprint(SHA256()).hex(),
        )
    except _FAULTS as error:
        raise CryptoError("the certificate cannot be understood") from error


def decode_revocations(crl: bytes, authorities: Iterable[bytes]) -> RevocationFacts:
    """Return what a revocation list in PEM says, which one of the authorities signed.

    Raises:
        CryptoError: It is no list, is not a whole one, or none of the authorities signed it.
    """
    if crl.count(LIST_MARK) > 1:
        raise CryptoError("there is more than one revocation list here, and one alone is obeyed")
    try:
        decoded = x509.load_pem_x509_crl(crl)
        issuer = decoded.issuer
        revoked = {one.serial_number: one.revocation_date_utc for one in decoded}
        number = _crl_number(decoded)
        last_update, next_update = decoded.last_update_utc, decoded.next_update_utc
        is_part = any(one.critical for one in decoded.extensions)
    except _FAULTS as error:
        raise CryptoError("this is no revocation list in PEM") from error
    if is_part:  # RFC 5280 §5.2: what these say of its scope must be understood to use it
        raise CryptoError("the revocation list is not for every certificate of its authority")
    if not any(_is_signed_by(decoded, _decode(authority)) for authority in authorities):
        raise CryptoError("no authority of this node has signed the revocation list")
    return RevocationFacts(
        _compared(issuer),
        number,
        revoked,
        last_update,
        next_update or datetime.max.replace(tzinfo=UTC),
    )


def split_certificates(bundle: bytes) -> tuple[bytes, ...]:
    """Return the certificates of a PEM file, each in PEM.

    Raises:
        CryptoError: There is none, or one is damaged.
    """
    try:
        found = x509.load_pem_x509_certificates(bundle)
    except _FAULTS as error:
        raise CryptoError("this holds no certificate in PEM") from error
    return tuple(one.public_bytes(Encoding.PEM) for one in found)


def check_name(name: str) -> None:
    """Check that a common name can stand in a certificate and in a rule.

    Raises:
        CryptoError: It is empty, too long, not printable, or means something else in a rule.
    """
    is_sound = 1 <= len(name) <= NAME_LIMIT and name.isprintable() and name == name.strip()
    if not is_sound or "*" in name or name.startswith(OTHER_CREDENTIALS):
        raise CryptoError(
            f"{name!r} cannot be a user's name",
            hint=f"use 1 to {NAME_LIMIT} printable characters, no '*', no space at the ends",
        )


def _decode(certificate: bytes) -> x509.Certificate:
    try:
        if certificate.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificate(certificate)
        return x509.load_der_x509_certificate(certificate)
    except _FAULTS as error:
        raise CryptoError("this is no certificate") from error


def _decode_key(key: bytes) -> IssuerKey:
    try:
        private = load_pem_private_key(key, None)
    except _FAULTS as error:
        raise CryptoError("this is no private key in PEM without a passphrase") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CryptoError("the private key is neither EC nor RSA")
    return private


def _check_public(public: object) -> CertificateKey:
    if isinstance(public, ed25519.Ed25519PublicKey):
        return public
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(
        public.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
    ):
        return public
    if isinstance(public, rsa.RSAPublicKey) and RSA_BITS <= public.key_size <= RSA_BITS_LIMIT:
        return public
    raise CryptoError(
        "the public key is of a kind or size we do not certify",
        hint=f"use EC P-256, P-384, P-521, Ed25519, or RSA of {RSA_BITS} bits or more",
    )


def _builder(
    subject: Subject, public: CertificateKey, rng: Rng, now: datetime
) -> x509.CertificateBuilder:
    check_name(subject.name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject.name))
        .public_key(public)
        .serial_number(int.from_bytes(b"\x01" + rng.random_bytes(SERIAL_SIZE - 1)))
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(subject.until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_key_usage(subject.usage, public), critical=True)
    )
    is_authority = subject.usage is Usage.AUTHORITY
    limits = x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None)
    builder = builder.add_extension(limits, critical=True)
    purpose = _PURPOSES.get(subject.usage)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if subject.hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in subject.hosts])
        builder = builder.add_extension(names, critical=False)
    return builder


_PURPOSES: Final = {
    Usage.NODE: ExtendedKeyUsageOID.SERVER_AUTH,
    Usage.USER: ExtendedKeyUsageOID.CLIENT_AUTH,
}


def _key_usage(usage: Usage, public: CertificateKey) -> x509.KeyUsage:
    is_authority = usage is Usage.AUTHORITY
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        # a node that lets the published clients in decrypts with RSA (racs.md §2)
        key_encipherment=usage is Usage.NODE and isinstance(public, rsa.RSAPublicKey),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _compared(name: x509.Name) -> str:
    """Return a name without case, blanks and encodings that mean nothing (RFC 5280 §7.1)."""
    texts = (f"{one.oid.dotted_string}={str(one.value).casefold()}" for one in name)
    return "\n".join(" ".join(text.split()) for text in texts)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise CryptoError(f"{host!r} is no host name in ASCII") from error


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _usage(extensions: x509.Extensions) -> Usage:
    for one in extensions:
        if isinstance(one.value, x509.BasicConstraints) and one.value.ca:
            return Usage.AUTHORITY
    for one in extensions:
        if isinstance(one.value, x509.ExtendedKeyUsage):
            for usage, purpose in _PURPOSES.items():
                if list(one.value) == [purpose]:
                    return usage
    return Usage.OTHER


def _hosts(extensions: x509.Extensions) -> tuple[str, ...]:
    for one in extensions:
        if isinstance(one.value, x509.SubjectAlternativeName):
            names = one.value.get_values_for_type(x509.DNSName)
            addresses = one.value.get_values_for_type(x509.IPAddress)
            return (*names, *map(str, addresses))
    return ()


def _crl_number(crl: x509.CertificateRevocationList) -> int:
    for one in crl.extensions:
        if isinstance(one.value, x509.CRLNumber):
            return one.value.crl_number
    return 0


def _is_signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        public = authority.public_key()
        return (
            isinstance(public, CertificateKey)
            and crl.issuer == authority.subject
            and crl.is_signature_valid(public)
        )
    except (*_FAULTS, InvalidSignature):
        return False
