# SPDX-License-Identifier: Apache-2.0
"""Padding of secure messaging: 80, then zeros up to a whole block (ISO/IEC 9797-1 method 2)."""

from typing import Final

MARK: Final = b"\x80"


def pad(data: bytes, block_size: int) -> bytes:
    """Return the data and 1 to ``block_size`` bytes of padding."""
    marked = data + MARK
    return marked + bytes(-len(marked) % block_size)


def unpad(data: bytes, block_size: int) -> bytes | None:
    """Return the data without padding; None when it is not padding of at most one block."""
    stripped = data.rstrip(b"\x00")
    if not stripped.endswith(MARK) or len(data) - len(stripped) >= block_size:
        return None
    return stripped[:-1]
