# SPDX-License-Identifier: Apache-2.0
"""A RACS Lite board as a bank: sessions, light looks, each fault of the wire (racs.md §12.1)."""

import pytest

from iose.transport.bank import SlotState
from iose.transport.errors import CardRemovedError, TransportError, TransportTimeoutError
from iose.transport.racsl_bank import RacslBank
from tests.support.started_bank import check_fault, started
from tests.support.tls_session import check_session
from tests.support.twin import twin

pytestmark = [pytest.mark.anyio, pytest.mark.interop]

VERSION = "iose keystore 1.3"
SEID = "racsl-key1.com"
KEY = bytes(range(100, 132))
FAULTS = [
    ("silence", {}, TransportTimeoutError, "no answer"),
    ("partial", {}, TransportTimeoutError, "no answer"),
    ("partial", {"close": True}, CardRemovedError, "closed the session"),
    ("gone", {}, CardRemovedError, "closed the session"),
    ("garbage", {}, TransportError, "printable"),
    ("crc", {}, TransportError, "tag"),
    ("refuse", {}, TransportError, "refused the command"),
    ("long", {}, TransportError, "longer than"),
    ("twice", {}, TransportError, "not asked"),
    ("slow", {"delay_s": 60}, TransportTimeoutError, "no answer"),
]
NAMES = [kind + "".join(f" {name}" for name in more) for kind, more, *_ in FAULTS]


@pytest.fixture(scope="module")
def running():
    with twin("racsl_board", "--board-psk", KEY.hex()) as board:
        yield board


@pytest.fixture
def board(running):
    running.order(said=True)
    yield running
    running.fault(None)


def bank_of(board, *, psk=KEY, suite="gcm", apdu_s=1.0):
    host, port = board.address
    return RacslBank(
        "board",
        host=host,
        port=port,
        sen="key1.com",
        identity="Client_identity",
        psk=psk,
        suite=suite,
        apdu_s=apdu_s,
    )


@pytest.mark.parametrize("suite", ["gcm", "ccm"])
async def test_an_element_is_found_and_a_tls_session_goes_through(board, suite):
    async with started(bank_of(board, suite=suite)) as bank:
        slot = await bank.becomes(SEID, SlotState.READY)
        assert slot.atr == bytes.fromhex("3B08") + b"key1.com"
        assert slot.sen == "key1.com"
        connection = await bank.connect(SEID)
        assert await check_session(connection) == VERSION
        assert await connection.reset() == connection.atr
        await connection.close()
    said = board.order(said=True)["said"]
    assert said[:4] == ["on", "off", "on", "A 00A4040006010203040500"]
    assert said[-3:] == ["off", "on", "off"]


@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
async def test_a_fault_ends_the_session_and_the_board_works_again(board, fault):
    async with started(bank_of(board)) as bank:
        await check_fault(bank, SEID, board, fault)


async def test_slow_bytes_are_waited_for(board):
    async with started(bank_of(board, apdu_s=10.0)) as bank:
        board.fault("slow", delay_s=0.0001)
        await bank.check_element(SEID)


async def test_a_board_that_goes_away_between_sessions_is_absent_until_it_is_back(
    board, monkeypatch
):
    monkeypatch.setattr("iose.transport.slot_keeper.CHECK_S", 0.05)
    async with started(bank_of(board)) as bank:
        await bank.becomes(SEID, SlotState.READY)
        board.fault("gone")
        slot = await bank.becomes(SEID, SlotState.ABSENT)
        assert "cannot connect: Connection refused" in slot.fault
        assert "is the board on" in slot.hint
        board.fault(None)
        await bank.check_element(SEID)


async def test_light_looks_ask_the_element_nothing(board, monkeypatch):
    async with started(bank_of(board)) as bank:
        await bank.becomes(SEID, SlotState.READY)
        for _ in range(3):
            await bank.bank.refresh()
    assert board.order(said=True)["said"] == ["on", "off"]


async def test_a_wrong_key_is_told_with_the_next_step(board):
    async with started(bank_of(board, psk=bytes(32))) as bank:
        slot = await bank.becomes(SEID, SlotState.ABSENT)
        assert "refused the session" in slot.fault
        assert "PSK" in slot.hint


async def test_a_board_that_is_no_tls_server_is_a_fault(board, monkeypatch):
    monkeypatch.setattr("iose.transport.racsl_client.HANDSHAKE_S", 0.2)
    board.fault("silence", verb="hello")
    async with started(bank_of(board)) as bank:
        slot = await bank.becomes(SEID, SlotState.FAULT)
        assert "no answer" in slot.fault
        board.fault(None)
        await bank.becomes(SEID, SlotState.READY)


async def test_a_board_without_an_element_has_an_empty_slot(board):
    board.fault("refuse", verb="on")
    async with started(bank_of(board)) as bank:
        slot = await bank.becomes(SEID, SlotState.EMPTY)
        assert "power the element on" in slot.fault
        board.fault(None)
        await bank.becomes(SEID, SlotState.READY)
