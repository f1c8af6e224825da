# SPDX-License-Identifier: Apache-2.0
"""The server end of a TLS connection over a stream."""

from iose.tls.config import ServerConfig
from iose.tls.constants import TLS_1_2
from iose.tls.server.tls13 import WaitClientHello
from iose.tls.session import Session
from iose.tls.stream_engine import StreamEngine


class ServerEngine(StreamEngine):
    """A ``TlsEngine`` that waits for a ClientHello."""

    __slots__ = ()

    def __init__(self, config: ServerConfig) -> None:
        session = Session(config.engine, first_version=TLS_1_2)
        super().__init__(session, WaitClientHello(session, config))
