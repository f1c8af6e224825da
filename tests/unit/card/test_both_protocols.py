# SPDX-License-Identifier: Apache-2.0
"""A recorded TLS-SE session means the same over T=1 and, drained, over T=0."""

import pytest

from iose.applets.tls_se import TLS_SE_AID, TlsServerApplet
from iose.card.card_os import CardOs, CardServices, CardSettings
from iose.crypto.pyca import PycaCrypto
from iose.iso7816.apdu import CommandApdu, ResponseApdu
from iose.iso7816.atr import TransmissionProtocol
from iose.transport.stack import ApduMeter, drain
from tests.support.element import MODULE, HashRng, reference
from tests.support.memory_store import MemoryStore
from tests.support.shared import own_json

SESSIONS = own_json("tlsse_sessions.json")["apdu_transcripts"]
FETCH = "00C0"


def powered(protocol: TransmissionProtocol) -> CardOs:
    services = CardServices(PycaCrypto(), HashRng(), {MODULE: TlsServerApplet})
    card = CardOs(MemoryStore(), services, CardSettings(protocol, is_class_checked=False))
    card.install(MODULE, TLS_SE_AID, reference().encode(), default_selected=True)
    card.power_on()
    return card


@pytest.mark.parametrize("session", SESSIONS)
def test_a_session_drained_over_t0_answers_as_over_t1(session: str):
    answers: list[list[ResponseApdu]] = []
    meters = []
    for protocol in TransmissionProtocol:
        card, meter = powered(protocol), ApduMeter()
        answers.append(
            [
                drain(card.process, CommandApdu.decode(bytes.fromhex(step["command"])), meter)
                for step in SESSIONS[session]
                if not step["command"].startswith(FETCH)
            ]
        )
        meters.append(meter)
    assert answers[0] == answers[1]
    assert {int(answer.status) for answer in answers[0]} == {0x9000, 0x9001}
    with_data = sum(
        bool(step["response"][:-4]) and not step["command"].startswith(FETCH)
        for step in SESSIONS[session]
    )
    assert meters[1].commands == len(SESSIONS[session])
    assert meters[0].commands == meters[1].commands + with_data
