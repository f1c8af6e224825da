# SPDX-License-Identifier: Apache-2.0
"""The bridge between a TLS stream and APDU batches: chunks, answers, alerts, limits."""

import pytest

from iose.bridge.stream import (
    BATCH_RECORDS,
    BUFFER_LIMIT,
    HELLO_RECORDS,
    OUTPUT_LIMIT,
    RESET_TLS,
    BridgeState,
    EndReason,
    StreamBridge,
    plaintext_alert,
    record_steps,
)
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.iso7816.status import StatusWord
from iose.tls.constants import AlertDescription
from iose.transport.stack import run_batch
from iose.wire.errors import LocalProtocolError
from tests.support.client_hello import client_hello, hello_record
from tests.support.scripted_connection import ScriptedElement, record
from tests.support.shared import own_json

WIDE = ApduLimits(240, 0)
START = (BatchStep(RESET_TLS),)
ALERT_UNKNOWN = bytes.fromhex("15030300020270")
ALERT_INTERNAL = bytes.fromhex("15030300020250")
ALERT_DECODE = bytes.fromhex("15030300020232")
ALERT_OVERFLOW = bytes.fromhex("15030300020216")


def ok(data=b"", status=0x9000):
    return ResponseApdu(data, StatusWord(status))


def attached(limits=WIDE, *, start=(), is_silent=False):
    """Return a bridge whose ClientHello waits for an element."""
    bridge = StreamBridge(is_silent=is_silent)
    bridge.receive_data(hello_record(b"key1.com"))
    bridge.attach(limits, start)
    return bridge


def relaying(limits=WIDE):
    """Return a bridge whose element has answered the ClientHello."""
    bridge = attached(limits)
    bridge.next_batch()
    bridge.receive_responses([ok(b"hello")])
    assert bridge.data_to_send() == b"hello"
    return bridge


def answers(transcript, body=bytes(22)):
    """Return a bridge after one record whose commands run on a scripted element."""
    bridge = relaying()
    bridge.receive_data(record(body))
    bridge.receive_responses(run_batch(ScriptedElement(transcript).process, bridge.next_batch()))
    return bridge


# --- the ClientHello --------------------------------------------------------------------------


def test_learns_the_name_of_a_whole_hello():
    bridge = StreamBridge()
    bridge.receive_data(hello_record(b"Key1.com"))
    assert (bridge.state, bridge.server_name) == (BridgeState.ROUTING, "Key1.com")


def test_learns_the_name_one_byte_at_a_time():
    bridge = StreamBridge()
    hello = hello_record(b"key1.com")
    for offset, byte in enumerate(hello):
        assert bridge.state is BridgeState.HELLO, offset
        bridge.receive_data(bytes((byte,)))
    assert (bridge.state, bridge.server_name) == (BridgeState.ROUTING, "key1.com")


def test_joins_a_hello_split_over_records_and_relays_each_record():
    hello = client_hello(b"key1.com")
    records = [record(hello[:3], 0x16), record(hello[3:40], 0x16), record(hello[40:], 0x16)]
    bridge = StreamBridge()
    bridge.receive_data(b"".join(records))
    assert bridge.server_name == "key1.com"
    bridge.attach(WIDE)
    assert [step.command.data for step in bridge.next_batch()] == records


def test_takes_a_hello_in_1024_records_and_refuses_one_more():
    hello = client_hello(b"key1.com", padding=2000)
    for count, state in ((HELLO_RECORDS, BridgeState.ROUTING), (HELLO_RECORDS + 1, "refused")):
        bridge = StreamBridge()
        pieces = [hello[index : index + 1] for index in range(count - 1)] + [hello[count - 1 :]]
        bridge.receive_data(b"".join(record(piece, 0x16) for piece in pieces))
        if state == "refused":
            assert bridge.end.reason is EndReason.MALFORMED_HELLO
            assert bridge.data_to_send() == ALERT_DECODE
        else:
            assert (bridge.state, bridge.server_name) == (state, "key1.com")
        assert not bridge.is_full


