# SPDX-License-Identifier: Apache-2.0
"""The bounded cursor: what it reads, and that it consumes nothing when it refuses."""

import pytest

from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader


def test_reads_integers_big_endian():
    reader = ByteReader(bytes.fromhex("01020304050607"))
    assert (reader.read_uint8(), reader.read_uint16(), reader.read_uint(3)) == (1, 0x0203, 0x040506)
    assert (reader.offset, reader.remaining) == (6, 1)


def test_reads_the_rest_even_when_it_is_empty():
    reader = ByteReader(b"ab")
    assert reader.read_rest() == b"ab"
    assert reader.read_rest() == b""
    reader.finish()


@pytest.mark.parametrize("count", [3, 1 << 40, -1])
def test_refuses_to_read_outside_the_buffer(count: int):
    reader = ByteReader(b"ab")
    with pytest.raises(DecodeError):
        reader.read_bytes(count)
    assert reader.read_rest() == b"ab"


def test_a_vector_is_bounded_by_its_own_length():
    reader = ByteReader(b"\x00\x02abc")
    vector = reader.read_vector(2)
    assert vector.read_rest() == b"ab"
    with pytest.raises(DecodeError):
        vector.read_uint8()
    assert reader.read_rest() == b"c"


def test_a_vector_knows_its_place_in_the_outermost_buffer():
    reader = ByteReader(b"xx\x05\x02\x01\x00\x00\x00")
    reader.read_bytes(2)
    inner = reader.read_vector(1).read_vector(1)
    assert inner.offset == 4
    inner.read_uint8()
    with pytest.raises(DecodeError) as caught:
        inner.read_uint16()
    assert caught.value.offset == 5


@pytest.mark.parametrize(
    ("data", "low", "high"),
    [(b"\x03ab", 0, None), (b"\x01a", 2, None), (b"\x03abc", 0, 2), (b"", 0, None)],
)
def test_a_vector_outside_its_bounds_is_refused_and_not_consumed(
    data: bytes, low: int, high: int | None
):
    reader = ByteReader(data)
    with pytest.raises(DecodeError) as caught:
        reader.read_vector(1, low=low, high=high)
    assert caught.value.offset == 0
    assert reader.read_rest() == data


@pytest.mark.parametrize(("low", "high"), [(0, None), (2, 2), (1, 3)])
def test_a_vector_at_its_bounds_is_read(low: int, high: int | None):
    assert ByteReader(b"\x02ab").read_opaque(1, low=low, high=high) == b"ab"


def test_bytes_left_over_are_an_error_that_says_where():
    reader = ByteReader(b"abc")
    reader.read_uint8()
    with pytest.raises(DecodeError, match="2 bytes too many") as caught:
        reader.finish()
    assert caught.value.offset == 1
