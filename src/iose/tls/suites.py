# SPDX-License-Identifier: Apache-2.0
"""What a cipher suite and a named group stand for, in terms of our primitives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from iose.crypto.base import AeadAlgorithm, Group, HashAlgorithm
from iose.tls.constants import CipherSuite, NamedGroup


@dataclass(frozen=True, slots=True)
class SuiteParameters:
    """The algorithms of one cipher suite (RFC 8446 §B.4)."""

    aead: AeadAlgorithm
    hash: HashAlgorithm


SUITES: Final[Mapping[CipherSuite, SuiteParameters]] = {
    CipherSuite.TLS_AES_128_GCM_SHA256: SuiteParameters(
        AeadAlgorithm.AES_128_GCM, HashAlgorithm.SHA256
    ),
    CipherSuite.TLS_AES_256_GCM_SHA384: SuiteParameters(
        AeadAlgorithm.AES_256_GCM, HashAlgorithm.SHA384
    ),
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: SuiteParameters(
        AeadAlgorithm.CHACHA20_POLY1305, HashAlgorithm.SHA256
    ),
    CipherSuite.TLS_AES_128_CCM_SHA256: SuiteParameters(
        AeadAlgorithm.AES_128_CCM, HashAlgorithm.SHA256
    ),
    CipherSuite.TLS_AES_128_CCM_8_SHA256: SuiteParameters(
        AeadAlgorithm.AES_128_CCM_8, HashAlgorithm.SHA256
    ),
}

GROUPS: Final[Mapping[NamedGroup, Group]] = {
    NamedGroup.SECP256R1: Group.SECP256R1,
    NamedGroup.X25519: Group.X25519,
    NamedGroup.X25519_MLKEM768: Group.X25519_MLKEM768,
    NamedGroup.SECP256R1_MLKEM768: Group.SECP256R1_MLKEM768,
}
