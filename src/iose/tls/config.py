# SPDX-License-Identifier: Apache-2.0
"""What an engine is given when it is made: keys, preferences, services. No file, no clock."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from iose.crypto.base import CryptoProvider, HashAlgorithm, Rng
from iose.tls.constants import (
    MAX_FRAGMENT_LENGTHS,
    MAX_INNER_SIZE,
    MIN_RECORD_SIZE_LIMIT,
    CipherSuite,
    ExtensionType,
    NamedGroup,
)
from iose.tls.key_schedule import EarlySecret, Hkdf, PskSecrets, derive_psk_secrets
from iose.tls.suites import SUITES
from iose.wire.errors import LocalProtocolError

MAX_IDENTITY_SIZE: Final = 65_535
MAX_ALPN_NAME_SIZE: Final = 255

DEFAULT_SUITES = (
    CipherSuite.TLS_AES_128_CCM_SHA256,
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_AES_128_CCM_8_SHA256,
)
DEFAULT_GROUPS = (
    NamedGroup.SECP256R1,
    NamedGroup.X25519,
    NamedGroup.X25519_MLKEM768,
    NamedGroup.SECP256R1_MLKEM768,
)

KeyLog = Callable[[str, bytes, bytes], None]
"""Called with (label, client random, secret) as in the NSS key log; never set in production."""


@dataclass(frozen=True, slots=True)
class PreSharedKey:
    """An external PSK, its identity and the hash it goes with (RFC 8446 §4.2.11).

    Attributes:
        identity: 1 to 65 535 bytes, sent in clear.
        key: The secret. None when it lives elsewhere: the engine then stops at
            ``BinderNeeded`` and ``HandshakeSecretNeeded``, unless ``secrets`` is there.
        hash: The hash of the binder and of every suite this PSK may be used with.
        secrets: What ``derive_psk_secrets`` makes of the key, when the owner has kept it: it
            saves four HMACs per handshake and makes the key itself unnecessary.
    """

    identity: bytes
    key: bytes | None = field(repr=False)
    hash: HashAlgorithm = HashAlgorithm.SHA256
    secrets: PskSecrets | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check what the wire can carry.

        Raises:
            LocalProtocolError: The identity has not 1 to 65 535 bytes, or the key is empty.
        """
        if not 0 < len(self.identity) <= MAX_IDENTITY_SIZE:
            raise LocalProtocolError(f"a PSK identity of {len(self.identity)} bytes")
        if self.key is not None and not self.key:
            raise LocalProtocolError("an empty PSK")

    def early_secret(self, crypto: CryptoProvider) -> EarlySecret | None:
        """Return the first stage of the key schedule; None when the key lives elsewhere."""
        if self.secrets is None and self.key is None:
            return None
        hkdf = Hkdf(crypto, self.hash)
        if self.secrets is not None:
            return EarlySecret(hkdf, self.secrets)
        return EarlySecret(hkdf, derive_psk_secrets(hkdf, self.key or b""))


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What both roles share.

    Attributes:
        crypto: The primitives.
        rng: Source of randoms and ephemeral keys.
        suites: In order of preference; a server takes the first of its own that is offered.
        groups: In order of preference; a client sends a share for the first only.
        allow_psk_ke: Accept or offer PSK without (EC)DHE, hence without forward secrecy.
        middlebox_compatibility: Send ChangeCipherSpec (RFC 8446 §D.4).
        record_size_limit: Offered or answered limit (RFC 8449), 64 to 16 385; None sends none.
        record_padding: Pad inner plaintexts to a multiple of this, in bytes; 0 for none.
        alpn_protocols: In order of preference; empty ignores ALPN.
        key_log: Receiver of secrets for tests, or None.
    """

    crypto: CryptoProvider
    rng: Rng
    suites: tuple[CipherSuite, ...] = DEFAULT_SUITES
    groups: tuple[NamedGroup, ...] = DEFAULT_GROUPS
    allow_psk_ke: bool = False
    middlebox_compatibility: bool = True
    record_size_limit: int | None = None
    record_padding: int = 0
    alpn_protocols: tuple[bytes, ...] = ()
    key_log: KeyLog | None = None

    def __post_init__(self) -> None:
        """Check what the wire can carry.

        Raises:
            LocalProtocolError: A limit is outside its range, or an ALPN name has not 1 to 255
                bytes.
        """
        limit = self.record_size_limit
        if limit is not None and not MIN_RECORD_SIZE_LIMIT <= limit <= MAX_INNER_SIZE:
            raise LocalProtocolError(f"record_size_limit of {limit}")
        if not 0 <= self.record_padding <= MAX_INNER_SIZE:
            raise LocalProtocolError(f"record_padding of {self.record_padding}")
        if not all(0 < len(name) <= MAX_ALPN_NAME_SIZE for name in self.alpn_protocols):
            raise LocalProtocolError("an ALPN name is empty or too long")


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """A client's part: whom it calls and with which key.

    Attributes:
        engine: What both roles share.
        psk: The key to offer.
        server_name: Sent as SNI; None sends no SNI.
        max_fragment_length: Code 1 to 4 of RFC 6066 §4, or None.
        extension_order: Order of the ClientHello's extensions; pre_shared_key is always last.
    """

    engine: EngineConfig
    psk: PreSharedKey
    server_name: str | None = None
    max_fragment_length: int | None = None
    extension_order: tuple[ExtensionType, ...] | None = None

    def __post_init__(self) -> None:
        """Check what the wire can carry, and that there is something to offer.

        Raises:
            LocalProtocolError: A wrong name or code, no suite for the PSK, or no way to use it.
        """
        name = self.server_name
        if name is not None and not (name and all("!" <= letter <= "~" for letter in name)):
            raise LocalProtocolError("the server name is not visible ASCII")
        code = self.max_fragment_length
        if code is not None and code not in MAX_FRAGMENT_LENGTHS:
            raise LocalProtocolError(f"max_fragment_length code {code}")
        if not self.suites:
            raise LocalProtocolError("no cipher suite goes with the hash of the PSK")
        if not self.engine.groups and not self.engine.allow_psk_ke:
            raise LocalProtocolError("neither a group nor psk_ke is offered")

    @property
    def suites(self) -> tuple[CipherSuite, ...]:
        """The suites whose hash is that of the PSK (RFC 8446 §4.2.11)."""
        return tuple(suite for suite in self.engine.suites if SUITES[suite].hash is self.psk.hash)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """A server's part.

    Attributes:
        engine: What both roles share.
        psks: Keys by identity; wrong identity and wrong binder look alike to the peer.
        hello_retry_request: Answer a missing share with HelloRetryRequest; else handshake_failure.
        check_psk_modes: Refuse a ClientHello without psk_key_exchange_modes (RFC 8446 §4.2.9).
        server_names: Names answered to, in lower case; any other gets unrecognized_name (RFC 6066
            §3). Empty answers to all names, and to clients that name none in any case.
        extension_order: Order of the ServerHello's extensions.
    """

    engine: EngineConfig
    psks: tuple[PreSharedKey, ...]
    hello_retry_request: bool = True
    check_psk_modes: bool = True
    server_names: tuple[str, ...] = ()
    extension_order: tuple[ExtensionType, ...] = (
        ExtensionType.PRE_SHARED_KEY,
        ExtensionType.KEY_SHARE,
        ExtensionType.SUPPORTED_VERSIONS,
    )

    def __post_init__(self) -> None:
        """Check that there is something to serve with.

        Raises:
            LocalProtocolError: There is no PSK.
        """
        if not self.psks:
            raise LocalProtocolError("a server without a PSK")
