# SPDX-License-Identifier: Apache-2.0
"""A board on a serial line, which is a pseudo-terminal: ``python -m tests.twins.serial_line``.

Faults befall ``A`` lines, or those that begin with ``verb`` (``on``, ``off``, ``probe``); besides
the faults of every twin: ``refuse`` (ERROR), ``long`` (a line without end), ``twice`` (a line
nobody asked for), ``half`` (half of one), ``deaf`` (the line fills up). ``gone`` unplugs
it; a null fault plugs it in again, at the same path. ``{"said": true}`` tells what was heard since.
"""

import argparse
import asyncio
import os
import tempfile
import tty
from pathlib import Path

from iose.card.card_os import CardOs
from iose.protocols.racs.errors import RacsPeerError
from iose.protocols.racs.racsl import (
    RacslAnswer,
    RacslLines,
    RacslVerb,
    decode_command,
    encode_answer,
)
from tests.twins.control import Faults, Order, obey
from tests.twins.elements import Cards, add_options

SLOW_S = 0.02
PROBE = "probe"


class Board:
    """What the lines mean: a card behind them."""

    def __init__(self, card: CardOs) -> None:
        self._card = card
        self._is_on = False

    def answer(self, line: str) -> bytes:
        """Return the answer to a line, its end included."""
        if not line:
            return b"Ready\r\n"
        try:
            command = decode_command(line)
        except RacsPeerError:
            return encode_answer(RacslAnswer(is_ok=False))
        if command.verb is RacslVerb.APDU:
            if not self._is_on:
                return encode_answer(RacslAnswer(is_ok=False))
            return encode_answer(RacslAnswer(is_ok=True, apdu=self._card.process(command.apdu)))
        if self._is_on:
            self._card.power_off()
        self._is_on = command.verb is RacslVerb.ON
        if self._is_on:
            self._card.power_on()
        return encode_answer(RacslAnswer(is_ok=True))


class SerialTwin:
    """The line to a board."""

    def __init__(self, board: Board, device: Path, faults: Faults) -> None:
        self.said: list[str] = []
        self._board = board
        self._device = device
        self._faults = faults
        self._lines = RacslLines()
        self._ends: tuple[int, int] | None = None
        self._work: asyncio.Task[None] | None = None

    def plug_in(self) -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._ends = master, slave  # the slave stays open, or the master would see each close
        self._device.symlink_to(os.ttyname(slave))
        asyncio.get_running_loop().add_reader(master, self._read, master)

    def unplug(self) -> None:
        self._device.unlink(missing_ok=True)
        if self._ends is not None:
            asyncio.get_running_loop().remove_reader(self._ends[0])
            for end in self._ends:
                os.close(end)
            self._ends = None

    def on_order(self, order: Order) -> Order | None:
        if "said" in order:
            said, self.said = self.said, []
            return {"said": said}
        order.setdefault("verb", RacslVerb.APDU.value)
        if order.get("fault") == "gone":
            self.unplug()
        elif self._ends is None:
            self.plug_in()
        else:  # a deaf board does not read
            asyncio.get_running_loop().remove_reader(self._ends[0])
            if order.get("fault") != "deaf":
                asyncio.get_running_loop().add_reader(self._ends[0], self._read, self._ends[0])
        return None

    def _read(self, master: int) -> None:
        try:
            data = os.read(master, 4096)
        except OSError:
            return
        if self._work is not None:
            self._work.cancel()
        for line in self._lines.receive_data(data):
            self.said.append(line)
            verb = line.partition(" ")[0] or PROBE
            fault = self._faults.take(verb=verb)
            answer = damage(self._board.answer(line), fault)
            if fault == "slow":
                pause_s = self._faults.taken.get("delay_s", SLOW_S)
                self._work = asyncio.create_task(self._write_slowly(answer, pause_s))
            elif fault != "silence":
                os.write(master, answer)
            if fault == "partial" and self._faults.taken.get("close"):
                self.unplug()

    async def _write_slowly(self, data: bytes, pause_s: float) -> None:
        for byte in data:
            await asyncio.sleep(pause_s)
            if self._ends is not None:
                os.write(self._ends[0], bytes((byte,)))


def damage(line: bytes, fault: str | None) -> bytes:
    """Return what goes out instead of a line."""
    changed = {
        "garbage": b"9\xff\x00z\r\n",
        "crc": line[1:],
        "partial": line[: len(line) // 2],
        "refuse": b"ERROR\r\n",
        "long": b"0" * 3000,
        "twice": line * 2,
        "half": line + line[:2],
    }
    return changed.get(fault or "", line)


async def main() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    parser.add_argument("--name", default="key1.com")
    given = parser.parse_args()
    faults = Faults()
    with tempfile.TemporaryDirectory() as folder:
        device = Path(folder) / "ttyTWIN0"
        serial = SerialTwin(Board(Cards.from_arguments(given).make(given.name)), device, faults)
        serial.plug_in()
        await obey(faults, {"device": str(device)}, serial.on_order)
        serial.unplug()


if __name__ == "__main__":
    asyncio.run(main())
