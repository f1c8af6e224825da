# SPDX-License-Identifier: Apache-2.0
"""Every rule of an exchange with a board that has an APDU in one frame (iose-server.md §8.4)."""

import pytest

from iose.protocols.i2c_exchange import FrameProtocol, Read, Write
from iose.protocols.i2c_frames import I2cFault, I2cPeerError
from iose.wire.errors import LocalProtocolError
from tests.support.i2c_exchange import FAILED, damaged, device, follow, hears, host, says, waits

COMMAND = bytes.fromhex("00D8000000")
ASKED = host(0xC1, COMMAND)
ANSWER = device(0xC1, b"\x90\x00")
OK = b"\x90\x00"
COMPLAINT = host(0x83)
REPEAT = device(0x83)


def exchange(*script, command=COMMAND, size=128, deadline=10.0, **given):
    return follow(FrameProtocol(size).exchange(command, deadline), *script, **given)


def refused(fault, *script, **given):
    with pytest.raises(I2cPeerError) as caught:
        exchange(*script, **given)
    assert caught.value.fault is fault


def test_a_command_is_written_and_its_answer_read_by_parts():
    assert bytes.fromhex("5AC10500D8000000C04C") == ASKED
    assert exchange(says(ASKED), hears(ANSWER)) == OK


def test_a_reset_brings_the_name():
    answer = bytes.fromhex("A5CF086B6579312E636F6DF0DF")
    power_on = FrameProtocol(128).power_on(10.0)
    assert follow(power_on, says(bytes.fromhex("5ACF00377F")), hears(answer)) == b"key1.com"


def test_a_reset_may_be_answered_as_nxp_parts_do():
    power_on = FrameProtocol(128).power_on(10.0)
    assert follow(power_on, says(host(0xCF)), hears(device(0xEF))) == b""


def test_an_echo_shows_that_a_board_is_there():
    assert follow(FrameProtocol(128).probe(1.0), says(host(0xC0)), hears(device(0xC0))) == b""


def test_not_ready_is_asked_again_every_ten_milliseconds():
    not_ready = [(Read(1), b"\x00"), waits(0.010)]
    assert exchange(says(ASKED), not_ready, not_ready, hears(ANSWER)) == OK


@pytest.mark.parametrize("first", [0x01, 0x5A, 0x83, 0xA4, 0xFF])
def test_another_first_byte_is_a_failure(first):
    refused(I2cFault.MALFORMED, says(ASKED), (Read(1), bytes((first,))))


@pytest.mark.parametrize("head", [b"\xff\x02", b"\xc1\xff", b"\xff\xff"])
def test_ff_is_no_kind_and_no_length(head):
    refused(I2cFault.MALFORMED, says(ASKED), (Read(1), b"\xa5"), (Read(2), head))


def test_transfers_are_no_longer_than_the_adapter_allows():
    asked, answer = host(0xC1, bytes(9)), device(0xC1, bytes(7) + OK)
    pieces = [(Write(asked[start : start + 4]), b"") for start in (0, 4, 8, 12)]
    body = [(Read(4), answer[3:7]), (Read(4), answer[7:11]), (Read(3), answer[11:])]
    head = [(Read(1), answer[:1]), (Read(2), answer[1:3])]
    assert exchange(pieces[:3], (Write(asked[12:]), b""), head, body, command=bytes(9), size=4)


def test_one_byte_at_a_time():
    writes = [(Write(bytes((byte,))), b"") for byte in ASKED]
    reads = [(Read(1), bytes((byte,))) for byte in ANSWER]
    assert exchange(writes, reads, size=1) == OK


def test_a_failed_write_is_tried_twice_more_a_millisecond_apart():
    failed = [(Write(ASKED), FAILED), waits(0.001)]
    assert exchange(failed, failed, says(ASKED), hears(ANSWER)) == OK
    refused(I2cFault.NOT_ACKNOWLEDGED, failed, failed, (Write(ASKED), FAILED))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_failed_read_is_tried_twice_more_ten_milliseconds_apart(place):
    script = hears(ANSWER)
    failed = [(script[place][0], FAILED), waits(0.010)]
    good = [says(ASKED), *script[:place], *failed, *failed]
    assert exchange(good, script[place:]) == OK
    refused(I2cFault.NOT_ACKNOWLEDGED, good, (script[place][0], FAILED))


