# SPDX-License-Identifier: Apache-2.0
"""Hostile bytes for the card and the card vocabulary; bounded here, longer with IOSE_FUZZ_RUNS.

Well-formed inputs are mutated; the only error that may come out is DecodeError, and the card
answers everything and still works afterwards.
"""

import os
import random
from collections.abc import Callable

import pytest

from iose.card.registry import Registry, RegistryEntry
from iose.globalplatform.life_cycle import Privilege
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import Atr, TransmissionProtocol
from iose.iso7816.batch import BatchStep
from iose.iso7816.tlv import Tlv
from iose.transport.stack import run_batch
from iose.wire.errors import DecodeError, RemoteProtocolError
from tests.support.mutation import mutate
from tests.support.probe import OTHER, PROBE, SECOND, ProbeCard

RUNS = int(os.environ.get("IOSE_FUZZ_RUNS", "150"))
CHANGES = range(4)
DECODERS: dict[str, tuple[Callable[[bytes], object], list[str]]] = {
    "command": (
        CommandApdu.decode,
        ["00A40400", "00C000001C", "00D8000003AABBCC00", "00D80000000003AABBCC0101"],
    ),
    "response": (ResponseApdu.decode, ["9000", "AABB9F1C"]),
    "atr": (
        Atr.decode,
        ["3B9895006B6579312E636F6D", "3B8880016B6579312E636F6D00", "3BFF1100FF8131FE4500112233"],
    ),
    "tlv": (
        Tlv.decode_all,
        ["6F1A840E315041592E5359532E4444463031A5088801025F2D02656E", "7F2181800102", "9F7F0100"],
    ),
    "registry": (
        Registry.decode,
        [
            Registry((RegistryEntry(PROBE, "probe", Privilege.DEFAULT_SELECTED),)).encode().hex(),
            Registry((RegistryEntry(OTHER, "a"), RegistryEntry(SECOND, "b"))).encode().hex(),
        ],
    ),
}
COMMANDS = [
    "00A4040006A00000000102",
    "00A4040205A000000001",
    "0070000001",
    "00708001",
    "01A4040005B000000001",
    "1001000004AABBCCDD",
    "0001000004AABBCCDD00",
    "0006020000",
    "0006000A04",
    "00C0000000",
    "0002070004AABBCCDD",
    "0004070001AA",
    "0005070001AA",
    "002000000430303030",
    "00200000043030303100",
    "000A0000086B6579312E636F6D",
]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", DECODERS)
def test_mutated_values_are_decoded_or_refused(name: str):
    decode, seeds = DECODERS[name]
    rng = random.Random(name)  # noqa: S311  # repeatable
    for _ in range(RUNS * 10):
        data = mutate(bytes.fromhex(rng.choice(seeds)), rng, CHANGES)
        try:
            decode(data)
        except DecodeError as error:
            assert 0 <= error.offset <= len(data), data.hex()  # noqa: PT017  # most are no errors


@pytest.mark.timeout(0)
@pytest.mark.parametrize("protocol", TransmissionProtocol)
@pytest.mark.parametrize("wire", ["hardened", "compatible"])
def test_mutated_sessions_leave_a_card_that_works(protocol: TransmissionProtocol, wire: str):
    rng = random.Random(f"{protocol} {wire}")  # noqa: S311  # repeatable
    for _ in range(RUNS):
        card = ProbeCard(protocol=protocol, is_class_checked=wire == "hardened").on()
        for _ in range(rng.randint(1, 20)):
            command = mutate(bytes.fromhex(rng.choice(COMMANDS)), rng, CHANGES)
            answer = card.card.process(command)
            assert len(answer) >= 2, command.hex()
        Atr.decode(card.card.reset())
        assert card.send("000D000006") == "A000000001019000"
        assert card.again().send("000D000006") == "A000000001019000"


@pytest.mark.timeout(0)
def test_answers_of_a_hostile_card_are_drained_or_refused():
    rng = random.Random("drain")  # noqa: S311  # repeatable
    statuses = [
        b"\x90\x00",
        b"\x9f\x01",
        b"\x9f\x00",
        b"\x61\x00",
        b"\x61\x10",
        b"\x6c\x00",
        b"\x6c\x05",
    ]

    def hostile(_: bytes) -> bytes:
        return rng.randbytes(rng.choice((0, 0, 1, 240, 4_000))) + rng.choice(
            [*statuses, b"", b"\x90"]
        )

    steps = [BatchStep(CommandApdu.decode(bytes.fromhex(command)), None) for command in COMMANDS]
    for _ in range(RUNS):
        try:
            answers = run_batch(hostile, steps)
        except (DecodeError, RemoteProtocolError):
            continue
        assert all(len(answer.data) <= 65_536 for answer in answers)
