# SPDX-License-Identifier: Apache-2.0
"""The names by which the service plane finds elements, as SEN and GET-SEN see them (racs.md §6)."""

from typing import Protocol


class NameRegister(Protocol):
    """Where names are kept; ``runtime`` does, and tells the service plane."""

    async def name(self, seid: str) -> tuple[str, str] | None:
        """Return an element's SEN, and its AID in hex ("" for default); None when it has none."""

    async def set_name(self, seid: str, sen: str | None, aid: str) -> None:
        """Give an element a name, or with None the one its ATR says.

        Raises:
            IoseError: The name is another element's, or cannot be kept; nothing changed.
        """
