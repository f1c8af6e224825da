# SPDX-License-Identifier: Apache-2.0
"""The published server's readers as tables of ours; what is lost is told, keys never are."""

import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iose.runtime.author_config import read_author_config
from iose.runtime.config import read_config
from iose.runtime.readers.settings import (
    I2cSettings,
    PcscSettings,
    RacslReaderSettings,
    RacsReaderSettings,
    SerialSettings,
    SimArraySettings,
)

AID = "010203040500"
GRID = "grid_server 10.0.0.1\ngrid_port 7777\n"
KEY = "5A" * 32
BOARD = f"-c -h 10.0.0.9 -p 444 -S key2.com -l aesgcm -H noim -H psk{KEY}"


WORDS = [
    *("grid_first_slot", "grid_max_slots", "gridhist", "gridaid", "i2c_max_devices"),
    *("i2c_first_adr", "i2c_reset_pins", "i2c_size", "yes", "no", "0", "1", "3", "72", "70000"),
    *("10.0.0.1", "key1.com", "null", "00", AID, '"a', "\\", "é", "1010", "SN1010", "c*", "a"),
    *("racs", "seid", "psk", "cmd", "h:1/a", "h:1/key1.com", "COM1/a", "COM1/b.c"),
]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=6).map(
    "\n".join
)


@pytest.fixture
def imported(tmp_path):
    """Give a function that writes files, imports them, and returns configuration and notes."""

    def work(**files):
        for name, text in {"config": "x 1\n", "users": "", **files}.items():
            (tmp_path / f"{name}.txt").write_text(text)
        found = read_author_config(tmp_path)
        assert KEY not in found.toml
        return read_config(tomllib.loads(found.toml)), "\n".join(found.notes)

    return work


def tables(config, kind):
    return [one for one in config.readers if isinstance(one, kind)]


def elements(config):
    return {
        seid: (one.sen, one.aid, one.is_enabled, one.seids) for seid, one in config.element.items()
    }


def test_pcsc_readers_are_there_as_they_were_and_no_software_elements(imported):
    config, notes = imported()
    assert (config.readers, config.elements) == ((PcscSettings("pcsc"),), 0)
    assert "iose[pcsc]" in notes
    assert "0, 1, … and 999" in notes


def test_serial_numbers_of_readers_become_seids(imported):
    config, notes = imported(
        readersn='12345 1020 "ACS reader"\n67890 1021\n1 a*\n2\n', type='"ACS reader"\n'
    )
    (table,) = tables(config, PcscSettings)
    assert table.seids == {"12345": "1020", "67890": "1021"}
    assert "1020 was for ACS reader only" in notes
    assert "no serial number and SEID" in notes


@pytest.mark.parametrize("kinds", ["", '"another"\n'])
def test_a_serial_number_that_the_published_server_did_not_heed_is_not_heeded(imported, kinds):
    config, notes = imported(readersn='12345 1020 "ACS reader"\n', type=kinds)
    assert tables(config, PcscSettings)[0].seids == {}
    assert "1020 (reader 12345) is left out" in notes


def test_a_serial_number_of_two_readers_is_left_to_the_operator(imported):
    config, notes = imported(readersn='1 a "x"\n1 b "y"\n2 c\n', type="x\ny\n")
    assert tables(config, PcscSettings)[0].seids == {"2": "c"}
    assert "reader 1 has several SEIDs" in notes


def test_a_grid_becomes_a_reader_over_racs(imported, tmp_path):
    config, notes = imported(
        config=GRID + "grid_max_slots 3 (slots)\ngrid_first_slot 1010 (the first)\n"
        f"gridhist key1.com null\ngridaid {AID}\n"
    )
    (table,) = tables(config, RacsReaderSettings)
    assert (table.address, table.legacy) == ("10.0.0.1:7777", True)
    assert table.elements == ("1010", "1011", "1012")
    assert table.pki == str(tmp_path / "grid-pki")
    assert f"folder '{table.pki}'" in notes
    assert elements(config) == {
        "1010": ("key1.com", AID, True, ()),
        "1011": ("", AID, False, ()),
        "1012": ("", AID, True, ()),
    }
    assert "no counterpart" not in notes.replace("x has no counterpart", "")


