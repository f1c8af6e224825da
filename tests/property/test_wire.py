# SPDX-License-Identifier: Apache-2.0
"""What is written is read back, whatever it is; what is read never runs past its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from iose.wire.errors import DecodeError
from iose.wire.reader import ByteReader
from iose.wire.writer import ByteWriter


@given(st.lists(st.tuples(st.integers(1, 3), st.binary(max_size=255))))
def test_vectors_written_are_read_back(bodies: list[tuple[int, bytes]]):
    writer = ByteWriter()
    for prefix, body in bodies:
        with writer.vector(prefix):
            writer.write_bytes(body)
    reader = ByteReader(writer.to_bytes())
    assert [reader.read_opaque(prefix) for prefix, _ in bodies] == [body for _, body in bodies]
    reader.finish()


@given(
    st.integers(1, 8).flatmap(
        lambda width: st.tuples(st.just(width), st.integers(0, 256**width - 1))
    )
)
def test_integers_written_are_read_back(sized: tuple[int, int]):
    width, value = sized
    writer = ByteWriter()
    writer.write_uint(value, width)
    assert ByteReader(writer.to_bytes()).read_uint(width) == value


@given(st.binary(), st.lists(st.tuples(st.sampled_from("buv"), st.integers(0, 9))))
def test_any_reads_of_any_bytes_stay_inside_or_consume_nothing(
    data: bytes, reads: list[tuple[str, int]]
):
    reader = ByteReader(data)
    for kind, size in reads:
        before = reader.offset
        try:
            read(reader, kind, size)
        except DecodeError:
            assert reader.offset == before
        assert reader.offset + reader.remaining == len(data)


def read(reader: ByteReader, kind: str, size: int) -> None:
    match kind:
        case "b":
            assert len(reader.read_bytes(size)) == size
        case "u":
            assert reader.read_uint(size) < 256**size
        case _:
            reader.read_vector(size).read_rest()
