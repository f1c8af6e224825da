# SPDX-License-Identifier: Apache-2.0
"""While a session runs: no secret of an element in the node process, all of them in its host."""

import hmac
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from iose.runtime.store import SqliteStore
from tests.interop.node.test_up import openssl_command
from tests.support.running_node import RunningNode, running_node

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

PRIVATE_KEY_SIZE = 32


def expand(secret: bytes, label: bytes, context: bytes) -> bytes:
    """HKDF-Expand-Label for 32 bytes (RFC 8446 §7.1)."""
    label = b"tls13 " + label
    info = b"\0\x20" + bytes((len(label),)) + label + bytes((len(context),)) + context
    return hmac.digest(secret, info + b"\1", "sha256")


def psk_secrets(psk: bytes) -> dict[str, bytes]:
    """Return a PSK and what both ends derive from it before a handshake (RFC 8446 §7.1)."""
    early = hmac.digest(bytes(32), psk, "sha256")
    binder = expand(early, b"ext binder", sha256(b"").digest())
    return {
        "psk": psk,
        "early": early,
        "binder": binder,
        "derived": expand(early, b"derived", sha256(b"").digest()),
        "finished": expand(binder, b"finished", b""),
    }


def occurrences(pid: int, wanted: dict[str, bytes]) -> set[str]:
    """Return which secrets are in a process's writable memory, raw or in hex."""
    found = set()
    maps = Path(f"/proc/{pid}/maps").read_text()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # no such Path
        for start, stop in re.findall(r"(?m)^([0-9a-f]+)-([0-9a-f]+) rw", maps):
            memory.seek(int(start, 16))
            try:
                content = memory.read(int(stop, 16) - int(start, 16))
            except OSError:  # pages the kernel keeps to itself
                continue
            found |= {name for name, secret in wanted.items() if holds(content, secret)}
    return found


def holds(content: bytes, secret: bytes) -> bool:
    text = secret.hex().encode()
    return any(needle in content for needle in (secret, text, text.upper()))


def stored_private_key(data: Path, seid: str) -> bytes:
    store = SqliteStore(data / "elements" / f"{seid}.db")
    try:
        slot = next(value for name, value in store.load().items() if name.endswith("/key.0"))
    finally:
        store.close()
    return slot[-PRIVATE_KEY_SIZE:]


@contextmanager
def session(node: RunningNode, *lines: str) -> Iterator[list[str]]:
    """Give the answers to some commands while their session stays open."""
    with subprocess.Popen(
        openssl_command(node), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        answers = []
        for line in lines:
            client.stdin.write(line + "\n")
            client.stdin.flush()
            answers.append(client.stdout.readline().strip())
        yield answers
        client.kill()


def test_the_node_process_holds_no_secret_and_the_host_does(tmp_path: Path):
    data = tmp_path / "data"
    with running_node(data, "--elements", "1") as node, session(node, "c00", "g00", "p00") as made:
        assert len(made[2]) == 130
    wanted = {"private": stored_private_key(data, node.ready["elements"][0]["seid"])}
    with running_node(data, "--elements", "1") as node:
        wanted |= psk_secrets(bytes.fromhex(node.psk()))
        with session(node, "s00" + "00" * 32) as signed:
            assert signed[0].startswith("30")
            processes = {item["name"]: item["pid"] for item in node.status()["processes"]}
            in_node = occurrences(processes.pop("node"), wanted)
            in_hosts = set().union(*(occurrences(pid, wanted) for pid in processes.values()))
    assert in_node == set()
    assert {"psk", "private", "derived", "finished"} <= in_hosts
