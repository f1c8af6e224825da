# SPDX-License-Identifier: Apache-2.0
"""Attestation through a whole node by our commands; OpenSSL judges what they leave behind."""

import json
import subprocess

import pytest

from iose.client.attestation.evidence import Evidence
from iose.client.signature import encode_signature
from iose.crypto import ec_keys
from iose.crypto.base import Curve
from iose.protocols.attestation import (
    EXPORTER_LABEL,
    SignedStatement,
    read_first_piece,
    signed_message,
)
from tests.acceptance.programs import CCM, LineClient
from tests.support.node import configured_node
from tests.support.peers import require_peer
from tests.support.running_node import iose

pytestmark = pytest.mark.timeout(60)

NAMES = ("judged.com", "exported.com", "said.com", "renamed.com", "copied.com", "taken.com")


class Provider:
    """A node, the key of an authority, and the commands that use both."""

    def __init__(self, node, folder) -> None:
        self.node = node
        self.folder = folder
        self._environment = {"IOSE_CREDENTIALS": str(folder / "credentials")}
        self.private = str(folder / "ca")
        self.public = str(folder / "ca.pub")
        made = self("element", "certify", "--new-ca", self.private)
        assert made.returncode == 0, made.stderr

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return iose(*arguments, **self._environment)

    def certify(self, sen: str) -> None:
        done = self("element", "certify", self.node.uri(sen), "--ca-key", self.private)
        assert done.returncode == 0, done.stderr

    def attest(self, sen: str, *options: str) -> dict:
        done = self("attest", self.node.uri(sen), "--ca", self.public, "--json", *options)
        document = json.loads(done.stdout)
        assert done.returncode == (document["error"] is not None), done.stderr
        return document


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    folder = tmp_path_factory.mktemp("provider")
    with configured_node(folder / "node", 0) as node:
        for sen in NAMES:
            limits = "chip" if sen == "exported.com" else "wide"
            node.ask("element.create", {"sen": sen, "limits": limits})
        node.refresh_elements()
        yield Provider(node, folder)


def judge(*arguments: str) -> bool:
    """Return whether OpenSSL is content."""
    command = [require_peer("openssl"), *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_openssl_verifies_everything_in_the_evidence(provider, tmp_path):
    provider.certify("judged.com")
    file = tmp_path / "evidence.json"
    document = provider.attest("judged.com", "--out", str(file))
    assert document["error"] is None
    saved = json.loads(file.read_text())
    assert {name: saved[name] for name in document.keys() & saved.keys()} == {
        name: document[name] for name in document.keys() & saved.keys()
    }
    shown = Evidence.decode(file.read_bytes()).attestation
    certificate = shown.certificate
    halves = (certificate[:32], certificate[32:])
    for name, content in {
        "app.pem": ec_keys.encode_public_key(Curve.SECP256K1, shown.public_key).encode(),
        "key": shown.public_key[1:],
        "certificate": encode_signature(*(int.from_bytes(half, "big") for half in halves)),
        "digest": shown.proof_digest,
        "proof": shown.proof,
        "message": signed_message(shown.signed.content),
        "statement": shown.signed.signature,
        "other": b"something else",
    }.items():
        (tmp_path / name).write_bytes(content)

    def signed(key: str, signature: str, message: str) -> bool:
        files = ("-signature", str(tmp_path / signature), str(tmp_path / message))
        return judge("dgst", "-sha256", "-verify", key, *files)

    app = str(tmp_path / "app.pem")
    assert signed(provider.public, "certificate", "key")
    assert not signed(provider.public, "certificate", "other")
    assert signed(app, "statement", "message")
    assert not signed(app, "statement", "other")
    proof = ("-in", str(tmp_path / "digest"), "-sigfile", str(tmp_path / "proof"))
    assert judge("pkeyutl", "-verify", "-pubin", "-inkey", app, *proof)
    proof = ("-in", str(tmp_path / "digest"), "-sigfile", str(tmp_path / "statement"))
    assert not judge("pkeyutl", "-verify", "-pubin", "-inkey", app, *proof)


def test_openssl_exports_what_the_statement_holds(provider):
    element = provider.node["exported.com"]
    challenge = bytes(range(32))
    command = [require_peer("openssl"), "s_client", "-nocommands", "-connect", provider.node.front]
    command += ["-servername", element.sen, "-psk", element.psk.hex()]
    command += ["-tls1_3", "-groups", "P-256", "-ciphersuites", CCM]
    command += ["-keymatexport", EXPORTER_LABEL.decode(), "-keymatexportlen", "32"]
    with LineClient(command) as client:
        printed = client.read_until("Keying material: ")
        exported = printed.rpartition("Keying material: ")[2].strip()
        client.send("?0F" + challenge.hex())
        count, data = read_first_piece(bytes.fromhex(next_hex(client)))
        assert count > 1, "it fits one record: nothing was continued"
        for index in range(1, count):
            client.send(f"?0F{index:02X}")
            data += bytes.fromhex(next_hex(client))
    stated = SignedStatement.decode(data).statement()
    assert stated.exporter.hex().upper() == exported.upper()
    assert stated.challenge == challenge
    assert stated.seid.decode() == element.seid


def next_hex(client: LineClient) -> str:
    """Return the next line of hex digits, past what the program says of itself."""
    while True:
        line = client.read_line()
        if len(line) > 64 and all(char in "0123456789ABCDEF" for char in line):
            return line


def test_the_statement_says_what_the_node_knows(provider):
    provider.certify("said.com")
    stated = provider.attest("said.com")["statement"]
    assert stated["seid"] == provider.node["said.com"].seid
    assert stated["sen"] == "said.com"
    assert stated["module"] == "tls_se"
    assert stated["copy"] is False
    assert provider.attest("said.com", "--expect-hash", stated["package_hash"])["error"] is None
    refused = provider.attest("said.com", "--expect-hash", "00" * 32)
    assert refused["error"]["type"] == "AttestationError"


def test_an_element_under_another_name_says_its_own(provider):
    provider.certify("renamed.com")
    folder = ("--data", str(provider.node.folder))
    assert provider("element", "rename", "renamed.com", "other.com", *folder).returncode == 0
    provider.node.refresh_elements()
    assert provider.attest("other.com")["statement"]["sen"] == "other.com"


def test_an_element_that_was_copied_says_so(provider, tmp_path):
    provider.certify("copied.com")
    assert provider.attest("copied.com")["statement"]["copy"] is False
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a long passphrase")
    passphrase.chmod(0o600)
    exported = provider(
        *("element", "export", "copied.com", str(tmp_path / "archive"), "--copy"),
        *("--passphrase-file", str(passphrase), "--data", str(provider.node.folder)),
    )
    assert exported.returncode == 0, exported.stderr
    document = provider.attest("copied.com")
    assert document["statement"]["copy"] is True
    assert any("copy" in point for point in document["not_verified"])
    refused = provider.attest("copied.com", "--take-over")
    assert "copy" in refused["error"]["message"]


def test_a_take_over_ends_what_the_provider_can_do(provider):
    provider.certify("taken.com")
    old = provider.node.uri("taken.com")
    user = str(provider.folder / "user")
    command = ("attest", old, "--ca", provider.public, "--take-over", "--json")
    taken = json.loads(iose(*command, IOSE_CREDENTIALS=user).stdout)
    assert taken["taken_over"]
    assert provider("call", old + "??00").returncode == 1
    address = old.replace(provider.node["taken.com"].psk.hex(), "").replace(":@", "@")
    assert iose("call", address + "??00", IOSE_CREDENTIALS=user).returncode == 0
