# SPDX-License-Identifier: Apache-2.0
"""A client and a server engine joined back to back, whole or one byte at a time."""

from dataclasses import dataclass, field

from iose.crypto.pyca import PycaCrypto
from iose.tls import (
    ClientConfig,
    ClientEngine,
    EngineConfig,
    PreSharedKey,
    ServerConfig,
    ServerEngine,
)
from iose.tls.engine import TlsEngine
from iose.tls.events import Event
from tests.support.rng import SeededRng

IDENTITY = b"Client_identity"
KEY = bytes(range(1, 33))
PSK = PreSharedKey(IDENTITY, KEY)


def engine_config(seed: bytes = b"", **settings: object) -> EngineConfig:
    """Return a configuration whose random bytes follow from ``seed``."""
    return EngineConfig(PycaCrypto(), SeededRng(seed), **settings)  # type: ignore[arg-type]


def client_config(psk: PreSharedKey = PSK, **settings: object) -> ClientConfig:
    """Return a client's configuration; ``engine`` settings are taken from the same names."""
    own = {
        name: settings.pop(name)
        for name in ("server_name", "max_fragment_length", "extension_order")
        if name in settings
    }
    return ClientConfig(engine_config(b"client", **settings), psk, **own)  # type: ignore[arg-type]


def server_config(*psks: PreSharedKey, **settings: object) -> ServerConfig:
    """Return a server's configuration; ``engine`` settings are taken from the same names."""
    own = {
        name: settings.pop(name)
        for name in ("hello_retry_request", "check_psk_modes", "server_names", "extension_order")
        if name in settings
    }
    return ServerConfig(engine_config(b"server", **settings), psks or (PSK,), **own)  # type: ignore[arg-type]


def events_of(engine: TlsEngine) -> list[Event]:
    """Return every event not yet seen."""
    events: list[Event] = []
    while (event := engine.next_event()) is not None:
        events.append(event)
    return events


@dataclass
class EnginePair:
    """Both ends of one connection, and every record that passed."""

    client: TlsEngine
    server: TlsEngine
    step: int = 0
    client_records: list[bytes] = field(default_factory=list)
    server_records: list[bytes] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        client: ClientConfig | None = None,
        server: ServerConfig | None = None,
        *,
        step: int = 0,
    ) -> "EnginePair":
        """Return a pair that has not begun; ``step`` is the size of the pieces data travels in."""
        return cls(
            ClientEngine(client or client_config()), ServerEngine(server or server_config()), step
        )

    def start(self) -> "EnginePair":
        """Begin and exchange records until both are silent."""
        self.client.start()
        self.server.start()
        self.exchange()
        return self

    def exchange(self) -> None:
        """Pass records both ways until both are silent."""
        while True:
            forth = self.client.records_to_send()
            self.client_records += forth
            self.deliver(self.server, b"".join(forth))
            back = self.server.records_to_send()
            self.server_records += back
            self.deliver(self.client, b"".join(back))
            if not forth and not back:
                return

    def deliver(self, engine: TlsEngine, data: bytes) -> None:
        """Give bytes to one end, in pieces of ``step``, or whole when it is 0."""
        step = self.step or len(data) or 1
        for start in range(0, len(data), step):
            engine.receive_data(data[start : start + step])