def test_relays_a_hello_of_16_kib_and_refuses_one_byte_more():
    base = len(client_hello(b"k", padding=1))
    for size, state in ((16_384, BridgeState.ROUTING), (16_385, BridgeState.CLOSED)):
        hello = client_hello(b"k", padding=size - base + 1)
        assert len(hello) == size
        bridge = StreamBridge()
        bridge.receive_data(record(hello[:9000], 0x16) + record(hello[9000:], 0x16))
        assert bridge.state is state
    assert bridge.end.reason is EndReason.RECORD_OVERFLOW
    assert bridge.data_to_send() == ALERT_OVERFLOW


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"\x17\x03\x03\x00\x01\x00",
        b"\x16\x02\x00\x00\x05hello",
        b"\x16\x03\x01\x00\x00",
        record(b"\x02\x00\x00\x00", 0x16),
        record(client_hello(b"key1.com") + b"\x00", 0x16),
        record(client_hello(b"key1.com", trailing=b"\x00"), 0x16),
    ],
)
def test_answers_what_is_no_hello_with_decode_error(data):
    bridge = StreamBridge()
    bridge.receive_data(data)
    assert bridge.end.reason is EndReason.MALFORMED_HELLO
    assert bridge.data_to_send() == ALERT_DECODE
    assert bridge.data_to_send() == b""


def test_refuses_a_hello_record_over_the_plaintext_limit_at_its_header():
    bridge = StreamBridge()
    bridge.receive_data(b"\x16\x03\x01\x40\x01")
    assert bridge.end.reason is EndReason.RECORD_OVERFLOW
    assert bridge.data_to_send() == ALERT_OVERFLOW


def test_refuses_to_attach_before_there_is_a_name():
    with pytest.raises(LocalProtocolError):
        StreamBridge().attach(WIDE)


def test_stays_silent_where_the_published_servers_are():
    bridge = StreamBridge(is_silent=True)
    bridge.receive_data(hello_record(b"key9.com"))
    bridge.fail(EndReason.UNKNOWN_NAME, AlertDescription.UNRECOGNIZED_NAME)
    assert bridge.data_to_send() == b""


def test_writes_the_alerts_of_the_specification():
    assert plaintext_alert(AlertDescription.UNRECOGNIZED_NAME) == ALERT_UNKNOWN
    assert plaintext_alert(AlertDescription.MISSING_EXTENSION).hex() == "1503030002026d"


# --- commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "chunks"),
    [
        (1, [(3, 1)]),
        (239, [(3, 239)]),
        (240, [(3, 240)]),
        (241, [(1, 240), (2, 1)]),
        (480, [(1, 240), (2, 240)]),
        (481, [(1, 240), (0, 240), (2, 1)]),
        (512, [(1, 240), (0, 240), (2, 32)]),
        (513, [(1, 240), (0, 240), (2, 33)]),
    ],
)
def test_cuts_a_record_in_chunks_of_240(size, chunks):
    data = bytes(index % 251 for index in range(size))
    steps = record_steps(data, 240)
    assert [(step.command.p2, len(step.command.data)) for step in steps] == chunks
    assert b"".join(step.command.data for step in steps) == data
    assert {(s.command.cla, s.command.ins, s.command.p1, s.command.le) for s in steps} == {
        (0, 0xD8, 0, None)
    }


def test_uses_one_extended_command_where_the_element_takes_it():
    (step,) = record_steps(bytes(1000), 16_645)
    assert step.command.encode()[:7].hex() == "00d800030003e8"


def test_writes_the_example_of_the_specification():
    first, last = record_steps(bytes(247), 240)
    assert first.command.encode()[:5].hex() == "00d80001f0"
    assert last.command.encode()[:5].hex() == "00d8000207"
    assert RESET_TLS.encode().hex() == "00d8000000"


