# SPDX-License-Identifier: Apache-2.0
"""One card over PC/SC: power, protocols, and what every code of the service means."""

import pytest

from iose.iso7816.apdu import CommandApdu
from iose.iso7816.batch import BatchStep
from iose.transport.errors import (
    CardBusyError,
    CardRemovedError,
    NoCardError,
    NoReaderError,
    NotSentError,
    TransportError,
)
from iose.transport.pcsc import card as card_module
from iose.transport.pcsc.card import PcscCard
from iose.transport.pcsc.codes import Disposition, Protocol, ScardCode, ShareMode
from iose.transport.pcsc.scard import Scard
from iose.transport.pcsc.worker import ReaderThread
from tests.support.scripted_scard import NAMED_ATR, ScriptedReader, ScriptedScard

NAME = "Maker Model 00 00"
T0, T1 = int(Protocol.T0), int(Protocol.T1)
OTHER = 0x80100001  # no code that we tell apart


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(card_module, "BUSY_S", 0.05)
    monkeypatch.setattr(card_module, "BUSY_POLL_S", 0.01)
    monkeypatch.setattr(card_module, "GONE_S", 0.05)
    monkeypatch.setattr(card_module, "GONE_POLL_S", 0.01)


def make(protocol: int = T1, answer=None):
    reader = ScriptedReader(protocol=protocol)
    if answer is not None:
        reader.answer = answer
    service = ScriptedScard(**{NAME: reader})
    return service, PcscCard(Scard(service), NAME, ReaderThread(NAME))


def test_a_card_is_taken_alone_and_started_from_cold():
    service, card = make()
    card.open()
    assert card.atr == NAMED_ATR
    assert service.calls == [
        ("connect", NAME, ShareMode.EXCLUSIVE, Protocol.ANY),
        ("reconnect", ShareMode.EXCLUSIVE, Protocol.ANY, Disposition.UNPOWER),
    ]


def test_a_warm_reset_offers_both_protocols_again():
    service, card = make()
    card.open()
    assert card.reset() == NAMED_ATR
    assert service.calls[-1] == (
        "reconnect", ShareMode.EXCLUSIVE, Protocol.ANY, Disposition.RESET,
    )  # fmt: skip


def test_a_card_is_spoken_to_as_it_wants_after_its_last_reset():
    service, card = make(T1)
    card.open()
    service.readers[NAME].protocol = T0
    card.reset()
    card.transmit(bytes.fromhex("00A4040002AABB00"))
    assert service.readers[NAME].commands == [bytes.fromhex("00A4040002AABB")]


def test_letting_go_cuts_the_power_and_leaves_no_context():
    service, card = make()
    card.open()
    card.let_go()
    card.let_go()
    assert service.calls[-1] == ("disconnect", NAME, Disposition.UNPOWER)
    assert not service.contexts
    with pytest.raises(CardRemovedError):
        card.transmit(bytes(4))


@pytest.mark.parametrize(
    ("command", "tpdu"),
    [
        ("00A40400", "00A4040000"),
        ("00CA012C00", "00CA012C00"),
        ("00D8000302AABB", "00D8000302AABB"),
        ("00A4040002AABB00", "00A4040002AABB"),
    ],
    ids=["case 1", "case 2", "case 3", "case 4"],
)
def test_t0_carries_tpdus_and_t1_commands_as_they_are(command: str, tpdu: str):
    for protocol, expected in ((T0, tpdu), (T1, command)):
        service, card = make(protocol)
        card.open()
        assert card.transmit(bytes.fromhex(command)) == b"\x90\x00"
        assert [one.hex().upper() for one in service.readers[NAME].commands] == [expected]


@pytest.mark.parametrize("command", ["00D8000300010000", "00CA0000000000"])
def test_t0_carries_no_extended_command(command: str):
    service, card = make(T0)
    card.open()
    with pytest.raises(NotSentError, match="extended") as caught:
        card.transmit(bytes.fromhex(command))
    assert "chunk_size" in caught.value.hint
    assert not service.readers[NAME].commands
    assert card.transmit(bytes(5)) == b"\x90\x00"


def test_t0_refuses_what_is_no_command():
    service, card = make(T0)
    card.open()
    with pytest.raises(NotSentError):
        card.transmit(bytes.fromhex("00D80003AABBCC"))
    assert not service.readers[NAME].commands


def test_a_batch_fetches_what_is_announced_and_repeats_what_was_asked_wrong():
    answers = iter(["6102", "AABB9F01", "CC9000", "6C03", "1122339000", "6A82"])
    _, card = make(T0, lambda _: bytes.fromhex(next(answers)))
    card.open()
    steps = [
        BatchStep(CommandApdu(0, 0xD8, 0, 3, b"\x01", 256)),
        BatchStep(CommandApdu(0, 0xCA, 0, 0, le=256)),
        BatchStep(CommandApdu(0, 0xA4, 4, 0)),
        BatchStep(CommandApdu(0, 0xA4, 4, 0)),
    ]
    found = [(one.data.hex(), int(one.status)) for one in card.transmit_batch(steps)]
    assert found == [("aabbcc", 0x9000), ("112233", 0x9000), ("", 0x6A82)]
    assert card.meter.commands == 6


