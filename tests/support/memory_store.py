# SPDX-License-Identifier: Apache-2.0
"""A card's persistent memory in a dictionary, which can fail at any step.

Power tests run a command once to count its steps, then once per step with ``cut_at`` set, power
the card on again from ``contents``, and check that it is before or after the command.
"""

from collections.abc import Mapping

from iose.card.store import StoreError


class PowerFailure(BaseException):  # an event of the world, not an error of ours
    """The power went away: nothing catches it, as nothing would run any more."""


class MemoryStore:
    """``NonVolatileStore`` whose every write has two steps: before it, and after it.

    Attributes:
        contents: The objects that survive.
        steps: Steps taken so far; a write takes two.
        cut_at: Step, from 0, at which the power is cut; None never cuts.
        full: Whether writes are refused with ``StoreError``.
        writes: Number of writes that took effect.
        loads: Number of times the store was read.
    """

    def __init__(self, contents: Mapping[str, bytes] | None = None) -> None:
        self.contents: dict[str, bytes] = dict(contents or {})
        self.steps = 0
        self.cut_at: int | None = None
        self.full = False
        self.writes = 0
        self.loads = 0

    def load(self) -> dict[str, bytes]:
        self.loads += 1
        return dict(self.contents)

    def write(self, changes: Mapping[str, bytes | None]) -> None:
        self._step()
        if self.full:
            raise StoreError("the medium is full")
        for name, value in changes.items():
            if value is None:
                self.contents.pop(name, None)
            else:
                self.contents[name] = value
        self.writes += 1
        self._step()

    def close(self) -> None:
        pass

    def _step(self) -> None:
        step = self.steps
        self.steps += 1
        if step == self.cut_at:
            raise PowerFailure