def test_runs_the_start_before_the_hello_in_the_same_batch():
    bridge = attached(start=START)
    batch = bridge.next_batch()
    assert batch[0].command == RESET_TLS
    assert batch[1].command.data == hello_record(b"key1.com")
    bridge.receive_responses([ok(), ok(b"hello")])
    bridge.receive_data(record(b"x"))
    assert [step.command.data for step in bridge.next_batch()] == [record(b"x")]


def test_accepts_a_start_that_answers_with_data_or_anything_where_nothing_is_expected():
    select = BatchStep(CommandApdu(0, 0xA4, 4, 0, bytes(6)))
    verify = BatchStep(CommandApdu(0, 0x20, 0, 0, b"0000"), None)
    bridge = attached(start=(select, verify, *START))
    bridge.next_batch()
    bridge.receive_responses([ok(b"fci"), ok(status=0x6300), ok(), ok(b"hello")])
    assert bridge.data_to_send() == b"hello"


@pytest.mark.parametrize("status", [0x6A82, 0x6F00, 0x9001])
def test_ends_with_internal_error_where_the_start_is_refused(status):
    bridge = attached(start=START)
    bridge.next_batch()
    bridge.receive_responses([ok(status=status)])
    assert (bridge.end.reason, bridge.end.status) == (EndReason.START_REFUSED, status)
    assert bridge.data_to_send() == ALERT_INTERNAL


def test_says_nothing_until_a_record_is_whole():
    bridge = relaying()
    whole = record(bytes(300))
    for byte in whole[:-1]:
        bridge.receive_data(bytes((byte,)))
        assert bridge.next_batch() == []
    bridge.receive_data(whole[-1:])
    assert b"".join(step.command.data for step in bridge.next_batch()) == whole


def test_puts_records_that_came_together_in_one_batch():
    bridge = relaying()
    bridge.receive_data(record(b"\x01", 0x14) + record(b"finished"))
    assert len(bridge.next_batch()) == 2
    bridge.receive_responses([ok(), ok(status=0x9001)])
    assert bridge.is_open
    assert bridge.next_batch() == []


def test_sends_again_what_a_batch_left_when_the_session_opened():
    bridge = relaying()
    bridge.receive_data(record(b"finished") + record(b"?00") + record(b"?01"))
    assert len(bridge.next_batch()) == 3
    bridge.receive_responses([ok(status=0x9001)])
    assert [step.command.data for step in bridge.next_batch()] == [record(b"?00"), record(b"?01")]


def test_bounds_the_records_of_a_batch():
    bridge = relaying()
    bridge.receive_data(record(b"x") * (BATCH_RECORDS + 1))
    assert len(bridge.next_batch()) == BATCH_RECORDS
    bridge.receive_responses([ok()] * BATCH_RECORDS)
    assert len(bridge.next_batch()) == 1


def test_bounds_the_bytes_of_a_batch():
    bridge = relaying()
    bridge.receive_data(record(bytes(16_000)) * 3)
    assert sum(len(step.command.data) for step in bridge.next_batch()) == 2 * 16_005


def test_cuts_off_no_more_records_than_a_batch_holds():
    bridge = relaying()
    bridge.receive_data(record(b"") * 50_000)
    seen = 0
    while batch := bridge.next_batch():
        assert len(bridge._records) == len(batch) <= BATCH_RECORDS
        seen += len(batch)
        bridge.receive_responses([ok()] * len(batch))
    assert seen == 50_000
    assert not bridge.is_full


def test_serves_what_came_before_a_record_over_the_limit():
    bridge = relaying(ApduLimits(240, 512))
    bridge.receive_data(record(b"x") * BATCH_RECORDS + record(bytes(508)))
    assert bridge.end is None
    assert len(bridge.next_batch()) == BATCH_RECORDS
    bridge.receive_responses([ok(b"answer")] * BATCH_RECORDS)
    assert bridge.data_to_send() == b"answer" * BATCH_RECORDS
    assert bridge.end.reason is EndReason.RECORD_OVERFLOW


