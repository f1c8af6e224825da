# SPDX-License-Identifier: Apache-2.0
"""T=1 over I2C: numbers, chains, complaints and requests (ISO/IEC 7816-3 §11, UM11225)."""

import pytest

from iose.protocols.i2c_blocks import BlockProtocol
from iose.protocols.i2c_exchange import Read, Write
from iose.protocols.i2c_frames import I2cFault, I2cPeerError
from tests.support.i2c_exchange import FAILED, damaged, device, follow, host, says, waits
from tests.support.i2c_exchange import hears as hears_by
from tests.unit.protocols.test_i2c_frames import SE050

COMMAND = bytes.fromhex("00D8000000")
OK = b"\x90\x00"
FIRST = [says(host(0x00, COMMAND))]


def hears(frame):
    return hears_by(frame, 3)


class Rig:
    """A protocol after its soft reset, with blocks of ``size`` bytes."""

    def __init__(self, size=254, transfer_size=512):
        self.protocol = BlockProtocol(transfer_size)
        data = bytearray.fromhex(SE050)
        data[9:11] = size.to_bytes(2, "big")
        power_on = self.protocol.power_on(10.0)
        answer = device(0xEF, bytes(data))
        assert follow(power_on, says(host(0xCF)), hears(answer)) == b"JCOP4 ATPO"

    def exchange(self, *script, command=COMMAND, deadline=10.0, **given):
        return follow(self.protocol.exchange(command, deadline), *script, **given)

    def refused(self, fault, *script, **given):
        with pytest.raises(I2cPeerError) as caught:
            self.exchange(*script, **given)
        assert caught.value.fault is fault


def test_blocks_of_both_sides_alternate():
    rig = Rig()
    for pcb in (0x00, 0x40, 0x00):
        assert rig.exchange(says(host(pcb, COMMAND)), hears(device(pcb, OK))) == OK


def test_a_soft_reset_begins_the_numbers_again():
    rig = Rig()
    rig.exchange(FIRST, hears(device(0x00, OK)))
    follow(rig.protocol.power_on(10.0), says(host(0xCF)), hears(device(0xEF)))
    assert rig.exchange(FIRST, hears(device(0x00, OK))) == OK


def test_a_resynchronization_shows_that_a_device_is_there():
    rig = Rig()
    rig.exchange(FIRST, hears(device(0x00, OK)))
    follow(rig.protocol.probe(10.0), says(host(0xC0)), hears(device(0xE0)))
    assert rig.exchange(FIRST, hears(device(0x00, OK))) == OK


@pytest.mark.parametrize("inf", [b"", b"\x00", b"key1.com", bytes(200)])
def test_an_answer_to_a_soft_reset_of_another_layout_is_taken_without_what_it_says(inf):
    protocol = BlockProtocol(512)
    assert follow(protocol.power_on(10.0), says(host(0xCF)), hears(device(0xEF, inf))) == b""


def test_a_soft_reset_is_repeated_when_its_answer_is_damaged():
    protocol = BlockProtocol(512)
    bad = [says(host(0xCF)), *hears(damaged(device(0xEF)))]
    assert follow(protocol.power_on(10.0), bad, bad, says(host(0xCF)), hears(device(0xEF))) == b""
    with pytest.raises(I2cPeerError) as caught:
        follow(protocol.power_on(10.0), bad, bad, bad)
    assert caught.value.fault is I2cFault.BAD_CRC


@pytest.mark.parametrize("pcb", [0x81, 0x82, 0x91])
@pytest.mark.parametrize(("request_pcb", "name"), [(0xCF, "power_on"), (0xC0, "probe")])
def test_a_request_that_arrived_damaged_is_sent_again(request_pcb, name, pcb):
    lost = [says(host(request_pcb)), *hears(device(pcb))]
    good = [says(host(request_pcb)), *hears(device(request_pcb | 0x20))]
    assert follow(getattr(BlockProtocol(512), name)(10.0), lost, lost, good) == b""
    with pytest.raises(I2cPeerError) as caught:
        follow(getattr(BlockProtocol(512), name)(10.0), lost, lost, lost)
    assert caught.value.fault is I2cFault.BAD_CRC


@pytest.mark.parametrize("pcb", [0xCF, 0xE0, 0x00, 0x40])
def test_another_answer_to_a_soft_reset_is_a_failure(pcb):
    with pytest.raises(I2cPeerError) as caught:
        follow(BlockProtocol(512).power_on(10.0), says(host(0xCF)), hears(device(pcb)))
    assert caught.value.fault is I2cFault.MALFORMED


