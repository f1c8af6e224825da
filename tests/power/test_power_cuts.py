# SPDX-License-Identifier: Apache-2.0
"""The power is cut at every store step of every writing command: before or after, never between.

Counters that limit guessing are stored ahead of the comparison on purpose: where a command has
one, a third state is allowed, which is the one before with one try counted.
"""

from dataclasses import dataclass, field

import pytest

from iose.applet_commands.curves import KeyParameter, domain_parameter
from iose.applets.tls_se import (
    TLS_SE_AID,
    CommandSet,
    Personalisation,
    Settings,
    TlsServerApplet,
    Wire,
    read_secrets,
)
from iose.card.card_os import CardOs, CardServices
from iose.crypto.base import Curve
from iose.tls import AlertReceived, PreSharedKey
from tests.support.element import CRYPTO, DEMO_PSK, MODULE, Element, demo, reference_client
from tests.support.engine_pair import IDENTITY
from tests.support.memory_store import MemoryStore, PowerFailure
from tests.support.rng import SeededRng

OLD, NEW = DEMO_PSK.hex(), "C0" * 32
PUBLIC = CRYPTO.public_key(Curve.SECP256K1, bytes(31) + b"\x07").hex()
ORDER = domain_parameter(Curve.SECP256K1, KeyParameter.ORDER).hex()
USER_TRIES = f"{TLS_SE_AID}/pin/user/tries"
ADMIN_TRIES = f"{TLS_SE_AID}/pin/admin/tries"
FAILURES = f"{TLS_SE_AID}/object/psk.failures"


@dataclass(frozen=True)
class Writing:
    """One command that writes, what must come before it, and the counter it may leave behind."""

    command: str
    setup: tuple[str, ...] = ()
    counted: dict[str, bytes] = field(default_factory=dict)


def line(text: str, *setup: str, counted: dict[str, bytes] | None = None) -> Writing:
    return Writing(keystore(text), tuple(map(keystore, setup)), counted or {})


def keystore(text: str) -> str:
    data = text.encode() + b"\n"
    return f"00DA00FF{len(data):02X}{data.hex()}"


def apdu(command: str, *setup: str, counted: dict[str, bytes] | None = None) -> Writing:
    return Writing(command, setup, counted or {})


PARAMETERS = Personalisation(name=b"other", psk=b"\x22" * 32, user_pin=b"1").encode()
WRITINGS = {
    "c": line("c00", "g00", "t00", "n01"),
    "c of a sealed slot": line("c00", "n00", "g00", "t00"),
    "C": line("C00", "g00", "t00"),
    "g": line("g00"),
    "G": line("G00", "C00"),
    "P": line("P00" + PUBLIC),
    "X": line("X001234", "c00"),
    "R": line("R001234"),
    "t": line("t00"),
    "t with a seed": line("t001234", "t00"),
    "t that fails": line("t00" + "00" * 65, "t00"),
    "b": line("b0080000001", "t001234", "g00"),
    "Z": line("Z00text", "Z00older text"),
    "n": line("n00"),
    "?05": line("?05owner"),
    "?06": line("?06somebody"),
    "?0E": line("?0E" + "AB" * 64),
    "?A0": line("?A0" + NEW),
    "?A2": line("?A2" + NEW),
    "?A5": line("?A581"),
    "?AA": line(f"?AA{OLD}{NEW}", counted={FAILURES: b"\x01"}),
    "?AA after a wrong one": line(f"?AA{OLD}{NEW}", f"?AA{NEW}{OLD}", counted={FAILURES: b"\x02"}),
    "?AA with a wrong one": line(f"?AA{NEW}{OLD}", counted={FAILURES: b"\x01"}),
    "VERIFY user": apdu("002000000430303030", counted={USER_TRIES: b"\x02"}),
    "VERIFY a wrong user": apdu("002000000431313131", counted={USER_TRIES: b"\x02"}),
    "VERIFY admin": apdu(
        "0020000108" + "30" * 8,
        "002000000431313131",
        keystore(f"?AA{NEW}{OLD}"),
        counted={ADMIN_TRIES: b"\x09"},
    ),
    "VERIFY and restore": apdu("002000FF08" + "30" * 8, counted={ADMIN_TRIES: b"\x09"}),
    "CHANGE PIN user": apdu(
        "0024000010" + "30303030FFFFFFFF" + "31" * 8, counted={USER_TRIES: b"\x02"}
    ),
    "CHANGE PIN admin": apdu("0024000110" + "30" * 8 + "31" * 8, counted={ADMIN_TRIES: b"\x09"}),
    "WRITE": apdu("00D0003E85" + "AB" * 133),
    "PSK": apdu("0085000A23010020" + "AB" * 32),
    "SEN": apdu("00DA000A03414243"),
    "CLEAR KEY": apdu("0081000000", keystore("g00")),
    "GENERATE KEY": apdu("0082000000", "0089000000"),
    "SET public": apdu("0088060041" + PUBLIC, "0089FF0000"),
    "SET private": apdu("0088070001" + "07", "0089FF0000"),
    "SET order": apdu("0088050020" + ORDER),
    "INIT CURVE": apdu("0089000000"),
    "WRITE CERTIFICATE": apdu("008F000040" + "11" * 64),
    "SELF-SIGNED CERTIFICATE": apdu("008FFF0000", keystore("g00")),
    "STORE DATA": apdu(f"00E28000{len(PARAMETERS):02X}{PARAMETERS.hex()}"),
}
READINGS = ["?0A", "?0B", "p00", "r00", "v00", "N00", "I00", "h00ab"]


