# SPDX-License-Identifier: Apache-2.0
"""An element in a few lines, and a link to it without a network: for tests of clients.

It speaks real TLS by the server engine; what it answers, and how it misbehaves, is scripted.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from iose.client.access import SystemRng
from iose.crypto.pyca import PycaCrypto
from iose.tls import EngineConfig, PreSharedKey, ServerConfig, ServerEngine, TlsPeerError
from iose.tls.constants import AlertDescription
from iose.tls.errors import AlertReceived
from iose.tls.events import ApplicationData, PeerClosed

CLOSE = "close"  # close_notify, no answer
CUT = "cut"  # the connection ends without a word
SILENCE = "silence"  # no answer at all

Reply = bytes | list[bytes] | str


class ScriptedElement:
    """One element with a PSK, and a function from command line to reply.

    Attributes:
        psk: The key of the next session.
        refusal: Bytes sent to every ClientHello instead of a handshake, or None.
        unreachable: An OSError to raise when a link is opened, or None.
        links_fail_with: What to raise when a link is read, or None.
        piece: Most bytes a link gives at a time.
        links: Every link ever opened.
        lines: Every command line received.
        identities: The PSK identity of every session opened.
    """

    def __init__(self, psk: bytes, answer: Callable[[bytes], Reply] | None = None) -> None:
        self.psk = psk
        self.answer = answer or self.obey
        self.identity = "Client_identity"
        self.refusal: bytes | None = None
        self.unreachable: OSError | None = None
        self.links_fail_with: type[BaseException] | None = None
        self.piece = 65_536
        self.links: list[ScriptedLink] = []
        self.lines: list[bytes] = []

    async def open_link(self, host: str, port: int, timeout_s: float) -> "ScriptedLink":
        if self.unreachable is not None:
            raise self.unreachable
        link = ScriptedLink(self)
        self.links.append(link)
        return link

    def obey(self, line: bytes) -> Reply:
        if line == b"?00":
            return b"scripted\r\n"
        if line == b"?02":
            return CLOSE
        if line.startswith(b"?AA"):
            old, new = line[3:67].decode(), line[67:].decode()
            if bytes.fromhex(old) != self.psk:
                return CLOSE
            self.psk = bytes.fromhex(new)
            return new.encode() + b"\r\n"
        return b"ERROR\r\n"


class ScriptedLink:
    """``iose.client.dialogue.Link`` to a scripted element."""

    def __init__(self, element: ScriptedElement) -> None:
        config = EngineConfig(crypto=PycaCrypto(), rng=SystemRng())
        psk = PreSharedKey(element.identity.encode(), element.psk)
        self.engine = ServerEngine(ServerConfig(config, (psk,)))
        self.engine.start()
        self.element = element
        self.pending = bytearray()
        self.hello = b""
        self.is_over = False
        self.is_closed = False
        self.saw_close_notify = False
        self.alert: AlertDescription | None = None
        self.client: socket.socket | None = None

    async def send(self, data: bytes, timeout_s: float) -> None:
        if self.is_over:
            raise BrokenPipeError(32, "Broken pipe")
        self.hello = self.hello or data
        if self.element.refusal is not None:
            self.pending += self.element.refusal
            self.is_over = True
            return
        try:
            self.engine.receive_data(data)
        except TlsPeerError:
            self.is_over = True
        except AlertReceived as received:
            self.alert = received.alert
            self.is_over = True
        while (event := self.engine.next_event()) is not None:
            if isinstance(event, ApplicationData):
                self._reply(event.data)
            elif isinstance(event, PeerClosed):
                self.saw_close_notify = self.is_over = True
        self.pending += self.engine.data_to_send()

    async def receive(self, timeout_s: float) -> bytes:
        if self.element.links_fail_with is not None:
            raise self.element.links_fail_with
        data = self.received()
        if data is None:
            raise TimeoutError
        return data

    def received(self) -> bytes | None:
        if self.pending:
            data = bytes(self.pending[: self.element.piece])
            del self.pending[: self.element.piece]
            return data
        return b"" if self.is_over else None

    def take(self) -> bytes:
        """Return everything to send, once: a client may answer before sending returns."""
        data = bytes(self.pending)
        self.pending.clear()
        return data

    def close(self) -> None:
        self.is_closed = True

    def end_by_itself(self) -> None:
        """Close the session as an idle element does, between two commands."""
        self.engine.close()
        self.pending += self.engine.data_to_send()
        self.is_over = True
        if self.client is not None:
            self.client.sendall(self.take())
            self.client.shutdown(socket.SHUT_RDWR)

    def say(self, data: bytes) -> None:
        """Say something nobody asked for."""
        self.engine.send_data(data)
        self.pending += self.engine.data_to_send()

    def _reply(self, record: bytes) -> None:
        assert record.endswith(b"\r\n"), "one command is one record, with its line end"
        line = record.removesuffix(b"\r\n")
        self.element.lines.append(line)
        reply = self.element.answer(line)
        if reply == CLOSE:
            self.engine.close()
            self.is_over = True
        elif reply == CUT:
            self.is_over = True
        elif reply != SILENCE:
            for part in reply if isinstance(reply, list) else [reply]:
                self.engine.send_data(part)


@contextmanager
def listening(element: ScriptedElement) -> Iterator[int]:
    """Serve an element on a loopback port, one client after the other; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_serve, args=(element, listener), daemon=True)
        serving.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(element: ScriptedElement, listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            asyncio.run(_relay(client, ScriptedLink(element)))


async def _relay(client: socket.socket, link: ScriptedLink) -> None:
    # one client at a time and one record at a time: blocking calls are fine here
    link.element.links.append(link)
    link.client = client
    while not link.is_over:
        data = client.recv(65_536)
        if not data:
            return
        await link.send(data, 0.0)
        client.sendall(link.take())
