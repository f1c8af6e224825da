# SPDX-License-Identifier: Apache-2.0
"""Faults of clients, on a whole node: what the peer sees, what the log says, and who serves after.

Rows of docs/faults.md. Where a program of others is the peer, its own words are the evidence.
"""

from dataclasses import replace

import pytest

from iose.tls.constants import AlertDescription, CipherSuite, ContentType, HandshakeType, NamedGroup
from tests.acceptance.conftest import QUICK
from tests.acceptance.programs import AES_256, LineClient, gnutls, openssl
from tests.acceptance.relay import Relay
from tests.acceptance.wire import WireClient, assert_serves, split_records
from tests.support.client_hello import hello_record
from tests.support.node import until
from tests.support.peers import require_peer


@pytest.fixture
def element(node):
    return node["key1.com"]


@pytest.fixture(params=[openssl, gnutls], ids=["openssl", "gnutls"])
def program(request):
    return request.param


def assert_alert(client: LineClient, number: int) -> str:
    """Wait for the program to end over a fatal alert; return its words."""
    with client:
        outcome = client.finish()
    words = outcome.output + outcome.errors
    assert outcome.status == 1
    assert f"alert number {number}" in words or f"Received alert [{number}]" in words, words
    return words


def assert_logged(node, mark, sen, reason, status):
    line = node.wait_logged("session.ended", mark)
    assert (line["sen"], line["reason"], line["status"]) == (sen, reason, status)


# --- who is not let in ---------------------------------------------------------------------


def test_a_wrong_key_gets_decrypt_error(node, element, program):
    mark = node.log_mark()
    wrong = replace(element, psk=bytes((element.psk[0] ^ 1,)) + element.psk[1:])
    assert_alert(program(node.front, wrong), 51)
    assert_logged(node, mark, "key1.com", "element_closed", "9002")
    assert_serves(node, element)


@pytest.mark.parametrize("identity", ["somebody", "client_identity", "Client_identit", "x" * 128])
def test_a_wrong_identity_gets_decrypt_error(node, element, program, identity):
    mark = node.log_mark()
    assert_alert(program(node.front, replace(element, identity=identity)), 51)
    assert_logged(node, mark, "key1.com", "element_closed", "9002")
    assert_serves(node, element)


def test_wrong_key_and_wrong_identity_look_alike(node, element):
    seen = []
    for wrong in (
        replace(element, psk=bytes(32)),
        replace(element, identity="Somebody_else__"),
        replace(element, identity="guest"),
        replace(element, psk=bytes(32), identity="Somebody_else__"),
    ):
        with WireClient(node, wrong) as client:
            assert not client.handshake()
            client.rest()
            line = client.ended()
            seen.append((client.received, line["reason"], line["status"], line["apdus"]))
    assert len(set(seen)) == 1
    assert seen[0][0] == bytes.fromhex("15030300020233")


def test_another_elements_key_is_a_wrong_key(node):
    stranger = replace(node["key1.com"], psk=node["key2.com"].psk)
    with WireClient(node, stranger) as client:
        assert not client.handshake()
        assert client.alert is AlertDescription.DECRYPT_ERROR


def test_no_common_group_gets_handshake_failure(node, element, program):
    mark = node.log_mark()
    assert_alert(program(node.front, element, group="P-384"), 40)
    assert_logged(node, mark, "key1.com", "element_closed", "9002")
    assert_serves(node, element)


def test_no_common_suite_gets_handshake_failure(node, element):
    mark = node.log_mark()
    assert_alert(openssl(node.front, element, suite=AES_256), 40)
    assert_logged(node, mark, "key1.com", "element_closed", "9002")
    assert_serves(node, element)


def test_an_older_version_gets_protocol_version(node, element):
    mark = node.log_mark()
    command = [require_peer("openssl"), "s_client", "-tls1_2", "-connect", node.front, "-quiet"]
    command += ["-psk", element.psk.hex(), "-cipher", "PSK", "-servername", element.sen]
    assert_alert(LineClient(command), 70)
    assert_logged(node, mark, "key1.com", "element_closed", "9002")


def test_an_unknown_name_gets_unrecognized_name(node, element, program):
    mark = node.log_mark()
    assert_alert(program(node.front, replace(element, sen="key99.com")), 112)
    assert_logged(node, mark, "key99.com", "unknown_name", None)


def test_no_name_gets_missing_extension(node, element):
    mark = node.log_mark()
    client = openssl(node.front, element, "-noservername", named=False)
    assert_alert(client, 109)
    assert_logged(node, mark, None, "missing_name", None)


def test_names_are_matched_without_case(node, element):
    with openssl(node.front, replace(element, sen="KEY1.Com")) as client:
        assert client.ask("?00").startswith("iose keystore")


# --- hostile records -----------------------------------------------------------------------