def test_keeps_nothing_of_a_client_after_its_end():
    hello = client_hello(b"key1.com")
    for data in (b"G" * 100_000, record(hello[:9], 0x16) + b"\x17" + bytes(100_000)):
        bridge = StreamBridge()
        bridge.receive_data(data)
        bridge.receive_data(data)
        assert bridge.end.reason is EndReason.MALFORMED_HELLO
        assert (bridge._buffer, bridge._hello, list(bridge._records)) == (b"", b"", [])


def test_asks_to_hold_the_client_back_and_lets_it_go_on():
    bridge = relaying()
    bridge.receive_data(record(bytes(16_379)) * 4)
    assert BUFFER_LIMIT == 4 * 16_384
    assert bridge.is_full
    bridge.receive_responses([ok()] * len(bridge.next_batch()))
    assert not bridge.is_full


def test_refuses_a_second_batch_before_the_first_is_answered():
    bridge = attached()
    bridge.next_batch()
    with pytest.raises(LocalProtocolError):
        bridge.next_batch()


# --- answers ----------------------------------------------------------------------------------

SEND = "00D800031B1703030016" + "00" * 22


def test_goes_on_after_9000():
    bridge = answers([(SEND, "AABB9000")])
    assert (bridge.end, bridge.data_to_send()) == (None, b"\xaa\xbb")


def test_opens_with_9001():
    bridge = answers([(SEND, "9001")])
    assert bridge.is_open
    assert (bridge.end, bridge.data_to_send()) == (None, b"")


def test_writes_the_output_and_ends_with_9002():
    bridge = answers([(SEND, "AABB9002")])
    assert bridge.end.reason is EndReason.ELEMENT_CLOSED
    assert bridge.data_to_send() == b"\xaa\xbb"


def test_follows_a_9f_chain_whose_lengths_change():
    chain = [(SEND, "AA9F02"), ("00C0000002", "BBCC9F03"), ("00C0000003", "DDEEFF9000")]
    assert answers(chain).data_to_send().hex() == "aabbccddeeff"


def test_follows_a_61_chain_to_another_final_status():
    chain = [(SEND, "6102"), ("00C0000002", "BBCC9F01"), ("00C0000001", "DD9002")]
    bridge = answers(chain)
    assert bridge.data_to_send().hex() == "bbccdd"
    assert bridge.end.reason is EndReason.ELEMENT_CLOSED


def test_repeats_a_fetch_answered_6c():
    chain = [(SEND, "9F02"), ("00C0000002", "6C01"), ("00C0000001", "DD9000")]
    assert answers(chain).data_to_send().hex() == "dd"


@pytest.mark.parametrize("status", ["6D16", "6D02", "6F00", "9003", "9100"])
def test_just_closes_on_any_other_status_once_the_element_has_spoken(status):
    bridge = answers([(SEND, status)])
    assert bridge.end.reason is EndReason.ELEMENT_REFUSED
    assert str(bridge.end.status) == status
    assert bridge.data_to_send() == b""


def test_says_internal_error_while_the_element_has_not_spoken():
    bridge = attached()
    bridge.next_batch()
    bridge.receive_responses([ok(status=0x6D16)])
    assert bridge.data_to_send() == ALERT_INTERNAL


def test_writes_three_records_of_output_unchanged_and_in_order():
    output = record(b"1") + record(b"22") + record(b"333")
    bridge = relaying()
    bridge.receive_data(record(b"x"))
    bridge.next_batch()
    bridge.receive_responses([ok(output)])
    assert bridge.data_to_send() == output


def test_keeps_the_output_of_records_before_the_one_refused():
    bridge = relaying()
    bridge.receive_data(record(b"x") + record(b"y"))
    bridge.next_batch()
    bridge.receive_responses([ok(b"answer"), ok(status=0x6D16)])
    assert bridge.data_to_send() == b"answer"
    assert bridge.end.reason is EndReason.ELEMENT_REFUSED


