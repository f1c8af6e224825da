# SPDX-License-Identifier: Apache-2.0
"""Two recorded sessions without ephemeral keys: their records opened, answered, and made again.

The application answers every line a client sent; where nothing random is in it, the record made
from our answer is the recorded one, byte for byte.
"""

import re

import pytest

from iose.applets.tls_se.application import Application, ApplicationSession, EchoApplication
from iose.crypto.base import AeadAlgorithm, HashAlgorithm
from iose.tls.key_schedule import Hkdf, TrafficSecret
from iose.tls.record_layer import RecordLayer, Tls13Protection
from tests.support.element import CRYPTO, Element, reference
from tests.support.shared import own_json

POINT = re.compile("04[0-9A-F]{128}\r\n")
SIGNATURE = re.compile("304[4-6]0220[0-9A-F]+\r\n|3045022100[0-9A-F]+\r\n|3046022100[0-9A-F]+\r\n")
NAMES = {
    ("C>S", "hs"): "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    ("S>C", "hs"): "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    ("C>S", "app"): "CLIENT_TRAFFIC_SECRET_0",
    ("S>C", "app"): "SERVER_TRAFFIC_SECRET_0",
}


def layer(secret: str) -> RecordLayer:
    traffic = TrafficSecret(Hkdf(CRYPTO, HashAlgorithm.SHA256), bytes.fromhex(secret))
    aead = CRYPTO.aead(AeadAlgorithm.AES_128_CCM, traffic.derive_key(16))
    made = RecordLayer()
    made.change_protection(Tls13Protection(aead, traffic.derive_iv(), 16))
    return made


def application(name: str) -> Application:
    if name.startswith("tlsse"):
        return EchoApplication()
    element = Element(reference())
    return next(iter(element.card._channels._instances.values())).applet._keystore


@pytest.mark.parametrize("name", ["keystore13_session.json", "tlsse_echo_session.json"])
def test_opens_answers_and_makes_again(name: str):
    recorded = own_json(name)
    readers = {key: layer(recorded["secrets"][NAMES[key]]) for key in NAMES}
    writers = {key: layer(recorded["secrets"][NAMES[key]]) for key in NAMES}
    application_ = application(name)
    reply = b""
    answered = 0
    for item in recorded["tls"]:
        if "epoch" not in item:
            continue
        key = (item["dir"], item["epoch"])
        record, plain = bytes.fromhex(item["record"]), bytes.fromhex(item["plain"])
        content_type, content = readers[key].unprotect(record[:5], record[5:])
        assert content + bytes((content_type,)) == plain
        assert writers[key].protect(plain[-1], plain[:-1]) == record
        if key == ("C>S", "app"):
            reply = application_.handle(content, ApplicationSession()).data
        elif key == ("S>C", "app"):
            answered += 1
            form = next((p for p in (POINT, SIGNATURE) if p.fullmatch(item["text"])), None)
            if form is None:
                assert reply == content
            else:
                assert form.fullmatch(reply.decode())
    assert answered == sum(item["dir"] == "S>C" and "text" in item for item in recorded["tls"])
    assert answered >= 2
