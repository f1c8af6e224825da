# SPDX-License-Identifier: Apache-2.0
"""From the DER signatures the primitives make to r‖s (ANSI X9.62, ITU-T X.690 §8.3)."""

from iose.applet_commands.curves import SCALAR_SIZE
from iose.wire.reader import ByteReader


def raw_signature(signature: bytes) -> bytes:
    """Return r and s, 32 bytes each, of a DER signature of our own making.

    Raises:
        DecodeError: It is none.
    """
    outer = ByteReader(signature)
    outer.read_uint8()
    body = outer.read_vector(1)
    integers = []
    while body.remaining:
        body.read_uint8()
        value = int.from_bytes(body.read_opaque(1), "big")
        integers.append(value.to_bytes(SCALAR_SIZE, "big"))
    return b"".join(integers)
