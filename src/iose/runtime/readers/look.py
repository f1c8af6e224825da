# SPDX-License-Identifier: Apache-2.0
"""One look at readers without a node: as the node would see them, and nothing runs afterwards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from iose.runtime.config import ElementSettings, settings_finder
from iose.runtime.readers.banks import make_bank
from iose.runtime.readers.inventory import ReaderInventory
from iose.runtime.readers.settings import ReaderSettings
from iose.servers.holders import ElementHolders

PATIENCE_S: Final = 6.0  # longer than a node that starts may wait


async def look_at_readers(
    tables: Sequence[ReaderSettings], folder: Path, elements: Mapping[str, ElementSettings]
) -> list[dict[str, object]]:
    """Return every reader, as ``reader.list`` of a node does; elements are looked into.

    Args:
        tables: Which readers.
        folder: The data folder, from which relative paths lead.
        elements: What the operator says of single elements, by SEID or SEN.

    Raises:
        ConfigurationError: A table cannot be made a bank of.
    """
    inventory = ReaderInventory(
        lambda table: make_bank(table, folder),
        ElementHolders(),
        overrides=settings_finder(elements),
        foreign=dict,
        changed=lambda _gone: None,
    )
    try:
        await inventory.start(tables, wait_s=PATIENCE_S)
        return inventory.view()
    finally:
        await inventory.stop()
