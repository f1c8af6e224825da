# SPDX-License-Identifier: Apache-2.0
"""Engines on loopback sockets, and programs of others as processes that are watched, not timed."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from iose.tls import ClientConfig, ClientEngine, ServerConfig, ServerEngine
from iose.tls.engine import TlsEngine
from iose.tls.events import ApplicationData, Event, HandshakeComplete
from iose.wire.errors import IoseError

PATIENCE_S = 10.0


class SystemRng:
    """The operating system's entropy."""

    def random_bytes(self, count: int) -> bytes:
        """Return unpredictable bytes."""
        return os.urandom(count)


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class PeerProcess:
    """A program of others; its output is collected while it runs."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(  # a fixed program of the test
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._output = b""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    @property
    def output(self) -> str:
        """What the program has said so far."""
        with self._changed:
            return self._output.decode(errors="replace")

    def say(self, line: bytes) -> None:
        """Write to the program's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def wait_for(self, text: str) -> None:
        """Wait until the program has said something."""
        with self._changed:
            found = self._changed.wait_for(lambda: text.encode() in self._output, PATIENCE_S)
        assert found, f"{text!r} never came; the program said:\n{self.output}"

    def wait_ended(self) -> int:
        """Wait until the program ends by itself; return its status."""
        return self._process.wait(PATIENCE_S)

    def _collect(self) -> None:
        assert self._process.stdout is not None
        while chunk := os.read(self._process.stdout.fileno(), 4096):
            with self._changed:
                self._output += chunk
                self._changed.notify_all()


class EngineServer:
    """Our server on a socket; it sends every piece of data back, and serves once."""

    def __init__(self, config: ServerConfig) -> None:
        self.engine = ServerEngine(config)
        self.events: list[Event] = []
        self.fault: IoseError | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def wait_ended(self) -> list[Event]:
        """Wait until the connection is over; return all events."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"the connection is still open: {self.events}"
        return self.events

    def _serve(self) -> None:
        with self._listener, self._listener.accept()[0] as connection:
            connection.settimeout(PATIENCE_S)
            try:
                self._relay(connection)
            except IoseError as fault:
                self.fault = fault
            with suppress(OSError):
                connection.sendall(self.engine.data_to_send())

    def _relay(self, connection: socket.socket) -> None:
        while not self.engine.is_closed:
            data = connection.recv(65_536)
            if not data:
                return
            self.engine.receive_data(data)
            while (event := self.engine.next_event()) is not None:
                self.events.append(event)
                if isinstance(event, ApplicationData) and self.engine.is_open:
                    self.engine.send_data(event.data)
            connection.sendall(self.engine.data_to_send())


class EngineClient:
    """Our client on a socket."""

    def __init__(self, config: ClientConfig, port: int) -> None:
        self.engine: TlsEngine = ClientEngine(config)
        self.events: list[Event] = []
        self._socket = _connect(port)
        self._socket.settimeout(PATIENCE_S)
        self.engine.start()
        self.flush()

    def __enter__(self) -> "EngineClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.engine.close()
        with suppress(OSError):
            self.flush()
        self._socket.close()

    def flush(self) -> None:
        """Send what the engine has queued."""
        self._socket.sendall(self.engine.data_to_send())

    def send(self, data: bytes) -> None:
        """Send application data."""
        self.engine.send_data(data)
        self.flush()

    def complete(self) -> HandshakeComplete:
        """Return how the handshake ended."""
        event = self.wait_for(HandshakeComplete)
        assert isinstance(event, HandshakeComplete)
        return event

    def receive_until(self, ending: bytes) -> bytes:
        """Return application data up to an ending."""
        data = b""
        while not data.endswith(ending):
            event = self.wait_for(ApplicationData)
            assert isinstance(event, ApplicationData)
            data += event.data
        return data

    def wait_for(self, kind: type) -> Event:
        """Return the next event of a kind; those before it are kept in ``events``."""
        while True:
            while (event := self.engine.next_event()) is not None:
                self.events.append(event)
                if isinstance(event, kind):
                    return event
            data = self._socket.recv(65_536)
            assert data, f"the peer is gone before {kind.__name__}: {self.events}"
            try:
                self.engine.receive_data(data)
            finally:
                self.flush()


def wait_listening(port: int) -> None:
    """Wait until somebody listens on a port; the connection is closed at once."""
    _connect(port).close()


def run(arguments: Sequence[str], text: bytes) -> str:
    """Run a program to its end and return what it said."""
    done = subprocess.run(  # a fixed program of the test
        arguments, input=text, capture_output=True, timeout=PATIENCE_S, check=False
    )
    return (done.stdout + done.stderr).decode(errors="replace")


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nobody listens on {port}"
            threading.Event().wait(0.01)
