# SPDX-License-Identifier: Apache-2.0
"""Batches over RACS: what travels in one request, and what comes of it when a step fails."""

import pytest

from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.batch import BatchStep
from iose.iso7816.status import StatusWord
from iose.servers.racs.elements import RacsElement
from iose.transport.errors import CardRemovedError, RacsRefusedError, TransportError
from iose.transport.racs_client import JOINED_LIMIT, RacsReader
from iose.transport.racs_link import RacsEndpoint, RacsLink
from iose.transport.stack import run_batch
from tests.support.racs_cards import ChunkCard
from tests.support.racs_server import RacsRig, folder_of
from tests.support.scripted_connection import ScriptedReader

pytestmark = pytest.mark.anyio

SELECT = CommandApdu(0, 0xA4, 4, 0, bytes.fromhex("010203040500"))
UNKNOWN = CommandApdu(0, 0xEE, 0, 0, b"x")


class PowerlessCard(ChunkCard):
    """A ``ChunkCard`` that takes pieces of records, and has a power to be switched."""

    def __init__(self, sw1: int = 0x61, chunk: int = 100) -> None:
        super().__init__(sw1, chunk)
        self.power: list[str] = []
        self.statuses: dict[int, bytes] = {}

    def power_on(self) -> bytes:
        self.power.append("on")
        return b""

    def reset(self) -> bytes:
        self.power.append("reset")
        return b""

    def power_off(self) -> None:
        self.power.append("off")

    def process(self, command: bytes) -> bytes:
        if command[1] == 0xD8:
            self.commands.append(command.hex().upper())
            return self.statuses.get(command[2], b"\x90\x00")
        return super().process(command)


def piece(number: int = 0, **given: object) -> BatchStep:
    return BatchStep(CommandApdu(0, 0xD8, number, 0, bytes(240)), wants_data=False, **given)


def data(size: int) -> BatchStep:
    return BatchStep(CommandApdu(0, 0xCA, *size.to_bytes(2, "big")))


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def requests(monkeypatch):
    """The sizes of the requests sent, in commands."""
    sent = []
    request = RacsLink.request

    async def count(link, asked, answer_s=0):
        sent.append(len(asked.lines))
        return await request(link, asked, answer_s)

    monkeypatch.setattr(RacsLink, "request", count)
    return sent


def endpoint(rig, **given):
    host, port = rig.server.addresses[0]
    folder = folder_of("admin")
    return RacsEndpoint(
        host, port, folder / "user.pem", folder / "user.key", folder / "ca.pem", **given
    )


async def carry(card, steps, **config):
    """Return what a batch comes to over RACS, and the connection's count of commands."""
    async with RacsRig(RacsElement("key1", ScriptedReader(card, name="key1")), **config) as rig:
        connection = await RacsReader(endpoint(rig), "key1").connect()
        try:
            return await connection.transmit_batch(steps), connection.apdus
        finally:
            await connection.close()


BATCHES = [
    [BatchStep(SELECT, wants_data=False), piece(), piece(), data(300)],
    [piece(1), piece(2), data(0), piece(1), data(5)],
    [data(300), data(1), data(300)],
    [piece(), BatchStep(UNKNOWN, wants_data=False), piece(), data(1)],
    [piece(), BatchStep(UNKNOWN)],
    [piece(), BatchStep(UNKNOWN, None), data(20)],
    [piece(), BatchStep(UNKNOWN, None, wants_data=False), data(20)],
    [BatchStep(UNKNOWN, wants_data=False), data(1)],
    [piece(), BatchStep(UNKNOWN, StatusWord(0x6D00), wants_data=False), data(300)],
    [BatchStep(data(300).command, wants_data=False), data(2)],
    [piece()] * (2 * JOINED_LIMIT + 3) + [data(3)],
    [BatchStep(data(300).command, StatusWord(0x9F64), wants_data=False), piece(), data(1)],
    [BatchStep(data(300).command, StatusWord(0x6164), wants_data=False), piece(), data(1)],
    [piece()],
    [],
]


@pytest.mark.parametrize("steps", BATCHES, ids=range(len(BATCHES)))
@pytest.mark.parametrize("sw1", [0x61, 0x9F])
async def test_a_batch_comes_to_the_same_as_beside_the_card(steps, sw1):
    beside, far = PowerlessCard(sw1), PowerlessCard(sw1)
    expected = run_batch(beside.process, steps)
    found, _ = await carry(far, steps)
    assert [one.status for one in found] == [one.status for one in expected]
    for step, one, two in zip(steps, found, expected, strict=False):
        assert one.data == two.data or not step.wants_data
    assert far.commands == beside.commands


