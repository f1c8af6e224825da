# SPDX-License-Identifier: Apache-2.0
"""INSTALL in all its forms, as bytes both ways, and what a card refuses of it."""

import pytest

from iose.globalplatform.commands import StoreData
from iose.globalplatform.install import (
    InstallForInstall,
    InstallForLoad,
    InstallForPersonalization,
    MakeSelectable,
    RegistryUpdate,
    decode_install,
)
from iose.globalplatform.life_cycle import Privilege
from iose.iso7816.aid import Aid
from iose.iso7816.apdu import CommandApdu
from iose.wire.errors import DecodeError, LocalProtocolError

PACKAGE = Aid.from_hex("0102030405")
APPLET = Aid.from_hex("010203040500")
DOMAIN = Aid.from_hex("A000000151000000")
LV_PACKAGE = "050102030405"
LV_APPLET = "06010203040500"
LV_DOMAIN = "08A000000151000000"
CASES = [
    (InstallForLoad(PACKAGE), 0x02, LV_PACKAGE + "00000000"),
    (
        InstallForLoad(PACKAGE, DOMAIN, bytes(32), bytes.fromhex("EF00"), b"t"),
        0x02,
        LV_PACKAGE + LV_DOMAIN + "20" + "00" * 32 + "02EF00" + "0174",
    ),
    (
        InstallForInstall(PACKAGE, APPLET, APPLET),
        0x0C,
        LV_PACKAGE + LV_APPLET * 2 + "010002C90000",
    ),
    (
        InstallForInstall(
            PACKAGE, APPLET, APPLET, Privilege.DEFAULT_SELECTED, b"x", is_selectable=False
        ),
        0x04,
        LV_PACKAGE + LV_APPLET * 2 + "010403C9017800",
    ),
    (
        InstallForInstall(
            PACKAGE, APPLET, APPLET, Privilege.GLOBAL_LOCK, b"", bytes.fromhex("C7020010")
        ),
        0x0C,
        LV_PACKAGE + LV_APPLET * 2 + "0300080008C900EF04C702001000",
    ),
    (
        InstallForInstall(PACKAGE, APPLET, APPLET, parameters=bytes(130)),
        0x0C,
        LV_PACKAGE + LV_APPLET * 2 + "0100" + "8185C98182" + "00" * 130 + "00",
    ),
    (MakeSelectable(APPLET), 0x08, "0000" + LV_APPLET + "01000000"),
    (
        MakeSelectable(APPLET, Privilege.DEFAULT_SELECTED),
        0x08,
        "0000" + LV_APPLET + "01040000",
    ),
    (InstallForPersonalization(APPLET), 0x20, "0000" + LV_APPLET + "000000"),
    (RegistryUpdate(APPLET), 0x40, "0000" + LV_APPLET + "000000"),
    (RegistryUpdate(None), 0x40, "000000000000"),
    (
        RegistryUpdate(APPLET, Privilege.DEFAULT_SELECTED, DOMAIN, bytes.fromhex("EF00")),
        0x40,
        LV_DOMAIN + "00" + LV_APPLET + "010402EF0000",
    ),
]


@pytest.mark.parametrize(("value", "p1", "data"), CASES, ids=lambda case: str(case)[:40])
def test_installs_are_these_bytes(value, p1, data):
    command = value.to_command()
    assert (command.cla, command.ins, command.p1, command.p2) == (0x80, 0xE6, p1, 0)
    assert command.data.hex().upper() == data
    assert decode_install(command) == value


@pytest.mark.parametrize(("value", "p1", "data"), CASES, ids=lambda case: str(case)[:40])
def test_an_install_cut_or_continued_anywhere_is_refused(value, p1, data):
    wire = bytes.fromhex(data)
    for wrong in [wire[:size] for size in range(len(wire))] + [wire + b"\x00"]:
        with pytest.raises(DecodeError):
            decode_install(CommandApdu(0x80, 0xE6, p1, 0, wrong))


