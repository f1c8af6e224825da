# SPDX-License-Identifier: Apache-2.0
"""Who a session belongs to: the one common name of a certificate, and its fingerprint (racs.md §2).

TLS has verified the chain before anything here is asked, but for who resumes a session: then it
was verified when that session began.
"""

import math
import ssl
import time
from dataclasses import dataclass, field

from iose.crypto.base import HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.servers.racs.policy import ANYBODY, FINGERPRINT_PREFIX, PSK_PREFIX
from iose.wire.errors import IoseError

CRYPTO = PycaCrypto()


class IdentityError(IoseError):
    """A credential that names nobody."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, as known from a credential.

    Attributes:
        user: Common name of the certificate, or ``psk:`` and the identity.
        fingerprint: SHA-256 of the certificate in lower-case hex; "" when there is none.
        certificate: The certificate in DER; empty when there is none.
        valid_until: When it expires, in seconds of the epoch; infinite when there is none.
    """

    user: str
    fingerprint: str = ""
    certificate: bytes = field(default=b"", repr=False)
    valid_until: float = math.inf

    @property
    def names(self) -> frozenset[str]:
        """Every name that rules may call the user by."""
        names = {self.user, ANYBODY}
        if self.fingerprint:
            names.add(FINGERPRINT_PREFIX + self.fingerprint)
        return frozenset(names)


def identify(connection: ssl.SSLObject) -> Identity:
    """Return whose certificate a TLS client has shown.

    Raises:
        IdentityError: There is no verified certificate, it has expired since it was verified, or
            it has not exactly one usable name.
    """
    certificate = connection.getpeercert(binary_form=True)
    facts = connection.getpeercert() or {}
    subject = facts.get("subject", ())
    if not certificate:
        raise IdentityError("no client certificate")
    valid_until = ssl.cert_time_to_seconds(str(facts.get("notAfter", "")))
    if valid_until < time.time():
        raise IdentityError("a certificate that has expired meanwhile")
    names = [entry[1] for part in subject for entry in part if entry[0] == "commonName"]
    if len(names) != 1:
        raise IdentityError(f"expected one common name in a certificate, found {len(names)}")
    name = str(names[0])
    if not name.isprintable() or not name.strip() or name == ANYBODY:
        raise IdentityError("a common name that is no name")
    if name.startswith((FINGERPRINT_PREFIX, PSK_PREFIX)):
        raise IdentityError("a common name that looks like another credential")
    digest = CRYPTO.hash(HashAlgorithm.SHA256, certificate)
    return Identity(name, digest.hex(), certificate, valid_until)


def psk_user(identity: str) -> Identity:
    """Return the user of a pre-shared key."""
    return Identity(PSK_PREFIX + identity)
