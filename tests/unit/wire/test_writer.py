# SPDX-License-Identifier: Apache-2.0
"""The builder of wire bytes, and what it refuses to write."""

import pytest

from iose.wire.errors import LocalProtocolError
from iose.wire.writer import ByteWriter


def test_writes_integers_big_endian():
    writer = ByteWriter()
    writer.write_uint8(1)
    writer.write_uint16(0x0203)
    writer.write_uint(0x040506, 3)
    writer.write_bytes(b"\x07")
    assert writer.to_bytes() == bytes(range(1, 8))


@pytest.mark.parametrize(("value", "width"), [(256, 1), (-1, 1), (1 << 16, 2)])
def test_refuses_an_integer_that_does_not_fit(value: int, width: int):
    writer = ByteWriter()
    with pytest.raises(LocalProtocolError):
        writer.write_uint(value, width)
    assert writer.to_bytes() == b""


def test_writes_length_prefixed_bodies():
    writer = ByteWriter()
    writer.write_opaque(b"ab", 2)
    writer.write_opaque(b"", 1)
    assert writer.to_bytes() == b"\x00\x02ab\x00"


def test_refuses_a_body_longer_than_its_prefix():
    writer = ByteWriter()
    writer.write_opaque(bytes(255), 1)
    with pytest.raises(LocalProtocolError):
        writer.write_opaque(bytes(256), 1)
    assert len(writer.to_bytes()) == 256


def test_back_fills_the_lengths_of_nested_vectors():
    writer = ByteWriter()
    with writer.vector(2):
        writer.write_uint8(7)
        with writer.vector(1):
            writer.write_bytes(b"abc")
    assert writer.to_bytes() == b"\x00\x05\x07\x03abc"


def test_refuses_a_vector_that_outgrew_its_prefix():
    writer = ByteWriter()
    with pytest.raises(LocalProtocolError), writer.vector(1):
        writer.write_bytes(bytes(256))
