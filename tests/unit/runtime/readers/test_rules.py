# SPDX-License-Identifier: Apache-2.0
"""Tables of readers in the configuration: what is accepted, and what a wrong one says."""

import json
import tomllib
from typing import Any

import pytest

from iose.runtime.config import read_config
from iose.runtime.errors import ConfigurationError
from iose.runtime.readers.settings import (
    READER_TYPES,
    I2cSettings,
    PcscSettings,
    RacslReaderSettings,
    RacsReaderSettings,
    SerialSettings,
    SimArraySettings,
)

FULL = """
[[readers]]
type = "pcsc"
readers = ["ACS*"]
seids = {"RR170-0815" = "vault"}
apdu_s = 12.5
max_record = 512
chunk_size = 240
warm_reset = false

[[readers]]
type = "racs"
name = "cellar"
address = "cellar.example.com:7777"
pki = "cellar"
server_name = "cellar.example.com"
elements = ["se-*"]
poll_s = 2

[[readers]]
type = "racsl"
address = "192.0.2.7:8889"
sen = "key1.com"
identity = "me"
psk_file = "board.psk"
suite = "ccm"

[[readers]]
type = "sim-array"
address = "[::1]:2310"
slots = [701, 702]

[[readers]]
type = "i2c"
address = 72
flavour = "t1"
reset_chip = "/dev/gpiochip0"
reset_line = 17
transfer_size = 32
sen = "chip.com"

[[readers]]
type = "serial"
device = "/dev/ttyACM0"
baud = 115200

[element.vault]
sen = "vault.com"
max_record = 0
chunk_size = 1024
warm_reset = true
"""
SIM = {"type": "sim-array", "address": "127.0.0.1:2310"}
I2C = {"type": "i2c", "address": 72}
RACS = {"type": "racs", "address": "127.0.0.1:7777"}
RACSL = {"type": "racsl", "address": "127.0.0.1:1", "sen": "a.com", "psk_file": "psk"}
SERIAL = {"type": "serial", "device": "/dev/ttyACM0"}