def test_slots_of_a_grid_may_be_listed(imported):
    config, notes = imported(config=GRID + "grid_max_slots 3\ngrid_first_slot 7 9 x\n")
    assert tables(config, RacsReaderSettings)[0].elements == ("7", "9")
    assert "names 2 where 3 are counted" in notes


@pytest.mark.parametrize(
    "lines",
    [
        "is_external_grid no\n" + GRID,
        "grid_port 7777\n",
        "grid_server 10.0.0.1\n",
        "grid_server 10.0.0.1\ngrid_port 70000\n",
        f"grid_server {KEY}\ngrid_port 1\n",
        GRID + "grid_max_slots 0\n",
        GRID + "grid_first_slot none\n",
    ],
)
def test_what_is_no_grid_is_none(imported, lines):
    config, notes = imported(config=lines)
    assert config.readers == (PcscSettings("pcsc"),)
    assert KEY not in notes


def test_an_array_of_sim_cards_keeps_its_slots_as_seids(imported):
    config, _ = imported(
        config="grid_server sim.example\ngrid_port 2310\ngrid_max_slots 2\ngrid_first_slot 701\n"
    )
    (table,) = tables(config, SimArraySettings)
    assert (table.address, table.slots) == ("sim.example:2310", (701, 702))
    assert table.seids == {"701": "701", "702": "702"}


def test_a_name_given_to_a_slot_replaces_that_of_the_grid(imported):
    config, _ = imported(
        config=GRID + "grid_max_slots 4\ngridhist a b c d\nuse_sen_as_cardsn yes\n",
        sen_1010="key7.com",
        sen_1011="null",
        sen_1012="x" * 16,
        cardsn="D card4\nkey9.com card9\n",
    )
    found = elements(config)
    assert found["1010"] == ("key7.com", "", True, ())
    assert found["1011"] == ("", "", False, ())
    assert (found["1012"][0], config.element["1012"].aliases) == ("", ("x" * 16,))
    assert found["1013"] == ("d", AID, True, ("card4",))
    assert found["key9.com"] == ("", "", True, ("card9",))


@pytest.mark.parametrize(("aid", "is_told"), [("00", False), ("zzzz", True)])
def test_an_aid_that_is_none_takes_the_grid_off_the_service_plane(imported, aid, is_told):
    config, notes = imported(config=GRID + f"gridaid {aid}\n")
    assert elements(config) == {"1010": ("", "", False, ())}
    assert ("is no AID" in notes) is is_told


def test_a_slot_keeps_the_seid_of_its_serial_number(imported):
    config, _ = imported(
        config=GRID + "grid_board pNHSM\n", readersn="SN1010 rack-1\n", type="pNHSM\n"
    )
    assert elements(config)["1010"][3] == ("rack-1",)
    assert tables(config, PcscSettings)[0].seids == {}


def test_i2c_devices_become_a_table_each(imported):
    config, notes = imported(
        config="i2c_max_devices 3\ni2c_first_adr 72\ni2c_reset_pins 17 -3\ni2c_size 32\n"
        "i2c_decoder yes\n"
    )
    found = tables(config, I2cSettings)
    assert [(one.address, one.transfer_size) for one in found] == [(72, 32), (73, 32), (74, 32)]
    assert [(one.reset_chip, one.reset_line) for one in found] == [
        ("/dev/gpiochip0", 17),
        ("", 0),
        ("", 0),
    ]
    assert "73 is behind a decoder" in notes
    assert "74 is not named" in notes


def test_an_address_that_is_none_is_left_out(imported):
    config, notes = imported(config="i2c_max_devices 2\ni2c_first_adr 72 200\n")
    assert [one.address for one in tables(config, I2cSettings)] == [72]
    assert "200 is no address" in notes
    config, notes = imported(config="i2c_max_devices 2\n")
    assert tables(config, I2cSettings) == []
    assert "i2c_first_adr is missing" in notes


