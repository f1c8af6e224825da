# SPDX-License-Identifier: Apache-2.0
"""Frames on an I2C bus; vectors of iose-server.md §8.4 and tls-im.md §4.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iose.protocols.i2c_frames import DeviceParameters, I2cFrame, crc16, has_valid_crc
from iose.wire.errors import DecodeError, LocalProtocolError
from tests.twins import i2c_device

VECTORS = (
    ("5ACF00", "377F"),
    ("A5CF086B6579312E636F6D", "F0DF"),
    ("5AC10500D8000000", "C04C"),
    ("A5C1029000", "6088"),
    ("5A8300", "F190"),
)
# what an SE050 says after a soft reset: public, in the data sheet's layout
SE050 = "00A0000003960403E800FE020B03E80801000000006400000A4A434F5034204154504F"


@pytest.mark.parametrize(("frame", "crc"), VECTORS)
def test_frames_of_the_specification_have_its_check_bytes(frame, crc):
    data = bytes.fromhex(frame)
    assert crc16(data).hex().upper() == crc
    decoded = I2cFrame.decode(bytes.fromhex(frame + crc))
    assert (decoded.nad, decoded.pcb, decoded.inf) == (data[0], data[1], data[3:])
    assert decoded.encode() == bytes.fromhex(frame + crc)


def test_the_published_check_value():
    assert crc16(bytes.fromhex("01020304")) == bytes.fromhex("9139")


@given(st.binary(max_size=300))
def test_the_table_computes_what_bits_do(data):
    assert crc16(data) == i2c_device.crc16(data)


@given(st.sampled_from([0x5A, 0xA5]), st.integers(0, 0xFE), st.binary(max_size=254), st.integers(0))
def test_a_frame_comes_back_and_one_bit_off_does_not(nad, pcb, inf, place):
    data = I2cFrame(nad, pcb, inf).encode()
    assert I2cFrame.decode(data) == I2cFrame(nad, pcb, inf)
    bit = place % (8 * len(data))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecodeError):
        I2cFrame.decode(bytes(flipped))


@pytest.mark.parametrize(
    "data",
    [
        "",
        "A5",
        "A5CF00",
        "A5C1029000608800",
        "A5C10290006089",
        "A4C1029000" + crc16(bytes.fromhex("A4C1029000")).hex(),
        "A5FF00" + crc16(bytes.fromhex("A5FF00")).hex(),
    ],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(DecodeError):
        I2cFrame.decode(bytes.fromhex(data))


def test_a_length_of_ff_is_refused_whatever_follows():
    head = b"\xa5\xc1\xff" + bytes(255)
    with pytest.raises(DecodeError, match="FF"):
        I2cFrame.decode(head + crc16(head))


def test_more_than_a_frame_carries_is_our_own_mistake():
    with pytest.raises(LocalProtocolError):
        I2cFrame(0x5A, 0xC1, bytes(255)).encode()


@pytest.mark.parametrize("pcb", [0x81, 0x82, 0x83, 0x9B])
def test_error_blocks_are_told_by_their_bits(pcb):
    assert I2cFrame(0xA5, pcb).is_error


@pytest.mark.parametrize("pcb", [0x80, 0x84, 0xC0, 0xC1, 0xCF, 0xEF, 0x00, 0x40, 0xA1])
def test_other_blocks_are_no_errors(pcb):
    assert not I2cFrame(0xA5, pcb).is_error


def test_check_bytes_alone_can_be_looked_at():
    assert has_valid_crc(bytes.fromhex("A5C10290006088"))
    assert not has_valid_crc(bytes.fromhex("A5C10290016088"))


def test_the_answer_of_an_se050_to_a_soft_reset():
    parameters = DeviceParameters.decode(bytes.fromhex(SE050))
    assert parameters == DeviceParameters(b"JCOP4 ATPO", 254)


def test_a_device_may_take_smaller_blocks():
    data = bytearray.fromhex(SE050)
    data[9:11] = b"\x00\x20"
    assert DeviceParameters.decode(bytes(data)).information_size == 32
    data[9:11] = b"\x40\x00"
    assert DeviceParameters.decode(bytes(data)).information_size == 254


@pytest.mark.parametrize("change", ["cut", "grown", "no blocks", "short link"])
def test_another_layout_is_refused(change):
    data = bytearray.fromhex(SE050)
    match change:
        case "cut":
            del data[-1]
        case "grown":
            data += b"\0"
        case "no blocks":
            data[9:11] = bytes(2)
        case _:
            data[6] = 3
    with pytest.raises(DecodeError):
        DeviceParameters.decode(bytes(data))
