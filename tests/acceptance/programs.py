# SPDX-License-Identifier: Apache-2.0
"""TLS clients of others, driven line by line as a person would at a terminal."""

import os
import select
import subprocess
import time
from dataclasses import dataclass

from tests.support.node import PATIENCE_S, NodeElement
from tests.support.peers import require_peer

GCM, CHACHA, CCM, CCM_8 = SUITES = (
    "TLS_AES_128_GCM_SHA256",  # 1301
    "TLS_CHACHA20_POLY1305_SHA256",  # 1303
    "TLS_AES_128_CCM_SHA256",  # 1304
    "TLS_AES_128_CCM_8_SHA256",  # 1305
)
AES_256 = "TLS_AES_256_GCM_SHA384"  # which no element has
DEFAULT_IDENTITY = "Client_identity"  # of openssl and of elements
_GNUTLS_CIPHERS = {
    GCM: "AES-128-GCM",
    CHACHA: "CHACHA20-POLY1305",
    CCM: "AES-128-CCM",
    CCM_8: "AES-128-CCM-8",
    AES_256: "AES-256-GCM",
}
_GNUTLS_GROUPS = {"P-256": "SECP256R1", "X25519": "X25519", "P-384": "SECP384R1"}


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    status: int
    output: str
    errors: str


class LineClient:
    """A running program: lines go in, answers come out."""

    def __init__(self, command: list[str], *, joins_errors: bool = False) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if joins_errors else subprocess.PIPE,
        )
        self._output = b""

    def __enter__(self) -> "LineClient":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def send(self, line: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, line: str) -> str:
        """Type a line and return the next whole line that comes."""
        self.send(line)
        return self.read_line()

    def read_line(self) -> str:
        """Return the next line of the element; what the program says of itself is skipped."""
        deadline = time.monotonic() + PATIENCE_S
        while b"\n" not in self._output:
            self._read_some(deadline)
        line, _, self._output = self._output.partition(b"\n")
        return line.decode().rstrip("\r")

    def read_until(self, marker: str) -> str:
        """Return everything up to and with a line that holds the marker."""
        seen = []
        while not seen or marker not in seen[-1]:
            seen.append(self.read_line())
        return "\n".join(seen)

    def finish(self, *, hang_up: bool = False) -> Outcome:
        """Wait for the program's end; ``hang_up`` closes its input first."""
        assert self._process.stdin is not None
        if hang_up:
            self._process.stdin.close()
            self._process.stdin = None
        else:
            self._process.wait(PATIENCE_S)
        output, errors = self._process.communicate(timeout=PATIENCE_S)
        text = (self._output + output).decode(errors="replace")
        return Outcome(self._process.returncode, text, (errors or b"").decode(errors="replace"))

    def _read_some(self, deadline: float) -> None:
        stream = self._process.stdout
        assert stream is not None
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no line from the program; it wrote {self._output!r}"
        data = os.read(stream.fileno(), 65_536)
        if not data:
            errors = self._process.communicate(timeout=PATIENCE_S)[1]
            raise AssertionError(f"the program ended: {errors.decode(errors='replace')}")
        self._output += data


def openssl(
    front: str,
    element: NodeElement,
    *options: str,
    suite: str = CCM,
    group: str = "P-256",
    named: bool = True,
) -> LineClient:
    """Return ``openssl s_client`` with the options a newcomer is told to use."""
    command = [require_peer("openssl"), "s_client", "-quiet", "-tls1_3", "-connect", front]
    command += ["-psk", element.psk.hex(), "-groups", group, "-ciphersuites", suite]
    if suite == CCM_8:
        command += ["-cipher", "DEFAULT:@SECLEVEL=0"]  # short tags are below newer versions' 1
    if element.identity != DEFAULT_IDENTITY:
        command += ["-psk_identity", element.identity]
    if named:
        command += ["-servername", element.sen]
    return LineClient([*command, *options])


def gnutls(
    front: str,
    element: NodeElement,
    *options: str,
    suite: str = CCM,
    group: str = "P-256",
) -> LineClient:
    """Return ``gnutls-cli`` with one suite and one group."""
    priority = (
        "NONE:+VERS-TLS1.3:+DHE-PSK:+AEAD:+SIGN-ALL:"
        f"+{_GNUTLS_CIPHERS[suite]}:+GROUP-{_GNUTLS_GROUPS[group]}"
    )
    host, _, port = front.rpartition(":")
    command = [require_peer("gnutls-cli"), "--priority", priority, "--port", port, host]
    command += ["--pskusername", element.identity, "--pskkey", element.psk.hex()]
    return LineClient([*command, "--sni-hostname", element.sen, *options])
