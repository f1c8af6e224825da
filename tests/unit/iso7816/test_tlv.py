# SPDX-License-Identifier: Apache-2.0
"""BER-TLV data objects (ISO/IEC 7816-4 §6.3)."""

import pytest

from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError, LocalProtocolError


@pytest.mark.parametrize(
    ("wire", "tag", "size"),
    [
        ("8400", 0x84, 0),
        ("5F1F01", 0x5F1F, 1),
        ("9F7F7F", 0x9F7F, 127),
        ("84" + "8180", 0x84, 128),
        ("84" + "81FF", 0x84, 255),
        ("84" + "820100", 0x84, 256),
        ("84" + "82FFFF", 0x84, 65_535),
        ("84" + "83010000", 0x84, 65_536),
        ("5F810102", 0x5F8101, 2),
        ("7F2100", 0x7F21, 0),
    ],
)
def test_objects_of_each_form_decode_and_encode(wire: str, tag: int, size: int):
    data = bytes.fromhex(wire) + bytes(size)
    assert Tlv.decode(data) == Tlv(tag, bytes(size))
    assert Tlv(tag, bytes(size)).encode() == data


def test_a_length_longer_than_it_need_be_is_read():
    assert Tlv.decode(bytes.fromhex("84820001AA")) == Tlv(0x84, b"\xaa")


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "84",
        "8401",
        "8402AA",
        "8400AA",
        "0000",
        "848000",
        "848400000000",
        "8481",
        "848201",
        "5F",
        "5F1E00",
        "5F8000",
        "5F8081010000",
        "5F81810100",
    ],
)
def test_malformed_objects_are_refused(wire: str):
    with pytest.raises(DecodeError):
        Tlv.decode(bytes.fromhex(wire))


@pytest.mark.parametrize("tag", [0, 0x1F, 0x5F, 0x5F1E, 0x845F, 0x5F8101 << 8, 0x5F0101])
def test_a_malformed_tag_is_not_encoded(tag: int):
    with pytest.raises(LocalProtocolError):
        Tlv(tag, b"").encode()


def test_a_value_over_16_mib_is_not_encoded():
    with pytest.raises(LocalProtocolError):
        Tlv(0x84, bytes(1 << 24)).encode()


def test_objects_in_a_row_and_inside_each_other():
    inner = (Tlv(0x84, b"aid"), Tlv(0x9F6E, b""))
    outer = Tlv(0x6F, b"".join(tlv.encode() for tlv in inner))
    assert outer.is_constructed
    assert outer.children() == inner
    assert Tlv.decode_all(outer.encode() * 2) == (outer, outer)
    assert Tlv.decode_all(b"") == ()


@pytest.mark.parametrize(
    ("tag", "constructed"),
    [(0x84, False), (0xA5, True), (0x7F21, True), (0x5F20, False), (0x7F8101, True)],
)
def test_the_tag_says_whether_an_object_holds_others(tag: int, constructed):
    assert Tlv(tag, b"").is_constructed is constructed


def test_a_broken_object_inside_is_refused():
    with pytest.raises(DecodeError):
        Tlv(0x6F, b"\x84\x02a").children()