class StubbornCard(PowerlessCard):
    """A card with one answer to INS D8 or B0 at one place, by P1; what is left of it can be had."""

    def __init__(self, place: int, answer: str) -> None:
        super().__init__()
        self._place, self._answer = place, bytes.fromhex(answer)

    def process(self, command: bytes) -> bytes:
        self.commands.append(command.hex().upper())
        is_here = command[1] != 0xC0 and command[2] == self._place
        is_right = self._answer[-2] == 0x6C and command[4:] == self._answer[-1:]
        return self._answer if is_here and not is_right else b"\xaa\x90\x00"


ANSWERS = ["9000", "BB9000", "6105", "BB6105", "9F05", "BB9F05", "6C05", "6C00", "6700", "9001"]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("place", range(3))
async def test_every_answer_at_every_place_of_a_request_is_as_beside_the_card(place, answer):
    commands = [CommandApdu(0, 0xD8, 0, 0, b"x"), CommandApdu(0, 0xB0, 1, 0, le=16)]
    steps = [BatchStep(one, wants_data=False) for one in commands]
    steps.append(BatchStep(CommandApdu(0, 0xB0, 2, 0, le=256)))
    beside, far = StubbornCard(place, answer), StubbornCard(place, answer)
    expected = run_batch(beside.process, steps)
    found, _ = await carry(far, steps)
    assert [one.status for one in found] == [one.status for one in expected]
    assert found[2:] == expected[2:]
    assert far.commands == beside.commands


@pytest.mark.parametrize(("more", "status"), [(b"\x61\x05", 0x9000), (b"\x9f\x05", 0x9000)])
async def test_an_answer_to_be_fetched_in_the_middle_is_fetched_and_the_rest_goes_on(more, status):
    beside, far = PowerlessCard(), PowerlessCard()
    for card in (beside, far):
        card.statuses[7] = more
        card._rest = b"later"
    steps = [piece(), piece(7), piece(), data(1)]
    expected = run_batch(beside.process, steps)
    found, _ = await carry(far, steps)
    assert [one.status for one in found] == [one.status for one in expected] == [status] * 4
    assert far.commands == beside.commands


async def test_the_start_of_a_session_and_a_record_in_pieces_are_one_round_trip(requests):
    steps = [BatchStep(SELECT, wants_data=False), piece(), piece(), data(50)]
    found, apdus = await carry(PowerlessCard(), steps)
    assert found[-1] == ResponseApdu(bytes(range(50)), StatusWord.OK)
    assert requests == [1, 4, 1]  # POWERON, all of it, SHUTDOWN
    assert apdus == 4


async def test_commands_whose_answers_are_wanted_travel_alone(requests):
    await carry(PowerlessCard(), [data(1), data(1), data(1)])
    assert requests == [1, 1, 1, 1, 1]


async def test_requests_are_bounded(requests):
    await carry(PowerlessCard(), [piece()] * (JOINED_LIMIT + 1) + [data(1)])
    assert requests == [1, JOINED_LIMIT, 2, 1]


async def test_a_server_that_does_not_tell_the_status_that_stopped_it_ends_the_batch():
    steps = [BatchStep(SELECT, wants_data=False), BatchStep(UNKNOWN, wants_data=False), data(1)]
    with pytest.raises(RacsRefusedError, match="-006"):
        await carry(PowerlessCard(), steps, compat="reference")


async def test_an_element_that_fails_in_the_middle_is_removed():
    card = PowerlessCard()
    card.process = lambda _: b"\x90"
    with pytest.raises(CardRemovedError, match="does not answer over there"):
        await carry(card, [piece(), data(1)])


async def test_fewer_answers_than_commands_end_the_session(monkeypatch):
    request = RacsLink.request

    async def forget(link, asked, answer_s=0):
        response = await request(link, asked, answer_s)
        object.__setattr__(response, "lines", response.lines[-1:])
        return response

    monkeypatch.setattr(RacsLink, "request", forget)
    with pytest.raises(TransportError, match="an answer to each command"):
        await carry(PowerlessCard(), [piece(), data(1)])
