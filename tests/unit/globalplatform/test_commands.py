# SPDX-License-Identifier: Apache-2.0
"""Commands of card management as bytes, both ways, and what a card refuses of them."""

import pytest

from iose.globalplatform.commands import (
    Delete,
    DeleteKey,
    GetStatus,
    LoadBlock,
    SetStatus,
    StatusScope,
    StoreData,
    get_data,
    load_blocks,
    read_delete,
    store_blocks,
)
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu
from iose.wire.errors import DecodeError, LocalProtocolError

AID = Aid.from_hex("010203040500")
PACKAGE = Aid.from_hex("0102030405")


def command(wire: str) -> CommandApdu:
    return CommandApdu.decode(bytes.fromhex(wire))


CASES = [
    (LoadBlock.from_command, LoadBlock(0, b"\xc4", is_last=False), "80E8000001C400"),
    (LoadBlock.from_command, LoadBlock(255, b"ab", is_last=True), "80E880FF02616200"),
    (StoreData.from_command, StoreData(1, b"a", is_last=False), "80E20001016100"),
    (StoreData.from_command, StoreData(0, b"", is_last=True, options=0x10), "80E2900000"),
    (read_delete, Delete(PACKAGE), "80E40000074F05010203040500"),
    (read_delete, Delete(PACKAGE, and_related=True), "80E40080074F05010203040500"),
    (read_delete, DeleteKey(0x30), "80E4000003D2013000"),
    (read_delete, DeleteKey(key_id=1), "80E4000003D0010100"),
    (read_delete, DeleteKey(0x30, 0), "80E4000006D00100D2013000"),
    (SetStatus.from_command, SetStatus(StatusScope.ISSUER_DOMAIN, 0x7F), "80F0807F00"),
    (
        SetStatus.from_command,
        SetStatus(StatusScope.APPLICATIONS, 0x83, AID),
        "80F040830601020304050000",
    ),
    (
        SetStatus.from_command,
        SetStatus(StatusScope.DOMAIN_AND_APPLICATIONS, 0x83, AID),
        "80F060830601020304050000",
    ),
    (GetStatus.from_command, GetStatus(StatusScope.APPLICATIONS), "80F24002024F0000"),
    (
        GetStatus.from_command,
        GetStatus(StatusScope.LOAD_FILES, PACKAGE.value, is_next=True),
        "80F22003074F05010203040500",
    ),
    (
        GetStatus.from_command,
        GetStatus(StatusScope.ISSUER_DOMAIN, has_objects=False),
        "80F28000024F0000",
    ),
    (
        GetStatus.from_command,
        GetStatus(StatusScope.LOAD_FILES_AND_MODULES, tags=bytes.fromhex("4F9F70C5")),
        "80F21002084F005C044F9F70C500",
    ),
]


@pytest.mark.parametrize(("decode", "value", "wire"), CASES, ids=[case[2] for case in CASES])
def test_commands_are_these_bytes(decode, value, wire):
    assert value.to_command().encode().hex().upper() == wire
    assert decode(command(wire)) == value


@pytest.mark.parametrize(
    ("decode", "wire", "reason", "offset"),
    [
        (LoadBlock.from_command, "80E8010001C4", "P1 01 of LOAD", 2),
        (LoadBlock.from_command, "80E80000", "without data", 0),
        (read_delete, "80E40100074F050102030405", "expected P1 00, found 01", 2),
        (read_delete, "80E40001074F050102030405", "P2 01 of DELETE", 3),
        (read_delete, "80E40000", "names one object", 0),
        (read_delete, "80E40000044F020102", "5 to 16 bytes", 0),
        (read_delete, "80E400000E4F0501020304054F050102030405", "names one object", 0),
        (read_delete, "80E400000A4F050102030405D00101", "names one object", 0),
        (read_delete, "80E4000004D2020130", "names one object", 0),
        (read_delete, "80E4000003C20101", "names one object", 0),
        (read_delete, "80E40000064F0501020304", "expected 5 more", 2),
        (SetStatus.from_command, "80F020070101", "P1 20 of SET STATUS", 2),
        (SetStatus.from_command, "80F04007", "5 to 16 bytes", 0),
        (GetStatus.from_command, "80F26002024F00", "P1 60 of GET STATUS", 2),
        (GetStatus.from_command, "80F20002024F00", "P1 00 of GET STATUS", 2),
        (GetStatus.from_command, "80F24004024F00", "P2 04 of GET STATUS", 3),
        (GetStatus.from_command, "80F24002", "has a criterion", 0),
        (GetStatus.from_command, "80F24002025C00", "has a criterion", 0),
        (GetStatus.from_command, "80F24002064F005C005C00", "has a criterion", 0),
        (GetStatus.from_command, "80F24002134F11" + "00" * 17, "a criterion of 17", 0),
        (GetStatus.from_command, "80F24002024F01", "expected 1 more", 2),
    ],
)
def test_a_card_refuses_what_is_not_quite_a_command(decode, wire, reason, offset):
    with pytest.raises(DecodeError, match=reason) as caught:
        decode(command(wire))
    assert caught.value.offset == offset


def test_a_key_to_delete_is_named():
    with pytest.raises(LocalProtocolError, match="which key"):
        DeleteKey().to_command()


@pytest.mark.parametrize(("size", "count"), [(1, 1), (10, 1), (11, 2), (2_560, 256)])
def test_data_are_cut_into_numbered_blocks(size, count):
    data = bytes(index % 251 for index in range(size))
    for blocks in (list(load_blocks(data, 10)), list(store_blocks(data, 10))):
        assert [one.number for one in blocks] == list(range(count))
        assert b"".join(one.data for one in blocks) == data
        assert [one.is_last for one in blocks] == [False] * (count - 1) + [True]


@pytest.mark.parametrize("size", [0, 2_561])
def test_data_of_no_block_or_too_many_are_refused(size):
    for cut in (load_blocks, store_blocks):
        with pytest.raises(LocalProtocolError, match="allowed are 1 to 256"):
            list(cut(bytes(size), 10))


def test_get_data_puts_the_tag_into_the_parameters():
    assert get_data(0x66).encode().hex() == "80ca006600"
    assert get_data(0x9F7F).encode().hex() == "80ca9f7f00"
