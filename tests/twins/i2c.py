# SPDX-License-Identifier: Apache-2.0
"""An I2C bus with devices on it: boards with software cards, and parts that speak T=1.

    python -m tests.twins.i2c --device 4=key4.com --device 10=key10.com:t1 --device 72=:se050

A device is ``ADDRESS=NAME[:FLAVOUR]``; a flavour is ``iose``, ``t1``, or ``se050``, which is a T=1
part with the object store of an NXP part in place of a card. Every device has a reset line of the
number of its address. The program listens where it says, and does the transfers that are asked for
over it; the framing is that of ``iose.transport.i2c.remote``, written here once more.

Orders: ``{"fault": KIND, "address": N, "count": M}``, of one device or of all. Kinds: silence,
slow, crc, lost (our frames arrive with a wrong CRC), garbage, partial, nack, gone, other, element,
waiting (time asked for), reset (the device loses power in the middle).
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iose.iso7816.atr import Atr
from tests.twins.control import Faults, obey
from tests.twins.elements import Cards, add_options
from tests.twins.i2c_device import BlockPart, Board, Device
from tests.twins.se050 import Se050

WRITE, READ, PULSE = 0x57, 0x52, 0x50
DONE, NOT_ACKNOWLEDGED, NO_LINE = 0, 1, 2


class CardBehind:
    """A software card as what a device runs: power and commands."""

    def __init__(self, cards: Cards, name: str) -> None:
        self._card = cards.make(name)
        self.historical_bytes = b""
        self.restart()

    def restart(self) -> None:
        """Lose power and get it back."""
        self._card.power_off()
        self.historical_bytes = Atr.decode(self._card.power_on()).historical_bytes

    def process(self, command: bytes) -> bytes:
        return self._card.process(command)


class Bus:
    """Who is on the bus, by address."""

    def __init__(self, devices: dict[int, Device]) -> None:
        self._devices = devices

    def transfer(self, kind: int, number: int, size: int, data: bytes) -> bytes:
        """Return the answer to one request."""
        device = self._devices.get(number)
        if kind == PULSE:
            if device is None:
                return bytes((NO_LINE,))
            device.pulse()
            return bytes((DONE,))
        done = None
        if device is not None:
            done = device.write(data) if kind == WRITE else device.read(size)
        return bytes((NOT_ACKNOWLEDGED,)) if done is None else bytes((DONE,)) + done


async def _serve(bus: Bus, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readexactly(5)
            kind, number, size = head[0], *(int.from_bytes(head[i : i + 2], "big") for i in (1, 3))
            data = await reader.readexactly(size) if kind == WRITE else b""
            writer.write(bus.transfer(kind, number, size, data))
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def _device(text: str, given: argparse.Namespace, faults: Faults) -> tuple[int, Device]:
    address, _, rest = text.partition("=")
    name, _, flavour = rest.partition(":")
    number = int(address, 0)
    if flavour == "se050":
        return number, BlockPart(number, Se050(), faults)
    kind: Callable[..., Device] = BlockPart if flavour == "t1" else Board
    given.protocol = 1 if flavour == "t1" else 0
    return number, kind(number, CardBehind(Cards.from_arguments(given), name), faults)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", action="append", default=[], metavar="ADDRESS=NAME[:FLAVOUR]")
    parser.add_argument("--socket", metavar="PATH", help="listen there")
    parser.add_argument("--tcp", action="store_true", help="listen on TCP instead of a Unix socket")
    add_options(parser)
    given = parser.parse_args()
    faults = Faults()
    bus = Bus(dict(_device(text, given, faults) for text in given.device or ["4=key1.com"]))
    writers: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_serve(bus, reader, writer))
        writers.add(task)
        task.add_done_callback(writers.discard)

    with tempfile.TemporaryDirectory() as folder:
        ready: dict[str, Any]
        if given.tcp:
            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()[:2]
            ready = {"address": f"{host}:{port}", "bus": f"tcp:{host}:{port}"}
        else:
            path = Path(given.socket or Path(folder) / "bus")
            path.unlink(missing_ok=True)  # noqa: ASYNC240  # one call, before anybody waits
            server = await asyncio.start_unix_server(accept, path)
            ready = {"bus": f"unix:{path}"}
        await obey(faults, ready)
        server.close()
        for task in writers:
            task.cancel()
        await asyncio.gather(*writers, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
