# SPDX-License-Identifier: Apache-2.0
"""Twin of the published RACS server with software cards, as a program of its own.

``python -m tests.twins.racs_node --pki FOLDER --elements key1.com,key2.com``; the folder holds
``server.pem``, ``server.key`` and ``ca.pem``. SEIDs are ``se-1``, ``se-2`` and so on. Faults befall
answers; an order may name a ``verb``, as in ``{"fault": "silence", "verb": "APDU", "count": 1}``.
``gone`` lets nobody in and ends all sessions until it is taken back.
"""

import argparse
import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iose.card.card_os import CardOs
from tests.support.racs_twin import RacsTwin, Send, Twin, TwinElement
from tests.twins.control import Faults, Order, obey
from tests.twins.elements import Cards, add_options

GARBAGE = b"\x00\xffHTTP/1.1 400 Bad Request\r\n\r\n"
SLOW_S = 0.002  # between two bytes, where the order does not say


@dataclass
class PoweredElement(TwinElement):
    """An element that is a software card, and has its power."""

    card: CardOs = field(kw_only=True)

    def power(self, state: str, holder: object | None) -> None:
        """Give the card its power, or take it."""
        super().power(state, holder)
        self.card.power_off()
        if state == "on":
            self.card.power_on()


class Node:
    """The server, its faults, and its coming and going."""

    def __init__(self, given: argparse.Namespace) -> None:
        cards = Cards.from_arguments(given)
        elements: list[TwinElement] = []
        for number, name in enumerate(given.elements.split(","), 1):
            card = cards.make(name)
            elements.append(PoweredElement((f"se-{number}",), card.process, name, card=card))
        self.twin = Twin(elements, {given.user: None}, lists_nothing=given.lists_nothing)
        self.faults = Faults()
        self._given = given
        self._port = 0
        self._server: RacsTwin | None = None

    @property
    def port(self) -> int:
        return self._port

    async def open(self) -> None:
        """Let clients in, always at the same port."""
        self._server = RacsTwin(
            self.twin,
            Path(self._given.pki),
            is_modern=self._given.modern,
            meddle=self._meddle,
            port=self._port,
        )
        await self._server.__aenter__()
        self._port = self._server.port

    async def close(self) -> None:
        """End every session, and let nobody in."""
        server, self._server = self._server, None
        if server is not None:
            await server.__aexit__()

    async def obey(self, order: Order) -> Order:
        """Go or come back, or cut the sessions of now; say who has been here."""
        if order.get("fault") == "gone":
            await self.close()
        elif self._server is None:
            await self.open()
        elif order.get("cut"):
            self._server.cut()
        holders = {one.seids[0]: one.holder is not None for one in self.twin.elements}
        logs = {one.seids[0]: one.log[-20:] for one in self.twin.elements}
        sessions = 0 if self._server is None else self._server.sessions
        return {"held": holders, "logs": logs, "sessions": sessions, "crashes": self.twin.crashes}

    async def _meddle(self, request: bytes, answer: bytes, send: Send) -> None:
        verb = request.split(b"\n")[1].split(b" ")[0].strip().decode()
        kind = self.faults.take(verb=verb)
        if kind == "silence":
            return
        if kind == "garbage":
            answer = GARBAGE
        elif kind == "partial":
            answer = answer[: len(answer) // 2]
        elif kind == "slow":
            delay_s = self.faults.taken.get("delay_s", SLOW_S)
            for value in answer[:-1]:
                send(bytes((value,)))
                await asyncio.sleep(delay_s)
            answer = answer[-1:]
        send(answer)


async def serve(given: argparse.Namespace) -> None:
    """Serve until nobody gives orders any more."""
    node = Node(given)
    await node.open()
    try:
        await obey(node.faults, {"address": f"127.0.0.1:{node.port}"}, node.obey)
    finally:
        await node.close()


def main() -> None:
    """Run the twin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pki", required=True)
    parser.add_argument("--elements", default="key1.com")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--modern", action="store_true")
    parser.add_argument("--lists-nothing", action="store_true")
    add_options(parser)
    given: Any = parser.parse_args()
    asyncio.run(serve(given))


if __name__ == "__main__":
    main()
