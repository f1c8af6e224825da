# SPDX-License-Identifier: Apache-2.0
"""What a person does with an element of ``iose up`` and a TLS client that is not ours.

Peers: openssl (also the judge of signatures) and gnutls-cli.
"""

import subprocess
from pathlib import Path

import pytest

from tests.support.peers import require_peer

pytestmark = pytest.mark.interop

CCM = "TLS_AES_128_CCM_SHA256"
SUITES = [
    CCM,
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
]
# SubjectPublicKeyInfo of a point on secp256k1, up to the point (RFC 5480 §2)
SPKI_HEAD = bytes.fromhex("3056301006072a8648ce3d020106052b8104000a034200")
DIGEST = "5A" * 32
ANOTHER_DIGEST = "5B" * 32


def accepts(folder: Path, public: str, signature: str, digest: str) -> bool:
    """Let openssl judge a signature over a digest."""
    (folder / "key").write_bytes(SPKI_HEAD + bytes.fromhex(public))
    (folder / "signature").write_bytes(bytes.fromhex(signature))
    (folder / "digest").write_bytes(bytes.fromhex(digest))
    command = [require_peer("openssl"), "pkeyutl", "-verify", "-pubin", "-keyform", "DER"]
    command += ["-inkey", "key", "-sigfile", "signature", "-in", "digest"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("group", ["P-256", "X25519"])
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("program", ["openssl", "gnutls"])
def test_a_client_of_others_uses_a_key_and_says_goodbye(
    callers, tmp_path: Path, program: str, suite: str, group: str
):
    with callers.session(getattr(callers, program)(suite, group)) as session:
        assert session.ask("?00").startswith("iose keystore/")
        assert session.ask("c00") == "OK"
        assert session.ask("g00") == "OK"
        public = session.ask("p00")
        signature = session.ask(f"s00{DIGEST}")
        assert session.say_last("?02") == b""
        assert session.process.returncode == 0
    assert accepts(tmp_path, public, signature, DIGEST)
    assert not accepts(tmp_path, public, signature, ANOTHER_DIGEST)


@pytest.mark.parametrize("program", ["openssl", "gnutls"])
def test_a_wrong_key_opens_nothing(callers, program: str):
    command = getattr(callers, program)(CCM, "P-256")
    wrong = [part.replace(callers.key, "00" * 32) for part in command]
    with callers.session(wrong) as session:
        assert session.process.wait(10) != 0
        assert session.process.stdout.read() == b""


def test_a_key_survives_the_session_that_made_it(callers):
    with callers.session(callers.openssl(CCM, "P-256")) as session:
        session.ask("c01")
        session.ask("g01")
        public = session.ask("p01")
    with callers.session(callers.openssl(CCM, "X25519")) as session:
        assert session.ask("p01") == public
