# SPDX-License-Identifier: Apache-2.0
"""A RACS Lite board with one software card (racs.md §12.1): ``python -m tests.twins.racsl_board``.

Faults befall ``A`` lines, or those that begin with ``verb`` (``on``, ``off``, ``hello`` for the TLS
handshake); besides the faults of every twin: ``refuse`` (ERROR), ``long`` (a line without end),
``twice`` (a line nobody asked for). ``crc`` breaks a record's tag, ``partial`` cuts a record.
``{"said": true}`` tells what was heard since.
"""

import argparse
import asyncio
import contextlib
from collections.abc import Callable

from iose.protocols.racs.racsl import RacslVerb
from iose.runtime.entropy import OsRng
from iose.tls import AlertReceived, ServerConfig, ServerEngine, TlsPeerError
from iose.tls.config import EngineConfig, PreSharedKey
from iose.tls.events import ApplicationData
from tests.support.element import CRYPTO
from tests.twins.control import Faults, Order, TcpTwin, obey
from tests.twins.elements import DEMO_PSK, Cards, add_options
from tests.twins.serial_line import SLOW_S, Board, damage

HELLO = "hello"
TOO_LONG = 150_000
ON_RECORD = ("crc", "partial", "slow")


class RacslTwin(TcpTwin):
    """A board that serves one session at a time with its element."""

    def __init__(self, make_board: Callable[[], Board], key: PreSharedKey, faults: Faults) -> None:
        super().__init__(self._serve)
        self._make_board = make_board
        self._config = ServerConfig(EngineConfig(CRYPTO, OsRng()), (key,))
        self._faults = faults

    async def on_order(self, order: Order) -> Order | None:
        if "said" in order:
            return self.tell()
        order.setdefault("verb", RacslVerb.APDU.value)
        await self.go_or_come_back(order)
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine = ServerEngine(self._config)
        engine.start()
        board = self._make_board()
        try:
            while not engine.is_closed and (data := await reader.read(65_536)):
                fault = None
                if not engine.is_open:
                    fault = self._faults.take(verb=HELLO)
                engine.receive_data(data)
                while (event := engine.next_event()) is not None:
                    if isinstance(event, ApplicationData):
                        fault = self._answer(engine, board, event.data)
                await self._send(writer, engine.data_to_send(), fault)
        except (OSError, TlsPeerError, AlertReceived):
            with contextlib.suppress(OSError):
                writer.write(engine.data_to_send())

    def _answer(self, engine: ServerEngine, board: Board, record: bytes) -> str | None:
        line = record.decode().removesuffix("\r\n")
        self.said.append(line)
        fault = self._faults.take(verb=line.partition(" ")[0])
        answer = board.answer(line)
        if fault == "long":
            engine.send_data(b"0" * TOO_LONG)
        elif fault != "silence":
            engine.send_data(answer if fault in ON_RECORD else damage(answer, fault))
        return fault

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, fault: str | None) -> None:
        match fault:
            case "silence":
                return
            case "crc":
                data = data[:-1] + bytes((data[-1] ^ 1,))
            case "partial":
                data = data[: len(data) // 2]
            case "slow":
                for byte in data:
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(self._faults.taken.get("delay_s", SLOW_S))
                return
        writer.write(data)
        if fault == "partial" and self._faults.taken.get("close"):
            writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    parser.add_argument("--name", default="key1.com")
    parser.add_argument("--board-psk", default=DEMO_PSK.hex(), metavar="HEX")
    parser.add_argument("--identity", default="Client_identity")
    given = parser.parse_args()
    faults = Faults()
    card = Cards.from_arguments(given).make(given.name)
    key = PreSharedKey(given.identity.encode(), bytes.fromhex(given.board_psk))
    board = RacslTwin(lambda: Board(card), key, faults)
    await board.listen()
    await obey(faults, {"address": board.address}, board.on_order)
    await board.vanish()


if __name__ == "__main__":
    asyncio.run(main())
