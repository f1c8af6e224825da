# SPDX-License-Identifier: Apache-2.0
"""Commands sent together, and how large they may be: what bridges make and transports carry."""

from dataclasses import dataclass

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.status import StatusWord

DEFAULT_CHUNK_SIZE = 240  # iose-server.md §6.1: what the published hosts send
DEFAULT_MAX_RECORD = 512  # tls-se.md §5: the receive buffer of the published applets


@dataclass(frozen=True, slots=True)
class BatchStep:
    """One command of a batch.

    Attributes:
        command: The command; its answer is drained (61xx and 9Fxx fetched, 6Cxx repeated).
        expected: The batch goes on only after this status; None goes on after any.
        wants_data: Whether anybody looks at more of the answer than its status. The data may be
            lost otherwise, where that saves the carrier a round trip.
    """

    command: CommandApdu
    expected: StatusWord | None = StatusWord.OK
    wants_data: bool = True


@dataclass(frozen=True, slots=True)
class ApduLimits:
    """What one element takes at a time (iose-server.md §6.1, §6.4).

    Attributes:
        chunk_size: Largest command data, 1 to 65 535 bytes; above 255 commands are extended.
        max_record: Largest TLS record, header included, in bytes; 0 leaves only TLS's own limit.
    """

    chunk_size: int = DEFAULT_CHUNK_SIZE
    max_record: int = DEFAULT_MAX_RECORD
