# SPDX-License-Identifier: Apache-2.0
"""URIs of modules behind readers of this machine, and how they are kept."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iose.client.credentials import Credential, CredentialsStore
from iose.client.errors import ElementUriError
from iose.client.module import decode_module
from iose.client.module_place import DEFAULT_AID, ModuleForm, ReaderKind, ReaderModule
from iose.client.uri import ElementUri
from iose.iso7816.aid import Aid

ADDRESS = ElementUri.decode("keyS://key1.com@127.0.0.1:8888/").address
OTHER = ElementUri.decode("keyS://key2.com@127.0.0.1:8888/").address
PCSC = ReaderModule(ReaderKind.PCSC, "pcsc-123", pin=b"0000")
SE050 = ReaderModule(ReaderKind.I2C, "/dev/i2c-1", (("address", 72),), form=ModuleForm.SE050)


@pytest.mark.parametrize(
    ("text", "module", "shown"),
    [
        (
            "pcsc:pcsc-123",
            ReaderModule(ReaderKind.PCSC, "pcsc-123"),
            "pcsc:pcsc-123?aid=010203040800",
        ),
        (
            "PCSC:Virtual%20PCD%2000?aid=010203040500",
            ReaderModule(ReaderKind.PCSC, "Virtual PCD 00", aid=Aid(b"\x01\x02\x03\x04\x05\x00")),
            "pcsc:Virtual%20PCD%2000?aid=010203040500",
        ),
        (
            "i2c:/dev/i2c-1?address=0x48&form=se050",
            SE050,
            "i2c:/dev/i2c-1?address=72&form=se050",
        ),
        (
            "i2c:///dev/i2c-1?transfer_size=32&address=4&reset_chip=/dev/gpiochip0&reset_line=17"
            "&flavour=t1",
            ReaderModule(
                ReaderKind.I2C,
                "/dev/i2c-1",
                (("address", 4), ("reset_line", 17), ("transfer_size", 32)),
                "/dev/gpiochip0",
                "t1",
            ),
            "i2c:/dev/i2c-1?address=4&reset_line=17&transfer_size=32"
            "&reset_chip=/dev/gpiochip0&flavour=t1&aid=010203040800",
        ),
        (
            "serial:/dev/ttyACM0?form=text&baud=9600",
            ReaderModule(
                ReaderKind.SERIAL, "/dev/ttyACM0", (("baud", 9600),), form=ModuleForm.TEXT
            ),
            "serial:/dev/ttyACM0?baud=9600&form=text",
        ),
        (
            "serial:/dev/ttyACM0",
            ReaderModule(ReaderKind.SERIAL, "/dev/ttyACM0"),
            "serial:/dev/ttyACM0?aid=010203040800",
        ),
        (
            "sim-array://host/701",
            ReaderModule(ReaderKind.SIM_ARRAY, "host:2310/701"),
            "sim-array://host:2310/701?aid=010203040800",
        ),
        (
            "sim-array://[::1]:2310/701",
            ReaderModule(ReaderKind.SIM_ARRAY, "[::1]:2310/701"),
            "sim-array://[::1]:2310/701?aid=010203040800",
        ),
    ],
)
def test_a_module_behind_a_reader_has_a_uri(text: str, module: ReaderModule, shown: str):
    decoded = decode_module(text, pki=Path())
    assert decoded == module
    assert str(decoded) == shown
    assert decode_module(shown, pki=Path()) == module


@pytest.mark.parametrize(
    "text",
    [
        "pcsc:",
        "pcsc:?aid=010203040800",
        "pcsc://host/reader",
        "pcsc:reader#part",
        "pcsc:reader?aid=01",
        "pcsc:reader?aid=xy",
        "pcsc:reader?pin=0000",
        "pcsc:reader?baud=9600",
        "pcsc:reader?form=text",
        "pcsc:reader?form=other",
        "pcsc:reader?form=se050&aid=010203040800",
        "pcsc:reader?aid=010203040800&aid=010203040800",
        "pcsc:reader%0A",
        "pcsc:" + "r" * 256,
        "i2c:/dev/i2c-1",
        "i2c:/dev/i2c-1?address=2",
        "i2c:/dev/i2c-1?address=120",
        "i2c:/dev/i2c-1?address=-4",
        "i2c:/dev/i2c-1?address=4.0",
        "i2c:/dev/i2c-1?address=",
        "i2c:/dev/i2c-1?address",
        "i2c:/dev/i2c-1?address=4&flavour=t2",
        "i2c:/dev/i2c-1?address=4&form=text",
        "i2c:?address=4",
        "serial:",
        "serial:/dev/ttyACM0?baud=299",
        "serial:/dev/ttyACM0?address=4",
        "sim-array:701",
        "sim-array://host:2310",
        "sim-array://host:2310/",
        "sim-array://host:2310/x",
        "sim-array://user@host:2310/701",
        "sim-array://host:70000/701",
        "sim-array://host:x/701",
        "sim-array://host:0/701",
        "sim-array://:2310/701",
        "sim-array://[::1/701",
    ],
)
def test_other_uris_are_refused(text: str):
    with pytest.raises(ElementUriError) as caught:
        decode_module(text, pki=Path())
    assert caught.value.hint


@given(
    st.sampled_from(["pcsc:", "i2c:", "serial:", "sim-array:", "i2c:/dev/i2c-1?address="]),
    st.text(max_size=40),
)
def test_any_text_is_a_module_or_refused(scheme: str, text: str):
    try:
        module = decode_module(scheme + text, pki=Path())
    except ElementUriError:
        return
    assert decode_module(str(module), pki=Path()) == module


@pytest.mark.parametrize("size", [0, 1, 3, 5, 7, 9, 64])
def test_the_pin_of_an_applet_has_4_or_8_characters(size: int):
    with pytest.raises(ElementUriError):
        replace(PCSC, pin=b"0" * size)


def test_a_board_may_take_another_pin_or_none():
    board = ReaderModule(ReaderKind.SERIAL, "/dev/ttyACM0", form=ModuleForm.TEXT)
    for pin in (b"", b"1", b"12345678", b"x" * 64):
        assert replace(board, pin=pin).pin == pin
    for pin in (b"x" * 65, b"00 00", b"00\r\n", b"\xff", b"0000\n"):
        with pytest.raises(ElementUriError):
            replace(board, pin=pin)


def test_an_se050_takes_none():
    assert not SE050.needs_pin
    assert PCSC.needs_pin
    with pytest.raises(ElementUriError):
        replace(SE050, pin=b"0000")


def test_the_pin_is_in_no_text():
    assert "0000" not in repr(PCSC).replace(repr(DEFAULT_AID), "")
    assert "pin" not in str(PCSC)


def test_a_module_behind_a_reader_is_kept_with_its_pin(tmp_path: Path):
    store = CredentialsStore(tmp_path / "credentials")
    store.save(Credential(ADDRESS, module=PCSC))
    store.save(Credential(OTHER, module=SE050))
    assert '"version": 3' in store.path.read_text()
    assert store.find(ADDRESS).module == PCSC
    assert store.find(OTHER).module == SE050
    store.remove(ADDRESS)
    store.remove(OTHER)
    assert '"version": 1' in store.path.read_text()


def test_a_refused_pin_is_forgotten_for_every_element_of_that_module(tmp_path: Path):
    store = CredentialsStore(tmp_path / "credentials")
    another = ReaderModule(ReaderKind.PCSC, "pcsc-124", pin=b"0000")
    store.save(Credential(ADDRESS, module=PCSC))
    store.save(Credential(OTHER, module=PCSC))
    store.save(Credential(OTHER, module=another, identity="other"))
    store.forget_pin(PCSC)
    assert store.find(ADDRESS).module == replace(PCSC, pin=None)
    assert store.find(OTHER, "Client_identity").module == replace(PCSC, pin=None)
    assert store.find(OTHER, "other").module == another
