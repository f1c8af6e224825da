# SPDX-License-Identifier: Apache-2.0
"""One node, started as a user starts it, and programs of others that call its element."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from iose.runtime.bench.programs import running_node
from tests.support.peers import require_peer

END_S = 10
GNUTLS_SUITES = {
    "TLS_AES_128_GCM_SHA256": "AES-128-GCM",
    "TLS_CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "TLS_AES_128_CCM_SHA256": "AES-128-CCM",
    "TLS_AES_128_CCM_8_SHA256": "AES-128-CCM-8",
}
GNUTLS_GROUPS = {"P-256": "SECP256R1", "X25519": "X25519"}


@dataclass
class Dialogue:
    """A session held by a program: what is written to it is one record for each line."""

    process: "subprocess.Popen[bytes]"

    def ask(self, line: str) -> str:
        """Return the line that answers one line."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().removesuffix("\r\n")

    def say_last(self, line: str) -> bytes:
        """Write a line, and return what the program still prints until it ends by itself."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        self.process.wait(END_S)
        return self.process.stdout.read()


@dataclass
class Callers:
    """Programs of others, told how to reach the first element."""

    name: str
    key: str
    address: tuple[str, int]

    def openssl(self, suite: str, group: str) -> list[str]:
        """Return the command line of ``openssl s_client``."""
        host, port = self.address
        program = [require_peer("openssl"), "s_client", "-quiet", "-tls1_3", "-psk", self.key]
        program += ["-groups", group, "-ciphersuites", suite, "-servername", self.name]
        return [*program, "-connect", f"{host}:{port}"]

    def gnutls(self, suite: str, group: str) -> list[str]:
        """Return the command line of ``gnutls-cli``."""
        host, port = self.address
        kinds = f"+{GNUTLS_SUITES[suite]}:+GROUP-{GNUTLS_GROUPS[group]}"
        kinds += ":+AEAD:+SHA256:+ECDHE-PSK:+SIGN-ALL"
        program = [require_peer("gnutls-cli"), "--logfile=/dev/null", f"--pskkey={self.key}"]
        program += ["--pskusername=Client_identity", f"--priority=NONE:+VERS-TLS1.3:{kinds}"]
        return [*program, f"--sni-hostname={self.name}", f"--port={port}", host]

    @contextmanager
    def session(self, command: Sequence[str]) -> Iterator[Dialogue]:
        """Run a program; whatever happens it does not outlive the block."""
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield Dialogue(process)
            finally:
                process.kill()


@pytest.fixture(scope="session")
def callers(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("node"), 1) as node:
        element = node.elements[0]
        yield Callers(element.name, element.key.hex(), node.address)
