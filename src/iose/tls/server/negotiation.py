# SPDX-License-Identifier: Apache-2.0
"""What a server makes of a ClientHello of TLS 1.3 (RFC 8446 §4.1.1, §9.2): checks, then choices.

Pure functions from message and configuration to a Choice or an error. The binder is verified
afterwards: here an unknown identity is quietly replaced by one that will be refused.
"""

from collections.abc import Collection
from dataclasses import dataclass

from iose.crypto.base import HashAlgorithm
from iose.tls.config import PreSharedKey, ServerConfig
from iose.tls.constants import (
    SSL_3_0,
    TLS_1_3,
    AlertDescription,
    CipherSuite,
    ExtensionType,
    NamedGroup,
    PskKeyExchangeMode,
)
from iose.tls.errors import TlsPeerError
from iose.tls.extensions import (
    ClientVersions,
    MaxFragmentLength,
    ProtocolNames,
    RecordSizeLimit,
    ServerName,
)
from iose.tls.key_extensions import ClientShares, OfferedPsks, PskModes, SupportedGroups
from iose.tls.messages import NO_COMPRESSION, ClientHello
from iose.tls.suites import SUITES

# what a client without PSK must send (RFC 8446 §9.2)
_WITHOUT_PSK = frozenset({ExtensionType.SIGNATURE_ALGORITHMS, ExtensionType.SUPPORTED_GROUPS})
_MAY_CHANGE = frozenset(
    {
        ExtensionType.KEY_SHARE,
        ExtensionType.PRE_SHARED_KEY,
        ExtensionType.EARLY_DATA,
        ExtensionType.PADDING,
    }
)


@dataclass(frozen=True, slots=True)
class PskChoice:
    """The identity a server goes on with.

    Attributes:
        psk: Our key. For an unknown identity some key of ours, so that both cost the same.
        index: Its place in the client's offer.
        binder: The client's binder for it.
        binders_size: What the ClientHello ends with that is not under the binder.
        is_known: Whether the identity was really ours.
    """

    psk: PreSharedKey
    index: int
    binder: bytes
    binders_size: int
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """Everything a server decides on one ClientHello.

    Attributes:
        suite: The cipher suite.
        psk: The key.
        group: The group, or None for psk_ke.
        share: The client's share for ``group``; None asks for a HelloRetryRequest.
        server_name: The name called, or None.
        alpn_protocol: The protocol chosen, or None.
        max_fragment_length: The code agreed to, or None.
        record_size_limit: The client's limit, if both have one.
        has_early_data: Whether 0-RTT records must be skipped.
    """

    suite: CipherSuite
    psk: PskChoice
    group: NamedGroup | None
    share: bytes | None
    server_name: str | None
    alpn_protocol: bytes | None
    max_fragment_length: MaxFragmentLength | None
    record_size_limit: int | None
    has_early_data: bool

    @property
    def needs_retry(self) -> bool:
        """Whether the client must send a share for ``group`` first."""
        return self.group is not None and self.share is None


def choose(config: ServerConfig, hello: ClientHello) -> Choice:
    """Return what the server decides on a ClientHello (RFC 8446 §4.1.1).

    Raises:
        DecodeError: An extension does not fit its syntax.
        TlsPeerError: The ClientHello breaks a rule, or there is nothing in common.
    """
    _check_hello(hello)
    suites = [suite for suite in config.engine.suites if suite in hello.cipher_suites]
    psk = _choose_psk(config, hello, {SUITES[suite].hash for suite in suites})
    group, share = _choose_group(config, hello)
    record_size_limit = _choose_record_size_limit(config, hello)
    return Choice(
        suite=next(suite for suite in suites if SUITES[suite].hash is psk.psk.hash),
        psk=psk,
        group=group,
        share=share,
        server_name=_choose_server_name(config, hello),
        alpn_protocol=_choose_alpn(config, hello),
        max_fragment_length=(
            None if record_size_limit is not None else _choose_max_fragment_length(hello)
        ),
        record_size_limit=record_size_limit,
        has_early_data=ExtensionType.EARLY_DATA in hello.extensions,
    )


def check_second_hello(first: ClientHello, second: ClientHello, choice: Choice) -> None:
    """Check that a ClientHello after HelloRetryRequest is the first with a share (RFC 8446 §4.1.2).

    Raises:
        TlsPeerError: It differs in something else, or the share is not the one asked for.
    """
    unchanged = (
        first.random == second.random
        and first.session_id == second.session_id
        and first.cipher_suites == second.cipher_suites
        and first.legacy_version == second.legacy_version
        and _fixed_extensions(first) == _fixed_extensions(second)
    )
    if not unchanged or ExtensionType.EARLY_DATA in second.extensions:
        raise TlsPeerError(
            AlertDescription.ILLEGAL_PARAMETER, "the second client_hello differs from the first"
        )
    shares = ClientShares.decode(second.extensions.get(ExtensionType.KEY_SHARE, b"\x00\x00"))
    if [entry.group for entry in shares.entries] != [choice.group]:
        raise TlsPeerError(
            AlertDescription.ILLEGAL_PARAMETER, "not the share the retry request asked for"
        )


def _fixed_extensions(hello: ClientHello) -> dict[int, bytes]:
    return {kind: body for kind, body in hello.extensions.items() if kind not in _MAY_CHANGE}


def _check_hello(hello: ClientHello) -> None:
    if hello.legacy_version <= SSL_3_0:
        raise TlsPeerError(AlertDescription.PROTOCOL_VERSION, "SSL 3.0 or older")
    versions = hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    if versions is None or TLS_1_3 not in ClientVersions.decode(versions).versions:
        raise TlsPeerError(AlertDescription.PROTOCOL_VERSION, "the client does not speak TLS 1.3")
    if hello.compression_methods != NO_COMPRESSION:
        raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, "compression is offered")
    if hello.extensions.get(ExtensionType.EARLY_DATA):
        raise TlsPeerError(AlertDescription.DECODE_ERROR, "early_data is not empty")


