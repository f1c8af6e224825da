# SPDX-License-Identifier: Apache-2.0
"""A client's link to a software element in this process: what a front does, done by the test.

``HonestHost`` passes records on; tests of attacks put another host in its place.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from iose.client.access import Access
from iose.client.asynchronous import AsyncElement
from iose.client.blocking import Element as ElementClient
from iose.client.credentials import Credential, CredentialsStore
from iose.client.dialogue import Dialogue
from iose.client.uri import ElementUri
from tests.support.element import DEMO_PSK, Element

HEADER = 5


class Host(Protocol):
    """Whoever stands between a client and an element, for one connection."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the client; return what goes back."""

    @property
    def is_over(self) -> bool:
        """Whether the connection ends after what was returned."""


class HonestHost:
    """A front: each record to the element as it is, each answer to the client as it is."""

    def __init__(self, element: Element) -> None:
        self.element = element
        self.is_over = False
        self._rest = b""
        element.reset_session()

    def receive(self, data: bytes) -> bytes:
        answer = b""
        self._rest += data
        while not self.is_over and (record := self._next_record()):
            response = self.element.send(record)
            answer += response.data
            self.is_over = response.status not in (0x9000, 0x9001)
        return answer

    def _next_record(self) -> bytes:
        if len(self._rest) < HEADER:
            return b""
        size = HEADER + int.from_bytes(self._rest[3:HEADER], "big")
        if len(self._rest) < size:
            return b""
        record, self._rest = self._rest[:size], self._rest[size:]
        return record


class HostLink:
    """A link of ``iose.client.dialogue`` whose other end is a host in this process."""

    def __init__(self, host: Host, piece: int = 65_536) -> None:
        self._host = host
        self._piece = piece
        self._answers = bytearray()

    async def send(self, data: bytes, _timeout_s: float) -> None:
        if not self._host.is_over:
            self._answers += self._host.receive(data)

    async def receive(self, _timeout_s: float) -> bytes:
        data = self.received()
        if data is None:
            raise TimeoutError
        return data

    def received(self) -> bytes | None:
        if self._answers:
            data = bytes(self._answers[: self._piece])
            del self._answers[: self._piece]
            return data
        return b"" if self._host.is_over else None

    def close(self) -> None:
        pass


class Users:
    """Makes clients whose connections end at hosts of the test.

    Attributes:
        store: Where the keys of those clients are.
    """

    def __init__(self, folder: Path) -> None:
        self.store = CredentialsStore(folder / "credentials")

    def dialogue(
        self,
        open_host: Callable[[], Host],
        *,
        sen: str = "key1.com",
        psk: bytes = DEMO_PSK,
        identity: str = "Client_identity",
        piece: int = 65_536,
    ) -> Dialogue:
        uri = ElementUri.decode(f"keyS://{sen}@127.0.0.1:8888/")

        async def open_link(_host: str, _port: int, _timeout_s: float) -> HostLink:
            return HostLink(open_host(), piece)

        credential = Credential(uri.address, psk, identity=identity)
        return Dialogue(Access(uri, credential, self.store), open_link, 5.0)

    def connect(self, open_host: Callable[[], Host], **options: str | bytes | int) -> ElementClient:
        """Return a client with an open session."""
        client = ElementClient(self.dialogue(open_host, **options))  # type: ignore[arg-type]
        client.open()
        return client

    def connect_to(self, element: Element, **options: str | bytes | int) -> ElementClient:
        """Return a client with an open session, an honest host between."""
        return self.connect(lambda: HonestHost(element), **options)

    def asynchronous(self, element: Element) -> AsyncElement:
        """Return an asyncio client without a session yet."""
        return AsyncElement(self.dialogue(lambda: HonestHost(element)))


@contextmanager
def listening_hosts(open_host: Callable[[], Host]) -> Iterator[int]:
    """Serve on a loopback port, one client after the other, each by a new host; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_serve, args=(open_host, listener))
        serving.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(open_host: Callable[[], Host], listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client, suppress(ConnectionError):
            host = open_host()
            while not host.is_over and (data := client.recv(65_536)):
                client.sendall(host.receive(data))
