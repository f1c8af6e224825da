# SPDX-License-Identifier: Apache-2.0
"""The ClientHello of TLS 1.3 with an external PSK (RFC 8446 §4.1.2), first and second."""

from dataclasses import dataclass, field
from typing import Final

from iose.crypto.base import KeyExchange
from iose.tls.config import ClientConfig
from iose.tls.constants import (
    TLS_1_3,
    ExtensionType,
    NamedGroup,
    PskKeyExchangeMode,
)
from iose.tls.extensions import (
    ClientVersions,
    Cookie,
    MaxFragmentLength,
    ProtocolNames,
    RecordSizeLimit,
    ServerName,
)
from iose.tls.key_extensions import (
    ClientShares,
    KeyShareEntry,
    OfferedPsks,
    PskIdentity,
    PskModes,
    SupportedGroups,
)
from iose.tls.messages import ClientHello
from iose.tls.suites import GROUPS

SESSION_ID_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class ClientOffer:
    """One ClientHello without its binder, and the private half of its share.

    Attributes:
        hello: The message; its binder is zeros.
        encoded: The same, as bytes.
        binders_size: What a binder does not cover, at the end.
        group: The group of the share, or None for psk_ke alone.
        share: The key pair of the share.
    """

    hello: ClientHello
    encoded: bytes
    binders_size: int
    group: NamedGroup | None
    share: KeyExchange | None = field(repr=False)

    @property
    def truncated(self) -> bytes:
        """What the binder is computed over (RFC 8446 §4.2.11.2)."""
        return self.encoded[: -self.binders_size]

    def with_binder(self, binder: bytes) -> bytes:
        """Return the message to send."""
        return self.encoded[: -len(binder)] + binder


def make_first_offer(config: ClientConfig, random: bytes, session_id: bytes) -> ClientOffer:
    """Return the first ClientHello, with a share for the first group."""
    group = config.engine.groups[0] if config.engine.groups else None
    extensions = _fixed_extensions(config)
    share = None
    if group is not None:
        share = config.engine.crypto.generate_key_exchange(GROUPS[group], config.engine.rng)
        extensions[ExtensionType.KEY_SHARE] = _encode_share(group, share)
    hello = ClientHello(random, session_id, config.suites, _ordered(config, extensions))
    return _sealed(config, hello, group, share)


def make_second_offer(
    config: ClientConfig, first: ClientOffer, group: NamedGroup | None, cookie: Cookie | None
) -> ClientOffer:
    """Return the ClientHello after HelloRetryRequest (RFC 8446 §4.1.2).

    Args:
        config: As for the first.
        first: What was sent first.
        group: The group asked for; None keeps the first share.
        cookie: To be given back, if there was one.
    """
    extensions = dict(first.hello.extensions)
    del extensions[ExtensionType.PRE_SHARED_KEY]
    share = first.share
    if group is not None:
        share = config.engine.crypto.generate_key_exchange(GROUPS[group], config.engine.rng)
        extensions[ExtensionType.KEY_SHARE] = _encode_share(group, share)
    if cookie is not None:
        extensions[ExtensionType.COOKIE] = cookie.encode()
    hello = ClientHello(
        first.hello.random, first.hello.session_id, first.hello.cipher_suites, extensions
    )
    return _sealed(config, hello, group or first.group, share)


def _sealed(
    config: ClientConfig, hello: ClientHello, group: NamedGroup | None, share: KeyExchange | None
) -> ClientOffer:
    psks = OfferedPsks((PskIdentity(config.psk.identity),), (bytes(config.psk.hash.digest_size),))
    extensions = {**hello.extensions, ExtensionType.PRE_SHARED_KEY: psks.encode()}
    hello = ClientHello(hello.random, hello.session_id, hello.cipher_suites, extensions)
    return ClientOffer(hello, hello.encode(), psks.binders_size, group, share)


def _fixed_extensions(config: ClientConfig) -> dict[int, bytes]:
    engine = config.engine
    extensions: dict[int, bytes] = {}
    if config.server_name is not None:
        extensions[ExtensionType.SERVER_NAME] = ServerName(config.server_name).encode()
    if config.max_fragment_length is not None:
        code = MaxFragmentLength(config.max_fragment_length)
        extensions[ExtensionType.MAX_FRAGMENT_LENGTH] = code.encode()
    if engine.groups:
        extensions[ExtensionType.SUPPORTED_GROUPS] = SupportedGroups(engine.groups).encode()
    if engine.alpn_protocols:
        extensions[ExtensionType.ALPN] = ProtocolNames(engine.alpn_protocols).encode()
    if engine.record_size_limit is not None:
        limit = RecordSizeLimit(engine.record_size_limit)
        extensions[ExtensionType.RECORD_SIZE_LIMIT] = limit.encode()
    extensions[ExtensionType.SUPPORTED_VERSIONS] = ClientVersions((TLS_1_3,)).encode()
    extensions[ExtensionType.PSK_KEY_EXCHANGE_MODES] = PskModes(offered_modes(config)).encode()
    return extensions


def offered_modes(config: ClientConfig) -> tuple[PskKeyExchangeMode, ...]:
    """Return the ways we take the PSK, best first (RFC 8446 §4.2.9)."""
    dhe = (PskKeyExchangeMode.PSK_DHE_KE,) if config.engine.groups else ()
    return (*dhe, PskKeyExchangeMode.PSK_KE) if config.engine.allow_psk_ke else dhe


def _ordered(config: ClientConfig, extensions: dict[int, bytes]) -> dict[int, bytes]:
    wanted = config.extension_order or ()
    order = (*(kind for kind in wanted if kind in extensions), *extensions)
    return {kind: extensions[kind] for kind in order}


def _encode_share(group: NamedGroup, share: KeyExchange) -> bytes:
    return ClientShares((KeyShareEntry(group, share.public_share),)).encode()
