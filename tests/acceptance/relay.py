# SPDX-License-Identifier: Apache-2.0
"""A hostile wire: TCP in, TCP out, each TLS record passed, spoiled, cut or sent byte by byte."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.acceptance.wire import HEADER_SIZE
from tests.support.node import PATIENCE_S

Spoil = Callable[[int, bytes], bytes]
"""Given the number of a record in its direction and the record, returns what is passed on."""


def untouched(_number: int, record: bytes) -> bytes:
    """Pass a record on."""
    return record


@dataclass
class Relay:
    """A port that leads to another; ``towards_node`` and ``towards_client`` see every record.

    Attributes:
        chunk: Bytes written at once; 0 writes a record at once.
    """

    target: tuple[str, int]
    towards_node: Spoil = untouched
    towards_client: Spoil = untouched
    chunk: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> "Relay":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._serve)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    @property
    def front(self) -> str:
        """Where clients connect to, as ``host:port``."""
        return "{}:{}".format(*self._listener.getsockname())

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                node = socket.create_connection(self.target)
                for one in (client, node):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._sockets.append(one)
                self._start(self._carry, client, node, self.towards_node)
                self._start(self._carry, node, client, self.towards_client)

    def _carry(self, source: socket.socket, sink: socket.socket, spoil: Spoil) -> None:
        with suppress(OSError), source.makefile("rb") as stream:
            number = 0
            while header := stream.read(HEADER_SIZE):
                record = header + stream.read(int.from_bytes(header[3:], "big"))
                self._write(sink, spoil(number, record))
                number += 1
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _write(self, sink: socket.socket, data: bytes) -> None:
        step = self.chunk or max(1, len(data))
        for start in range(0, len(data), step):
            sink.sendall(data[start : start + step])
