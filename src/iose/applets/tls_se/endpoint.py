# SPDX-License-Identifier: Apache-2.0
"""The TLS server of an element: its engine, set up by settings and PSKs (tls-se.md §8).

Test mode replaces key exchange and random by constants, as the published applets do when the host
asks for it; a personalised hardened element never makes such an engine.
"""

from dataclasses import dataclass
from typing import Final, cast

from iose.applet_api import AppletContext
from iose.applets.tls_se.settings import RECORD_OVERHEAD
from iose.applets.tls_se.state import ElementState, Flag, Name
from iose.crypto.base import CryptoProvider, Group, Rng
from iose.tls.config import EngineConfig, PreSharedKey, ServerConfig
from iose.tls.constants import CipherSuite, NamedGroup
from iose.tls.engine import TlsEngine
from iose.tls.server.engine import ServerEngine

WIDEST_RECORD: Final = 16_385  # RFC 8449 §4: a full record and its content type


@dataclass(slots=True)
class TestValues:
    """Constants of test mode, until the host gives others (tls-se.md §12)."""

    __test__ = False  # pytest collects classes by this name

    shared_secret: bytes = bytes.fromhex(
        "6400FFBEDDCC892726FE239EA1A114BA4F35E713197FDA3708518EECA42679F8"
    )
    key_share: bytes = bytes.fromhex(
        "040B5A6EC31366D6FC7ACB5C0E6EF15335D4DE88B04A5E4CE493E6B8FFB46B243F"
        "3261FAB90AA141A5FE646410204FEA2DC45823710AE71606A38D2E42A7D574FF"
    )
    random: bytes = bytes.fromhex(
        "3E098DC904020111CFE180CDF3A9D699E7E3B22599F4F9793A06BA124827C475"
    )


def new_engine(
    context: AppletContext, state: ElementState, test_values: TestValues | None
) -> TlsEngine:
    """Return an engine that waits for a ClientHello; ``test_values`` None is the real thing."""
    crypto, rng = context.crypto, context.rng
    if test_values is not None:
        crypto = cast("CryptoProvider", _FixedKeyExchange(crypto, test_values))
        rng = _FixedRng(test_values.random)
    psks = _pre_shared_keys(state)
    if not state.profile.settings.is_hardened:
        return ServerEngine(_reference_config(crypto, rng, psks, state))
    chip = state.profile.settings.has_chip_limits
    inner_size = state.profile.settings.record_buffer - RECORD_OVERHEAD + 1
    engine = EngineConfig(crypto, rng, record_size_limit=inner_size if chip else WIDEST_RECORD)
    return ServerEngine(ServerConfig(engine, psks, server_names=_server_names(state)))


def _reference_config(
    crypto: CryptoProvider, rng: Rng, psks: tuple[PreSharedKey, ...], state: ElementState
) -> ServerConfig:
    engine = EngineConfig(
        crypto,
        rng,
        suites=(CipherSuite.TLS_AES_128_CCM_SHA256,),
        groups=(NamedGroup.SECP256R1,),
        middlebox_compatibility=False,
    )
    return ServerConfig(
        engine,
        psks,
        hello_retry_request=False,
        check_psk_modes=False,
        server_names=_server_names(state),
    )


def _pre_shared_keys(state: ElementState) -> tuple[PreSharedKey, ...]:
    keys = []
    owner = state.psk()
    if state.module is not None:
        keys.append(PreSharedKey(state.identity, None))  # the engine asks, the session answers
    elif owner is not None:
        keys.append(PreSharedKey(state.identity, None, secrets=owner.schedule_secrets()))
    if state.flags & Flag.GUEST_ENABLED:
        guest = state.psk(Name.GUEST_PSK)
        if guest is not None:
            secrets = guest.schedule_secrets()
            keys.append(PreSharedKey(state.guest_identity, None, secrets=secrets))
    return tuple(keys)


def _server_names(state: ElementState) -> tuple[str, ...]:
    if not state.flags & Flag.CHECK_SERVER_NAME:
        return ()
    return (state.text(Name.ELEMENT_NAME).decode("ascii", "replace").lower(),)


class _FixedKeyExchange:
    """Primitives whose key exchange is a constant; all others are the real ones."""

    def __init__(self, crypto: CryptoProvider, values: TestValues) -> None:
        self._crypto = crypto
        self._values = values

    def respond_key_exchange(
        self, _group: Group, _peer_share: bytes, _rng: Rng
    ) -> tuple[bytes, bytes]:
        return self._values.key_share, self._values.shared_secret

    def __getattr__(self, name: str) -> object:
        return getattr(self._crypto, name)


class _FixedRng:
    """An Rng that always gives the same 32 bytes: the server's random."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def random_bytes(self, count: int) -> bytes:
        return self._value[:count]