def test_a_long_command_goes_in_a_chain():
    rig = Rig(size=4)
    chain = [
        says(host(0x20, b"abcd")), *hears(device(0x90)),
        says(host(0x60, b"efgh")), *hears(device(0x80)),
        says(host(0x00, b"i")), *hears(device(0x00, OK)),
    ]  # fmt: skip
    assert rig.exchange(chain, command=b"abcdefghi") == OK
    assert rig.exchange(says(host(0x40, b"abcd")), hears(device(0x40, OK)), command=b"abcd") == OK


def test_a_long_answer_comes_in_a_chain():
    rig = Rig()
    answer = [
        *hears(device(0x20, b"abcd")), says(host(0x90)),
        *hears(device(0x60, b"efgh")), says(host(0x80)),
        *hears(device(0x00, OK)),
    ]  # fmt: skip
    assert rig.exchange(FIRST, answer) == b"abcdefgh" + OK
    assert rig.exchange(says(host(0x40, COMMAND)), hears(device(0x40, OK))) == OK


def test_not_ready_is_no_acknowledgement_or_zeros():
    not_ready = [(Read(3), FAILED), waits(0.010), (Read(3), bytes(3)), waits(0.010)]
    assert Rig().exchange(FIRST, not_ready * 3, hears(device(0x00, OK))) == OK


def test_a_device_that_never_acknowledges_again_is_given_up_in_time():
    lines = [(Read(3), FAILED), waits(0.010)] * 2
    Rig().refused(I2cFault.NO_ANSWER, FIRST, lines, step_s=0.1, deadline=0.5)


def test_a_write_that_nobody_acknowledges_is_tried_twice_more():
    failed = [(Write(host(0x00, COMMAND)), FAILED), waits(0.001)]
    Rig().refused(I2cFault.NOT_ACKNOWLEDGED, failed, failed, failed[:1])


def test_small_transfers_ask_for_what_fits():
    rig = Rig()
    rig.protocol._transfer_size = 2
    block, answer = host(0x00, b""), device(0x00, OK)
    writes = [(Write(block[i : i + 2]), b"") for i in (0, 2, 4)]
    reads = [(Read(2), answer[:2]), (Read(1), answer[2:3]), (Read(2), answer[3:5])]
    assert rig.exchange(writes, reads, (Read(2), answer[5:]), command=b"") == OK


def test_a_damaged_answer_is_asked_for_again():
    bad = hears(damaged(device(0x00, OK)))
    complaint = says(host(0x81))
    assert Rig().exchange(FIRST, bad, complaint, bad, complaint, hears(device(0x00, OK))) == OK
    Rig().refused(I2cFault.BAD_CRC, FIRST, bad, complaint, bad, complaint, bad)


def test_the_complaint_names_the_block_that_is_wanted():
    rig = Rig()
    rig.exchange(FIRST, hears(device(0x00, OK)))
    bad = hears(damaged(device(0x40, OK)))
    said = says(host(0x40, COMMAND))
    assert rig.exchange(said, bad, says(host(0x91)), hears(device(0x40, OK))) == OK


@pytest.mark.parametrize("pcb", [0x81, 0x82, 0x80])
def test_a_block_that_arrived_damaged_is_sent_again(pcb):
    repeat = [*FIRST, *hears(device(pcb))]
    assert Rig().exchange(repeat, repeat, FIRST, hears(device(0x00, OK))) == OK
    Rig().refused(I2cFault.REFUSED, repeat, repeat, repeat)


def test_a_link_of_a_chain_is_sent_again_too():
    link = says(host(0x20, b"abcd"))
    script = [link, *hears(device(0x81)), link, *hears(device(0x90))]
    last = [says(host(0x40, b"e")), *hears(device(0x00, OK))]
    assert Rig(size=4).exchange(script, last, command=b"abcde") == OK


@pytest.mark.parametrize("pcb", [0x90, 0x91, 0x92])
def test_a_command_that_a_device_has_is_never_sent_again(pcb):
    """It asks for the next block, so it has this one: what comes of it is asked for."""
    has = hears(device(pcb))
    assert Rig().exchange(FIRST, has, says(host(0x82)), hears(device(0x00, OK))) == OK
    Rig().refused(I2cFault.REFUSED, FIRST, has, [says(host(0x82)), *has] * 2)


