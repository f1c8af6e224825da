# SPDX-License-Identifier: Apache-2.0
"""The client end of a TLS connection over a stream."""

from iose.tls.client.tls13 import ClientHandshake
from iose.tls.config import ClientConfig
from iose.tls.session import Session
from iose.tls.states import Pause, State
from iose.tls.stream_engine import StreamEngine
from iose.tls.transcript import Transcript


class ClientEngine(StreamEngine):
    """A ``TlsEngine`` that sends a ClientHello when it is started."""

    __slots__ = ()

    def __init__(self, config: ClientConfig) -> None:
        session = Session(config.engine)
        transcript = Transcript(config.engine.crypto, config.psk.hash)
        handshake = ClientHandshake(session, config, transcript)
        super().__init__(session, Pause(State.CLIENT_START, lambda _: handshake.start()))