def test_what_the_emulator_reached_is_reached_here(imported, tmp_path):
    config, notes = imported(
        config="x 1\n",
        cardconfig=(
            "// a comment\nracs 10.0.0.2:7777/key5.com\nseid 10.0.0.2:7777/1011\n"
            "ca root.pem\ncert client.pem\nkey clientkey.pem\npassword secretword\ndebug 1\n"
            f"psk {BOARD}\ncmd {BOARD.replace('key2.com', 'key3.com')} -H identityboard\n"
            "seid COM3/key8.com\n"
        ),
    )
    (remote,) = tables(config, RacsReaderSettings)
    assert (remote.address, remote.elements) == ("10.0.0.2:7777", ("key5.com", "1011"))
    boards = tables(config, RacslReaderSettings)
    assert [(one.address, one.sen, one.identity, one.suite) for one in boards] == [
        ("10.0.0.9:444", "key2.com", "Client_identity", "gcm"),
        ("10.0.0.9:444", "key3.com", "board", "gcm"),
    ]
    (line,) = tables(config, SerialSettings)
    assert (line.device, line.sen) == ("/dev/ttyS2", "key8.com")
    assert elements(config)["key5.com"][0] == "key5.com"
    assert boards[0].psk_file == str(tmp_path / "racsl-key2.com.psk")
    assert f"write the key of key2.com into the file '{boards[0].psk_file}'" in notes
    for secret in (KEY, "secretword"):
        assert secret not in notes


@pytest.mark.parametrize(
    "line",
    [
        f"psk -h {KEY} -p 444 -S key2.com",
        f"psk -h 10.0.0.9 -p {KEY} -S key2.com",
        f"psk -h 10.0.0.9 -p 444 -S {KEY}",
        f"psk -h 10.0.0.9 -p 444 -S key2.com -H identity{KEY}",
        f"psk -h 10.0.0.9 -p 444 -S key2.com -H im -H psk{KEY}",
        f"psk -h 10.0.0.9 -p 444 -S key2.com -l aesnone -H psk{KEY}",
        f"psk{KEY}",
        f"racs {KEY}:444/a",
        "racs 10.0.0.9/a",
        "racs 10.0.0.9:444/a*",
        "seid",
    ],
)
def test_a_line_that_makes_no_sense_is_left_out_and_its_key_is_not_told(imported, line):
    config, notes = imported(cardconfig=line)
    assert config.readers == (PcscSettings("pcsc"),)
    assert "left out" in notes
    assert KEY not in notes


def test_what_stands_there_twice_is_taken_once(imported):
    config, notes = imported(
        config=GRID,
        cardconfig=f"racs 10.0.0.1:7777/x\npsk {BOARD}\npsk {BOARD}\nseid COM1/a\nseid COM1/b\n",
        readersn="1 a\n2 a\n1 a\n",
        type="x\n",
    )
    assert tables(config, RacsReaderSettings)[0].elements == ("1010",)
    assert [one.sen for one in tables(config, RacslReaderSettings)] == ["key2.com"]
    assert [one.sen for one in tables(config, SerialSettings)] == ["a"]
    assert tables(config, PcscSettings)[0].seids == {"1": "a"}
    assert "racs 10.0.0.1:7777 is there twice" in notes
    assert "reader 2 does not get it" in notes


def test_words_of_the_files_stay_words(imported):
    odd = '"]\\ü#'
    config, _ = imported(
        config=GRID + f"gridhist {odd}\n",
        readersn=f'{odd} s"\\#\n',
        type="x\n",
    )
    assert tables(config, PcscSettings)[0].seids == {odd: 's"\\#'}


@given(
    port=st.sampled_from(["1", "2310"]),
    config=TEXTS,
    readersn=TEXTS,
    cardsn=TEXTS,
    sen_1010=TEXTS,
    cardconfig=TEXTS,
)
def test_whatever_the_files_say_becomes_a_configuration(port, config, **files):
    settings = f"use_sen_as_cardsn yes\ngrid_server h\ngrid_port {port}\n{config}"
    texts = {**files, "config": settings, "users": "", "type": "a\n1\n"}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            (Path(folder) / f"{name}.txt").write_text(text)
        read_config(tomllib.loads(read_author_config(Path(folder)).toml))