def prepared(writing: Writing) -> dict[str, bytes]:
    """Return the store of an element in which all but the writing command has been done."""
    element = Element(demo(is_final=False))
    element.verify_admin()
    for command in writing.setup:
        element.apdu(command)
    return dict(element.store.contents)


def behaviour(contents: dict[str, bytes]) -> list[object]:
    """Return what an owner can tell of an element."""
    if not contents:
        return []
    element = Element(contents=contents)
    applet = next(iter(element.card._channels._instances.values())).applet
    answers = [
        applet._keystore.handle(text.encode() + b"\n", applet._session.caller()).data
        for text in READINGS
    ]
    return [element.atr, read_secrets(contents), *answers]


@pytest.mark.parametrize("name", WRITINGS)
def test_a_cut_leaves_the_element_before_or_after(name: str):
    writing = WRITINGS[name]
    before = prepared(writing)
    element, answer = run(writing, before, None)
    after = dict(element.store.contents)
    assert answer
    steps = element.store.steps
    assert steps >= 2 or "wrong" in name, "the command writes nothing"
    counted = before | writing.counted
    found = []
    for step in range(steps):
        element, answer = run(writing, before, step)
        assert not answer
        assert element.store.contents in (before, after, counted)
        found.append(element.store.contents)
        is_before = element.store.contents in (before, counted)
        assert behaviour(element.store.contents) == behaviour(before if is_before else after)
    assert found[0] == before
    assert found[-1] == after


def run(writing: Writing, before: dict[str, bytes], cut_at: int | None) -> tuple[Element, str]:
    element = Element(contents=before, seed=b"again")
    applet = next(iter(element.card._channels._instances.values())).applet
    applet._pins.admin._is_validated = True  # a VERIFY would write
    element.store.steps = 0
    element.store.cut_at = cut_at
    try:
        return element, element.apdu(writing.command)
    except PowerFailure:
        return element, ""


def test_a_cut_while_it_is_made_leaves_no_element_or_a_whole_one():
    services = CardServices(CRYPTO, SeededRng(), {MODULE: TlsServerApplet})
    outcomes = []
    for step in range(2):
        store = MemoryStore()
        store.cut_at = step
        card = CardOs(store, services)
        with pytest.raises(PowerFailure):
            card.install(MODULE, TLS_SE_AID, demo().encode(), default_selected=True)
        outcomes.append(behaviour(store.contents))
    assert outcomes[0] == []
    assert outcomes[1][1].psk == DEMO_PSK


def test_no_try_is_saved_by_cutting_the_power():
    # however early the power goes after the first store step, the guess is counted
    contents = dict(Element(demo()).store.contents)
    for attempt in range(3):
        element = Element(contents=contents)
        element.store.steps = 0
        element.store.cut_at = 1
        with pytest.raises(PowerFailure):
            element.apdu("002000000430303030")
        contents = dict(element.store.contents)
        assert contents[USER_TRIES] == bytes((2 - attempt,))
    assert Element(contents=contents).apdu("002000000430303030") == "6300"


def test_every_cut_of_a_compatible_psk_change_is_before_or_after():
    settings = Settings(Wire.COMPATIBLE, commands=CommandSet.V1_3)
    before = dict(Element(demo(settings)).store.contents)
    writing = line(f"?AA{OLD}{NEW}")
    element, _ = run(writing, before, None)
    assert element.store.steps == 2
    psks = []
    for step in range(2):
        element, _ = run(writing, before, step)
        secrets = read_secrets(element.store.contents)
        psks.append(secrets and secrets.psk.hex())
    assert psks == [OLD, NEW.lower()]


def serves(contents: dict[str, bytes], psk: bytes) -> bool:
    """Return whether an element found with these contents takes a PSK."""
    client = reference_client(Element(contents=contents), PreSharedKey(IDENTITY, psk))
    try:
        return client.connect().status == 0x9001
    except AlertReceived:
        return False


def test_a_cut_during_a_psk_change_over_tls_leaves_one_psk_that_works():
    new = bytes.fromhex(NEW)
    made = dict(Element(demo()).store.contents)
    step = 0
    worked = []
    while True:
        client = reference_client(Element(contents=made)).connect()
        client.element.store.steps = 0
        client.element.store.cut_at = step
        try:
            assert client.command(f"?AA{OLD}{NEW}") == NEW
            break
        except PowerFailure:
            step += 1
        contents = client.element.store.contents
        works = (serves(contents, DEMO_PSK), serves(contents, new))
        assert works in ((True, False), (False, True))
        worked.append(works[1])
    assert worked == [False, False, False, True]
    assert serves(client.element.store.contents, new)
