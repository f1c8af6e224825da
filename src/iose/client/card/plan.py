# SPDX-License-Identifier: Apache-2.0
"""What is going to be done to a card, before it is done: steps in words, with their commands.

A plan is made from what the card says it holds, so the plan of an interrupted run, made anew, has
only what is left to do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from iose.client.card.key_files import CardKeys
from iose.iso7816.apdu import CommandApdu


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key set to be put on the card, and then proved by a secure channel of its own.

    Attributes:
        keys: The new keys, of their new version.
        replaces: Version of the set that goes; 0 adds one.
        size: Bytes of the command before it is wrapped.
    """

    keys: CardKeys
    replaces: int
    size: int


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a plan does.

    Attributes:
        words: What it is, for the administrator.
        action: What is done on this side before any command goes out; its error stops the plan.
        commands: Sent in this order under the secure channel, each to be answered 9000.
        undo: Sent when something fails after its first command, to leave nothing half done.
        retract: Takes the action back, once nothing of the plan is left on the card.
        accepted: Status words that mean the step was done before; the rest of it is left out.
        change: Keys that are put on the card.
    """

    words: str
    action: Callable[[], None] | None = field(default=None, repr=False)
    commands: tuple[CommandApdu, ...] = field(default=(), repr=False)  # may hold secrets
    undo: tuple[CommandApdu, ...] = field(default=(), repr=False)
    retract: Callable[[], None] | None = field(default=None, repr=False)
    accepted: frozenset[int] = frozenset()
    change: KeyChange | None = None

    @property
    def apdus(self) -> int:
        """Number of its commands."""
        return len(self.commands) + (self.change is not None)

    @property
    def size(self) -> int:
        """Bytes of its commands before they are wrapped."""
        changed = 0 if self.change is None else self.change.size
        return changed + sum(len(command.encode()) for command in self.commands)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is going to be done, in order.

    Attributes:
        title: What it is for, in a few words.
        steps: What is done; none when the card is as it should be.
        notes: What was found on the card and matters here.
    """

    title: str
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def apdus(self) -> int:
        """Number of commands, those that open secure channels left out."""
        return sum(step.apdus for step in self.steps)

    @property
    def size(self) -> int:
        """Bytes of those commands before they are wrapped."""
        return sum(step.size for step in self.steps)

    def is_as(self, other: "Plan") -> bool:
        """Return whether the other plan does the same, word for word."""
        return [step.words for step in self.steps] == [step.words for step in other.steps]
