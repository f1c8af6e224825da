# SPDX-License-Identifier: Apache-2.0
"""The client's second flight, as the server checks it."""

import pytest

from iose.tls import ServerEngine
from iose.tls.constants import AlertDescription, ContentType, HandshakeType
from iose.tls.events import HandshakeComplete
from iose.tls.messages import encode_message
from tests.support.engine_pair import EnginePair, events_of, server_config
from tests.unit.tls.forge import check_refused, forged

A = AlertDescription


def waiting_server() -> tuple[EnginePair, list[bytes]]:
    """Return a pair whose server waits for Finished, and the client's second flight."""
    pair = EnginePair.make()
    pair.client.start()
    pair.server.receive_data(pair.client.data_to_send())
    pair.client.receive_data(pair.server.data_to_send())
    return pair, pair.client.records_to_send()


def first_hello() -> bytes:
    """Return the ClientHello; the random bytes of both ends are always the same."""
    client = EnginePair.make().client
    client.start()
    return client.data_to_send()


def test_the_honest_finished_opens_the_session() -> None:
    pair, flight = waiting_server()
    for record in flight:
        assert not pair.server.is_open
        pair.server.receive_data(record)
    assert pair.server.is_open
    assert isinstance(events_of(pair.server)[0], HandshakeComplete)


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_every_bit_of_finished_is_authenticated(bit: int) -> None:
    hello, (change, finished) = first_hello(), waiting_server()[1]
    for position in range(1, len(finished)):
        server = ServerEngine(server_config())
        server.receive_data(hello)
        server.data_to_send()
        record = bytearray(finished)
        record[position] ^= bit
        grown = int.from_bytes(record[3:5], "big") - len(record) + 5
        expected = A.RECORD_OVERFLOW if (position, bit) == (3, 0x80) else A.BAD_RECORD_MAC
        check_refused(server, change + bytes(record) + bytes(max(grown, 0)), expected)


def test_every_truncation_of_finished_is_refused() -> None:
    hello, (_, finished) = first_hello(), waiting_server()[1]
    for size in range(len(finished) - 5):
        server = ServerEngine(server_config())
        server.receive_data(hello)
        server.data_to_send()
        shorter = finished[:3] + size.to_bytes(2, "big") + finished[5 : 5 + size]
        check_refused(server, shorter, A.BAD_RECORD_MAC)


@pytest.mark.parametrize(
    ("body", "alert"),
    [(bytes(32), A.DECRYPT_ERROR), (bytes(31), A.DECODE_ERROR), (bytes(33), A.DECODE_ERROR)],
)
def test_a_finished_of_another_handshake_is_refused(body: bytes, alert: AlertDescription) -> None:
    pair = EnginePair.make()
    pair.client.start()
    pair.server.receive_data(pair.client.data_to_send())
    server_hello, _, extensions, _ = pair.server.records_to_send()
    # the client has its handshake keys and says something else with them
    pair.client.receive_data(server_hello + extensions)
    message = encode_message(HandshakeType.FINISHED, body)
    check_refused(pair.server, forged(pair.client, ContentType.HANDSHAKE, message), alert)
