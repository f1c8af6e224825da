# SPDX-License-Identifier: Apache-2.0
"""Which element, under which identity, with which keys: settled before anything is opened."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from iose.client.credentials import Credential, CredentialsStore
from iose.client.errors import ElementUriError, MissingPskError
from iose.client.module import Module, ModuleSession
from iose.client.uri import DEFAULT_IDENTITY, ElementUri, decode_psk
from iose.crypto.pyca import PycaCrypto
from iose.tls.config import ClientConfig, EngineConfig, PreSharedKey
from iose.tls.constants import CipherSuite, NamedGroup

PSK_VARIABLE: Final = "IOSE_PSK"
# A chip takes one record of 512 bytes: no hybrid groups, no session id, one share.
SUITES: Final = (
    CipherSuite.TLS_AES_128_CCM_SHA256,
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
)
GROUPS: Final = (NamedGroup.SECP256R1, NamedGroup.X25519)


class SystemRng:
    """Random bytes of the operating system."""

    def random_bytes(self, count: int) -> bytes:
        """Return ``count`` unpredictable bytes."""
        return os.urandom(count)


_ENGINE: Final = EngineConfig(
    crypto=PycaCrypto(),
    rng=SystemRng(),
    suites=SUITES,
    groups=GROUPS,
    middlebox_compatibility=False,  # saves the card a record and 32 bytes of its buffer
)


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to open a session.

    Attributes:
        uri: Where the element is; its own key and commands are not looked at.
        credential: Identity and keys, the likelier key first.
        store: Where a change of key is written down before it is asked for.
    """

    uri: ElementUri
    credential: Credential
    store: CredentialsStore = field(repr=False)

    def client_config(self, psk: bytes | None) -> ClientConfig:
        """Return what an engine needs to offer one of the keys, None for one that is elsewhere."""
        key = PreSharedKey(self.credential.identity.encode(), psk)
        return ClientConfig(_ENGINE, key, server_name=self.uri.sen)


def resolve_access(
    uri: ElementUri | str,
    *,
    psk: bytes | None = None,
    module: Module | ModuleSession | None = None,
    identity: str | None = None,
    store: CredentialsStore | None = None,
    environment: Mapping[str, str] | None = None,
) -> Access:
    """Return the access to an element: the first key found, its identity, and where it is kept.

    Args:
        uri: The element. Its key comes after ``psk`` and before the store's.
        psk: The key, when the caller has it.
        module: Who has the key, when the caller has not; not together with a key.
        identity: The PSK identity; None takes the URI's, the store's, or the usual one.
        store: The credentials; None takes this user's file.
        environment: Where IOSE_PSK, the last resort, is looked for; None is the process's own.

    Raises:
        ElementUriError: The URI, or the key in the environment, is malformed, or there are a key
            and a module.
        MissingPskError: No key was found.
        CredentialsError: The credentials file cannot be used.
    """
    parsed = ElementUri.decode(uri) if isinstance(uri, str) else uri
    credentials = CredentialsStore() if store is None else store
    wanted = identity if identity is not None else parsed.identity
    given = psk if psk is not None else parsed.psk
    if module is not None:
        if given is not None:
            raise ElementUriError("found a key and a module", hint="leave one of them out")
        name = wanted or DEFAULT_IDENTITY
        return Access(parsed, Credential(parsed.address, identity=name, module=module), credentials)
    if given is None:
        kept = credentials.find(parsed.address, wanted)
        if kept is not None:
            return Access(parsed, kept, credentials)
        variables = os.environ if environment is None else environment
        if not (digits := variables.get(PSK_VARIABLE)):
            raise MissingPskError(
                f"no PSK is known for {parsed.address}",
                hint=f"iose credentials set '{parsed.scheme}://{parsed.address}/'",
            )
        given = _decode_variable(digits)
    credential = Credential(parsed.address, given, identity=wanted or DEFAULT_IDENTITY)
    return Access(parsed, credential, credentials)


def _decode_variable(digits: str) -> bytes:
    try:
        return decode_psk(digits)
    except ElementUriError as fault:
        raise ElementUriError(f"{PSK_VARIABLE}: {fault}", hint=fault.hint) from None
