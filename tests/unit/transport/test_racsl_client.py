# SPDX-License-Identifier: Apache-2.0
"""The reader of RACS Lite against a board of our own TLS engine."""

import asyncio

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.transport.errors import (
    CardRemovedError,
    NoCardError,
    NoReaderError,
    TransportError,
)
from iose.transport.racsl_client import RacslEndpoint
from tests.support.racs_cards import ChunkCard, KeystoreCard
from tests.support.racsl_board import PSK, RacslBoard, reader_of

SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))


def run(work, process=None, **given):
    async def main():
        async with RacslBoard(process or ChunkCard().process, **given) as board:
            reader = reader_of(RacslEndpoint("127.0.0.1", board.port, PSK, "key2.com"))
            await work(board, reader)
            return board

    return asyncio.run(main())


def test_on_apdus_and_off_are_one_line_each():
    async def work(_, reader):
        connection = await reader.connect()
        assert connection.atr == bytes.fromhex("3B08") + b"key2.com"
        assert (await connection.transmit(SELECT)).status == 0x9000
        assert await connection.transmit_raw(bytes.fromhex("00EE0000")) == b"\x6d\x00"
        await connection.close()
        await connection.close()

    board = run(work)
    assert board.said == ["on", "A 00A4040006010203040500", "A 00EE0000", "off"]
    assert board.names == ["key2.com"]


def test_a_batch_is_drained_and_stops_at_the_first_unexpected_status():
    async def work(_, reader):
        connection = await reader.connect()
        plan = [
            BatchStep(SELECT),
            BatchStep(CommandApdu(0, 0xCA, 1, 0x2C)),
            BatchStep(CommandApdu(0, 0xEE, 0, 0)),
            BatchStep(SELECT),
        ]
        responses = await connection.transmit_batch(plan)
        assert [(len(one.data), one.status) for one in responses] == [
            (0, 0x9000),
            (300, 0x9000),
            (0, 0x6D00),
        ]
        assert connection.apdus == 5
        await connection.close()

    run(work, ChunkCard(0x9F).process)


def test_tasks_that_share_a_connection_wait_for_each_other():
    async def work(_, reader):
        connection = await reader.connect()
        commands = (bytes.fromhex("00A4040006010203040500"), bytes.fromhex("00EE0000"))
        answers = await asyncio.gather(*map(connection.transmit_raw, commands))
        assert answers == [b"\x90\x00", b"\x6d\x00"]
        await connection.close()

    run(work)


@pytest.mark.parametrize("unasked", [b"9000\r\n", b"90"])
def test_a_line_nobody_asked_for_is_no_answer(unasked):
    async def work(board, reader):
        board.answers.append(b"OK\r\n" + unasked)
        connection = await reader.connect()
        with pytest.raises(TransportError, match="not asked") as caught:
            await connection.transmit(SELECT)
        assert type(caught.value) is TransportError

    assert run(work).said == ["on"]


def test_a_reset_is_off_and_on():
    async def work(_, reader):
        connection = await reader.connect()
        assert await connection.reset() == connection.atr
        await connection.close()

    assert run(work).said == ["on", "off", "on", "off"]


def test_an_element_that_is_refused_is_no_card():
    async def work(_, reader):
        with pytest.raises(NoCardError):
            await reader.connect()

    run(work, is_busy=True)


def test_a_wrong_key_is_told_with_the_next_step():
    async def work(board, _):
        endpoint = RacslEndpoint("127.0.0.1", board.port, bytes(32), "key2.com")
        assert bytes(32).hex() not in repr(endpoint)
        with pytest.raises(NoReaderError, match="refused the session") as caught:
            await reader_of(endpoint).connect()
        assert "PSK" in caught.value.hint

    run(work)


def test_nobody_at_the_address_is_no_reader():
    async def work(board, reader):
        board._server.close()
        with pytest.raises(NoReaderError, match="cannot connect"):
            await reader.connect()

    run(work)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"ERROR\r\n", "refused the command"),
        (b"ERROR No Command!\r\n", "refused the command"),
        (b"what?\r\n", "APDU in hex"),
        (b"OK\r\n", "no status word"),
        (b"90\r\n", "no status word"),
        (b"\xff\r\n", "printable"),
        (b"9" * 150_000, "longer than"),
    ],
)
def test_an_answer_that_is_none_closes_the_session(answer, match):
    async def work(board, reader):
        connection = await reader.connect()
        board.answers.append(answer)
        with pytest.raises(TransportError, match=match) as caught:
            await connection.transmit(SELECT)
        assert type(caught.value) is TransportError
        with pytest.raises(CardRemovedError, match="closed"):
            await connection.transmit(SELECT)
        await connection.close()

    run(work)


def test_a_board_that_goes_away_is_a_card_removed():
    async def work(board, reader):
        connection = await reader.connect()
        board.cut()
        with pytest.raises(CardRemovedError):
            await connection.transmit(SELECT)
        await connection.close()

    run(work)


def test_a_card_that_never_ends_its_answer_is_given_up():
    card = KeystoreCard()
    card.process = lambda _: b"\x61\x01"

    async def work(_, reader):
        connection = await reader.connect()
        with pytest.raises(TransportError, match="does not end"):
            await connection.transmit_batch([BatchStep(SELECT)])
        await connection.close()

    run(work, card.process)
