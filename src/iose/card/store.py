# SPDX-License-Identifier: Apache-2.0
"""What a card asks of the medium that outlives a power cut.

``runtime`` implements it with SQLite; tests with a dictionary that can fail at any step.
"""

from collections.abc import Mapping
from typing import Protocol

from iose.wire.errors import StoreError

__all__ = ["NonVolatileStore", "StoreError"]


class NonVolatileStore(Protocol):
    """The persistent objects of one card, by name. One card at a time uses a store."""

    def load(self) -> dict[str, bytes]:
        """Return every object; the caller owns the dictionary.

        Raises:
            StoreError: The medium cannot be read.
        """

    def write(self, changes: Mapping[str, bytes | None]) -> None:
        """Apply all changes or none, durable on return; None removes an object.

        Raises:
            StoreError: The medium is full or broken; nothing was written.
        """
