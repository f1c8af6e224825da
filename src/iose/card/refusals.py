# SPDX-License-Identifier: Apache-2.0
"""The one mapping from a fault inside the card to the status word answered.

What is not a refusal on purpose is also told to the host, without a word of what it was about:
messages of unexpected errors may hold secrets.
"""

from collections.abc import Callable
from dataclasses import dataclass

from iose.card.store import StoreError
from iose.iso7816.status import StatusWord, StatusWordError


@dataclass(frozen=True, slots=True)
class CardFault:
    """Something that should not happen inside the card, for the host's log.

    Attributes:
        status: The status word answered.
        error: Name of the error's class.
        place: Module and line that raised it.
    """

    status: StatusWord
    error: str
    place: str


FaultListener = Callable[[CardFault], None]


def status_of(fault: Exception) -> StatusWord:
    """Return the status word that answers a fault; 6F00 for what nobody foresaw."""
    match fault:
        case StatusWordError():
            return fault.status
        case StoreError():
            return StatusWord.MEMORY_FAILURE
        case _:
            return StatusWord.UNKNOWN


def describe(fault: Exception) -> CardFault:
    """Return what the host may know of a fault: its class and place, never its message."""
    trace = fault.__traceback__
    place = "unknown"
    while trace is not None:
        place = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
        trace = trace.tb_next
    return CardFault(status_of(fault), type(fault).__name__, place)