def _choose_psk(
    config: ServerConfig, hello: ClientHello, hashes: Collection[HashAlgorithm]
) -> PskChoice:
    # the first identity that is ours and goes with a common suite (RFC 8446 §4.2.11)
    offer = _offered_psks(config, hello)
    usable = {psk.identity: psk for psk in config.psks if psk.hash in hashes}
    if not usable:
        raise TlsPeerError(AlertDescription.HANDSHAKE_FAILURE, "no cipher suite in common")
    size = offer.binders_size
    for index, item in enumerate(offer.identities):
        if item.identity in usable:
            return PskChoice(usable[item.identity], index, offer.binders[index], size)
    # one of ours, of the hash the binder suggests, to be verified and refused in any case
    binder = offer.binders[0]
    alike = [psk for psk in usable.values() if psk.hash.digest_size == len(binder)]
    decoy, *_ = alike or usable.values()
    return PskChoice(decoy, 0, binder, size, is_known=False)


def _offered_psks(config: ServerConfig, hello: ClientHello) -> OfferedPsks:
    extensions = hello.extensions
    body = extensions.get(ExtensionType.PRE_SHARED_KEY)
    if body is None:
        if extensions.keys() >= _WITHOUT_PSK:
            raise TlsPeerError(AlertDescription.HANDSHAKE_FAILURE, "the client offers no PSK")
        raise TlsPeerError(
            AlertDescription.MISSING_EXTENSION, "neither pre_shared_key nor signature_algorithms"
        )
    if [*extensions][-1] != ExtensionType.PRE_SHARED_KEY:
        raise TlsPeerError(AlertDescription.ILLEGAL_PARAMETER, "pre_shared_key is not last")
    if config.check_psk_modes and ExtensionType.PSK_KEY_EXCHANGE_MODES not in extensions:
        raise TlsPeerError(AlertDescription.MISSING_EXTENSION, "no psk_key_exchange_modes")
    return OfferedPsks.decode(body)


def _choose_group(
    config: ServerConfig, hello: ClientHello
) -> tuple[NamedGroup | None, bytes | None]:
    modes = _offered_modes(hello)
    offered, shares = _offered_groups(hello)
    common = [group for group in config.engine.groups if group in offered]
    if PskKeyExchangeMode.PSK_DHE_KE in modes and common:
        for group in common:
            if group in shares:
                return group, shares[group]
        if config.hello_retry_request:
            return common[0], None
    if PskKeyExchangeMode.PSK_KE in modes and config.engine.allow_psk_ke:
        return None, None
    if PskKeyExchangeMode.PSK_DHE_KE in modes and not offered:
        raise TlsPeerError(AlertDescription.MISSING_EXTENSION, "psk_dhe_ke without key_share")
    raise TlsPeerError(AlertDescription.HANDSHAKE_FAILURE, "no group or PSK mode in common")


def _offered_modes(hello: ClientHello) -> tuple[int, ...]:
    body = hello.extensions.get(ExtensionType.PSK_KEY_EXCHANGE_MODES)
    return (PskKeyExchangeMode.PSK_DHE_KE,) if body is None else PskModes.decode(body).modes


def _offered_groups(hello: ClientHello) -> tuple[tuple[int, ...], dict[int, bytes]]:
    groups_body = hello.extensions.get(ExtensionType.SUPPORTED_GROUPS)
    shares_body = hello.extensions.get(ExtensionType.KEY_SHARE)
    if groups_body is None and shares_body is None:
        return (), {}
    if groups_body is None or shares_body is None:
        raise TlsPeerError(
            AlertDescription.MISSING_EXTENSION, "supported_groups and key_share go together"
        )
    groups = SupportedGroups.decode(groups_body).groups
    entries = ClientShares.decode(shares_body).entries
    shares = {entry.group: entry.key_exchange for entry in entries}
    if len(shares) != len(entries) or not shares.keys() <= set(groups):
        raise TlsPeerError(
            AlertDescription.ILLEGAL_PARAMETER, "key_share does not fit supported_groups"
        )
    return groups, shares


def _choose_server_name(config: ServerConfig, hello: ClientHello) -> str | None:
    body = hello.extensions.get(ExtensionType.SERVER_NAME)
    if body is None:
        return None
    name = ServerName.decode(body).host_name
    if config.server_names and name.lower() not in config.server_names:
        raise TlsPeerError(AlertDescription.UNRECOGNIZED_NAME, f"no server is called {name}")
    return name


def _choose_alpn(config: ServerConfig, hello: ClientHello) -> bytes | None:
    body = hello.extensions.get(ExtensionType.ALPN)
    if body is None or not config.engine.alpn_protocols:
        return None
    offered = ProtocolNames.decode(body).names
    for protocol in config.engine.alpn_protocols:
        if protocol in offered:
            return protocol
    raise TlsPeerError(
        AlertDescription.NO_APPLICATION_PROTOCOL, "no application protocol in common"
    )


def _choose_record_size_limit(config: ServerConfig, hello: ClientHello) -> int | None:
    body = hello.extensions.get(ExtensionType.RECORD_SIZE_LIMIT)
    if body is None or config.engine.record_size_limit is None:
        return None
    return RecordSizeLimit.decode(body).limit


def _choose_max_fragment_length(hello: ClientHello) -> MaxFragmentLength | None:
    body = hello.extensions.get(ExtensionType.MAX_FRAGMENT_LENGTH)
    return None if body is None else MaxFragmentLength.decode(body)
