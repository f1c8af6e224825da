# SPDX-License-Identifier: Apache-2.0
"""Answers to reset: interface bytes, check byte, and the name of the element."""

import pytest

from iose.iso7816.atr import Atr, InterfaceGroup, TransmissionProtocol, is_se_name
from iose.wire.errors import DecodeError, LocalProtocolError

# Historical bytes, protocols and name of each. The first is the example of iose-server.md §4;
# the second was sent by a Java Card simulator with the keystore applet.
KNOWN = [
    ("3B9895006B6579312E636F6D", b"key1.com", (0,), "key1.com"),
    ("3B8880016B6579312E636F6D00", b"key1.com", (0, 1), "key1.com"),
    ("3B086B6579312E636F6D", b"key1.com", (0,), "key1.com"),
    ("3B00", b"", (0,), None),
    ("3F00", b"", (0,), None),
    ("3B8001" + "81", b"", (1,), None),
    ("3B046E756C6C", b"null", (0,), None),
    ("3BFF1100FF8131FE45" + "00" * 15 + "1A", bytes(15), (1, 1), None),
    ("3B70112233", b"", (0,), None),
]


@pytest.mark.parametrize(("wire", "historical", "protocols", "name"), KNOWN)
def test_known_answers_decode_and_encode(
    wire: str, historical: bytes, protocols: tuple[int, ...], name: str | None
):
    atr = Atr.decode(bytes.fromhex(wire))
    assert (atr.historical_bytes, atr.protocols, atr.se_name) == (historical, protocols, name)
    assert atr.encode().hex().upper() == wire


def test_interface_bytes_are_kept_by_group():
    atr = Atr.decode(bytes.fromhex("3B9895006B6579312E636F6D"))
    assert atr.groups == (InterfaceGroup(ta=0x95, protocol=0),)
    assert not atr.has_check_byte


def test_a_card_answers_plainly_for_each_protocol():
    assert Atr.for_card(b"ab", TransmissionProtocol.T0).encode() == b"\x3b\x02ab"
    assert Atr.for_card(b"ab", TransmissionProtocol.T1).encode() == b"\x3b\x82\x01ab\x80"


@pytest.mark.parametrize(
    ("protocol", "wire"),
    [
        (TransmissionProtocol.T0, "3B086B6579312E636F6D"),
        (TransmissionProtocol.T1, "3B888131FE456B6579312E636F6D8A"),
    ],
)
def test_a_card_for_readers_of_others_keeps_its_name_with_each_protocol(protocol, wire):
    atr = Atr.for_contacts(b"key1.com", protocol)
    assert atr.encode().hex().upper() == wire
    assert Atr.decode(atr.encode()) == atr
    assert (atr.se_name, set(atr.protocols)) == ("key1.com", {protocol})


@pytest.mark.parametrize("position", range(1, 13))
def test_one_bit_off_is_refused(position: int):
    wire = bytearray(bytes.fromhex("3B8880016B6579312E636F6D00"))
    wire[position] ^= 0x01
    with pytest.raises(DecodeError):
        Atr.decode(bytes(wire))


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "3B",
        "3A00",
        "0000",
        "3B01",
        "3B0061",
        "3B10",
        "3B80",
        "3B8001",  # no TCK
        "3B800180",  # wrong TCK
        "3B80018100",
        "3B" + "80" * 40,
        "3B" + "90FF" * 17,
    ],
)
def test_malformed_answers_are_refused(wire: str):
    with pytest.raises(DecodeError):
        Atr.decode(bytes.fromhex(wire))


@pytest.mark.parametrize(
    "atr",
    [
        Atr(bytes(16)),
        Atr(groups=(InterfaceGroup(ta=1), InterfaceGroup(ta=2))),
    ],
)
def test_what_no_card_can_answer_is_not_encoded(atr: Atr):
    with pytest.raises(LocalProtocolError):
        atr.encode()


@pytest.mark.parametrize(
    "name", ["a", "key1.com", "ethertrust", "A-b_c.d", "a" * 15, "_x", "127.0.0.1"]
)
def test_host_names_of_1_to_15_bytes_are_names(name: str):
    assert is_se_name(name)
    assert Atr(name.encode()).se_name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "null",
        "NULL",
        "a" * 16,
        ".com",
        "key1.",
        "a..b",
        "-a",
        "a-",
        "key 1",
        "key1\n",
        "a/b",
        "k\x00",
    ],
)
def test_other_texts_are_not(name: str):
    assert not is_se_name(name)


@pytest.mark.parametrize("value", [b"\x80\x31\x80\x65", b"\xe9t\xe9", bytes(8), b"a\nb", b"null"])
def test_binary_historical_bytes_are_not_a_name(value: bytes):
    assert Atr(value).se_name is None


T1 = (InterfaceGroup(protocol=1),)
EXTENDED = bytes.fromhex("8073000140")


@pytest.mark.parametrize("historical", ["8073000140", "8031807300004090", "0073FF00C0059000"])
def test_a_card_says_that_it_takes_extended_commands(historical: str):
    assert Atr(bytes.fromhex(historical), T1).has_extended_length


@pytest.mark.parametrize(
    "historical",
    ["", "80", "00", "8073", "80730001", "8073000180", "8163000140", "1073000140", "007300014090"],
)
def test_other_historical_bytes_do_not_say_so(historical: str):
    assert not Atr(bytes.fromhex(historical), T1).has_extended_length


def test_a_card_with_t_0_alone_takes_no_extended_commands():
    assert not Atr(EXTENDED).has_extended_length


@pytest.mark.parametrize("size", range(16))
@pytest.mark.parametrize("first", [0x00, 0x80])
def test_historical_bytes_of_any_size_are_looked_at_without_harm(first: int, size: int):
    for filler in (0x00, 0x73, 0x7F, 0xFF):
        assert Atr(bytes((first,)) + bytes((filler,)) * (size and size - 1), T1).encode()
        Atr((bytes((first,)) + bytes((filler,)) * 15)[:size], T1).has_extended_length  # noqa: B018
