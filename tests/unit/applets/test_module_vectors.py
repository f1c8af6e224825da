# SPDX-License-Identifier: Apache-2.0
"""Recorded uses of identity modules, and a whole TLS session made of what one computes."""

import pytest

from iose.applets.tls_im import TLS_IM_AID, Setting
from iose.crypto.base import AeadAlgorithm, HashAlgorithm
from iose.crypto.pyca import PycaCrypto
from iose.tls.key_schedule import HandshakeSecret, Hkdf
from tests.support.identity_module import USER_PIN, Module, demo_module
from tests.support.memory_store import PowerFailure
from tests.support.shared import VECTORS, own_json

CRYPTO = PycaCrypto()
SESSION = {
    name: value if isinstance(value, dict) else bytes.fromhex(value)
    for name, value in own_json("tlsim_gcm_session.json").items()
}
RECORDS = {name: bytes.fromhex(value) for name, value in SESSION["records"].items()}
BINDERS_SIZE = 2 + 1 + 32
PROVISION = "0085000A23010020" + "AB" * 32
DERIVE = "0085000E20" + "00" * 32


@pytest.mark.parametrize("setting", list(Setting))
def test_a_module_answers_a_published_client_behind_racs(setting):
    lines = (VECTORS / "tlsim_client_via_racs.txt").read_text().splitlines()
    exchanges = [line.split() for line in lines if not line.startswith("#")]
    module = Module(demo_module(setting))
    published_aid = "010203040500"
    for command, answer in exchanges:
        assert module.apdu(command.replace(published_aid, str(TLS_IM_AID))) == answer
    assert len(exchanges) == 7


def message(name: str) -> bytes:
    return RECORDS[name][5:]


def digest(data: bytes) -> bytes:
    return CRYPTO.hash(HashAlgorithm.SHA256, data)


def opened(name: str, key: bytes, iv: bytes, number: int = 0) -> bytes:
    record = RECORDS[name]
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
    aead = CRYPTO.aead(AeadAlgorithm.AES_128_GCM, key)
    return aead.decrypt(nonce, record[5:], record[:5])


def computed(p2: int, value: bytes) -> bytes:
    module = Module()
    module.verify_user()
    answer = bytes.fromhex(module.apdu(f"008500{p2:02X}20" + value.hex()))
    assert answer[-2:] == b"\x90\x00"
    return answer[:-2]


def test_a_whole_session_follows_from_what_a_module_computes():
    hello = message("client_hello")
    transcript_hash = digest(hello[:-BINDERS_SIZE])
    assert transcript_hash == SESSION["binder_hash"]
    assert computed(0x0C, transcript_hash) == hello[-32:]

    secret = computed(0x0E, SESSION["shared_secret"])
    assert secret == SESSION["handshake_secret"]
    stage = HandshakeSecret(Hkdf(CRYPTO, HashAlgorithm.SHA256), secret)
    transcript = hello + message("server_hello")
    assert digest(transcript) == SESSION["hello_hash"]
    server = stage.derive_server_traffic(digest(transcript))
    client = stage.derive_client_traffic(digest(transcript))
    assert client.secret == SESSION["client_handshake_traffic"]
    assert server.secret == SESSION["server_handshake_traffic"]
    key, iv = server.derive_key(16), server.derive_iv()
    assert (key, iv) == (SESSION["server_handshake_key"], SESSION["server_handshake_iv"])

    transcript += opened("encrypted_extensions", key, iv)[:-1]
    finished = opened("server_finished", key, iv, 1)[:-1]
    assert finished[4:] == server.verify_data(digest(transcript))
    transcript += finished
    assert digest(transcript) == SESSION["finished_hash"]
    of_client = opened("client_finished", client.derive_key(16), client.derive_iv())[:-1]
    assert of_client[4:] == client.verify_data(digest(transcript))

    master = stage.derive_master_secret()
    for name, traffic, side in (
        ("request", master.derive_client_traffic(digest(transcript)), "client"),
        ("response", master.derive_server_traffic(digest(transcript)), "server"),
    ):
        key, iv = traffic.derive_key(16), traffic.derive_iv()
        assert key == SESSION[f"{side}_application_key"]
        assert iv == SESSION[f"{side}_application_iv"]
        expected = b"GET /\r\n" if name == "request" else b"I hear you fa shizzle!"
        assert opened(name, key, iv)[:-1] == expected


@pytest.mark.parametrize("command", [PROVISION, DERIVE, "0089000000", "0024000010" + "30" * 16])
def test_a_cut_leaves_a_module_before_or_after(command):
    before = Module(demo_module(handshake_limit=9)).store.contents

    def attempt(cut_at):
        module = Module(contents=before)
        module.applet._pins.admin._is_validated = True  # a VERIFY would write
        module.store.steps, module.store.cut_at = 0, cut_at
        try:
            return module, module.apdu(command)
        except PowerFailure:
            return module, ""

    whole, answer = attempt(None)
    steps = whole.store.steps
    assert answer
    assert steps >= 2
    found = []
    for step in range(steps):
        module, answer = attempt(step)
        assert not answer
        found.append(module.store.contents)
    assert found[0] == before
    if not command.startswith("0024"):  # a wrong old PIN: its try is counted at once
        assert found[-1] == whole.store.contents


def test_a_handshake_is_counted_however_early_the_power_goes():
    contents = Module(demo_module(handshake_limit=2)).store.contents
    for _ in range(2):
        module = Module(contents=contents)
        module.verify_user()
        module.store.steps, module.store.cut_at = 0, 1
        with pytest.raises(PowerFailure):
            module.apdu(DERIVE)
        contents = module.store.contents
    module = Module(contents=contents)
    assert module.apdus(USER_PIN, DERIVE) == ["9000", "6985"]