def refusal(*tables: dict[str, Any], **more: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read_config({"readers": list(tables), **more})
    return caught.value


def test_every_type_is_read_with_its_own_keys():
    config = read_config(tomllib.loads(FULL))
    assert [type(one) for one in config.readers] == [
        PcscSettings,
        RacsReaderSettings,
        RacslReaderSettings,
        SimArraySettings,
        I2cSettings,
        SerialSettings,
    ]
    pcsc, racs, racsl, sims, chip, line = config.readers
    assert (pcsc.seids, pcsc.apdu_s) == ({"RR170-0815": "vault"}, 12.5)
    assert (pcsc.max_record, pcsc.chunk_size, pcsc.warm_reset) == (512, 240, False)
    assert (racs.max_record, racs.warm_reset, racs.poll_s) == (None, None, 2.0)
    assert (racsl.suite, chip.flavour, chip.transfer_size) == ("ccm", "t1", 32)
    assert (sims.slots, line.baud) == ((701, 702), 115200)
    assert config.element["vault"].sen == "vault.com"


def test_readers_survive_the_way_to_another_process():
    config = read_config(tomllib.loads(FULL))
    assert read_config(json.loads(json.dumps(config.to_json()))) == config


def test_a_table_without_a_name_is_called_by_type_and_address():
    labels = [one.label for one in read_config(tomllib.loads(FULL)).readers]
    assert labels == [
        "pcsc",
        "cellar",
        "racsl:192.0.2.7:8889/key1.com",
        "sim-array:[::1]:2310",
        "i2c:/dev/i2c-1:72",
        "serial:/dev/ttyACM0",
    ]


def test_every_type_has_a_case_here():
    tables = ({"type": "pcsc"}, RACS, RACSL, SIM, I2C, SERIAL)
    config = read_config({"readers": list(tables)})
    assert {one.type for one in config.readers} == set(READER_TYPES)


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        ({"type": "pcsd"}, "'readers[1].type' must be one of", "did you mean 'pcsc'?"),
        ({"type": 3}, "'readers[1].type' must be one of", ""),
        ({"type": "quantum"}, "'readers[1].type' must be one of 'pcsc', 'racs'", ""),
        ({"address": "a:1"}, "'readers[1].type' is missing", "'sim-array'"),
        ({**SIM, "slot": [1]}, "unknown setting 'readers[1].slot'", "'readers[1].slots'"),
        (
            {"type": "pcsc", "slots": [1]},
            "'readers[1].slots' is none of type 'pcsc'",
            "'slots' is a setting of type 'sim-array'",
        ),
        (
            {**SIM, "elements": ["*"]},
            "'readers[1].elements' is none of type 'sim-array'",
            "type 'racs'",
        ),
        (
            {"type": "serial", "device": "a", "reset_line": 1},
            "'readers[1].reset_line' is none of type 'serial'",
            "type 'i2c'",
        ),
    ],
)
def test_a_wrong_type_or_key_is_named_with_what_was_meant(table, message, hint):
    error = refusal(table)
    assert message in str(error)
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**SIM, "apdu_s": 0}, "'readers[1].apdu_s' must be above 0, and at most 3600"),
        ({**SIM, "apdu_s": float("nan")}, "'readers[1].apdu_s' must be above 0"),
        ({**SIM, "poll_s": float("inf")}, "'readers[1].poll_s' must be above 0"),
        ({**SIM, "apdu_s": 3601}, "'readers[1].apdu_s'"),
        ({**SIM, "chunk_size": 0}, "'readers[1].chunk_size' must be between 1 and 65535"),
        ({**SIM, "chunk_size": 65536}, "'readers[1].chunk_size'"),
        ({**SIM, "max_record": -1}, "'readers[1].max_record' must be between 0 and 16645"),
        ({**SIM, "max_record": 16646}, "'readers[1].max_record'"),
        ({**SIM, "name": "x" * 64}, "'readers[1].name'"),
        ({**SIM, "name": "a\nb"}, "'readers[1].name'"),
        ({**SIM, "seids": {"1": ""}}, "'readers[1].seids' holds no SEID"),
        ({**SIM, "seids": {"1": "a b"}}, "'readers[1].seids' holds no SEID"),
        ({**SIM, "seids": {"1": "x" * 64}}, "'readers[1].seids' holds no SEID"),
        ({**SIM, "seids": {"1": "a", "2": "a"}}, "calls both '1' and '2' 'a'"),
        ({**SIM, "seids": {"1": 2}}, "'readers[1].seids.1' must be a text"),
        ({**SIM, "slots": [0]}, "'readers[1].slots' must be between 1 and"),
        ({**SIM, "slots": [701, 701]}, "'readers[1].slots' names a slot twice"),
        ({"type": "sim-array"}, "'readers[1].address' is missing"),
        ({**SIM, "address": "2310"}, "'readers[1].address' is no address: '2310'"),
        ({**RACS, "address": "host:0"}, "'readers[1].address' is no address"),
        ({**RACS, "elements": []}, "'readers[1].elements' matches nothing"),
        ({**RACS, "elements": ["a b"]}, "'readers[1].elements' holds no SEID"),
        ({**RACS, "poll_s": 0}, "'readers[1].poll_s'"),
        ({**RACSL, "sen": ""}, "'readers[1].sen' is missing"),
        ({**RACSL, "psk_file": ""}, "'readers[1].psk_file' is missing"),
        ({**RACSL, "identity": ""}, "'readers[1].identity' is missing"),
        ({**RACSL, "suite": "cbc"}, "'readers[1].suite' must be one of 'gcm', 'ccm'"),
        ({"type": "pcsc", "readers": [""]}, "'readers[1].readers' matches nothing"),
        ({**I2C, "address": 2}, "'readers[1].address' must be between 3 and 119"),
        ({**I2C, "address": 120}, "'readers[1].address' must be between 3 and 119"),
        ({**I2C, "bus": ""}, "'readers[1].bus' is missing"),
        ({**I2C, "flavour": "t0"}, "'readers[1].flavour' must be one of 'iose', 't1'"),
        ({**I2C, "transfer_size": 7}, "'readers[1].transfer_size' must be between 8 and 8192"),
        ({**I2C, "reset_line": -1}, "'readers[1].reset_line' must be between 0 and"),
        ({**I2C, "chunk_size": 246}, "'readers[1].chunk_size' is at most 245 for flavour 'iose'"),
        ({**SIM, "chunk_size": 256}, "'readers[1].chunk_size' is at most 255 for a SIM array"),
        ({**I2C, "sen": "a b"}, "'readers[1].sen': the name 'a b' is not a host name"),
        ({**SERIAL, "device": ""}, "'readers[1].device' is missing"),
        ({**SERIAL, "baud": 0}, "'readers[1].baud' must be between 300 and"),
        ({**SERIAL, "sen": "."}, "'readers[1].sen'"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(table, message):
    assert message in str(refusal(table))


@pytest.mark.parametrize("first", [SIM, {**SIM, "name": "x"}])
def test_two_tables_of_one_name_are_refused(first):
    error = refusal(first, {"type": "pcsc"}, first)
    assert "readers[1] and readers[3] are both called" in str(error)
    assert "name" in error.hint


PINNED = {**I2C, "reset_chip": "/dev/gpiochip0", "reset_line": 4}


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (I2C, {}, "address 72 of /dev/i2c-1"),
        (PINNED, {"address": 71}, "line 4 of /dev/gpiochip0"),
        ({**PINNED, "bus": "unix:/a"}, {"address": 71, "reset_chip": "x"}, "line 4 of unix:/a"),
    ],
)
def test_two_tables_of_one_device_or_one_reset_line_are_refused(one, other, what):
    error = refusal({**one, "name": "a"}, SIM, {**one, **other, "name": "b"})
    assert f"readers[1] and readers[3] both use {what}" in str(error)
    assert "disturb" in error.hint


