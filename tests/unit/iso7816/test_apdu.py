# SPDX-License-Identifier: Apache-2.0
"""The four cases of a command, short and extended, and answers (ISO/IEC 7816-3 §12.1)."""

import pytest

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.status import StatusWord
from iose.wire.errors import DecodeError, LocalProtocolError

CASES = [
    ("00A40400", CommandApdu(0, 0xA4, 4, 0)),
    ("00C000001C", CommandApdu(0, 0xC0, 0, 0, le=0x1C)),
    ("00C0000000", CommandApdu(0, 0xC0, 0, 0, le=256)),
    ("00D8000003AABBCC", CommandApdu(0, 0xD8, 0, 0, b"\xaa\xbb\xcc")),
    ("00D8000003AABBCC00", CommandApdu(0, 0xD8, 0, 0, b"\xaa\xbb\xcc", 256)),
    ("00D8000003AABBCC05", CommandApdu(0, 0xD8, 0, 0, b"\xaa\xbb\xcc", 5)),
    ("00B00000000101", CommandApdu(0, 0xB0, 0, 0, le=257)),
    ("00B00000000000", CommandApdu(0, 0xB0, 0, 0, le=65_536)),
    ("00D80000000100" + "AA" * 256, CommandApdu(0, 0xD8, 0, 0, b"\xaa" * 256)),
    ("00D80000000100" + "AA" * 256 + "0000", CommandApdu(0, 0xD8, 0, 0, b"\xaa" * 256, 65_536)),
    ("00D80000000001AA0101", CommandApdu(0, 0xD8, 0, 0, b"\xaa", 257)),
    ("00D8000000FFFF" + "AA" * 65_535, CommandApdu(0, 0xD8, 0, 0, b"\xaa" * 65_535)),
]


@pytest.mark.parametrize(("wire", "command"), CASES)
def test_each_case_decodes_and_encodes(wire: str, command: CommandApdu):
    assert CommandApdu.decode(bytes.fromhex(wire)) == command
    assert command.encode().hex().upper() == wire


@pytest.mark.parametrize(
    ("wire", "command"),
    [
        ("00B0000000000A", CommandApdu(0, 0xB0, 0, 0, le=10)),
        ("00D80000000001AA", CommandApdu(0, 0xD8, 0, 0, b"\xaa")),
        ("00D80000000001AA0005", CommandApdu(0, 0xD8, 0, 0, b"\xaa", 5)),
    ],
)
def test_an_extended_form_that_need_not_be_is_read(wire: str, command: CommandApdu):
    assert CommandApdu.decode(bytes.fromhex(wire)) == command


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "00D800",
        "00D8000002AA",
        "00D8000002AABBCCDD",
        "00D80000000002AA",
        "00D80000000001AABB",
        "00D80000000001AABBCCDD",
        "00D80000000000AABB",
        "00D8000000AA",
    ],
)
def test_lengths_that_do_not_fit_are_refused(wire: str):
    with pytest.raises(DecodeError):
        CommandApdu.decode(bytes.fromhex(wire))


@pytest.mark.parametrize(
    "command",
    [
        CommandApdu(0, 0, 0, 0, bytes(65_536)),
        CommandApdu(0, 0, 0, 0, le=0),
        CommandApdu(0, 0, 0, 0, le=65_537),
    ],
)
def test_a_field_outside_its_range_is_not_encoded(command: CommandApdu):
    with pytest.raises(LocalProtocolError):
        command.encode()


@pytest.mark.parametrize(
    ("wire", "data", "status"), [("9000", b"", 0x9000), ("AA6C10", b"\xaa", 0x6C10)]
)
def test_an_answer_is_data_and_status(wire: str, data: bytes, status: int):
    response = ResponseApdu.decode(bytes.fromhex(wire))
    assert response == ResponseApdu(data, StatusWord(status))
    assert response.encode().hex().upper() == wire


@pytest.mark.parametrize("wire", ["", "90"])
def test_an_answer_without_status_is_refused(wire: str):
    with pytest.raises(DecodeError):
        ResponseApdu.decode(bytes.fromhex(wire))
