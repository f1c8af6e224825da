# SPDX-License-Identifier: Apache-2.0
"""Whom the administration plane trusts: its TLS context, and who is revoked (racs.md §2).

Revocations are looked up here and not by OpenSSL, which would refuse everybody once a list is
older than it says: an old list still refuses whom it names, and the log says that it is old.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

from iose.crypto import x509
from iose.crypto.errors import CryptoError
from iose.runtime.errors import ConfigurationError
from iose.runtime.racs_settings import RacsSettings

SUITES_TLS12: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
LEGACY_SUITE: Final = "AES128-GCM-SHA256"  # TLS_RSA_WITH_AES_128_GCM_SHA256


@dataclass(frozen=True, slots=True)
class TrustFiles:
    """Where the plane's certificates are.

    Attributes:
        pairs: Certificates of the node and their keys.
        ca: Those who certify users.
        crl: Their revocation list, or None.
    """

    pairs: tuple[tuple[Path, Path], ...]
    ca: Path
    crl: Path | None


def trust_files(racs: RacsSettings, pki: Path) -> TrustFiles:
    """Return the files that a configuration names, or those of the data folder's authority."""
    if racs.certificate:
        pairs = [(Path(racs.certificate), Path(racs.key))]
    else:
        pairs = [(pki / "node.pem", pki / "node.key")]
        if racs.legacy_rsa_kx:
            pairs.append((pki / "node-rsa.pem", pki / "node-rsa.key"))
    if racs.ca:
        return TrustFiles(tuple(pairs), Path(racs.ca), Path(racs.crl) if racs.crl else None)
    return TrustFiles(tuple(pairs), pki / "ca.pem", pki / "crl.pem")


def server_context(files: TrustFiles, *, legacy_rsa_kx: bool) -> ssl.SSLContext:
    """Return TLS 1.3 and 1.2 with client certificates; no ticket, no authority of the system.

    Raises:
        ConfigurationError: A file cannot be read, or certificate and key do not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    suites = f"{SUITES_TLS12}:{LEGACY_SUITE}" if legacy_rsa_kx else SUITES_TLS12
    context.set_ciphers(suites)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    if legacy_rsa_kx and not any(_is_rsa(certificate) for certificate, _ in files.pairs):
        raise ConfigurationError(
            "'racs.legacy_rsa_kx' needs an RSA certificate",
            hint="name one in 'racs.certificate', or leave that out",
        )
    _load_certificates(context, files)
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ssl.SSLError) as error:
        _refuse(files.ca, error)
    return context


@dataclass(frozen=True, slots=True)
class Revocations:
    """A revocation list that was read.

    Attributes:
        is_revoked: Says whether a certificate in DER is on it; a damaged one counts as such.
        next_update: When a newer list should have been there; None without a list.
    """

    is_revoked: Callable[[bytes], bool]
    next_update: datetime | None = None


def load_revocations(files: TrustFiles) -> Revocations:
    """Return who is revoked.

    Raises:
        ConfigurationError: The list cannot be read, or none of the authorities signed it.
    """
    if files.crl is None:
        return Revocations(lambda _der: False)
    try:
        authorities = x509.split_certificates(files.ca.read_bytes())
        found = x509.decode_revocations(files.crl.read_bytes(), authorities)
    except (OSError, CryptoError) as error:
        _refuse(files.crl, error)

    def is_revoked(der: bytes) -> bool:
        try:
            facts = x509.decode_certificate(der)
        except CryptoError:
            return True
        return facts.issuer == found.issuer and facts.serial in found.revoked

    return Revocations(is_revoked, found.next_update)


def _load_certificates(context: ssl.SSLContext, files: TrustFiles) -> None:
    for certificate, key in files.pairs:
        try:
            # a key under a passphrase must not be asked for on the terminal
            context.load_cert_chain(certificate, key, password=b"")
        except (OSError, ssl.SSLError, ValueError) as error:
            _refuse(certificate, error)


def _is_rsa(certificate: Path) -> bool:
    try:
        return x509.is_rsa(certificate.read_bytes())
    except (OSError, CryptoError) as error:
        _refuse(certificate, error)


def _refuse(path: Path, error: Exception) -> NoReturn:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    raise ConfigurationError(
        f"the administration plane cannot use {path}: {reason}",
        hint="see the files named in table 'racs', or those of 'iose pki show'",
    ) from error
