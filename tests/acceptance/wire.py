# SPDX-License-Identifier: Apache-2.0
"""Our TLS client over a socket, each record in the test's hands before it is sent or taken."""

import os
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from iose.crypto.pyca import PycaCrypto
from iose.tls import AlertReceived, ClientConfig, ClientEngine, EngineConfig, PreSharedKey
from iose.tls.constants import AlertDescription, CipherSuite, NamedGroup
from iose.tls.events import ApplicationData, HandshakeComplete, PeerClosed
from tests.support.node import PATIENCE_S, LoggedNode, NodeElement

HEADER_SIZE = 5
CHIP: dict[str, Any] = {  # what elements with the limits of chips understand
    "suites": (CipherSuite.TLS_AES_128_CCM_SHA256,),
    "groups": (NamedGroup.SECP256R1,),
}
Spoil = Callable[[int, bytes], bytes]
"""Given the number of a record and the record, returns what is sent in its place."""


class OsRng:
    """The machine's entropy."""

    def random_bytes(self, count: int) -> bytes:
        """Return so many bytes."""
        return os.urandom(count)


class WireClient:
    """One connection to the front.

    Attributes:
        sent: Every record sent, as it should have been.
        received: All bytes that came.
        alert: What the other side ended the session with, if it said so.
        secrets: The session's secrets by label, as in a key log.
        complete: What the handshake agreed on.
    """

    def __init__(
        self, node: LoggedNode, element: NodeElement, *, spoil: Spoil | None = None, **engine: Any
    ) -> None:
        self.sent: list[bytes] = []
        self.received = b""
        self.alert: AlertDescription | None = None
        self.secrets: dict[str, bytes] = {}
        self.complete: HandshakeComplete | None = None
        self._spoil = spoil
        self._answers: list[bytes] = []
        crypto = PycaCrypto()
        config = EngineConfig(crypto, OsRng(), key_log=self._keep_secret, **engine)
        psk = PreSharedKey(element.identity.encode(), element.psk)
        self.engine = ClientEngine(ClientConfig(config, psk, server_name=element.sen or None))
        self._node = node
        self._log_mark = node.log_mark()  # a port is soon used again
        self._socket = socket.create_connection(node.address, PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address: tuple[str, int] = self._socket.getsockname()

    def __enter__(self) -> "WireClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ended(self) -> dict[str, Any]:
        """Return the node's word on how this session ended, when it is there."""
        peer = "{}:{}".format(*self.address[:2])
        return self._node.wait_logged("session.ended", self._log_mark, peer=peer)

    def start(self) -> None:
        """Send the ClientHello."""
        self.engine.start()
        self.flush()

    def handshake(self) -> bool:
        """Go through the handshake; return whether the session is open."""
        self.start()
        return self.finish_handshake()

    def finish_handshake(self) -> bool:
        """Go on after ``start``; return whether the session is open."""
        while self.complete is None and self._take_some():
            pass
        return self.complete is not None

    def call(self, line: bytes) -> bytes:
        """Return the answer to one line; b"" when the session ended instead."""
        self.say(line)
        return self.answer()

    def say(self, line: bytes) -> None:
        """Send one line."""
        self.engine.send_data(line + b"\n")
        self.flush()

    def answer(self) -> bytes:
        """Return the next answer, without its line end."""
        while not self._answers:
            if not self._take_some():
                return b""
        return self._answers.pop(0).removesuffix(b"\r\n")

    def goodbye(self) -> AlertDescription | None:
        """Ask the element to end the session; return the alert it ends with."""
        self.say(b"?02")
        self.rest()
        return self.alert

    def close(self) -> None:
        """Send close_notify."""
        self.engine.close()
        self.flush()

    def rest(self) -> bytes:
        """Take everything up to the end of the stream, which must come; return the bytes."""
        before = len(self.received)
        while self._take_some():
            pass
        return self.received[before:]

    def drain(self) -> bytes:
        """Return all bytes up to the end of the stream, which must come; nothing answers them."""
        while data := self._socket.recv(65_536):
            self.received += data
        return self.received

    def hears_within(self, seconds: float) -> bool:
        """Wait a little for bytes, or the end; return whether they came."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def takes_within(self, seconds: float) -> bool:
        """Wait a little until more can be written; return whether it can."""
        return bool(select.select([], [self._socket], [], seconds)[1])

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def write_some(self, data: bytes) -> None:
        """Send what fits, without waiting for more room."""
        self._socket.settimeout(0)
        with suppress(BlockingIOError):
            self._socket.sendall(data)
        self._socket.settimeout(PATIENCE_S)

    def write_anyway(self, data: bytes) -> None:
        """Send bytes, though the other side may be gone."""
        with suppress(OSError):
            self._socket.sendall(data)

    def half_close(self) -> None:
        """Say that nothing more is coming."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish: the other side gets a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def flush(self) -> None:
        """Send what the engine has to send, one record at a time."""
        for record in split_records(self.engine.data_to_send()):
            data = record if self._spoil is None else self._spoil(len(self.sent), record)
            self.sent.append(record)
            self.write_anyway(data)  # if the other side went, receiving tells

    def _take_some(self) -> bool:
        """Take bytes; return whether the session may still go on."""
        try:
            data = self._socket.recv(65_536)
        except ConnectionResetError:
            return False
        if not data:
            return False
        self.received += data
        if self.engine.is_closed:
            return True
        try:
            self.engine.receive_data(data)
        except AlertReceived as fault:
            self.alert = fault.alert
        finally:
            self._take_events()
            self.flush()
        return True

    def _take_events(self) -> None:
        while (event := self.engine.next_event()) is not None:
            if isinstance(event, ApplicationData):
                self._answers.append(event.data)
            elif isinstance(event, HandshakeComplete):
                self.complete = event
            elif isinstance(event, PeerClosed):
                self.alert = event.alert

    def _keep_secret(self, label: str, _random: bytes, secret: bytes) -> None:
        self.secrets[label] = secret


def split_records(data: bytes) -> list[bytes]:
    """Return the records in a stream; the last may be a part of one."""
    records = []
    while data:
        size = HEADER_SIZE + int.from_bytes(data[3:HEADER_SIZE], "big")
        records.append(data[:size])
        data = data[size:]
    return records


def assert_serves(node: LoggedNode, element: NodeElement) -> None:
    """Open a session, call, and close it in order."""
    with WireClient(node, element) as client:
        assert client.handshake(), client.alert
        assert client.call(b"?00").startswith(b"iose keystore")
        assert client.goodbye() is AlertDescription.CLOSE_NOTIFY


def chip_version(node: LoggedNode, element: NodeElement) -> bytes:
    """Run a session with an element that has the limits of a chip, and return its version."""
    with WireClient(node, element, **CHIP) as client:
        assert client.handshake()
        return client.call(b"?00")
