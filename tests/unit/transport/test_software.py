# SPDX-License-Identifier: Apache-2.0
"""Our card behind the Protocols of a transport."""

import pytest

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr, TransmissionProtocol
from iose.iso7816.batch import ApduLimits, BatchStep
from iose.iso7816.status import StatusWord
from iose.transport.base import Connection, Reader
from iose.transport.errors import NoCardError, TransportError
from iose.transport.software import SoftwareReader
from iose.wire.errors import LocalProtocolError
from tests.support.probe import ProbeCard

pytestmark = pytest.mark.anyio
SIZED_10_OF_4 = CommandApdu(0, 0x06, 0, 10, le=4)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def card() -> ProbeCard:
    return ProbeCard()


@pytest.fixture
def reader(card: ProbeCard) -> Reader:
    return SoftwareReader("software 1", card.card)


async def test_a_connection_powers_the_card_and_knows_its_atr(reader: Reader):
    connection: Connection = await reader.connect()
    assert Atr.decode(connection.atr).se_name == "probe.example"
    await connection.close()


async def test_a_single_command_is_not_drained(reader: Reader):
    connection = await reader.connect()
    response = await connection.transmit(SIZED_10_OF_4)
    assert response == ResponseApdu(bytes(range(4)), StatusWord(0x6106))
    assert connection.apdus == 1


async def test_raw_bytes_reach_the_card_as_they_are(reader: Reader, card: ProbeCard):
    connection = await reader.connect()
    command = SIZED_10_OF_4.encode()
    assert (
        await connection.transmit_raw(command)
        == (await connection.transmit(SIZED_10_OF_4)).encode()
    )
    assert connection.apdus == 2
    await connection.close()
    with pytest.raises(TransportError):
        await connection.transmit_raw(command)


async def test_a_batch_is_drained_and_counted(reader: Reader):
    connection = await reader.connect()
    command = CommandApdu(0, 0x01, 0, 0, b"ab")
    answers = await connection.transmit_batch([BatchStep(command), BatchStep(command)])
    assert answers == [ResponseApdu(b"ab"), ResponseApdu(b"ab")]
    assert connection.apdus == 2


async def test_a_t0_card_is_drained_with_get_response():
    card = ProbeCard(protocol=TransmissionProtocol.T0)
    connection = await SoftwareReader("software 1", card.card).connect()
    assert connection.atr == b"\x3b\x0dprobe.example"
    answers = await connection.transmit_batch([BatchStep(CommandApdu(0, 0x01, 0, 0, b"ab"))])
    assert answers == [ResponseApdu(b"ab")]
    assert connection.apdus == 2


class EndlessCard:
    """A card that always has one more byte."""

    def power_on(self) -> bytes:
        return b"\x3b\x00"

    def process(self, command: bytes) -> bytes:
        return b"\x00\x9f\x01"


async def test_an_answer_that_never_ends_is_no_answer():
    connection = await SoftwareReader("software 1", EndlessCard()).connect()
    with pytest.raises(TransportError, match="software 1: an answer does not end"):
        await connection.transmit_batch([BatchStep(SIZED_10_OF_4)])


async def test_a_reset_gives_a_new_atr(reader: Reader):
    connection = await reader.connect()
    await connection.transmit(CommandApdu(0, 0x0A, 0, 0, b"key1.com"))
    assert Atr.decode(await connection.reset()).se_name == "key1.com"
    assert Atr.decode(connection.atr).se_name == "key1.com"


async def test_a_card_is_held_by_one_connection_at_a_time(reader: Reader):
    connection = await reader.connect()
    with pytest.raises(TransportError, match="held"):
        await reader.connect()
    await connection.close()
    await connection.close()
    again = await reader.connect()
    await connection.close()
    assert (await again.transmit(CommandApdu(0, 0x01, 0, 0))).status == StatusWord.OK


async def test_a_closed_connection_leaves_its_card_without_power(card: ProbeCard, reader: Reader):
    connection = await reader.connect()
    await connection.close()
    with pytest.raises(LocalProtocolError, match="no power"):
        card.card.process(bytes(4))


async def test_a_closed_connection_sends_nothing(reader: Reader):
    connection = await reader.connect()
    await connection.close()
    for attempt in (
        connection.transmit(SIZED_10_OF_4),
        connection.transmit_batch([BatchStep(SIZED_10_OF_4)]),
        connection.reset(),
    ):
        with pytest.raises(TransportError, match="closed"):
            await attempt


async def test_a_card_that_cannot_start_is_no_card(card: ProbeCard, reader: Reader):
    card.store.contents["card/registry"] = b"damaged"
    with pytest.raises(NoCardError, match="does not start"):
        await reader.connect()
    del card.store.contents["card/registry"]
    assert await reader.connect()


async def test_the_limits_are_those_given(card: ProbeCard, reader: Reader):
    assert reader.name == "software 1"
    assert reader.limits == ApduLimits()
    wide = ApduLimits(chunk_size=32_000, max_record=0)
    assert SoftwareReader("software 2", card.card, wide).limits == wide