@pytest.mark.parametrize(
    ("p1", "data", "reason"),
    [
        (0x02, "0401020304" + "00000000", "5 to 16 bytes"),
        (0x02, "00" + "00000000", "5 to 16 bytes"),
        (0x02, LV_PACKAGE + "0401020304" + "000000", "5 to 16 bytes"),
        (0x02, LV_PACKAGE + "00" + "1F" + "00" * 31 + "0000", "a hash of 31 bytes"),
        (0x02, LV_PACKAGE + "0000" + "01EF" + "00", "expected 1 more"),
        (0x02, LV_PACKAGE + "00" + "81050000000000" + "0000", "shortest form"),
        (0x02, LV_PACKAGE + "00" + "82000100" + "0000", "shortest form"),
        (0x02, LV_PACKAGE + "00" + "80" + "0000", "80 begins no length"),
        (0x02, LV_PACKAGE + "00" + "83000001" + "0000", "83 begins no length"),
        (0x0C, LV_PACKAGE + LV_APPLET * 2 + "0002C90000", "1 or 3 bytes, found 0"),
        (0x0C, LV_PACKAGE + LV_APPLET * 2 + "02000002C90000", "1 or 3 bytes, found 2"),
        (0x0C, LV_PACKAGE + LV_APPLET * 2 + "010004C900C90000", "C9 and EF, once"),
        (0x0C, LV_PACKAGE + LV_APPLET * 2 + "010002EA0000", "C9 and EF, once"),
        (0x08, "0100" + LV_APPLET + "01000000", "must be empty"),
        (0x08, "0000" + LV_APPLET + "01000100", "must be empty"),
        (0x20, "0001" + LV_APPLET + "000000", "must be empty"),
        (0x20, "0000" + LV_APPLET + "010000", "must be empty"),
        (0x40, "0001" + LV_APPLET + "000000", "must be empty"),
        (0x40, "0000" + LV_APPLET + "000001", "must be empty"),
        (0x40, "0000" + LV_APPLET + "0001EF00", "expected 1 more"),
    ],
)
def test_a_card_refuses_what_is_not_quite_an_install(p1, data, reason):
    with pytest.raises(DecodeError, match=reason):
        decode_install(CommandApdu(0x80, 0xE6, p1, 0, bytes.fromhex(data)))


@pytest.mark.parametrize("p1", sorted(set(range(256)) - {0x02, 0x04, 0x08, 0x0C, 0x20, 0x40}))
def test_other_purposes_are_refused(p1):
    with pytest.raises(DecodeError, match="not supported") as caught:
        decode_install(CommandApdu(0x80, 0xE6, p1, 0, bytes(6)))
    assert caught.value.offset == 2


def test_p2_of_install_is_zero():
    with pytest.raises(DecodeError, match="expected P2 00, found 01") as caught:
        decode_install(CommandApdu(0x80, 0xE6, 0x02, 1, bytes(6)))
    assert caught.value.offset == 3


def test_install_parameters_may_be_absent():
    data = bytes.fromhex(LV_PACKAGE + LV_APPLET * 2 + "01000000")
    found = decode_install(CommandApdu(0x80, 0xE6, 0x0C, 0, data))
    assert found == InstallForInstall(PACKAGE, APPLET, APPLET)


def test_a_field_of_more_than_255_bytes_has_a_longer_length():
    value = InstallForInstall(PACKAGE, APPLET, APPLET, parameters=bytes(300))
    assert decode_install(value.to_command()) == value
    with pytest.raises(LocalProtocolError, match="do not fit one field"):
        InstallForInstall(PACKAGE, APPLET, APPLET, parameters=bytes(65_536)).to_command()


def test_what_an_instance_is_given_is_in_no_representation():
    secret = b"a PSK and two PINs"
    install = InstallForInstall(PACKAGE, APPLET, APPLET, parameters=secret)
    block = StoreData(0, secret, is_last=True)
    assert secret.decode() not in repr((install, block)) + str(install) + str(block)
    assert block != StoreData(0, b"", is_last=True)