def test_an_answer_that_never_ends_is_a_fault():
    _, card = make(T1, lambda _: b"\x61\x00")
    card.open()
    with pytest.raises(TransportError, match="does not end"):
        card.transmit_batch([BatchStep(CommandApdu(0, 0xA4, 4, 0))])


@pytest.mark.parametrize("size", [0, 1])
def test_an_answer_without_a_status_is_a_fault(size: int):
    _, card = make(T1, lambda _: bytes(size))
    card.open()
    with pytest.raises(TransportError, match="status"):
        card.transmit(bytes(4))


def test_a_card_of_another_protocol_is_refused():
    service, card = make(protocol=4)
    with pytest.raises(TransportError, match="protocol 4"):
        card.open()
    assert not service.contexts


CONNECTING = {
    ScardCode.SHARING_VIOLATION: CardBusyError,
    ScardCode.NO_SMARTCARD: NoCardError,
    ScardCode.REMOVED_CARD: NoCardError,
    ScardCode.UNKNOWN_READER: NoReaderError,
    ScardCode.READER_UNAVAILABLE: NoReaderError,
    ScardCode.NO_SERVICE: NoReaderError,
    ScardCode.SERVICE_STOPPED: NoReaderError,
    ScardCode.COMM_ERROR: NoReaderError,
    ScardCode.INVALID_HANDLE: NoReaderError,
    ScardCode.NO_ACCESS: NoReaderError,
    ScardCode.SECURITY_VIOLATION: NoReaderError,
    ScardCode.UNRESPONSIVE_CARD: TransportError,
    ScardCode.UNPOWERED_CARD: TransportError,
    ScardCode.PROTO_MISMATCH: TransportError,
    OTHER: TransportError,
}


@pytest.mark.parametrize("call", ["connect", "reconnect", "status"])
@pytest.mark.parametrize("code", CONNECTING, ids=lambda code: f"{code:08X}")
def test_what_a_code_means_when_a_card_is_taken(code: int, call: str):
    service, card = make()
    service.failures[call] = [code] * 20
    with pytest.raises(TransportError) as caught:
        card.open()
    assert type(caught.value) is CONNECTING[code]
    assert not service.contexts


IN_SESSION = {
    ScardCode.NO_SMARTCARD: CardRemovedError,
    ScardCode.REMOVED_CARD: CardRemovedError,
    ScardCode.RESET_CARD: CardRemovedError,
    ScardCode.UNPOWERED_CARD: CardRemovedError,
    ScardCode.UNKNOWN_READER: CardRemovedError,
    ScardCode.READER_UNAVAILABLE: CardRemovedError,
    ScardCode.NO_SERVICE: CardRemovedError,
    ScardCode.SERVICE_STOPPED: CardRemovedError,
    ScardCode.SYSTEM_CANCELLED: CardRemovedError,
    ScardCode.COMM_ERROR: CardRemovedError,
    ScardCode.INVALID_HANDLE: CardRemovedError,
    ScardCode.UNRESPONSIVE_CARD: TransportError,
    ScardCode.NOT_TRANSACTED: TransportError,
    OTHER: TransportError,
}


@pytest.mark.parametrize("code", IN_SESSION, ids=lambda code: f"{code:08X}")
def test_what_a_code_means_in_a_session(code: int):
    for call in ("transmit", "reconnect"):
        service, card = make()
        card.open()
        service.failures[call] = [code]
        with pytest.raises(TransportError) as caught:
            card.transmit(bytes(4)) if call == "transmit" else card.reset()
        assert type(caught.value) is IN_SESSION[code]


def test_a_failed_exchange_is_a_removal_when_the_card_is_gone_a_moment_later():
    service, card = make()
    card.open()
    service.failures["transmit"] = [ScardCode.NOT_TRANSACTED]
    service.failures["status"] = [0, ScardCode.REMOVED_CARD]
    with pytest.raises(CardRemovedError):
        card.transmit(bytes(4))


@pytest.mark.parametrize("code", [ScardCode.NO_ACCESS, ScardCode.SECURITY_VIOLATION])
def test_a_user_whom_the_service_refuses_is_told_so(code: int):
    service, card = make()
    service.failures["connect"] = [code]
    with pytest.raises(NoReaderError, match="this user") as caught:
        card.open()
    assert "polkit" in caught.value.hint


def test_codes_are_the_same_where_a_long_has_32_bits():
    service, card = make()
    service.failures["connect"] = [ScardCode.NO_SMARTCARD - (1 << 32)]
    with pytest.raises(NoCardError):
        card.open()


def test_a_card_that_another_program_looks_at_is_had_a_moment_later():
    service, card = make()
    service.failures["connect"] = [ScardCode.SHARING_VIOLATION]
    card.open()
    assert card.atr == NAMED_ATR