@pytest.mark.parametrize("is_chip", [False, True])
def test_two_paths_to_one_bus_or_one_chip_are_one(tmp_path, is_chip):
    device, link = tmp_path / "device", tmp_path / "link"
    device.touch()
    link.symlink_to(device)
    kind = "reset_chip" if is_chip else "bus"
    tables = [{**PINNED, "name": path.name, kind: str(path)} for path in (device, link)]
    if is_chip:
        tables[1]["address"] = 71
    what = f"line 4 of {device}" if is_chip else f"address 72 of {device}"
    assert what in str(refusal(*tables))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (I2C, {"bus": "/dev/i2c-2"}),
        (I2C, {"address": 71}),
        (PINNED, {"address": 71, "reset_line": 5}),
        (PINNED, {"address": 71, "reset_chip": "/dev/gpiochip1"}),
        ({**PINNED, "bus": "unix:/a"}, {"bus": "unix:/b"}),
    ],
)
def test_devices_of_their_own_share_a_bus_or_a_chip(one, other):
    tables = [one, {**one, **other}]
    assert len(read_config({"readers": tables}).readers) == 2


@pytest.mark.parametrize(("flavour", "size"), [("iose", 245), ("t1", 246), ("t1", 65535)])
def test_parts_in_blocks_take_long_commands_and_boards_what_fits_a_frame(flavour, size):
    assert read_config({"readers": [{**I2C, "flavour": flavour, "chunk_size": size}]})


def test_a_name_of_its_own_makes_two_ways_to_one_kind():
    tables = [{"type": "pcsc"}, {"type": "pcsc", "name": "second", "readers": ["ACS*"]}]
    assert len(read_config({"readers": tables}).readers) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sen": "no name"}, "'element.x.sen'"),
        ({"sen": "0123456789abcdef"}, "'element.x.sen'"),
        ({"chunk_size": 0}, "'element.x.chunk_size' must be between 1"),
        ({"max_record": 16646}, "'element.x.max_record' must be between 0"),
        ({"warm_reset": 1}, "'element.x.warm_reset' must be true or false"),
    ],
)
def test_what_is_said_of_one_element_is_checked(given, message):
    assert message in str(refusal(element={"x": given}))


@pytest.mark.parametrize(
    ("table", "name", "limit"),
    [
        (I2C, "1072", 245),
        ({**I2C, "sen": "board.com"}, "Board.com", 245),
        ({**I2C, "seids": {"1072": "vault"}}, "vault", 245),
        ({**SIM, "slots": [701]}, "sim-701", 255),
    ],
)
def test_what_is_said_of_one_element_fits_its_reader_where_that_is_known(table, name, limit):
    def say(element: str, size: int) -> dict[str, Any]:
        return {"element": {element: {"chunk_size": size}}}

    error = refusal(table, **say(name, limit + 1))
    assert f"'element.{name}.chunk_size' is at most {limit}" in str(error)
    assert read_config({"readers": [table], **say(name, limit)})
    assert read_config({"readers": [table], **say("other", limit + 1)})


def test_readers_are_a_list_of_tables():
    with pytest.raises(ConfigurationError, match="'readers' must be a list"):
        read_config({"readers": {"type": "pcsc"}})
    with pytest.raises(ConfigurationError, match=r"'readers\[1\]' must be a table"):
        read_config({"readers": ["pcsc"]})
