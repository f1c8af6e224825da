# SPDX-License-Identifier: Apache-2.0
"""Decoding undoes encoding for every value; any bytes decode or are refused, nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import HISTORICAL_LIMIT, Atr, InterfaceGroup
from iose.iso7816.status import StatusWord
from iose.iso7816.tlv import Tlv
from iose.wire.errors import DecodeError

BYTE = st.integers(0, 255)
OPTIONAL_BYTE = st.none() | BYTE
COMMANDS = st.builds(
    CommandApdu,
    BYTE,
    BYTE,
    BYTE,
    BYTE,
    st.binary(max_size=300),
    st.none() | st.integers(1, 300) | st.integers(1, 65_536),
)
LINKED_GROUPS = st.builds(
    InterfaceGroup, OPTIONAL_BYTE, OPTIONAL_BYTE, OPTIONAL_BYTE, st.integers(0, 15)
)
LAST_GROUPS = st.builds(
    InterfaceGroup, OPTIONAL_BYTE, OPTIONAL_BYTE, OPTIONAL_BYTE, st.none() | st.integers(0, 15)
).filter(lambda group: group.presence)
GROUPS = st.just(()) | st.builds(
    lambda linked, last: (*linked, last), st.lists(LINKED_GROUPS, max_size=3), LAST_GROUPS
)
ATRS = st.builds(Atr, st.binary(max_size=HISTORICAL_LIMIT), GROUPS, st.sampled_from([0x3B, 0x3F]))
TAGS = st.one_of(
    BYTE.filter(lambda tag: tag and tag & 0x1F != 0x1F),
    st.builds(
        lambda top, low: (top << 5 | 0x1F) << 8 | low, st.integers(0, 7), st.integers(31, 127)
    ),
    st.builds(
        lambda top, high, low: (top << 5 | 0x1F) << 16 | high << 8 | low,
        st.integers(0, 7),
        st.integers(0x81, 0xFF),
        st.integers(0, 0x7F),
    ),
)
TLVS = st.builds(Tlv, TAGS, st.binary(max_size=300))


@given(COMMANDS)
def test_a_command_encoded_is_decoded(command: CommandApdu):
    assert CommandApdu.decode(command.encode()) == command


@given(st.binary(max_size=300), st.integers(0, 0xFFFF))
def test_an_answer_encoded_is_decoded(data: bytes, status: int):
    response = ResponseApdu(data, StatusWord(status))
    assert ResponseApdu.decode(response.encode()) == response


@given(ATRS.filter(lambda atr: len(atr.encode()) <= 33))
def test_an_atr_encoded_is_decoded(atr: Atr):
    assert Atr.decode(atr.encode()) == atr


@given(TLVS)
def test_an_object_encoded_is_decoded(tlv: Tlv):
    assert Tlv.decode(tlv.encode()) == tlv


@given(st.lists(TLVS, max_size=5))
def test_objects_in_a_row_are_decoded(objects: list[Tlv]):
    assert list(Tlv.decode_all(b"".join(tlv.encode() for tlv in objects))) == objects


@given(st.binary(max_size=40))
def test_any_bytes_are_an_atr_that_encodes_back_or_refused(data: bytes):
    try:
        atr = Atr.decode(data)
    except DecodeError:
        return
    assert Atr.decode(atr.encode()) == atr
    assert atr.se_name is None or 1 <= len(atr.se_name) <= 15


@given(st.binary(max_size=300))
def test_any_bytes_are_a_command_or_refused(data: bytes):
    try:
        command = CommandApdu.decode(data)
    except DecodeError:
        return
    assert CommandApdu.decode(command.encode()) == command


@given(st.binary(max_size=300))
def test_any_bytes_are_objects_or_refused(data: bytes):
    try:
        objects = Tlv.decode_all(data)
    except DecodeError:
        return
    assert Tlv.decode_all(b"".join(tlv.encode() for tlv in objects)) == objects
