# SPDX-License-Identifier: Apache-2.0
"""Registries of TLS (RFC 8446 §B, IANA TLS parameters); unknown values survive as integers.

Sizes that the standards fix are here too; limits we chose stand where they are enforced.
"""

from enum import IntEnum
from typing import Final

TLS_1_0: Final = 0x0301
TLS_1_2: Final = 0x0303
TLS_1_3: Final = 0x0304
SSL_3_0: Final = 0x0300

RANDOM_SIZE: Final = 32
SESSION_ID_MAX_SIZE: Final = 32
HEADER_SIZE: Final = 5
HANDSHAKE_HEADER_SIZE: Final = 4
MAX_PLAINTEXT_SIZE: Final = 16_384  # RFC 8446 §5.1
MAX_INNER_SIZE: Final = MAX_PLAINTEXT_SIZE + 1  # RFC 8446 §5.4
MAX_CIPHERTEXT_SIZE: Final = MAX_PLAINTEXT_SIZE + 256  # RFC 8446 §5.2
MIN_RECORD_SIZE_LIMIT: Final = 64  # RFC 8449 §4
MAX_FRAGMENT_LENGTHS: Final = {1: 512, 2: 1_024, 3: 2_048, 4: 4_096}  # RFC 6066 §4
# SHA-256 of "HelloRetryRequest" (RFC 8446 §4.1.3)
HELLO_RETRY_RANDOM: Final = bytes.fromhex(
    "CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C"
)


class OpenIntEnum(IntEnum):
    """A registry in which an unknown number is a member of its own."""

    @classmethod
    def _missing_(cls, value: object) -> "OpenIntEnum | None":
        if not isinstance(value, int):
            return None
        unknown = int.__new__(cls, value)
        unknown._name_ = f"UNKNOWN_{value}"
        unknown._value_ = value
        return unknown


class ContentType(IntEnum):
    """Record content types (RFC 8446 §5.1)."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23


class HandshakeType(OpenIntEnum):
    """Handshake message types (RFC 8446 §4)."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    END_OF_EARLY_DATA = 5
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20
    KEY_UPDATE = 24
    MESSAGE_HASH = 254


class CipherSuite(IntEnum):
    """Cipher suites of TLS 1.3 (RFC 8446 §B.4)."""

    TLS_AES_128_GCM_SHA256 = 0x1301
    TLS_AES_256_GCM_SHA384 = 0x1302
    TLS_CHACHA20_POLY1305_SHA256 = 0x1303
    TLS_AES_128_CCM_SHA256 = 0x1304
    TLS_AES_128_CCM_8_SHA256 = 0x1305


class NamedGroup(IntEnum):
    """Key-exchange groups (RFC 8446 §4.2.7, draft-ietf-tls-ecdhe-mlkem §5)."""

    SECP256R1 = 0x0017
    X25519 = 0x001D
    SECP256R1_MLKEM768 = 0x11EB
    X25519_MLKEM768 = 0x11EC


class PskKeyExchangeMode(IntEnum):
    """Ways to use a PSK (RFC 8446 §4.2.9)."""

    PSK_KE = 0
    PSK_DHE_KE = 1


class ExtensionType(IntEnum):
    """Extensions (RFC 8446 §4.2)."""

    SERVER_NAME = 0
    MAX_FRAGMENT_LENGTH = 1
    SUPPORTED_GROUPS = 10
    EC_POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    PADDING = 21
    RECORD_SIZE_LIMIT = 28
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    PSK_KEY_EXCHANGE_MODES = 45
    CERTIFICATE_AUTHORITIES = 47
    KEY_SHARE = 51


class KeyUpdateRequest(IntEnum):
    """Whether the sender of a KeyUpdate wants one back (RFC 8446 §4.6.3)."""

    UPDATE_NOT_REQUESTED = 0
    UPDATE_REQUESTED = 1


class AlertLevel(IntEnum):
    """Alert levels; TLS 1.3 ignores those it receives (RFC 8446 §6)."""

    WARNING = 1
    FATAL = 2


class AlertDescription(OpenIntEnum):
    """Alerts (RFC 8446 §6)."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120