def test_one_byte_at_a_time_works_both_ways(node, element):
    with Relay(node.address, chunk=1) as relay, openssl(relay.front, element) as client:
        assert client.ask("?00").startswith("iose keystore")
        long = "x" * 4000
        assert client.ask("?01" + long) == long
        client.send("?02")
        assert client.finish().status == 0


def test_a_record_header_larger_than_any_record_ends_the_session(node, element):
    with WireClient(node, element) as client:
        assert client.handshake()
        client.write(b"\x17\x03\x03" + (16_641).to_bytes(2, "big"))
        assert client.rest() == b"", "the element has spoken: a plaintext alert would be an error"
        assert client.ended()["reason"] == "record_overflow"
    assert_serves(node, element)


def test_the_largest_record_is_served_and_one_more_byte_is_not(node, element):
    with WireClient(node, element) as client:
        assert client.handshake()
        line = b"?01" + b"x" * (16_384 - 4)
        client.engine.send_data(line + b"\n")
        (record,) = split_records(client.engine.data_to_send())
        assert len(record) == 5 + 16_384 + 1 + 16
        client.write(record)
        assert client.answer() == line[3:]
        client.write(b"\x17\x03\x03" + (16_641).to_bytes(2, "big") + bytes(16_641))
        client.rest()
        assert client.ended()["reason"] == "record_overflow"


def test_a_hello_without_end_is_refused(node, element):
    with WireClient(node, element) as client:
        whole = hello_record(b"key1.com", padding=60_000)
        assert len(whole) > 16_384
        body = whole[5:]
        records = [body[start : start + 16_000] for start in range(0, len(body), 16_000)]
        for one in records:
            client.write(b"\x16\x03\x01" + len(one).to_bytes(2, "big") + one)
        assert client.rest() == bytes.fromhex("15030300020216")  # record_overflow
        assert client.ended()["reason"] == "record_overflow"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: key1.com\r\n\r\n",
        b"\x80\x2e\x01\x03\x01" + bytes(60),  # SSL 2
        b"\x17\x03\x03\x00\x10" + bytes(16),
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x02\x01\x00\x05\x01\x00\x00\x01\x00",
        bytes(64),
    ],
    ids=["HTTP", "SSL 2", "data", "alert", "empty", "version", "zeros"],
)
def test_what_is_no_hello_gets_decode_error(node, element, data):
    with WireClient(node, element) as client:
        client.write(data)
        assert client.rest() == bytes.fromhex("15030300020232")
        line = client.ended()
        assert (line["reason"], line["apdus"]) == ("malformed_hello", 0)


def test_a_second_hello_on_an_open_session_is_refused(node, element):
    with WireClient(node, element) as client:
        assert client.handshake()
        client.write(client.sent[0])
        client.rest()
        assert client.alert is AlertDescription.UNEXPECTED_MESSAGE
        assert client.ended()["status"] == "9002"


def test_a_replayed_record_is_refused(node, element):
    with WireClient(node, element) as client:
        assert client.handshake()
        assert client.call(b"?01once") == b"once"
        client.write(client.sent[-1])
        client.rest()
        assert client.alert is AlertDescription.BAD_RECORD_MAC


def test_a_replayed_session_opens_nothing(node, element):
    with WireClient(node, element) as client:
        assert client.handshake()
        assert client.call(b"c03") == b"OK"
        recorded = b"".join(client.sent)
    with WireClient(node, element) as thief:
        thief.write(recorded)
        flight = split_records(thief.drain())
        assert flight[0][5] == HandshakeType.SERVER_HELLO, "the binder is right"
        assert flight[-1][0] == ContentType.APPLICATION_DATA
        assert len(flight[-1]) == 24, "an alert, under keys nobody has"
        line = thief.ended()
        assert (line["reason"], line["status"]) == ("element_closed", "9002")


# --- two at once, and silence --------------------------------------------------------------


def test_the_second_client_waits_and_is_shown_waiting(node):
    element = node["key2.com"]
    with WireClient(node, element) as first, WireClient(node, element) as second:
        assert first.handshake()
        second.start()
        until(lambda: node.element_status("key2.com")["waiting"], "the second client")
        holder = node.element_status("key2.com")["holder"]
        assert (holder["plane"], holder["source"]) == ("tls", "127.0.0.1")
        assert first.call(b"?01mine") == b"mine"
        with WireClient(node, node["key3.com"]) as other:
            assert other.handshake(), "other elements never notice"
        assert first.goodbye() is AlertDescription.CLOSE_NOTIFY
        assert second.finish_handshake()
        assert second.call(b"?01mine now") == b"mine now"
    until(lambda: node.element_status("key2.com")["holder"] is None)


