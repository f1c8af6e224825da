# SPDX-License-Identifier: Apache-2.0
"""Registries of numbers that stay open: one nobody named yet is a member of its own.

Every registry read from outside bytes is such an enumeration; what prints is the caller's choice.
"""

from enum import IntEnum
from typing import TypeVar

Number = TypeVar("Number", bound=IntEnum)


def unknown_member(kind: type[Number], value: object, limit: int, form: str) -> Number | None:
    """Return the one member of an open registry that has a number without a name.

    Args:
        kind: The registry.
        value: What was looked for.
        limit: Largest number that fits the registry's field.
        form: Format of the member's name.

    Returns:
        None when the value is no number of the registry.
    """
    if not isinstance(value, int) or not 0 <= value <= limit:
        return None
    member = int.__new__(kind, value)
    member._name_ = form.format(value)
    member._value_ = value
    return kind._value2member_map_.setdefault(value, member)  # type: ignore[return-value]  # typeshed knows only Enum
