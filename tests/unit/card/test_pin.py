# SPDX-License-Identifier: Apache-2.0
"""PIN objects: no power cut and no refusal gives a try back."""

import pytest

from iose.crypto.pyca import PycaCrypto
from tests.support.memory_store import PowerFailure
from tests.support.probe import PROBE, ProbeCard

RIGHT, WRONG = "002000000430303030", "002000000430303031"
STATE = "0021000000"


@pytest.fixture
def card() -> ProbeCard:
    return ProbeCard().on()


def test_the_right_value_validates(card: ProbeCard):
    assert card.send(RIGHT) == "9000"
    assert card.send(STATE) == "01039000"


def test_a_value_is_compared_padded_to_eight_bytes(card: ProbeCard):
    assert card.send("002000000830303030FFFFFFFF") == "9000"
    assert card.send("0020000009" + "30303030FFFFFFFFFF") == "6302"


@pytest.mark.parametrize("value", ["30303031", "303030", "3030303000", ""])
def test_a_value_off_by_one_is_wrong(card: ProbeCard, value: str):
    assert card.send(f"00200000{len(value) // 2:02X}{value}") == "6302"
    assert card.send(STATE) == "00029000"


def test_the_tries_run_out_and_the_right_value_is_then_refused(card: ProbeCard):
    assert [card.send(WRONG) for _ in range(4)] == ["6302", "6301", "6300", "6300"]
    assert card.send(RIGHT) == "6300"
    assert card.again().send(RIGHT) == "6300"


def test_the_right_value_gives_all_tries_back(card: ProbeCard):
    card.send(WRONG)
    assert card.send(RIGHT) == "9000"
    assert card.again().send(STATE) == "00039000"


def test_a_wrong_value_ends_the_validation(card: ProbeCard):
    card.send(RIGHT)
    card.send(WRONG)
    assert card.send(STATE) == "00029000"


@pytest.mark.parametrize("event", ["reset", "power", "select", "deselect"])
def test_validation_ends_with_the_session(card: ProbeCard, event: str):
    card.send(RIGHT)
    match event:
        case "reset":
            card.card.reset()
        case "power":
            card.card.power_off()
            card.card.power_on()
        case "select":
            card.send("00A4040006A00000000101")
        case _:
            card.send("00A4040006A00000000102")
            card.send("00A4040006A00000000101")
    assert card.send(STATE) == "00039000"


def test_a_new_value_is_not_validated_and_has_all_tries(card: ProbeCard):
    card.send(WRONG)
    assert card.send("002400000231FF") == "9000"
    assert card.send(STATE) == "00039000"
    assert card.again().send("002000000131") == "9000"


def test_a_value_over_eight_bytes_cannot_be_set(card: ProbeCard):
    assert card.send("0024000009" + "31" * 9) == "6700"
    assert card.send(RIGHT) == "9000"


def test_unblocking_gives_the_tries_back_without_validation(card: ProbeCard):
    for _ in range(3):
        card.send(WRONG)
    assert card.send("002C0000") == "9000"
    assert card.send(STATE) == "00039000"
    assert card.send(RIGHT) == "9000"


def test_a_pin_without_value_refuses_everything(card: ProbeCard):
    assert card.send("002E000000") == "00009000"
    assert card.send("002E000004FFFFFFFF") == "00009000"


def test_the_try_is_stored_before_the_comparison(card: ProbeCard):
    steps = card.store.steps
    for command in (WRONG, RIGHT):
        cut = ProbeCard().on()
        cut.store.cut_at = steps + 1  # just after the counter is stored
        with pytest.raises(PowerFailure):
            cut.send(command)
        assert cut.again().send(STATE) == "00029000"


def test_power_lost_before_the_counter_is_stored_compares_nothing(card: ProbeCard):
    card.store.cut_at = card.store.steps
    with pytest.raises(PowerFailure):
        card.send(RIGHT)
    assert card.again().send(STATE) == "00039000"


def test_cutting_the_power_again_and_again_gives_no_more_guesses_than_tries():
    card = ProbeCard().on()
    for _ in range(3):
        card.store.cut_at = card.store.steps + 1
        with pytest.raises(PowerFailure):
            card.send(WRONG)
        card = card.again()
    assert card.send(RIGHT) == "6300"


def test_a_full_disk_compares_nothing(card: ProbeCard):
    card.store.full = True
    assert card.send(RIGHT) == "6581"
    assert card.send(STATE) == "00039000"


def test_a_wrong_value_after_the_right_one_in_one_command_is_counted(card: ProbeCard):
    pin = card.card._channels.selected(0).context.pin("user", max_tries=3)
    assert pin.verify(b"0000")
    assert not pin.verify(b"0001")
    assert card.send("0001000001AA") == "AA9000"
    assert card.again().send(STATE) == "00029000"


def test_values_are_compared_in_constant_time(card: ProbeCard, monkeypatch: pytest.MonkeyPatch):
    compared = []

    def compare(_crypto: PycaCrypto, one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return True

    monkeypatch.setattr(PycaCrypto, "constant_time_equal", compare)
    assert card.send(WRONG) == "9000"
    assert compared == [(b"0000\xff\xff\xff\xff", b"0001\xff\xff\xff\xff")]


def test_a_value_set_and_given_in_one_command_counts_from_the_new_tries():
    card = ProbeCard().on()
    context = card.card._channels.selected(0).context
    pin = context.pin("user", max_tries=3)
    pin.update(b"9")
    assert not pin.verify(b"8")
    assert pin.tries_remaining == 2
    assert pin.verify(b"9")
    assert card.store.contents[f"{PROBE}/pin/user/tries"] == b"\x01"