def test_each_transfer_has_tries_of_its_own():
    script = hears(ANSWER)
    lines = [(Write(ASKED), FAILED), waits(0.001), says(ASKED)]
    for line in script:
        lines += [(line[0], FAILED), waits(0.010), line]
    assert exchange(lines) == OK


def test_a_wrong_crc_is_complained_of_and_the_answer_read_again():
    bad = hears(damaged(ANSWER))
    assert bytes.fromhex("5A8300F190") == COMPLAINT
    assert exchange(says(ASKED), bad, says(COMPLAINT), bad, says(COMPLAINT), hears(ANSWER)) == OK
    refused(I2cFault.BAD_CRC, says(ASKED), bad, says(COMPLAINT), bad, says(COMPLAINT), bad)


def test_a_command_that_arrived_damaged_is_sent_again():
    repeat = [says(ASKED), *hears(REPEAT)]
    assert exchange(repeat, repeat, says(ASKED), hears(ANSWER)) == OK
    refused(I2cFault.BAD_CRC, repeat, repeat, repeat)


def test_damage_on_both_ways_is_counted_apart():
    repeat, bad = [says(ASKED), *hears(REPEAT)], hears(damaged(ANSWER))
    lost = [says(COMPLAINT), *bad] * 2
    assert (
        exchange(repeat * 2, says(ASKED), bad, says(COMPLAINT), bad, says(COMPLAINT), hears(ANSWER))
        == OK
    )
    refused(I2cFault.BAD_CRC, repeat * 2, says(ASKED), bad, lost)


def test_a_complaint_that_arrived_damaged_is_sent_again_and_never_the_command():
    bad, lost = hears(damaged(ANSWER)), [says(COMPLAINT), *hears(REPEAT)]
    assert exchange(says(ASKED), bad, lost, lost, says(COMPLAINT), hears(ANSWER)) == OK
    refused(I2cFault.BAD_CRC, says(ASKED), bad, lost, lost, lost)


@pytest.mark.parametrize("pcb", [0x81, 0x82, 0x9A])
def test_another_error_block_is_a_failure(pcb):
    refused(I2cFault.REFUSED, says(ASKED), hears(device(pcb)))


@pytest.mark.parametrize("pcb", [0x00, 0xC0, 0xCF, 0x80, 0x40])
def test_an_answer_of_another_kind_is_a_failure(pcb):
    refused(I2cFault.MALFORMED, says(ASKED), hears(device(pcb, OK)))


def test_an_answer_without_a_status_word_is_a_failure():
    refused(I2cFault.MALFORMED, says(ASKED), hears(device(0xC1, b"\x90")))


def test_time_is_over_for_a_device_that_is_never_ready():
    lines = []
    for _ in range(4):
        lines += [(Read(1), b"\x00"), waits(0.010)]
    refused(I2cFault.NO_ANSWER, says(ASKED), lines[:-1], step_s=0.1, deadline=0.75)


def test_time_is_over_for_a_device_that_never_stops():
    refused(I2cFault.NO_ANSWER, says(ASKED), hears(ANSWER)[:2], step_s=0.1, deadline=0.3)


@pytest.mark.parametrize("data", [b"", b"\xa5\xa5"])
def test_a_transfer_of_another_size_is_a_failure(data):
    refused(I2cFault.MALFORMED, says(ASKED), (Read(1), data))


def test_a_command_longer_than_a_frame_is_our_own_mistake():
    with pytest.raises(LocalProtocolError):
        exchange(command=bytes(255))


def test_the_longest_command_and_the_longest_answer_fit_one_frame():
    asked, answer = host(0xC1, bytes(254)), device(0xC1, bytes(252) + OK)
    got = exchange(says(asked), hears(answer), command=bytes(254), size=512)
    assert got == bytes(252) + OK
