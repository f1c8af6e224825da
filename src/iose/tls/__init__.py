# SPDX-License-Identifier: Apache-2.0
"""The sans-IO TLS engine; it runs just as well without any card."""

from iose.tls.client.engine import ClientEngine
from iose.tls.config import ClientConfig, EngineConfig, PreSharedKey, ServerConfig
from iose.tls.engine import TlsEngine
from iose.tls.errors import AlertReceived, TlsPeerError
from iose.tls.server.engine import ServerEngine

__all__ = [
    "AlertReceived",
    "ClientConfig",
    "ClientEngine",
    "EngineConfig",
    "PreSharedKey",
    "ServerConfig",
    "ServerEngine",
    "TlsEngine",
    "TlsPeerError",
]