def test_a_complaint_that_arrived_damaged_is_sent_again_and_never_the_command():
    bad = [*FIRST, *hears(damaged(device(0x00, OK)))]
    lost = [says(host(0x81)), *hears(device(0x91))]
    assert Rig().exchange(bad, lost, lost, says(host(0x81)), hears(device(0x00, OK))) == OK
    Rig().refused(I2cFault.REFUSED, bad, lost, lost, lost)


@pytest.mark.parametrize("pcb", [0x90, 0x91, 0x92])
def test_a_link_that_a_device_has_is_taken_whatever_else_it_complains_of(pcb):
    script = [says(host(0x20, b"abcd")), *hears(damaged(device(0x90)))]
    script += [says(host(0x81)), *hears(device(pcb)), says(host(0x40, b"e"))]
    assert Rig(size=4).exchange(script, hears(device(0x00, OK)), command=b"abcde") == OK


@pytest.mark.parametrize(("size", "first"), [(254, 0x00), (4, 0x20)])
def test_an_answer_to_a_request_that_arrived_damaged_is_sent_again(size, first):
    grant = says(host(0xE3, b"\x05"))
    script = [says(host(first, COMMAND[:size])), *hears(device(0xC3, b"\x05"))]
    script += [grant, *hears(device(0x91)), grant]
    if first:
        script += [*hears(device(0x90)), says(host(0x40, COMMAND[size:]))]
    assert Rig(size).exchange(script, hears(device(0x00, OK))) == OK


def test_an_acknowledgement_that_arrived_damaged_is_sent_again():
    script = [*hears(device(0x20, b"abcd")), says(host(0x90)), *hears(device(0x91))]
    assert Rig().exchange(FIRST, script, says(host(0x90)), hears(device(0x40, OK))) == b"abcd" + OK


def test_a_block_of_the_wrong_number_is_complained_of():
    wrong, complaint = hears(device(0x40, OK)), says(host(0x82))
    assert Rig().exchange(FIRST, wrong, complaint, hears(device(0x00, OK))) == OK
    Rig().refused(I2cFault.MALFORMED, FIRST, wrong, complaint, wrong, complaint, wrong)


def test_a_request_for_time_is_granted_as_often_as_it_comes():
    more = [*hears(device(0xC3, b"\x05")), says(host(0xE3, b"\x05"))]
    assert Rig().exchange(FIRST, more * 5, hears(device(0x00, OK))) == OK


def test_requests_for_time_do_not_move_the_deadline():
    more = [*hears(device(0xC3, b"\x05")), says(host(0xE3, b"\x05"))]
    Rig().refused(I2cFault.NO_ANSWER, FIRST, more, more[:2], step_s=0.1, deadline=0.55)


def test_a_device_may_want_smaller_blocks_in_the_middle_of_a_chain():
    chain = [
        says(host(0x20, b"abcd")), *hears(device(0xC1, b"\x02")),
        says(host(0xE1, b"\x02")), *hears(device(0x90)),
        says(host(0x60, b"ef")), *hears(device(0x80)),
        says(host(0x00, b"g")), *hears(device(0x00, OK)),
    ]  # fmt: skip
    assert Rig(size=4).exchange(chain, command=b"abcdefg") == OK


@pytest.mark.parametrize(
    ("pcb", "inf"),
    [(0xC1, b"\x00"), (0xC1, b"\xff"), (0xC1, b""), (0xC3, b""), (0xC3, b"\x01\x02"),
     (0xC2, b""), (0xC0, b""), (0xE0, b""), (0xEF, b"")],
)  # fmt: skip
def test_a_request_that_does_not_belong_here_is_a_failure(pcb, inf):
    Rig().refused(I2cFault.MALFORMED, FIRST, hears(device(pcb, inf)))


def test_an_answer_before_the_end_of_a_command_is_a_failure():
    link = says(host(0x20, b"abcd"))
    Rig(size=4).refused(I2cFault.MALFORMED, link, hears(device(0x00, OK)), command=b"abcde")


def test_an_answer_that_never_ends_is_a_failure():
    lines = []
    for number in range(259):
        lines += hears(device(0x60 if number % 2 else 0x20, bytes(254)))
        lines.append(says(host(0x80 if number % 2 else 0x90)))
    Rig().refused(I2cFault.MALFORMED, FIRST, lines[:-1])


def test_an_answer_without_a_status_word_is_a_failure():
    Rig().refused(I2cFault.MALFORMED, FIRST, hears(device(0x00, b"\x90")))
