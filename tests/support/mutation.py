# SPDX-License-Identifier: Apache-2.0
"""Well-formed bytes made wrong in a few places, and streams cut in pieces of odd sizes."""

import random
from collections.abc import Iterator, Sequence

COUNTS = (0, 0, 1, 2)  # half of the inputs stay whole, so that a session gets somewhere
TELLING = (0x00, 0x01, 0x7F, 0x80, 0xFF)
LONGEST = 8


def mutate(data: bytes, rng: random.Random, counts: Sequence[int] = COUNTS) -> bytes:
    """Return the bytes with one of ``counts`` changes: a bit, a byte, bytes put in or left out."""
    changed = bytearray(data)
    for _ in range(rng.choice(counts)):
        position = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0 if position < len(changed):
                changed[position] ^= 1 << rng.randrange(8)
            case 1 if position < len(changed):
                changed[position] = rng.choice((*TELLING, rng.randrange(256)))
            case 2:
                changed[position:position] = rng.randbytes(rng.randint(1, LONGEST))
            case _:
                del changed[position : position + rng.randint(1, LONGEST)]
    return bytes(changed)


def pieces(stream: bytes, sizes: Sequence[int], rng: random.Random) -> Iterator[bytes]:
    """Return the stream in pieces of the given sizes, or all that is left of it."""
    while stream:
        size = rng.choice((*sizes, len(stream)))
        yield stream[:size]
        stream = stream[size:]
