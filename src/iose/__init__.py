# SPDX-License-Identifier: Apache-2.0
"""TLS endpoints inside secure elements, reachable by URIs.

``with iose.connect("keyS://key1.com@127.0.0.1:8888") as element: element.public_key(0)``.
What is named here is imported when it is first used: a card needs no client, nor asyncio.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iose.client.asynchronous import AsyncElement, connect_async
    from iose.client.blocking import Element, connect
    from iose.client.credentials import CredentialsStore
    from iose.client.signature import verify_signature
    from iose.client.uri import ElementUri
    from iose.crypto.base import Curve
    from iose.wire.errors import IoseError

__all__ = [
    "AsyncElement",
    "CredentialsStore",
    "Curve",
    "Element",
    "ElementUri",
    "IoseError",
    "connect",
    "connect_async",
    "verify_signature",
]

_HOMES = {
    "AsyncElement": "iose.client.asynchronous",
    "CredentialsStore": "iose.client.credentials",
    "Curve": "iose.crypto.base",
    "Element": "iose.client.blocking",
    "ElementUri": "iose.client.uri",
    "IoseError": "iose.wire.errors",
    "connect": "iose.client.blocking",
    "connect_async": "iose.client.asynchronous",
    "verify_signature": "iose.client.signature",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
