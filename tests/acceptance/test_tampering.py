# SPDX-License-Identifier: Apache-2.0
"""Every record of a session truncated, cut off and bit-flipped on the wire, in both directions.

Nothing a thief of the wire does may open a session, change what an element is told, or bring an
element down. Which alert a spoiled ClientHello gets depends on the place; the sets are closed.
"""

import random
from functools import partial

import pytest

from iose.tls import TlsPeerError
from iose.tls.constants import AlertDescription
from tests.acceptance.programs import openssl
from tests.acceptance.relay import Relay, Spoil
from tests.acceptance.wire import HEADER_SIZE, WireClient, assert_serves

# records of a session with openssl, by direction
CLIENT_RECORDS = ["ClientHello", "ChangeCipherSpec", "Finished", "command"]
SERVER_RECORDS = [
    "ServerHello",
    "ChangeCipherSpec",
    "EncryptedExtensions",
    "Finished",
    "answer",
]
HELLO_ALERTS = {
    AlertDescription.DECODE_ERROR,
    AlertDescription.DECRYPT_ERROR,
    AlertDescription.ILLEGAL_PARAMETER,
    AlertDescription.HANDSHAKE_FAILURE,
    AlertDescription.PROTOCOL_VERSION,
    AlertDescription.MISSING_EXTENSION,
    AlertDescription.UNRECOGNIZED_NAME,
    AlertDescription.UNEXPECTED_MESSAGE,
    AlertDescription.RECORD_OVERFLOW,  # the length of the message, made longer than any
}
HELLO_REASONS = {
    "element_closed",
    "malformed_hello",
    "unknown_name",
    "missing_name",
    "record_overflow",
}


def flip(record: bytes, position: int, bit: int) -> bytes:
    """Return a record with one bit changed."""
    spoiled = bytearray(record)
    spoiled[position] ^= 1 << bit
    return bytes(spoiled)


def shorten(record: bytes) -> bytes:
    """Return a well-formed record whose last byte is missing."""
    size = int.from_bytes(record[3:HEADER_SIZE], "big") - 1
    return record[:3] + size.to_bytes(2, "big") + record[HEADER_SIZE:-1]


def only(number: int, change) -> Spoil:
    """Return a spoiler of one record; the others pass."""
    return lambda index, record: change(record) if index == number else record


