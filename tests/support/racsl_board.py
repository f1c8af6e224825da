# SPDX-License-Identifier: Apache-2.0
"""A board that hosts one element behind RACS Lite: TLS 1.3 with a key, one line per record."""

import asyncio
from collections.abc import Callable

from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.racsl import (
    RacslAnswer,
    RacslVerb,
    decode_command,
    encode_answer,
)
from iose.tls import AlertReceived, ServerEngine, TlsPeerError
from iose.tls.config import PreSharedKey, ServerConfig
from iose.tls.events import ApplicationData, HandshakeComplete
from iose.transport.link import LinkReader
from iose.transport.racsl_client import RacslEndpoint, RacslLine
from iose.transport.text_link import TextLink
from tests.support.engine_pair import server_config

PSK = bytes(range(32))
ANSWER_S = 60.0


def reader_of(endpoint: RacslEndpoint) -> LinkReader:
    """Return the reader that a bank makes of a board."""
    return LinkReader(
        endpoint.address, lambda: TextLink(RacslLine(endpoint), endpoint.sen), apdu_s=ANSWER_S
    )


class RacslBoard:
    """A board that serves while ``async with`` lasts.

    Attributes:
        said: Every line it got.
        names: Server names asked for.
        answers: Lines to answer instead of what would be right, taken one by one.
    """

    def __init__(self, process: Callable[[bytes], bytes], *, is_busy: bool = False) -> None:
        self.said: list[str] = []
        self.names: list[str | None] = []
        self.answers: list[bytes] = []
        self._process = process
        self._is_busy = is_busy
        self._is_on = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        """End every session."""
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> "RacslBoard":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        key = PreSharedKey(b"Client_identity", PSK)
        engine = ServerEngine(ServerConfig(server_config().engine, (key,)))
        engine.start()
        try:
            while not engine.is_closed and (data := await reader.read(65_536)):
                engine.receive_data(data)
                while (event := engine.next_event()) is not None:
                    if isinstance(event, HandshakeComplete):
                        self.names.append(event.server_name)
                    elif isinstance(event, ApplicationData):
                        engine.send_data(self._answer(event.data))
                writer.write(engine.data_to_send())
        except (OSError, TlsPeerError, AlertReceived):
            pass
        finally:
            writer.write(engine.data_to_send())
            self._writers.discard(writer)
            writer.close()

    def _answer(self, record: bytes) -> bytes:
        line = record.decode().removesuffix("\r\n")  # one line, one record
        self.said.append(line)
        if self.answers:
            return self.answers.pop(0)
        try:
            command = decode_command(line)
        except RacsPeerError:
            return encode_answer(RacslAnswer(is_ok=False))
        if command.verb is RacslVerb.APDU:
            if not self._is_on:
                return encode_answer(RacslAnswer(is_ok=False))
            return encode_answer(RacslAnswer(is_ok=True, apdu=self._process(command.apdu)))
        self._is_on = command.verb is RacslVerb.ON
        return encode_answer(RacslAnswer(is_ok=not self._is_busy))