@pytest.mark.parametrize("response", [ok(b"\x00"), ok(status=0x9001), ok(status=0x6D02)])
def test_refuses_data_or_another_status_after_a_chunk_that_is_not_the_last(response):
    bridge = relaying()
    bridge.receive_data(record(bytes(300)))
    bridge.next_batch()
    bridge.receive_responses([response])
    assert bridge.end.reason is EndReason.ELEMENT_REFUSED
    assert bridge.data_to_send() == b""


def test_takes_64_kib_of_output_and_not_a_byte_more():
    for size, reason in ((OUTPUT_LIMIT, None), (OUTPUT_LIMIT + 1, EndReason.ELEMENT_FAILED)):
        bridge = relaying()
        bridge.receive_data(record(b"x"))
        bridge.next_batch()
        bridge.receive_responses([ok(bytes(size))])
        assert (bridge.end and bridge.end.reason) == reason


@pytest.mark.parametrize("count", [0, 1, 3])
def test_refuses_a_number_of_answers_that_cannot_be(count):
    bridge = relaying()
    bridge.receive_data(record(b"x") + record(b"y"))
    bridge.next_batch()
    with pytest.raises(LocalProtocolError):
        bridge.receive_responses([ok()] * count)


# --- limits -----------------------------------------------------------------------------------


def test_refuses_a_hello_larger_than_the_element_takes_before_any_command():
    size = len(hello_record(b"key1.com"))
    assert attached(ApduLimits(240, size)).next_batch()
    bridge = attached(ApduLimits(240, size - 1))
    assert bridge.next_batch() == []
    assert bridge.end.reason is EndReason.RECORD_OVERFLOW
    assert bridge.data_to_send() == ALERT_OVERFLOW


def test_refuses_a_later_record_over_the_limit_at_its_header_without_an_alert():
    bridge = relaying(ApduLimits(240, 512))
    bridge.receive_data(b"\x17\x03\x03\x01\xfb" + bytes(507))
    assert bridge.end is None
    bridge.receive_data(b"\x17\x03\x03\x01\xfc")
    assert bridge.end.reason is EndReason.RECORD_OVERFLOW
    assert bridge.data_to_send() == b""


def test_refuses_a_record_over_the_limit_of_tls():
    bridge = relaying()
    bridge.receive_data(b"\x17\x03\x03\x41\x00")
    assert bridge.end is None
    other = relaying()
    other.receive_data(b"\x17\x03\x03\x41\x01")
    assert other.end.reason is EndReason.RECORD_OVERFLOW


def test_ignores_everything_after_its_end():
    bridge = attached()
    bridge.next_batch()
    bridge.fail(EndReason.CLIENT_GONE)
    bridge.fail(EndReason.SHUTDOWN, AlertDescription.INTERNAL_ERROR)
    bridge.receive_responses([ok(b"late")])
    bridge.receive_data(record(b"x"))
    assert bridge.end.reason is EndReason.CLIENT_GONE
    assert (bridge.next_batch(), bridge.data_to_send()) == ([], b"")


def test_replays_the_measured_session_command_for_command():
    session = own_json("tlsse_sessions.json")["apdu_transcripts"]["C"]
    # The measured session ran with fixed keys, which a non-zero P1 asked for; a front sends 00.
    transcript = [(e["command"].replace("00D80102", "00D80002", 1), e["response"]) for e in session]
    transcript = transcript[[command for command, _ in transcript].index("00D8000000") :]
    element = ScriptedElement(transcript)
    sends = [bytes.fromhex(command)[5:] for command, _ in transcript if command[2:4] == "D8"]
    hello = sends[1] + sends[2]
    bridge = StreamBridge()
    output = b""
    for data in (hello, *sends[3:]):
        bridge.receive_data(data)
        if bridge.state is BridgeState.ROUTING:
            bridge.attach(ApduLimits(), START)
        bridge.receive_responses(run_batch(element.process, bridge.next_batch()))
        output += bridge.data_to_send()
    assert element.remaining == []
    assert bridge.is_open
    answers_of = [bytes.fromhex(response)[:-2] for _, response in transcript]
    assert output == b"".join(answers_of)