def cut_off(record: bytes) -> bytes:
    """Return a part of a record."""
    return record[: len(record) // 2]


CHANGES = {
    "flipped": lambda record: flip(record, -1, 0),
    "flipped in the middle": lambda record: flip(record, (HEADER_SIZE + len(record)) // 2, 6),
    "shortened": shorten,
    "doubled": lambda record: record + record,
}


@pytest.fixture
def element(node):
    return node["key1.com"]


# --- a program of others on a hostile wire -------------------------------------------------


def session_over(node, element, **spoilers: Spoil) -> tuple[str, str, dict]:
    """Have openssl ask for a version over a spoiled wire; return its words and the log's line."""
    mark = node.log_mark()
    with Relay(node.address, **spoilers) as relay, openssl(relay.front, element) as client:
        client.send("?00")
        outcome = client.finish()
        line = node.wait_logged("session.ended", mark)
    return outcome.output, outcome.errors, line


def test_openssl_is_served_over_a_wire_that_spoils_nothing(node, element):
    seen: list[int] = []

    def count(number: int, record: bytes) -> bytes:
        seen.append(number)
        return record

    with Relay(node.address, count) as relay, openssl(relay.front, element) as client:
        assert client.ask("?00") == "iose keystore/1"
        client.send("?02")
        outcome = client.finish()
    assert (outcome.status, outcome.errors) == (0, "")
    assert len(seen) >= len(CLIENT_RECORDS)


def cases(records: list[str], *elsewhere: tuple[str, str]) -> list[object]:
    """Return every record with every change, but for those that have a test of their own."""
    return [
        pytest.param(number, change, id=f"{name}-{change}")
        for number, name in enumerate(records)
        for change in CHANGES
        if (name, change) not in elsewhere
    ]


@pytest.mark.parametrize(
    ("number", "change"),
    cases(CLIENT_RECORDS, ("ClientHello", "shortened"), ("ChangeCipherSpec", "doubled")),
)
def test_a_spoiled_record_of_openssl_gets_it_an_alert(node, element, number, change):
    output, errors, line = session_over(node, element, towards_node=only(number, CHANGES[change]))
    assert "alert" in errors, errors
    assert line["reason"] == ("malformed_hello" if line["seid"] is None else "element_closed")
    if not (number == 3 and change == "doubled"):  # the first of the two commands was good
        assert not output
    assert_serves(node, element)


def test_a_hello_whose_last_byte_never_comes_is_waited_for_in_vain(quick_node):
    # a ClientHello may go on in the next record, so this one is late rather than wrong
    element = quick_node["key1.com"]
    output, errors, line = session_over(quick_node, element, towards_node=only(0, shorten))
    assert not output
    assert "unexpected eof" in errors
    assert (line["reason"], line["apdus"]) == ("first_record_timeout", 0)


def test_a_second_change_cipher_spec_is_ignored(node, element):
    # a dummy that means nothing (RFC 8446 §5)
    spoil = only(1, CHANGES["doubled"])
    with Relay(node.address, spoil) as relay, openssl(relay.front, element) as client:
        assert client.ask("?00") == "iose keystore/1"


@pytest.mark.parametrize(
    ("number", "change"), cases(SERVER_RECORDS, ("ChangeCipherSpec", "doubled"))
)
def test_openssl_refuses_a_spoiled_record_of_an_element(node, element, number, change):
    spoiler = only(number, CHANGES[change])
    output, errors, line = session_over(node, element, towards_client=spoiler)
    assert "error" in errors, errors
    if number < SERVER_RECORDS.index("answer"):
        assert not output
    assert line["reason"] in {"element_closed", "client_closed", "client_gone"}
    assert_serves(node, element)


# --- every byte of our own client's records -------------------------------------------------


def assert_refused_hello(node, element, spoiled_at, spoil) -> None:
    with WireClient(node, element, spoil=spoil) as client:
        client.start()
        client.half_close()
        try:
            opened = client.finish_handshake()
        except TlsPeerError:
            opened = True  # the element answered a hello that is not ours
        assert not opened, f"byte {spoiled_at}"
        line = client.ended()
        place = f"byte {spoiled_at}: {client.alert} {line}"
        if client.alert is None:
            assert line["reason"] == "client_closed", place
        else:
            assert client.alert in HELLO_ALERTS, place
            assert line["reason"] in HELLO_REASONS, place


@pytest.mark.timeout(60)
def test_no_bit_of_a_hello_may_be_flipped(node, element):
    with WireClient(node, element) as client:
        assert client.handshake()
        size = len(client.sent[0])
    rng = random.Random(size)  # noqa: S311  # the same bits in every run
    for position in range(size):
        if position == 2:
            continue  # legacy_record_version, to be ignored (RFC 8446 §5.1)
        bit = rng.randrange(8)
        spoil = only(0, partial(flip, position=position, bit=bit))
        assert_refused_hello(node, element, (position, bit), spoil)
    assert_serves(node, element)


def test_the_minor_record_version_of_a_hello_is_ignored(node, element):
    with WireClient(node, element, spoil=only(0, lambda record: flip(record, 2, 1))) as client:
        assert client.handshake()


@pytest.mark.timeout(60)
def test_a_hello_cut_off_anywhere_opens_nothing(node, element):
    with WireClient(node, element) as client:
        assert client.handshake()
        size = len(client.sent[0])
    for stop in range(0, size, 7):
        with WireClient(node, element, spoil=only(0, lambda record, s=stop: record[:s])) as client:
            client.start()
            client.half_close()
            assert client.drain() == b""
            line = client.ended()
            assert (line["reason"], line["apdus"]) == ("client_closed", 0)


@pytest.mark.timeout(60)
def test_a_hello_shortened_and_consistent_outside_is_refused(node, element):
    """The record and the message say the right length, the content ends early."""

    def truncated(stop: int) -> Spoil:
        def spoil(number: int, record: bytes) -> bytes:
            if number:
                return record
            body = record[HEADER_SIZE : HEADER_SIZE + stop]
            body = body[:1] + (len(body) - 4).to_bytes(3, "big") + body[4:]
            return record[:3] + len(body).to_bytes(2, "big") + body

        return spoil

    with WireClient(node, element) as client:
        assert client.handshake()
        size = len(client.sent[0]) - HEADER_SIZE
    for stop in range(4, size, 5):
        assert_refused_hello(node, element, stop, truncated(stop))
    assert_serves(node, element)


@pytest.mark.parametrize("number", [1, 2], ids=["ChangeCipherSpec", "Finished"])
def test_no_byte_of_what_follows_the_hello_may_be_flipped(node, element, number):
    sizes = []

    def note(index: int, record: bytes) -> bytes:
        sizes.append(len(record))
        return record

    with WireClient(node, element, spoil=note) as client:
        assert client.handshake()
        assert client.call(b"?00")
    alerts = set()
    for position in range(sizes[number]):
        if position == 2:
            continue
        spoil = only(number, partial(flip, position=position, bit=position % 8))
        with WireClient(node, element, spoil=spoil) as client:
            client.handshake()  # our side believes it is open: the element tells otherwise
            client.half_close()
            client.rest()
            line = client.ended()
            assert line["reason"] in {
                "element_closed",
                "client_closed",  # a length that promises more than comes
                "record_overflow",
            }, (position, line)
            if line["reason"] == "element_closed":
                assert client.alert is not None
                alerts.add(client.alert)
    if number == 2:
        assert AlertDescription.BAD_RECORD_MAC in alerts
    assert alerts <= {
        AlertDescription.BAD_RECORD_MAC,
        AlertDescription.UNEXPECTED_MESSAGE,
        AlertDescription.DECODE_ERROR,
        AlertDescription.RECORD_OVERFLOW,
    }
    assert_serves(node, element)


@pytest.mark.parametrize("change", [*CHANGES, "cut off"])
def test_a_spoiled_command_is_never_obeyed(node, element, change):
    with WireClient(node, element) as client:
        assert client.handshake()
        assert client.call(b"Z1Fbefore") == b"OK"
    spoil = {"cut off": cut_off, **CHANGES}[change]
    with WireClient(node, element, spoil=only(3, spoil)) as client:
        assert client.handshake()
        client.say(b"Z1Fafter")
        client.half_close()
        client.rest()
        line = client.ended()
    if change == "cut off":
        assert line["reason"] == "client_closed"
        assert client.alert is None
    else:
        assert line["reason"] == "element_closed"
        assert client.alert is AlertDescription.BAD_RECORD_MAC
    with WireClient(node, element) as client:
        assert client.handshake()
        expected = b"after" if change == "doubled" else b"before"  # the first of the two was good
        assert client.call(b"I1F") == expected


def test_records_in_another_order_are_refused(node, element):
    with WireClient(node, element) as client:
        assert client.handshake()
        client.engine.send_data(b"Z1Ffirst\n")
        first = client.engine.data_to_send()
        client.engine.send_data(b"Z1Fsecond\n")
        client.write(client.engine.data_to_send() + first)
        client.rest()
        assert client.alert is AlertDescription.BAD_RECORD_MAC
