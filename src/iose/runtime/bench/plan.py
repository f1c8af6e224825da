# SPDX-License-Identifier: Apache-2.0
"""How much to measure, and the turns that the elements and the reference take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_WARM_UP = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        rounds: Turns each side gets, the warm-up not counted.
        repetitions: Measurements per turn.
        clients: Clients at once, in the rows that have many.
        elements: Elements they call.
        seconds: Length of one turn of many clients.
        crowd: Elements of the node whose memory and restart are measured.
    """

    rounds: int = 20
    repetitions: int = 50
    clients: int = 64
    elements: int = 100
    seconds: float = 2.0
    crowd: int = 1000


FULL = Plan()
QUICK = Plan(rounds=5, repetitions=20, seconds=0.5, crowd=200)


def take_turns(
    plan: Plan, repetitions: int, works: Sequence[Callable[[], float]]
) -> list[list[float]]:
    """Return what each work returned, the works taking turns.

    Turns cancel the drift of a shared machine; the first turn of each work is thrown away.
    """
    samples: list[list[float]] = [[] for _ in works]
    for turn in range(_WARM_UP + plan.rounds):
        for work, kept in zip(works, samples, strict=True):
            taken = [work() for _ in range(repetitions)]
            if turn >= _WARM_UP:
                kept.extend(taken)
    return samples
