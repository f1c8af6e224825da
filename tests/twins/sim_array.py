# SPDX-License-Identifier: Apache-2.0
"""A SIM array of software cards (iose-server.md §8.3): ``python -m tests.twins.sim_array``.

Faults befall exchanges, or the command that ``verb`` names, of all slots or of ``slot``; besides
the faults of every twin: ``refuse``, ``bomb`` (runs without end), ``long`` (a line without end),
``twice`` (a line nobody asked for), ``half`` (half of one). Orders ``{"insert": 701}`` and
``{"remove": 701}`` move cards; ``{"said": true}`` tells what was heard since.
"""

import argparse
import asyncio
import contextlib

from iose.card.card_os import CardOs
from iose.iso7816.apdu import CommandApdu
from iose.protocols.sim_array import SimBoard, SimReply, encode_content, encode_reply
from iose.transport.stack import drain_raw
from tests.twins.control import Faults, Order, TcpTwin, obey
from tests.twins.elements import Cards, add_options

BOARD_SIZE = 8
EXCHANGE = "exchange"
SLOW_S = 0.02


class SimArray(TcpTwin):
    """Boards of eight slots, and who uses them."""

    def __init__(self, cards: Cards, slots: list[int], faults: Faults) -> None:
        super().__init__(self._serve)
        self._cards = {slot: cards.make(f"key{slot}.com") for slot in slots}
        self._inside = set(slots)
        self._users: dict[int, asyncio.StreamWriter] = {}
        self._has_changed: set[int] = set()
        self._faults = faults

    async def on_order(self, order: Order) -> Order | None:
        if "said" in order:
            return self.tell()
        if slot := order.get("insert"):
            self._inside.add(slot)
            self._has_changed.add(slot)
        if slot := order.get("remove"):
            self._take_out(slot)
        if "fault" in order:
            order.setdefault("verb", EXCHANGE)
            await self.go_or_come_back(order)
        return None

    def _take_out(self, slot: int) -> None:
        self._inside.discard(slot)
        self._has_changed.add(slot)
        if self._users.pop(slot, None):
            self._cards[slot].power_off()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            writer.write(b"SIM array twin\n")
            while line := await reader.readline():
                text = line.decode().strip()
                self.said.append(text)
                if text == "QUIT":
                    writer.write(b"bye\n")
                    break
                await self._reply(writer, text)
        for slot, user in tuple(self._users.items()):
            if user is writer:
                self._free(slot)

    async def _reply(self, writer: asyncio.StreamWriter, text: str) -> None:
        verb, *words = text.split(" ")
        slot = int(words[0]) if words else None
        subject = EXCHANGE if verb in {"apdu", "tpdu"} else verb
        fault = self._faults.take(verb=subject, slot=slot)
        line = self._answer(verb, slot, words[1:], writer).encode() + b"\n"
        if fault == "silence":
            return
        line = damage(line, fault)
        if fault == "slow":
            for byte in line:
                writer.write(bytes((byte,)))
                await asyncio.sleep(self._faults.taken.get("delay_s", SLOW_S))
            return
        writer.write(line)
        if fault == "partial" and self._faults.taken.get("close"):
            writer.close()

    def _answer(
        self, verb: str, slot: int | None, words: list[str], writer: asyncio.StreamWriter
    ) -> str:
        match verb, words:
            case "RESET", []:
                for used in tuple(self._users):
                    self._free(used)
                return "000 reset"
            case "CONTENT", []:
                return self._content()
            case "FREE", [] if slot is not None:
                self._free(slot)
                return "000 free"
            case "USE", [] if slot in self._inside and slot not in self._users:
                self._users[slot] = writer
                return encode_reply(SimReply(is_ok=True, payload=self._cards[slot].power_on()))
            case (("apdu" | "tpdu"), _) if self._users.get(slot) is writer:
                return self._exchange(verb, self._cards[slot], words)
        return "101 not now"

    def _exchange(self, verb: str, card: CardOs, words: list[str]) -> str:
        unit = bytes.fromhex(words[-1])
        match verb, words[:-1]:
            case "apdu", [] if unit.startswith(b"\x00\xa4\x04\x00"):
                return encode_reply(SimReply(is_ok=True, payload=drain_raw(card.process, unit)))
            case "tpdu", ["r"] if len(unit) == 5 and unit[4]:
                return encode_reply(SimReply(is_ok=True, payload=card.process(unit)))
            case "tpdu", ["w"] if len(unit) == 5 + unit[4]:
                CommandApdu.decode(unit)
                return encode_reply(SimReply(is_ok=True, payload=card.process(unit)))
        return "102 no such exchange"

    def _free(self, slot: int) -> None:
        if self._users.pop(slot, None):
            self._cards[slot].power_off()

    def _content(self) -> str:
        boards = []
        for board in sorted({slot // 100 for slot in self._cards}):
            first = board * 100 + 1
            slots = range(first, first + BOARD_SIZE)
            has_changed = bool(self._has_changed & set(slots))
            cards = tuple(slot in self._inside for slot in slots)
            boards.append(SimBoard(first, cards, has_changed))
        self._has_changed.clear()
        return encode_content(tuple(boards))


def damage(line: bytes, fault: str | None) -> bytes:
    """Return what goes out instead of a line."""
    changed = {
        "garbage": b"000 9\xff\x00z\n",
        "crc": line[4:],
        "partial": line[: len(line) // 2],
        "refuse": b"105 the card does not answer\n",
        "bomb": b"000 " + b"*FFAA" * 400 + b"\n",
        "long": b"0" * 100_000,
        "twice": line * 2,
        "half": line + line[:6],
    }
    return changed.get(fault or "", line)


async def main() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, protocol=0)
    parser.add_argument("--slots", default="701,702")
    given = parser.parse_args()
    faults = Faults()
    slots = [int(slot) for slot in given.slots.split(",")]
    array = SimArray(Cards.from_arguments(given), slots, faults)
    await array.listen()
    await obey(faults, {"address": array.address}, array.on_order)
    await array.vanish()


if __name__ == "__main__":
    asyncio.run(main())
