# SPDX-License-Identifier: Apache-2.0
"""TLS endpoints inside secure elements, reachable by URIs.

``with iose.connect("keyS://key1.com@127.0.0.1:8888") as element: element.public_key(0)``.
What is named here is imported when it is first used: a card needs no client, nor asyncio.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iose.client.asynchronous import AsyncElement, connect_async
    from iose.client.attestation import (
        Attestation,
        verify_certificate,
        verify_proof,
        verify_statement,
    )
    from iose.client.blocking import Element, connect
    from iose.client.credentials import Credential, CredentialsStore
    from iose.client.errors import (
        AnswerError,
        AttestationError,
        AuthenticationError,
        CredentialsError,
        ElementBusyError,
        ElementUriError,
        HandshakeError,
        KeystoreError,
        MissingPskError,
        ModuleError,
        ModulePinError,
        PskChangeError,
        SessionClosedError,
        SessionError,
        SessionTimeoutError,
        UnknownNameError,
        UnreachableError,
    )
    from iose.client.module import HopModule, RacsModule
    from iose.client.module_card import CardModule
    from iose.client.module_place import ReaderModule
    from iose.client.signature import lower_s, verify_signature
    from iose.client.uri import ElementUri
    from iose.crypto.base import Curve, HashAlgorithm
    from iose.crypto.errors import CryptoError, InvalidSignatureError
    from iose.wire.errors import IoseError, LocalProtocolError

__all__ = [
    "AnswerError",
    "AsyncElement",
    "Attestation",
    "AttestationError",
    "AuthenticationError",
    "CardModule",
    "Credential",
    "CredentialsError",
    "CredentialsStore",
    "CryptoError",
    "Curve",
    "Element",
    "ElementBusyError",
    "ElementUri",
    "ElementUriError",
    "HandshakeError",
    "HashAlgorithm",
    "HopModule",
    "InvalidSignatureError",
    "IoseError",
    "KeystoreError",
    "LocalProtocolError",
    "MissingPskError",
    "ModuleError",
    "ModulePinError",
    "PskChangeError",
    "RacsModule",
    "ReaderModule",
    "SessionClosedError",
    "SessionError",
    "SessionTimeoutError",
    "UnknownNameError",
    "UnreachableError",
    "connect",
    "connect_async",
    "lower_s",
    "verify_certificate",
    "verify_proof",
    "verify_signature",
    "verify_statement",
]

_HOMES = {
    "iose.client.asynchronous": ("AsyncElement", "connect_async"),
    "iose.client.attestation": (
        "Attestation",
        "verify_certificate",
        "verify_proof",
        "verify_statement",
    ),
    "iose.client.blocking": ("Element", "connect"),
    "iose.client.credentials": ("Credential", "CredentialsStore"),
    "iose.client.module": ("HopModule", "RacsModule"),
    "iose.client.module_card": ("CardModule",),
    "iose.client.module_place": ("ReaderModule",),
    "iose.client.signature": ("lower_s", "verify_signature"),
    "iose.client.uri": ("ElementUri",),
    "iose.crypto.base": ("Curve", "HashAlgorithm"),
    "iose.crypto.errors": ("CryptoError", "InvalidSignatureError"),
    "iose.wire.errors": ("IoseError", "LocalProtocolError"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    homes = (home for home, names in _HOMES.items() if name in names)
    return getattr(import_module(next(homes, "iose.client.errors")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
