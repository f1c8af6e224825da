# SPDX-License-Identifier: Apache-2.0
"""What a client makes of a server's ServerHello, HelloRetryRequest and EncryptedExtensions.

Pure functions from message and offer to a value or an error (RFC 8446 §4.1.3, §4.1.4, §4.2).
"""

from collections.abc import Collection
from dataclasses import dataclass

from iose.tls.client.hello import ClientOffer, offered_modes
from iose.tls.config import ClientConfig
from iose.tls.constants import (
    MAX_INNER_SIZE,
    TLS_1_2,
    TLS_1_3,
    AlertDescription,
    CipherSuite,
    ExtensionType,
    NamedGroup,
    PskKeyExchangeMode,
)
from iose.tls.errors import TlsPeerError
from iose.tls.extensions import (
    Cookie,
    MaxFragmentLength,
    ProtocolNames,
    RecordSizeLimit,
    SelectedNumber,
)
from iose.tls.key_extensions import KeyShareEntry, SupportedGroups
from iose.tls.messages import ClientHello, Extensions, ServerHello

_IN_SERVER_HELLO = (
    ExtensionType.PRE_SHARED_KEY,
    ExtensionType.KEY_SHARE,
    ExtensionType.SUPPORTED_VERSIONS,
)
_IN_RETRY_REQUEST = (
    ExtensionType.COOKIE,
    ExtensionType.KEY_SHARE,
    ExtensionType.SUPPORTED_VERSIONS,
)
_IN_ENCRYPTED_EXTENSIONS = (
    ExtensionType.SERVER_NAME,
    ExtensionType.MAX_FRAGMENT_LENGTH,
    ExtensionType.SUPPORTED_GROUPS,
    ExtensionType.ALPN,
    ExtensionType.RECORD_SIZE_LIMIT,
)


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What a ServerHello settles.

    Attributes:
        suite: The cipher suite.
        group: The group, or None for psk_ke.
        share: The server's share for ``group``.
    """

    suite: CipherSuite
    group: NamedGroup | None
    share: bytes | None


@dataclass(frozen=True, slots=True)
class RetryRequest:
    """What a HelloRetryRequest asks for: a share for ``group``, ``cookie`` back, or both."""

    suite: int
    group: NamedGroup | None
    cookie: Cookie | None


@dataclass(frozen=True, slots=True)
class ServerParameters:
    """What EncryptedExtensions settle."""

    alpn_protocol: bytes | None
    max_fragment_length: MaxFragmentLength | None
    record_size_limit: int | None


def check_server_hello(offered: ClientHello, hello: ServerHello) -> None:
    """Check what ServerHello and HelloRetryRequest have in common (RFC 8446 §4.1.3, §4.2.1).

    Raises:
        DecodeError: The version does not fit its syntax.
        TlsPeerError: The server does not speak TLS 1.3, or echoes something else than we sent.
    """
    version = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    if version is None:
        raise TlsPeerError(AlertDescription.PROTOCOL_VERSION, "the server does not speak TLS 1.3")
    faithful = (
        SelectedNumber.decode(version).number == TLS_1_3
        and hello.legacy_version == TLS_1_2
        and hello.session_id == offered.session_id
        and hello.cipher_suite in offered.cipher_suites
        and hello.compression_method == 0
    )
    if not faithful:
        raise TlsPeerError(
            AlertDescription.ILLEGAL_PARAMETER, "the server_hello does not fit our client_hello"
        )
    allowed = _IN_RETRY_REQUEST if hello.is_retry_request else _IN_SERVER_HELLO
    unasked = (ExtensionType.COOKIE,) if hello.is_retry_request else ()
    _check_extensions(hello.extensions, allowed, {*offered.extensions, *unasked})


def read_answer(config: ClientConfig, offer: ClientOffer, hello: ServerHello) -> ServerAnswer:
    """Return what a ServerHello settles (RFC 8446 §4.1.3).

    Raises:
        DecodeError: An extension does not fit its syntax.
        TlsPeerError: It does not take our PSK, or not in a way we offered.
    """
    selected = hello.extensions.get(ExtensionType.PRE_SHARED_KEY)
    if selected is None:
        raise TlsPeerError(AlertDescription.HANDSHAKE_FAILURE, "the server does not take our PSK")
    if SelectedNumber.decode(selected).number != 0:
        raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, "a PSK identity we did not offer")
    suite = CipherSuite(hello.cipher_suite)
    body = hello.extensions.get(ExtensionType.KEY_SHARE)
    if body is None:
        if PskKeyExchangeMode.PSK_KE not in offered_modes(config):
            raise TlsPeerError(AlertDescription.MISSING_EXTENSION, "the server sends no key_share")
        return ServerAnswer(suite, None, None)
    entry = KeyShareEntry.decode(body)
    if entry.group != offer.group:
        raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, "a share for another group")
    return ServerAnswer(suite, offer.group, entry.key_exchange)


def read_retry_request(
    config: ClientConfig, offer: ClientOffer, hello: ServerHello
) -> RetryRequest:
    """Return what a HelloRetryRequest asks for (RFC 8446 §4.1.4, §4.2.8).

    Raises:
        DecodeError: An extension does not fit its syntax.
        TlsPeerError: It would change nothing, or asks for a group we have not.
    """
    group_body = hello.extensions.get(ExtensionType.KEY_SHARE)
    cookie_body = hello.extensions.get(ExtensionType.COOKIE)
    group: NamedGroup | None = None
    if group_body is not None:
        number = SelectedNumber.decode(group_body).number
        if number not in config.engine.groups or number == offer.group:
            raise TlsPeerError(
                AlertDescription.ILLEGAL_PARAMETER, f"a retry request for group {number}"
            )
        group = NamedGroup(number)
    cookie = None if cookie_body is None else Cookie.decode(cookie_body)
    if group is None and cookie is None:
        raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, "a retry request for nothing")
    return RetryRequest(hello.cipher_suite, group, cookie)


def read_parameters(
    config: ClientConfig, offered: ClientHello, extensions: Extensions
) -> ServerParameters:
    """Return what EncryptedExtensions settle (RFC 8446 §4.3.1).

    Raises:
        DecodeError: An extension does not fit its syntax.
        TlsPeerError: The server agrees to what we did not offer.
    """
    _check_extensions(extensions, _IN_ENCRYPTED_EXTENSIONS, offered.extensions)
    if extensions.get(ExtensionType.SERVER_NAME):
        raise TlsPeerError(AlertDescription.DECODE_ERROR, "the server's server_name is not empty")
    groups = extensions.get(ExtensionType.SUPPORTED_GROUPS)
    if groups is not None:
        SupportedGroups.decode(groups)
    max_fragment_length = _read_max_fragment_length(config, extensions)
    record_size_limit = _read_record_size_limit(extensions)
    if max_fragment_length is not None and record_size_limit is not None:
        raise TlsPeerError(
            AlertDescription.ILLEGAL_PARAMETER, "both max_fragment_length and record_size_limit"
        )
    return ServerParameters(_read_alpn(config, extensions), max_fragment_length, record_size_limit)


def _check_extensions(
    extensions: Extensions, allowed: Collection[int], offered: Collection[int]
) -> None:
    for kind in extensions:
        if kind not in offered:
            raise TlsPeerError(
                AlertDescription.UNSUPPORTED_EXTENSION, f"extension {kind} was not offered"
            )
        if kind not in allowed:
            raise TlsPeerError(
                AlertDescription.ILLEGAL_PARAMETER, f"extension {kind} has no place here"
            )


def _read_alpn(config: ClientConfig, extensions: Extensions) -> bytes | None:
    body = extensions.get(ExtensionType.ALPN)
    if body is None:
        return None
    names = ProtocolNames.decode(body).names
    if len(names) != 1 or names[0] not in config.engine.alpn_protocols:
        raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, "a protocol that was not offered")
    return names[0]


def _read_max_fragment_length(
    config: ClientConfig, extensions: Extensions
) -> MaxFragmentLength | None:
    body = extensions.get(ExtensionType.MAX_FRAGMENT_LENGTH)
    if body is None:
        return None
    agreed = MaxFragmentLength.decode(body)
    if agreed.code != config.max_fragment_length:
        raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, "another max_fragment_length")
    return agreed


def _read_record_size_limit(extensions: Extensions) -> int | None:
    body = extensions.get(ExtensionType.RECORD_SIZE_LIMIT)
    if body is None:
        return None
    limit = RecordSizeLimit.decode(body).limit
    if limit > MAX_INNER_SIZE:
        raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, f"record_size_limit of {limit}")
    return limit
