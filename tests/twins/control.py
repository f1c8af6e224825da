# SPDX-License-Identifier: Apache-2.0
"""Orders to a twin: which fault befalls it, given a line at a time on its standard input."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Order = dict[str, Any]
OnOrder = Callable[[Order], Awaitable[Order | None] | Order | None]


class Faults:
    """The fault in force, for all answers or for the next ones.

    Attributes:
        order: The last order, with what else it says; empty when there is no fault.
        taken: The order whose fault ``take`` returned last.
    """

    def __init__(self) -> None:
        self.order: Order = {}
        self.taken: Order = {}
        self._left: int | None = None

    def give(self, order: Order) -> None:
        """Take an order: ``fault`` names the kind, null ends it; ``count`` limits it."""
        self.order = order if order.get("fault") else {}
        self._left = order.get("count")

    @property
    def kind(self) -> str | None:
        """The fault in force; it is not used up by looking."""
        return self.order.get("fault")

    def take(self, **subject: object) -> str | None:
        """Return the fault that befalls this answer, and count it.

        Args:
            subject: What the answer is about; an order that names another one does not concern it.
        """
        kind = self.kind
        if any(self.order.get(name, value) != value for name, value in subject.items()):
            return None
        self.taken = self.order
        if kind is not None and self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.order = {}
        return kind


def report(value: Order) -> None:
    """Print one line for who started the twin."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def obey(faults: Faults, ready: Order, on_order: OnOrder | None = None) -> None:
    """Say that the twin is ready, and take orders until there are no more.

    Args:
        faults: Gets each order.
        ready: Address of the twin, and what else its user needs.
        on_order: Does at once what an order is about, and may say more in its acknowledgement.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    report({"ready": True, **ready})
    try:
        while line := await reader.readline():
            order = json.loads(line)
            if "fault" in order:
                faults.give(order)
            done = on_order(order) if on_order else None
            answer = await done if isinstance(done, Awaitable) else done
            report({"ok": True, **(answer or {})})
    finally:
        transport.close()
