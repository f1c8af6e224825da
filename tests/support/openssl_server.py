# SPDX-License-Identifier: Apache-2.0
"""``openssl s_server -rev``, which answers a line with its reverse, for clients to talk to."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.peers import require_peer

DEADLINE_S = 10.0
POLL_S = 0.01


@contextmanager
def openssl_servers(folder: Path, psk: bytes) -> Iterator[Callable[..., int]]:
    """Give a function from further options of a server to its port; all end with the block."""
    program = require_peer("openssl")
    with ExitStack() as running:

        def start(*options: str) -> int:
            path = folder / f"server{len(list(folder.glob('server*.log')))}.log"
            arguments = [program, "s_server", "-accept", "127.0.0.1:0", "-tls1_3", "-nocert"]
            arguments += ["-rev", "-psk", psk.hex(), "-psk_identity", "Client_identity", *options]
            log = running.enter_context(path.open("w"))
            server = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)
            running.enter_context(server)
            running.callback(server.kill)
            return int(awaited(path, rb"ACCEPT .*:(\d+)"))

        yield start


def awaited(path: Path, pattern: bytes) -> bytes:
    """Return what a pattern finds in a log, as soon as it is there.

    Raises:
        AssertionError: It does not come.
    """
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := re.search(pattern, path.read_bytes()):
            return found[1]
        time.sleep(POLL_S)
    raise AssertionError(f"no {pattern!r} in {path.read_bytes()!r}")
