# SPDX-License-Identifier: Apache-2.0
"""Sessions of the published applets, replayed byte for byte in the compatible settings."""

import pytest

from iose.applets.tls_se import CommandSet, Limits, Settings, Wire
from tests.support.element import Element, demo, reference
from tests.support.shared import VECTORS, own_json

KS13 = "170303002A"
SESSIONS = own_json("tlsse_sessions.json")


def expected(step: dict) -> str:
    answers = [step["response"], *step.get("alternative_responses", ())]
    return next((answer for answer in answers if answer.startswith(KS13)), step["response"])


@pytest.mark.parametrize("name", ["A", "B", "C"])
@pytest.mark.parametrize("limits", list(Limits))
def test_replays_a_published_session_byte_for_byte(name: str, limits: Limits):
    settings = Settings(Wire.COMPATIBLE, limits, CommandSet.V1_3)
    element = Element(demo(settings, version_text=b"Ethertrust keystore 1.3"))
    for step in SESSIONS["apdu_transcripts"][name]:
        assert element.apdu(step["command"]) == expected(step)
    assert not element.faults


def test_replays_the_functions_on_the_psk():
    element = Element(reference())
    element.verify_user()
    for command, answer in SESSIONS["tls_im"]:
        assert element.apdu(command) == answer + "9000"


def test_returns_the_six_secrets_of_a_psk_with_the_fault_of_the_reference():
    element = Element(reference())
    element.verify_user()
    answer = element.apdu("0085FF0A23010020" + SESSIONS["psk"])
    secrets = SESSIONS["secrets"]["psk_derived"]
    names = ("ES", "DSK", "eBSK", "rBSK_as_computed_by_reference_v1", "feBSK")
    last = secrets["frBSK_as_computed_by_reference_v1"]
    assert answer == "".join(secrets[name] for name in names) + last + "9000"


def test_derives_the_resumption_secrets_correctly_in_other_command_sets():
    settings = Settings(Wire.COMPATIBLE, Limits.CHIP, CommandSet.V2_18)
    element = Element(demo(settings))
    element.verify_user()
    answer = element.apdu("0085FF0A23010020" + SESSIONS["psk"])
    secrets = SESSIONS["secrets"]["psk_derived"]
    names = ("ES", "DSK", "eBSK", "rBSK", "feBSK", "frBSK")
    assert answer == "".join(secrets[name] for name in names) + "9000"


def attestation_dialogue() -> list[tuple[str, str]]:
    lines = (VECTORS / "tlsse_attestation.txt").read_text().splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#")]
    return [(command, answer) for command, answer in pairs]


def test_replays_the_attestation_dialogue_on_session_c():
    private = "6C5544797A91115DC3330EBD003851D239A706FF2AA2AB70039C5510DDF06420"
    element = Element(reference(attestation_private=bytes.fromhex(private)))
    for step in SESSIONS["apdu_transcripts"]["C"]:
        assert element.apdu(step["command"]) == expected(step)
    for command, answer in attestation_dialogue():
        assert element.apdu(command) == answer