def test_who_waits_too_long_is_told_so(quick_node):
    element = quick_node["key1.com"]
    with WireClient(quick_node, element) as first, WireClient(quick_node, element) as second:
        assert first.handshake()
        assert not second.handshake()
        assert second.alert is AlertDescription.INTERNAL_ERROR
        assert second.received == bytes.fromhex("15030300020250")
        assert second.ended()["reason"] == "queue_timeout"


def test_a_hello_and_then_silence_frees_the_element(quick_node):
    element = quick_node["key1.com"]
    with WireClient(quick_node, element) as silent:
        silent.start()
        until(lambda: quick_node.element_status("key1.com")["holder"], "the silent client")
        assert len(split_records(silent.drain())) >= 3
        line = silent.ended()
        assert (line["reason"], line["sen"]) == ("handshake_timeout", "key1.com")
        assert QUICK["handshake_s"] <= line["duration"] < QUICK["session_s"]
    assert_serves(quick_node, element)


@pytest.mark.parametrize("size", [0, 1, 5, 100])
def test_a_part_of_a_hello_and_then_silence_never_reaches_an_element(quick_node, size):
    with WireClient(quick_node, quick_node["key1.com"]) as silent:
        silent.write(hello_record(b"key1.com", padding=100)[:size])
        assert silent.rest() == b""
        line = silent.ended()
        assert (line["reason"], line["apdus"]) == ("first_record_timeout", 0)


def test_silence_on_an_open_session_ends_it(quick_node):
    with WireClient(quick_node, quick_node["key1.com"]) as client:
        assert client.handshake()
        assert client.call(b"?00")
        assert client.rest() == b""
        assert client.alert is None
        assert client.ended()["reason"] == "idle_timeout"


def test_no_session_is_for_ever(quick_node):
    with WireClient(quick_node, quick_node["key1.com"]) as client:
        assert client.handshake()
        while client.call(b"?00"):
            pass
        line = client.ended()
        assert line["reason"] == "session_timeout"
        assert QUICK["session_s"] <= line["duration"] < 2 * QUICK["session_s"]


def test_a_trickling_client_does_not_prolong_its_hello(quick_node):
    hello = hello_record(b"key1.com", padding=200)
    with WireClient(quick_node, quick_node["key1.com"]) as client:
        sent = 0
        while sent < len(hello) and not client.hears_within(0.01):
            client.write_anyway(hello[sent : sent + 1])
            sent += 1
        assert client.ended()["reason"] == "first_record_timeout"
        assert sent < len(hello)


# --- clients that go -----------------------------------------------------------------------


def test_a_client_gone_mid_command(node):
    element = node["key4.com"]
    for cut in (1, 5, 20):
        with WireClient(node, element) as client:
            assert client.handshake()
            client.engine.send_data(b"?01" + b"x" * 100 + b"\n")
            client.write(client.engine.data_to_send()[:cut])
            client.reset()
        assert client.ended()["reason"] == "client_gone"
        assert_serves(node, element)


def test_a_client_gone_before_its_answer(node):
    element = node["key4.com"]
    with WireClient(node, element) as client:
        assert client.handshake()
        assert client.call(b"c00") == b"OK"
        client.say(b"g00")
        client.reset()
    assert client.ended()["reason"] in {"client_gone", "client_closed"}
    with WireClient(node, element) as again:
        assert again.handshake()
        public = again.call(b"p00")
        assert public == b"ERROR" or len(public) == 130, "it was obeyed, or it was not"


def test_a_client_that_closes_without_goodbye(node, element):
    with WireClient(node, element) as client:
        assert client.handshake()
        client.half_close()
        client.rest()
        assert client.ended()["reason"] == "client_closed"
    assert_serves(node, element)


def test_a_client_that_never_reads_holds_nobody_up(node):
    greedy = node["key3.com"]
    with WireClient(node, greedy) as client:
        assert client.handshake()
        written = 0
        while client.takes_within(0.3):
            client.engine.send_data(b"?01" + b"x" * 16_000 + b"\n")
            client.write_some(client.engine.data_to_send())
            written += 1
            assert written < 2_000, "somebody keeps all that in memory"
        assert_serves(node, node["key1.com"])
        client.reset()
    assert client.ended()["reason"] == "client_gone"
    assert_serves(node, greedy)


# --- our own client meets the same faults in words -----------------------------------------


@pytest.mark.parametrize("suite", [CipherSuite.TLS_AES_128_GCM_SHA256])
def test_psk_without_key_exchange_is_refused(node, element, suite):
    with WireClient(node, element, suites=(suite,), groups=(), allow_psk_ke=True) as client:
        assert not client.handshake()
        assert client.alert in {
            AlertDescription.HANDSHAKE_FAILURE,
            AlertDescription.MISSING_EXTENSION,
        }
    with WireClient(node, element, groups=(NamedGroup.X25519,), allow_psk_ke=True) as client:
        assert client.handshake()
        assert client.complete.group is NamedGroup.X25519
